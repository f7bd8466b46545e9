"""Cells as the tasks of SLURM job arrays.

Every submission is one script, runs/NAME/slurm/STAMP.sh, whose array task i runs the i-th of its
cells; STAMP.json names their logs, and is written before the script is handed over. The jobs are
called tttjax-STAMP, so that the queue alone says which cells are under way: nothing has to be
remembered of what sbatch answered (one that was refused is in no queue), and no file is polled.
A cell is one process for each task that the options ask for (--nodes, --ntasks), which work as one.
"""

from collections.abc import Mapping, Sequence
import datetime
import pathlib
import re
import shlex
import sys

from launch.backend import MOST_RESTARTS, QUEUED, RUNNING, Job
from launch.commands import output_of
from launch.state import ENDED
from tttjax.errors import UserError
from tttjax.files import read_json, replacing, write_json
from tttjax.interrupts import RESTART

_FREE_PORT = "import socket; s = socket.socket(); s.bind(('', 0)); print(s.getsockname()[1])"
_PREFIX = "tttjax-"
_OWN = ("array", "chdir", "job-name", "open-mode", "output", "error", "requeue", "no-requeue")
_OWN_LETTERS = {"a": "array", "D": "chdir", "J": "job-name", "o": "output", "e": "error"}
_WAITS = ("PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "CONFIGURING")


class Slurm:
  """Implements `launch.backend.Scheduler`.

  Args:
    directory: of the sweep, on a file system of all nodes.
    options: of sbatch for every cell, such as '--partition=gpu' or '--gpus=8'.
    at_once: cells that may run at the same time; 0: as many as the queue gives.
    environment: variables of every job.

  Raises:
    UserError: an option is not sbatch's to take.
  """

  def __init__(
    self,
    directory: pathlib.Path,
    options: Sequence[str],
    at_once: int,
    environment: Mapping[str, str],
  ):
    self._folder = directory.resolve() / "slurm"
    self._options, self._at_once = [_checked(option) for option in options], at_once
    self._environment = environment
    self._queue: dict[str, tuple[str, str]] | None = None  # log -> (phase, job id)

  def under_way(self, log: pathlib.Path) -> str | None:
    found = self._under_way().get(str(log.resolve()))
    return found[0] if found else None

  def script(self, jobs: Sequence[Job]) -> str:
    return self._script(jobs, "STAMP")

  def submit(self, jobs: Sequence[Job]) -> str:
    stamp = datetime.datetime.now().strftime("%Y-%m-%dT%H-%M-%S-%f")
    path = self._folder / f"{stamp}.sh"
    self._folder.mkdir(parents=True, exist_ok=True)
    for job in jobs:
      job.log.parent.mkdir(parents=True, exist_ok=True)
    write_json(self._folder / f"{stamp}.json", {"logs": [str(job.log.resolve()) for job in jobs]})
    with replacing(path) as temporary:
      temporary.write_text(self._script(jobs, stamp), encoding="utf-8")
    answer = output_of("slurm", "sbatch", "--parsable", str(path))
    self._queue = None
    return f"{len(jobs)} cells are array job {answer.strip()}, script {path}"

  def cancel(self) -> int:
    jobs = self._under_way().values()
    # To the program, and not to the shell of its script, which then says how it ended.
    for wanted, how in ((QUEUED, ()), (RUNNING, ("--signal=INT",))):
      if ids := [job for phase, job in jobs if phase == wanted]:
        output_of("slurm", "scancel", "--quiet", *how, *ids)
    self._queue = None
    return len(jobs)

  def _script(self, jobs: Sequence[Job], stamp: str) -> str:
    throttle = f"%{self._at_once}" if self._at_once else ""
    options = [
      f"--job-name={_PREFIX}{stamp}",
      f"--array=0-{len(jobs) - 1}{throttle}",
      f'--chdir="{pathlib.Path.cwd()}"',
      f'--output="{self._folder / stamp}_%a.out"',
      "--open-mode=append",
      "--requeue",
      *self._options,
    ]
    lines = ["#!/bin/bash", *(f"#SBATCH {option}" for option in options), ""]
    for name, value in self._environment.items():
      lines.append(f"export {name}={shlex.quote(value)}")
    lines.append('case "$SLURM_ARRAY_TASK_ID" in')
    for number, job in enumerate(jobs):
      lines += [
        f"{number})",
        f"  log={shlex.quote(str(job.log.resolve()))}",
        f"  set -- {shlex.join(job.command)}",
        "  ;;",
      ]
    lines += [
      "esac",
      """printf '$ %s\\n' "$*" >> "$log" """.rstrip(),
      # Where the processes of a cell of several tasks meet: its first node, a port that is free.
      'node=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)',
      f"port=$({shlex.join([sys.executable, '-c', _FREE_PORT])})",
      'export JAX_COORDINATOR_ADDRESS="$node:$port"',
      # Tasks that are left alone end by themselves, and say of whom they have not heard.
      'srun --kill-on-bad-exit=0 --wait=0 --open-mode=append --output="$log" "$@"',
      "code=$?",
      f"""printf '\\n{ENDED}exit code %s\\n' "$code" >> "$log" """.rstrip(),
      f"again={RESTART}",
      # Of several processes the highest code counts, that of one that was killed.
      '[ "${SLURM_NTASKS:-1}" -gt 1 ] && [ "$code" = 137 ] && again=137',
      f'if [ "$code" = "$again" ] && [ "${{SLURM_RESTART_COUNT:-0}}" -lt {MOST_RESTARTS} ]; then',
      '  scontrol requeue "$SLURM_JOB_ID"',
      "fi",
      'exit "$code"',
      "",
    ]
    return "\n".join(lines)

  def _under_way(self) -> dict[str, tuple[str, str]]:
    """By log: jobs of this sweep in the queue, which is asked once."""
    if self._queue is None:
      logs = {
        f"{_PREFIX}{path.stem}": read_json(path)["logs"] for path in self._folder.glob("*.json")
      }
      self._queue = {}
      asked = ("--me", "--array", "--noheader", "--format=%j|%K|%T|%i")
      for line in output_of("slurm", "squeue", *asked).splitlines() if logs else ():
        name, task, state, job = line.strip().split("|")
        if name in logs and task.isdecimal():
          phase = QUEUED if state in _WAITS else RUNNING
          self._queue[logs[name][int(task)]] = phase, job
    return self._queue


def _checked(option: str) -> str:
  name = re.split("[= ]", option.lstrip("-"))[0]
  letter = option[1:2] if option.startswith("-") and not option.startswith("--") else ""
  if not option.startswith("-") or "\n" in option:
    raise UserError(
      f"--sbatch={option!r}: give an option of sbatch, such as --sbatch=--time=4:00:00"
    )
  if name in _OWN or letter in _OWN_LETTERS:
    raise UserError(
      f"--sbatch={option}: the launcher sets {_OWN_LETTERS.get(letter, name)} itself; leave it out"
    )
  return option
