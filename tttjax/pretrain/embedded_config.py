"""The config of training without --config: that of the embedded checkpoint."""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  config = ml_collections.ConfigDict()
  config.workdir = "runs/pretrain_embedded"
  config.seed = 0
  config.steps = 2900
  config.minutes = 0.0
  config.warmup = 100
  config.muon_rate = 0.015
  config.adam_rate = 3e-3
  config.weight_decay = 0.01
  config.log_every = 50
  config.eval_every = 250
  config.save_every = 250
  # A large rope_theta leaves dimensions that 16,384 positions hardly turn, in which accounts can be
  # matched over any distance: 5 of the 16 pairs turn by less than a radian, with 1e5 2 do.
  config.model = dict(
    hidden_size=128,
    intermediate_size=384,
    num_layers=4,
    num_heads=4,
    num_kv_heads=2,
    head_dim=32,
    rope_theta=5e6,
    max_positions=16384,
  )
  config.stages = dict(
    context=(128, 192, 384, 384),
    row=(224, 320, 512, 512),
    batch=(16, 12, 8, 8),
    share=(0.27, 0.23, 0.41, 0.09),
    anomaly=(0.15, 0.2, 0.25, 0.1),
    thinking=(0.15, 0.2, 0.25, 0.6),
    amount=(0.1, 0.1, 0.1, 0.1),
  )
  config.eval = dict(
    examples=24, questions=4, kinds=("balance", "amount", "anomaly"), contexts=(128, 384)
  )
  return config
