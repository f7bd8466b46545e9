"""The training loop: stages, checkpoints, the curve, held-out accuracy."""

import dataclasses
import os
import pathlib
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from tttjax.checkpoint.orbax import manager_of, read_state, write_state
from tttjax.embedded.vocabulary import VOCAB_SIZE, build_tokenizer
from tttjax.errors import UserError
from tttjax.files import write_json
from tttjax.models.decoder import Decoder, init_params
from tttjax.models.decoder_config import DecoderConfig
from tttjax.pretrain import curve, evaluate, train
from tttjax.pretrain.checking import check
from tttjax.pretrain.checkpoint_files import write_checkpoint
from tttjax.pretrain.data import Generator, Stage


def stages_of(config) -> list[Stage]:
  """The curriculum of a config, whose stage fields are tuples with one entry per stage."""
  names = [field.name for field in dataclasses.fields(Stage)]
  columns = [config.stages[name] for name in names]
  if len({len(column) for column in columns}) != 1:
    raise UserError(
      "config.stages: every field needs one entry per stage, found "
      + ", ".join(f"{n}: {len(c)}" for n, c in zip(names, columns))
    )
  stages = [Stage(*entries) for entries in zip(*columns)]
  for stage in stages:
    if stage.row % train.BLOCKS:
      raise UserError(f"config.stages.row={stage.row}: must be a multiple of {train.BLOCKS}")
    if stage.row < stage.context + 64:
      raise UserError(
        f"config.stages.row={stage.row}: must be at least context + 64 = "
        f"{stage.context + 64}, to leave room for questions"
      )
  return stages


def stage_at(stages: list[Stage], progress: float) -> Stage:
  """The stage of a run that has done the share `progress` of its work."""
  ends = np.cumsum([stage.share for stage in stages])
  return stages[min(int(np.searchsorted(ends / ends[-1], progress, side="right")), len(stages) - 1)]


def model_of(config) -> Decoder:
  m = config.model
  return Decoder(
    DecoderConfig(
      vocab_size=VOCAB_SIZE,
      hidden_size=m.hidden_size,
      intermediate_size=m.intermediate_size,
      num_hidden_layers=m.num_layers,
      num_attention_heads=m.num_heads,
      num_key_value_heads=m.num_kv_heads,
      head_dim=m.head_dim,
      rope_theta=m.rope_theta,
      max_position_embeddings=m.max_positions,
      tie_word_embeddings=True,
    ),
    unroll=True,
  )


