"""What the documents name exists: files, functions, options, fields, tests."""

import ast
import importlib.util
import inspect
import pathlib
import re

import pytest

import tttjax as tt
from tttjax import flags, spec
from tttjax.experiment import default_config
from tttjax.strategies import STRATEGIES
from tttjax.tasks import TASKS

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDERS = ("docs", "launch", "third_party", "configs", "tests", "tttjax")
DOCUMENTS = sorted(ROOT.glob("*.md")) + sorted(
  path for folder in FOLDERS for path in (ROOT / folder).rglob("*.md")
)
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
README = (ROOT / "README.md").read_text(encoding="utf-8")

# In a document's text: `tttjax/rows.py`, configs/paper/fig1b.py:paper, tests/test_x.py::test_y.
_PATH = re.compile(r"(?<![\w./-])((?:tttjax|configs|launch|tests|docs|third_party)/[\w./-]*)")
_TEST = re.compile(r"(tests/test_\w+\.py)::(\w+)")
_FIELD = re.compile(r"--config\.([a-z_.0-9]+)=")
_MODULE = re.compile(r"python -m ((?:tttjax|launch)[\w.]*)")
_DOCUMENT = re.compile(r"(?<![\w/.-])(?:[\w-]+/)*(?:[A-Z_]{3,}|architecture)\.md\b")


def name_of(path):
  return path.relative_to(ROOT).as_posix()


def table(head):
  """The first column of README's table with this head, and its second one."""
  body = README.split(f"| {head} |", 1)[1].split("\n\n", 1)[0]
  rows = [line.split(" | ", 1) for line in body.splitlines()[2:]]
  return [(first.removeprefix("| "), rest) for first, rest in rows]


@pytest.fixture(params=DOCUMENTS, ids=name_of)
def document(request):
  return request.param, request.param.read_text(encoding="utf-8")


def test_relative_links_lead_to_files(document):
  path, text = document
  for link in re.findall(r"\]\((?!https?:)([^)#\s]+)", text):
    assert (path.parent / link).exists(), link


def test_paths_that_are_named_exist(document):
  for name in _PATH.findall(document[1]):
    assert (ROOT / name.rstrip(".")).exists(), name


def test_tests_that_are_named_exist(document):
  for file, test in _TEST.findall(document[1]):
    assert re.search(rf"^def {test}\b", (ROOT / file).read_text(encoding="utf-8"), re.M), test


def test_modules_that_are_run_exist(document):
  for name in _MODULE.findall(document[1]):
    assert importlib.util.find_spec(name), name


def test_config_fields_that_are_named_exist(document):
  known = dict(flags.fields(default_config()))
  for name in set(_FIELD.findall(document[1])) - {"steps", "minutes"}:  # of pretraining
    assert name in known, name


@pytest.mark.parametrize("path", sorted((ROOT / "tttjax").rglob("__init__.py")), ids=name_of)
def test_the_files_that_a_room_lists_are_in_it(path):
  listed = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
  for line in listed.splitlines():
    for name in re.findall(r"[\w/]+\.py\b", line.partition("   ")[0]):
      assert (path.parent / name).exists(), name


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_documents_that_a_source_names_exist(path):
  for name in _DOCUMENT.findall(path.read_text(encoding="utf-8")):
    assert (ROOT / name).exists() or (path.parent / name).exists(), name


@pytest.mark.parametrize("head, registry", [("strategy", STRATEGIES), ("task", TASKS)])
def test_tables_list_what_is_registered(head, registry):
  assert [first.strip("`") for first, _ in table(head)] == list(registry)


@pytest.mark.parametrize("registry", [STRATEGIES, TASKS])
def test_specs_that_are_named_can_be_read(registry, document):
  for name, options in re.findall(r"\b(\w+)\(([a-z_]+=[^)]*)\)", document[1]):
    if name in registry:
      spec.parse(f"{name}({options})", registry, name)


def test_options_in_the_table_are_those_of_the_strategy():
  for name, text in table("strategy"):
    fields = inspect.signature(STRATEGIES[name.strip("`")]).parameters
    inherited = {"qttt", "in_context", "thinking"}
    for option in re.findall(r"`([a-z_]+)(?:=[^`]*)?`", text):
      assert option in fields or option in inherited, f"{name}: {option}"


def test_arguments_stand_in_the_order_of_the_table():
  named = re.findall(r"`(\w+)\(([\w, ]+)\)`", "\n".join(first for first, _ in table("function")))
  assert len(named) >= 12
  for function, arguments in named:
    parameters = list(inspect.signature(getattr(tt, function)).parameters)
    assert arguments.split(", ") == parameters[: arguments.count(",") + 1], function
