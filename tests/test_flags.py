"""Command lines: typed overrides, one-line errors, exit codes, help."""

import sys

import ml_collections
import pytest

from tttjax import flags
from tttjax.errors import UserError
from tttjax.experiment import quickstart

_CONFIG = """
import ml_collections
def get_config(size='small'):
  return ml_collections.ConfigDict(dict(
      steps=32, rate=1e-3, name='a', sizes=(1, 2), paths=('a',), quiet=False, size=size,
      inner=dict(depth=3, budget=ml_collections.FieldReference('matched', field_type=object))))
"""


@pytest.fixture
def path(tmp_path):
  file = tmp_path / "tiny.py"
  file.write_text(_CONFIG)
  return str(file)


def parse(path, *arguments):
  return flags.parse(["program", *arguments], path)


@pytest.mark.parametrize(
  "argument, field, value",
  [
    ("--config.steps=64", "steps", 64),
    ("--config.rate=3e-4", "rate", 3e-4),
    ("--config.rate=1", "rate", 1.0),
    ("--config.name=12", "name", "12"),
    ("--config.name=", "name", ""),
    ("--config.sizes=3", "sizes", (3,)),
    ("--config.sizes=(3, 4,)", "sizes", (3, 4)),
    ("--config.sizes=3,", "sizes", (3,)),
    ("--config.sizes=", "sizes", ()),
    ("--config.paths=/a b,/c", "paths", ("/a b", "/c")),
    ("--config.paths='/a,b',/c", "paths", ("/a,b", "/c")),
    ('--config.paths=["/a,b", "/o\'c"]', "paths", ("/a,b", "/o'c")),
    ("--config.paths=/o'b,/it's", "paths", ("/o'b", "/it's")),
    ("--config.paths=q(a=1,b=f(2,3)),p", "paths", ("q(a=1,b=f(2,3))", "p")),
    ("--config.quiet", "quiet", True),
    ("--config.quiet=true", "quiet", True),
    ("--config.inner.depth=5", "inner.depth", 5),
    ("--config.inner.budget=64", "inner.budget", 64),
    ("--config.inner.budget=matched", "inner.budget", "matched"),
  ],
)
def test_override_has_the_type_of_the_field(path, argument, field, value):
  result = dict(flags.fields(parse(path, argument)))[field]
  assert (result, type(result)) == (value, type(value))


@pytest.mark.parametrize(
  "item", ["/a", "/a,b", "/o'c", "/a,o'c", "'a'", "(a)", "q(a=1,b=2)", "/a "]
)
def test_item_of_a_list_comes_back(path, item):
  text = ",".join([flags.list_item(item), "b"])
  assert parse(path, f"--config.paths={text}").paths == (item, "b")


def test_value_may_follow_after_a_space_and_the_last_one_counts(path):
  assert parse(path, "--config.steps", "5", "--config.steps", "6").steps == 6


def test_config_file_is_chosen_and_takes_an_argument(path):
  assert parse("missing.py", f"--config={path}:large").size == "large"


@pytest.mark.parametrize(
  "argument, message",
  [
    ("--config.stpes=1", "--config.stpes: no such field; did you mean --config.steps?"),
    ("--config.zzz=1", "--help lists the fields"),
    ("--config.inner=1", "group of fields: set one of --config.inner.budget, --config.inner.depth"),
    ("--config.steps=1.5", "--config.steps=1.5: expected a whole number, such as 32"),
    ("--config.rate=fast", "expected a number, such as 0.001"),
    ("--config.quiet=maybe", "expected true or false"),
    ("--config.sizes=1,b", "expected a comma-separated list, each a whole number, such as 1,2"),
    ("--config.sizes=1,,2", "--config.sizes=1,,2: expected a comma-separated list"),
    ("--config.paths=,a", "--config.paths=,a: expected a comma-separated list"),
    ("--config.steps", "--config.steps needs a value"),
    ("--config=", "--config needs a file"),
    ("--config=nowhere.py", "--config=nowhere.py: no such file"),
    ("--confg=nowhere.py", "Unknown command line flag 'confg'"),
    ("stray", "unexpected argument 'stray'"),
  ],
)
def test_mistake_is_named_with_its_remedy(path, argument, message):
  with pytest.raises(UserError) as error:
    parse(path, argument)
  assert message in str(error.value)


@pytest.mark.parametrize(
  "text, message",
  [
    ("def get_config(:", "SyntaxError"),
    ("x = 1", "defines no function get_config"),
    ("def get_config(): return {}", "must return an ml_collections.ConfigDict"),
    (
      "import ml_collections\ndef get_config():\n  c = ml_collections.ConfigDict(dict(steps=1))\n"
      "  c.lock().stps = 2",
      'Did you mean "steps"',
    ),
  ],
)
def test_broken_config_file_is_named(tmp_path, text, message):
  file = tmp_path / "broken.py"
  file.write_text(text)
  with pytest.raises(UserError) as error:
    parse(str(file))
  assert str(file) in str(error.value) and message in str(error.value)


def test_defaults_are_found_from_any_directory(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert parse("configs/quickstart.py").lengths


def run(monkeypatch, main, *arguments):
  monkeypatch.setattr(sys, "argv", ["program.py", *arguments])
  with pytest.raises(SystemExit) as exit_:
    flags.run(main)
  return exit_.value.code or 0


def test_user_error_is_one_line_and_exit_code_2(monkeypatch, capsys):
  def main():
    raise UserError("first line\nsecond   line")

  assert run(monkeypatch, main) == 2
  assert capsys.readouterr().err == "program.py: error: first line second line\n"


def test_interrupt_prints_its_message_and_exits_130(monkeypatch, capsys):
  def main():
    raise KeyboardInterrupt("the same command continues")

  assert run(monkeypatch, main) == 130
  assert capsys.readouterr().err.strip() == "program.py: the same command continues"


def test_other_errors_keep_their_traceback(monkeypatch):
  def main():
    raise RuntimeError("a bug")

  monkeypatch.setattr(sys, "argv", ["program.py"])
  with pytest.raises(RuntimeError):
    flags.run(main)


def test_code_of_main_is_the_exit_code(monkeypatch):
  assert run(monkeypatch, lambda: None) == 0
  assert run(monkeypatch, lambda: 3) == 3


def test_help_lists_flags_and_fields_with_their_values(path, capsys):
  with pytest.raises(SystemExit) as exit_:
    flags.parse(["program", "--help"], path, "What it does.", {"steps": "how many"})
  text = capsys.readouterr().out
  assert not exit_.value.code
  assert text.startswith("What it does.")
  assert "--config.steps=32\n      how many" in text
  assert "--config.inner.depth=3" in text


def test_function_may_build_the_default_config(capsys):
  build = lambda: ml_collections.ConfigDict({"steps": 3})
  config = flags.parse(["program", "--config.steps=4"], build)
  assert config.steps == 4 and config.is_locked
  with pytest.raises(SystemExit):
    flags.parse(["program", "--help"], build)
  assert "--config.steps=3" in capsys.readouterr().out


def test_quickstarts_file_is_the_config_without_a_file():
  assert flags.load_config("configs/quickstart.py") == quickstart.get_config()
