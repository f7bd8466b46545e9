"""The house: imports only go down, names are given once, rooms that must not meet do not."""

import ast
import importlib
import importlib.util
import pathlib

import pytest

from tttjax import flags
from tttjax.experiment import default_config

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "tttjax"
FILES = sorted(PACKAGE.rglob("*.py"))

# From the top floor down; rooms on one floor do not import each other.
FLOORS = (
  ("main", "ask", "plan"),
  ("report", "experiment", "pretrain", "lm_eval", "lm_eval_tasks"),
  ("strategies",),
  ("session",),
  ("tasks", "mechanism"),
  ("ttt",),
  ("decode", "checkpoint"),
  ("flops", "embedded"),
  ("models",),
  ("attention",),
)
_FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def name_of(path):
  return path.relative_to(ROOT).as_posix()


def imports(path):
  """Dotted names of tttjax that a file imports."""
  for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names if alias.name.startswith("tttjax"))
    elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tttjax"):
      if node.module == "tttjax":
        yield from (f"tttjax.{alias.name}" for alias in node.names)
      else:
        yield node.module


EVERY_FILE = [
  path for room in ("tttjax", "launch", "configs") for path in sorted((ROOT / room).rglob("*.py"))
]


@pytest.mark.parametrize("path", EVERY_FILE, ids=name_of)
def test_every_name_that_is_imported_from_the_repository_exists(path):
  """Also by files that no test runs, and by imports within functions."""
  for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
    if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] in ("tttjax", "launch"):
      try:
        module = importlib.import_module(node.module)
      except ModuleNotFoundError as error:
        if error.name != "lm_eval":
          raise
        pytest.skip("lm-evaluation-harness is not installed")
      for alias in node.names:
        assert hasattr(module, alias.name) or importlib.util.find_spec(
          f"{node.module}.{alias.name}"
        ), f"{node.module} has no {alias.name}"


def room_of(path):
  """The room, or the file that stands beside the rooms: the basement, which all may use."""
  return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_go_down(path):
  own = room_of(path)
  if own == "__init__":
    return
  for name in imports(path):
    other = name.split(".")[1]
    if other != own and other in _FLOOR:
      assert _FLOOR[other] > _FLOOR.get(own, len(FLOORS)), f"{own} imports {name}"


def test_no_two_modules_share_a_name():
  seen = {}
  for path in FILES:
    if path.stem not in ("__init__", "__main__"):
      assert path.stem not in seen, f"{path} and {seen[path.stem]}"
      seen[path.stem] = path


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_module_is_named_like_a_function_in_it(path):
  tree = ast.parse(path.read_text(encoding="utf-8"))
  functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
  assert path.stem == "main" or path.stem not in functions


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_only_the_experiment_speaks_of_the_config(path):
  """Everything below raises with the name of its own argument."""
  if room_of(path) in ("experiment", "main", "report", "pretrain", "flags"):
    return
  fields = {name for name in dict(flags.fields(default_config())) if "." in name}
  for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
    if isinstance(node, ast.Raise):
      for part in ast.walk(node):
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
          text = part.value.replace("config.json", "")
          assert "config." not in text and not any(name in text for name in fields), text


def test_importing_the_package_touches_no_device_and_draws_nothing():
  import subprocess
  import sys

  code = (
    "import sys, tttjax, jax; from jax._src import xla_bridge;"
    "print(xla_bridge.backends_are_initialized(), 'matplotlib' in sys.modules)"
  )
  done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
  assert done.stdout.split() == ["False", "False"], done.stderr
