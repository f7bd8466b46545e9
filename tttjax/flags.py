"""Command lines: absl flags plus `--config=FILE` and typed `--config.field=value` overrides.

Entry points with absl flags call `run(main)`. Unlike `absl.app.run` it answers a user's mistake
with one line on stderr and exit code 2, never a traceback (tttjax/program.py lists the exit codes).
"""

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence
import difflib
import importlib.util
import inspect
import pathlib
import re
import sys
import textwrap
from typing import Any, NoReturn

from absl import flags, logging
import ml_collections

from tttjax import files, program
from tttjax.errors import UserError

_REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
# A config file, or a function that builds the config.
Default = str | Callable[[], ml_collections.ConfigDict]
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


# In quotes, or anything without a comma outside of parentheses (of two levels).
_ITEM = re.compile(
  r"""\s*(?:(?P<quote>['"])(?P<quoted>.+?)(?P=quote)\s*"""
  r"""|(?P<plain>[^,()\s](?:[^,()]|\((?:[^()]|\([^()]*\))*\))*))(?:,|$)"""
)


def run(
  main: Callable[..., int | None],
  default: Default | None = None,
  descriptions: Mapping[str, str] | None = None,
) -> NoReturn:
  """Parses sys.argv, calls `main` and exits with its code.

  Args:
    main: called as `main(config)` when there is a default config, else as
      `main()`. Its module's docstring heads `--help`. Returns an exit code or None.
    default: what is used without `--config`: a function that returns the config, or
      a config file. None: the program takes no config.
    descriptions: one line of help per dotted config field.
  """

  def parse_and_call() -> int | None:
    documentation = inspect.getdoc(inspect.getmodule(main))
    config = parse(sys.argv, default, documentation, descriptions)
    logging.use_absl_handler()
    return main() if default is None else main(config)

  sys.exit(program.run(parse_and_call))


def parse(
  argv: Sequence[str],
  default: Default | None = None,
  documentation: str | None = None,
  descriptions: Mapping[str, str] | None = None,
) -> ml_collections.ConfigDict | None:
  """Parses `argv` into absl's FLAGS and the returned config.

  Args:
    argv: program name and arguments.
    default, descriptions: see `run`.
    documentation: heads the help text.

  Returns:
    The config with its overrides, or None when `default` is None.

  Raises:
    UserError: unknown flag or field, wrong type, missing or broken config file.
    SystemExit: after `--help`.
  """
  path, overrides, rest = None, [], [argv[0]]
  help_wanted = False
  arguments = list(argv[1:])
  while arguments:
    argument = arguments.pop(0)
    name, equals, value = argument.partition("=")
    name = "--" + name.lstrip("-") if name.startswith("-") else name
    if name in ("--help", "--helpfull", "--helpshort", "--h"):
      help_wanted = True
    elif default is not None and (name == "--config" or name.startswith("--config.")):
      if not equals and arguments and not arguments[0].startswith("--"):
        value, equals = arguments.pop(0), "="
      if name == "--config":
        if not value:
          raise UserError("--config needs a file, e.g. --config=configs/quickstart.py")
        path = value
      else:
        overrides.append((name[len("--config.") :], value if equals else None))
    else:
      rest.append(argument)
  if path is None and isinstance(default, str):
    path = default
  config = load_config(path) if path else default().lock() if default else None
  if help_wanted:
    print(_help(documentation, path or "built in", config, descriptions or {}))
    raise SystemExit(0)
  try:
    positional = flags.FLAGS(rest)[1:]
  except flags.Error as error:
    raise UserError(f"{error} (see --help)") from None
  if positional:
    raise UserError(f"unexpected argument {positional[0]!r}: flags are given as --name=value")
  for name, value in overrides:
    override(config, name, value)
  return config


def load_config(path: str) -> ml_collections.ConfigDict:
  """Runs `get_config()` of a config file; `FILE:ARG` calls `get_config('ARG')`.

  Relative paths are tried from the current directory, then from the source tree's root.

  Raises:
    UserError: no such file, no get_config, or the file itself fails.
  """
  name, _, argument = path.partition(":")
  file = files.user_path(name, "--config")
  if not file.is_file() and (_REPOSITORY / name).is_file():
    file = _REPOSITORY / name
  if not file.is_file():
    folder = file.parent if file.parent.is_dir() else _REPOSITORY / "configs"
    hint = _did_you_mean(str(file), [str(p) for p in sorted(folder.glob("*.py"))])
    raise UserError(f"--config={path}: no such file{hint}")
  spec = importlib.util.spec_from_file_location(f"_config_{file.stem}", file)
  if spec is None:
    raise UserError(f"--config={path}: a config is a Python file with a function get_config()")
  module = importlib.util.module_from_spec(spec)
  try:
    spec.loader.exec_module(module)
    if not hasattr(module, "get_config"):
      raise UserError(f"--config={path}: the file defines no function get_config()")
    config = module.get_config(argument) if argument else module.get_config()
  except UserError:
    raise
  except Exception as error:  # the user's own file: any failure is a mistake in it
    raise UserError(f"--config={path}: {type(error).__name__}: {error}") from error
  if not isinstance(config, ml_collections.ConfigDict):
    raise UserError(f"--config={path}: get_config() must return an ml_collections.ConfigDict")
  return config.lock()


