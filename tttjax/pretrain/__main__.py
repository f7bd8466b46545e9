"""Trains a small Qwen3 on synthetic bank logs and writes it as a Hugging Face checkpoint.

python -m tttjax.pretrain [--config=FILE] [--config.steps=100 ...] [--workdir=DIR]

Without --config it trains the embedded checkpoint. DIR gets model/ (the checkpoint), checkpoints/
(to resume from), curve.csv and curve.png. The same command again resumes.
"""

import sys

from absl import flags

from tttjax import devices, files
from tttjax import flags as command_line
from tttjax.pretrain import embedded_config, loop

_WORKDIR = flags.DEFINE_string("workdir", None, "where the run is kept, instead of config.workdir")

_DESCRIPTIONS = {
  "seed": "of the initial weights and of the training logs",
  "steps": "optimizer steps of the whole run",
  "minutes": "time limit that the schedule adapts to; 0 for none",
  "warmup": "steps over which the rates rise",
  "muon_rate": "peak learning rate of the matrices",
  "adam_rate": "peak learning rate of embeddings and norms",
  "stages.context": "longest context of each stage, tokens",
  "stages.row": "length of a training row of each stage, context and questions, tokens",
  "stages.batch": "rows per step of each stage",
  "stages.share": "relative length of each stage",
  "stages.anomaly": "share of logs with an anomaly",
  "stages.thinking": "share of balance questions that are answered after thinking",
  "stages.amount": "share of questions that ask for an amount",
}


def main(config):
  devices.check()
  given = config.workdir if _WORKDIR.value is None else _WORKDIR.value
  workdir = files.user_path(given, "--workdir")
  run = loop.Run(config, workdir)
  loop.write_config(config, workdir)
  for name, score in run.train().items():
    print(f"{name}: {score:.3f}")
  print(f"checkpoint: {workdir / 'model'}", file=sys.stderr)


if __name__ == "__main__":
  command_line.run(main, embedded_config.get_config, _DESCRIPTIONS)