class Run:
  """One training run in a work directory; a later call resumes where the last one was saved."""

  def __init__(self, config, workdir: pathlib.Path):
    check(config)
    self.config, self.workdir = config, workdir
    self.stages = stages_of(config)
    workdir.mkdir(parents=True, exist_ok=True)
    for name in ("checkpoints", "model"):
      if os.path.lexists(workdir / name) and not (workdir / name).is_dir():
        raise UserError(f"{workdir / name}: not a directory; remove it, or use another --workdir")
    (workdir / "checkpoints").mkdir(exist_ok=True)
    self.tokenizer = build_tokenizer()
    self.model = model_of(config)
    self.generator = Generator(self.tokenizer, config.seed, config.model.max_positions)
    self.optimizer = train.make_optimizer(config.muon_rate, config.adam_rate, config.weight_decay)
    self.step_fn = train.make_step(self.model, self.optimizer)
    self.held_out = {
      f"{kind}_{context}": evaluate.held_out(
        self.tokenizer,
        kind,
        context,
        range(evaluate.FIRST_SEED, evaluate.FIRST_SEED + config.eval.examples),
        config.eval.questions,
      )
      for kind in config.eval.kinds
      for context in config.eval.contexts
    }
    params = init_params(self.model, jax.random.key(config.seed))
    self.state = {
      "params": params,
      "opt_state": jax.jit(self.optimizer.init)(params),
      "progress": np.zeros(3),
    }  # steps, tokens, seconds
    self.manager = manager_of(workdir / "checkpoints", keep=2)
    self.rows = []
    self._restore()

  def _restore(self):
    latest = self.manager.latest_step()
    if latest is None:
      return
    try:
      restored = read_state(self.manager, latest, self.state)
    except Exception as error:  # of a damaged file Orbax raises a bare Exception
      reason = (str(error).strip() or type(error).__name__).split("\n")[0]
      saved = self.workdir / "checkpoints" / str(latest)
      raise UserError(
        f"{saved}: cannot be resumed from ({reason}); use the config.model that it was saved with,"
        " or remove it to resume from the one before"
      ) from error
    # On the host: restored arrays are bound to a device, for which the step would compile anew.
    self.state = jax.tree.map(np.asarray, restored)
    self.rows = [row for row in curve.read(self.workdir / "curve.csv") if row["step"] <= latest]
    print(f"resumed from step {latest} in {self.workdir}", file=sys.stderr)

  def save(self):
    write_state(self.manager, int(self.state["progress"][0]), self.state)
    self.write_curve()
    self.export()

  def write_curve(self):
    curve.write(self.workdir / "curve.csv", self.rows, list(self.held_out))
    if self.rows:
      curve.draw(self.workdir / "curve.png", {f"seed {self.config.seed}": self.rows})

  def export(self):
    write_checkpoint(self.workdir / "model", self.model, self.state["params"], self.tokenizer)

  def evaluate(self) -> dict[str, float]:
    return {
      name: evaluate.accuracy(self.model, self.state["params"], rows)
      for name, rows in self.held_out.items()
    }

  def done(self) -> float:
    """Share of the run that is done: by steps, or by minutes where a time limit comes first."""
    steps, _, seconds = self.state["progress"]
    share = steps / self.config.steps
    return max(share, seconds / (60 * self.config.minutes)) if self.config.minutes else share

  def train(self) -> dict[str, float]:
    """Trains to the end, exports the model and returns the last held-out accuracies."""
    config, window = self.config, []
    steps, tokens, seconds = self.state["progress"]
    begun = time.monotonic() - seconds
    bar = tqdm(total=config.steps, initial=int(steps), unit="step", disable=not sys.stderr.isatty())
    while (progress := self.done()) < 1:
      stage = stage_at(self.stages, progress)
      batch = self.generator.batch(int(steps), stage)
      scale = train.rate_scale(progress, steps, config.warmup)
      params, opt_state, metrics = self.step_fn(
        self.state["params"], self.state["opt_state"], jnp.float32(scale), *batch
      )
      steps, tokens = steps + 1, tokens + batch.tokens.size
      self.state = {
        "params": params,
        "opt_state": opt_state,
        "progress": np.array([steps, tokens, time.monotonic() - begun]),
      }
      window.append(np.asarray(metrics))
      if not np.isfinite(window[-1]).all():
        raise UserError(
          f"loss or gradient is not finite at step {int(steps)}: lower "
          "config.muon_rate or config.adam_rate, then resume from --workdir"
        )
      bar.update()
      if steps % config.log_every == 0:
        loss, accuracy, _ = np.mean(window, axis=0)
        window = []
        row = dict(
          step=steps,
          tokens=tokens,
          seconds=self.state["progress"][2],
          loss=loss,
          answer_accuracy=accuracy,
        )
        if steps % config.eval_every == 0:
          row.update(self.evaluate())
        self.rows.append({key: float(value) for key, value in row.items()})
        self._report(bar)
      if steps % config.save_every == 0:
        self.save()
    bar.close()
    scores = self.evaluate()
    if self.rows:
      self.rows[-1].update(scores)
    if self.manager.latest_step() != int(steps):
      self.save()
    self.write_curve()
    return scores

  def _report(self, bar):
    row = self.rows[-1]
    text = f"step {row['step']:.0f}  {row['tokens'] / 1e6:.2f}M tokens  {row['seconds']:.0f} s  "
    text += "  ".join(
      f"{k} {row[k]:.3f}" for k in ("loss", "answer_accuracy", *self.held_out) if k in row
    )
    if bar.disable:
      print(f"{100 * self.done():.0f}%  {text}", file=sys.stderr, flush=True)
    else:
      bar.set_postfix_str(text)


def write_config(config, workdir: pathlib.Path):
  workdir.mkdir(parents=True, exist_ok=True)
  write_json(workdir / "config.json", config.to_dict())
