"""lm-evaluation-harness with the model tttjax and its tasks: python -m tttjax.lm_eval run ..."""

import importlib.util
import pathlib
import sys

from tttjax import program
from tttjax.errors import UserError

_TASKS = pathlib.Path(__file__).resolve().parent.parent / "lm_eval_tasks"
_NAMES_TASKS = ("--include_path", "--config", "-C")


def main() -> None:
  """Registers the model, then runs the harness's own command line.

  Raises:
    UserError: the harness is not installed.
  """
  if importlib.util.find_spec("lm_eval") is None:
    raise UserError(
      "lm-evaluation-harness is not installed; run pip install 'tttjax[lm-eval]', or pip install"
      " lm-eval"
    )
  from lm_eval.__main__ import cli_evaluate

  from tttjax.lm_eval import language_model  # noqa: F401, registers the model

  own = [argument.partition("=")[0] for argument in sys.argv[1:]]
  if own[:1] == ["run"] and len(own) > 1 and not set(own) & set(_NAMES_TASKS):
    sys.argv += ["--include_path", str(_TASKS)]
  cli_evaluate()


if __name__ == "__main__":
  sys.exit(program.run(main))