def fields(config: ml_collections.ConfigDict, prefix: str = "") -> Iterator[tuple[str, Any]]:
  """Yields (dotted name, value) of every leaf field, in declaration order."""
  for name, value in config.items():
    if isinstance(value, ml_collections.ConfigDict):
      yield from fields(value, f"{prefix}{name}.")
    else:
      yield prefix + name, value


def override(config: ml_collections.ConfigDict, name: str, text: str | None) -> None:
  """Sets the dotted field `name` from a command line's text, converted to its type.

  Args:
    config: changed in place.
    name: e.g. 'ttt.steps'.
    text: the value; None (a bare `--config.flag`) means true.

  Raises:
    UserError: no such field, or the text does not convert to the field's type.
  """
  known = dict(fields(config))
  if name not in known:
    group = [field for field in known if field.startswith(name + ".")]
    if group:
      raise UserError(
        f"--config.{name} is a group of fields: set one of --config." + ", --config.".join(group)
      )
    hint = _did_you_mean(name, list(known), "--config.")
    raise UserError(f"--config.{name}: no such field{hint or '; --help lists the fields'}")
  *parents, leaf = name.split(".")
  node = config
  for parent in parents:
    node = node[parent]
  kind = node.get_type(leaf)
  if text is None:
    if kind is not bool:
      raise UserError(f"--config.{name} needs a value: --config.{name}={_shown(known[name])}")
    text = "true"
  try:
    node[leaf] = _convert(text, kind, known[name])
  except (ValueError, SyntaxError, TypeError):
    raise UserError(
      f"--config.{name}={text}: expected {_kind_name(kind, known[name])},"
      f" such as {_shown(known[name])}"
    ) from None


def _convert(text: str, kind: type, current: Any) -> Any:
  """Converts `text` to `kind`; tuples take the type of their present elements."""
  if kind is bool:
    if text.lower() not in _BOOLEANS:
      raise ValueError(text)
    return _BOOLEANS[text.lower()]
  if kind in (int, float, str):
    return kind(text)
  if kind is tuple:
    element = type(current[0]) if current else str
    return tuple(map(element, _items(text)))
  try:
    return ast.literal_eval(text)
  except (ValueError, SyntaxError):
    return text


def _items(text: str) -> list[str]:
  """The items of `1,2`, `(1, 2)` or `[1, 2]`; an item in quotes may hold a comma.

  Raises:
    ValueError: an empty item, as between the commas of `1,,2`; the last one may be left out.
  """
  text = text.strip()
  if text and text[0] + text[-1] in ("()", "[]"):
    text = text[1:-1]
  items = []
  while text.strip():
    match = _ITEM.match(text)
    if match is None:
      raise ValueError(text)
    items.append(match["quoted"] or match["plain"].strip())
    text = text[match.end() :]
  return items


def list_item(text: str) -> str:
  """`text` as an item of a list: in quotes where it would not be read as one item as it is."""
  try:
    if _items(text) == [text]:
      return text
  except ValueError:
    pass
  quote = "'" if '"' in text else '"'
  return f"{quote}{text}{quote}"


def _kind_name(kind: type, value: Any) -> str:
  names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
  if kind is tuple:
    element = names.get(type(value[0]), "values") if value else "values"
    return f"a comma-separated list, each {element}"
  return names.get(kind, kind.__name__)


def _shown(value: Any) -> str:
  if isinstance(value, tuple):
    return ",".join(list_item(str(item)) for item in value)
  return repr(value) if isinstance(value, str) and "\n" in value else str(value)


def _did_you_mean(name: str, candidates: Sequence[str], prefix: str = "") -> str:
  close = difflib.get_close_matches(name, candidates, n=1)
  return f"; did you mean {prefix}{close[0]}?" if close else ""


def _help(documentation, path, config, descriptions) -> str:
  """The text of `--help`: documentation, flags, then the config's fields and values."""
  lines = [documentation or "", "", "Flags:"]
  own = flags.FLAGS.flags_by_module_dict().get(sys.argv[0], [])
  own = own or flags.FLAGS.get_key_flags_for_module(sys.argv[0])
  if config is not None:
    lines += _entry("--config=FILE", f"config file with get_config() (now: {path})")
  for flag in sorted(own, key=lambda f: f.name):
    lines += _entry(f"--{flag.name}", f"{flag.help} (default: {flag.default})")
  lines += _entry("--help", "this text")
  if config is not None:
    lines += ["", f"Config fields ({path}):"]
    for name, value in fields(config):
      lines += _entry(f"--config.{name}={_shown(value)}", descriptions.get(name, ""))
  return "\n".join(lines)


def _entry(head: str, text: str) -> list[str]:
  return [f"  {head}"] + textwrap.wrap(text, 92, initial_indent=" " * 6, subsequent_indent=" " * 6)
