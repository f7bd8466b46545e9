"""Measures every phase side by side with torch and the machine's limit.

  python -m benchmarks.run --suite=cpu [--quick] [--out=FILE.json]

Needs the extras test and speed (torch, transformers, peft), and a machine that does nothing else.
Prints the table as it grows; with --out writes FILE.json and FILE.png. Exit code 1 with --ahead
where a phase is not ahead of torch.
"""

import argparse
from collections.abc import Iterator
import dataclasses
import datetime
import functools
import pathlib
import sys
import tempfile

import jax

from benchmarks import limits, machine, ours, processes, results, subjects, suites
from benchmarks.alternating import Action, Timing, alternate
from benchmarks.results import Row
from benchmarks.suites import Suite

_TORCH = {"cpu": "cpu", "gpu": "cuda"}  # what torch calls the devices
_PER_RUN = {"loop": "steps", "decode": "new_tokens", "decode, shared": "new_tokens"}


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("--suite", choices=suites.SUITES, default="cpu")
  parser.add_argument("--quick", action="store_true", help="two lengths, fewer rounds: minutes")
  parser.add_argument("--out", type=pathlib.Path, help="FILE.json; the plot goes beside it")
  parser.add_argument("--ahead", action="store_true", help="exit 1 where torch is faster")
  args = parser.parse_args()
  if jax.default_backend() != args.suite:
    print(f"--suite={args.suite}: jax has {jax.default_backend()} devices here", file=sys.stderr)
    return 2
  suite = suites.suite(args.suite, args.quick)
  about = {"date": datetime.date.today().isoformat(), **machine.describe(), "suite": args.suite}
  peaks = machine.peaks(suite.dtype)
  rows: list[Row] = []
  with tempfile.TemporaryDirectory() as folder:
    subject = subjects.make(suite, pathlib.Path(folder) / "checkpoint")
    torch_model = None
    if args.suite != "tpu":
      from benchmarks import parity, peers

      torch_model = peers.load(subject.directory, suite, _TORCH[args.suite])
      about["relative errors to torch"] = parity.check(suite, subject, torch_model)
    for row in measured(suite, subject, torch_model):
      rows.append(row)
      print(results.line(row), file=sys.stderr, flush=True)
    # Measured again: what disturbed the machine at the start is perhaps over.
    peaks = peaks.best(machine.peaks(suite.dtype))
    rows = [_bound(row, suite, subject.model.config, peaks) for row in rows]
    about |= {"matmul_flops": peaks.flops, "bandwidth": peaks.bandwidth}
    loads = processes.loading(subject.directory, suite.dtype)
    about["loading, bytes"] = {name: load.memory for name, load in loads.items()}
    rows += _process_rows(loads)
  print(f"{results.heading(about)}\n\n{results.table(rows)}")
  if args.out:
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(results.as_json(rows, about), encoding="utf-8")
    results.plot(rows, args.out.with_suffix(".png"))
  behind = [f"{r.phase} at {r.length}" for r in rows if any(x < 1 for x in r.ratios.values())]
  if args.ahead and behind:
    print(f"behind torch: {', '.join(behind)}", file=sys.stderr)
    return 1
  return 0


def measured(suite: Suite, subject, torch_model) -> Iterator[Row]:
  """Every phase at every length, without its limit; `torch_model` None leaves torch out."""
  peers = None
  if torch_model is not None:
    from benchmarks import peers
  for length in suite.lengths:
    own = ours.Ours(suite, subject, length)
    theirs = peers.Peers(suite, torch_model, length) if peers else None
    others = peers.actions(theirs, suite) if peers else {}
    for phase, action in ours.actions(own, suite).items():
      number = getattr(suite, _PER_RUN[phase]) if phase in _PER_RUN else 1
      contenders, missing, close = {"tttjax": action}, {}, []
      if phase in others:
        contenders["transformers"] = others[phase]
      if theirs and phase in ("step", "loop"):
        loop = theirs.frozen_loop()
        close.append(loop.close)
        steps = number if phase == "loop" else 1
        contenders["torch loop"] = functools.partial(theirs.steps, loop, steps, own.last_start)
      if theirs and phase == "decode":
        static = _static(theirs, suite)
        if reason := _refusal(static):
          missing["compiled, static"] = reason
        else:
          contenders["compiled, static"] = static
      timings = alternate(contenders, suite.rounds)
      for done in close:
        done()
      if theirs and phase == "step" and length <= suite.longest_reread:
        # By itself: the adapter is in the model, where the others would run it too.
        try:
          timings["peft, rereading"] = _rereading(theirs, own.last_start)
        except ImportError as error:
          missing["peft, rereading"] = f"{type(error).__name__}: {error}"
      for name, reason in missing.items():
        print(f"{name}: {reason}", file=sys.stderr)
      yield Row(phase, length, number, timings, missing=missing)
    if length == suite.lengths[0]:
      read = own.several(suite.contexts)
      batched = {
        "tttjax": functools.partial(own.adapt_and_answer, read, True),
        "one by one": functools.partial(own.adapt_and_answer, read, False),
      }
      yield Row("contexts, batched", length, suite.contexts, alternate(batched, suite.rounds))


def _bound(row: Row, suite: Suite, config, peaks: machine.Peaks) -> Row:
  """The row with the machine's limit of its phase, where it has one."""
  bounds = limits.limits(suite, config, row.length, peaks)
  return dataclasses.replace(row, limit=bounds.get(row.phase))


def _rereading(theirs, start: int) -> Timing:
  loop = theirs.adapter_loop()
  try:
    return alternate({"": functools.partial(theirs.steps, loop, 1, start)}, 1)[""]
  finally:
    loop.close()


def _static(theirs, suite: Suite) -> Action:
  import torch

  compiled = torch.compile(theirs.model, dynamic=False)
  return functools.partial(theirs.decode_static, compiled, suite.new_tokens)


def _refusal(action: Action) -> str:
  """Why a contender that other people's packages may not let run does not; '' where it runs."""
  try:
    action()
  except Exception as error:  # whatever they raise, the others are measured
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
  return ""


def _process_rows(loads: dict[str, processes.Loading]) -> list[Row]:
  answers = processes.first_answers()
  return [
    *(
      Row(f"first answer, {name}", 0, 1, {"tttjax": Timing((seconds,))})
      for name, seconds in answers.items()
    ),
    Row(
      "loading",
      0,
      1,
      {name: Timing((load.seconds,)) for name, load in loads.items()},
    ),
  ]


if __name__ == "__main__":
  sys.exit(main())
