"""The commands of schedulers."""

import subprocess

from tttjax.errors import UserError

_SECONDS = 300  # that one may take


def output_of(backend: str, name: str, *arguments: str, given: str | None = None) -> str:
  """What a command prints.

  Args:
    backend: whose command it is, named in errors.
    given: its standard input.

  Raises:
    UserError: it is not there, fails, or does not answer.
  """
  flag = f"--backend={backend}"
  try:
    done = subprocess.run(
      [name, *arguments],
      input=given,
      capture_output=True,
      text=True,
      timeout=_SECONDS,
      check=False,
    )
  except FileNotFoundError:
    raise UserError(
      f"{flag}: there is no command {name} here; install it, or run this where it is"
    ) from None
  except subprocess.TimeoutExpired:
    raise UserError(f"{flag}: {name} did not answer within {_SECONDS} s") from None
  if done.returncode:
    reason = " ".join((done.stderr or done.stdout).split())[-500:]
    raise UserError(f"{flag}: {name} failed ({reason or f'exit code {done.returncode}'})")
  return done.stdout
