"""Names with options, such as `qttt(learning_rate=3e-4, spans=oracle)`, as configs write them.

What is named is a frozen dataclass whose fields, all with defaults, are the options. A spec's
canonical text holds the options that differ from the defaults, in the order of the fields: equal
objects have equal texts, and the text names a strategy or task in every row. A text with a comma
or a parenthesis stands in quotes.

A named class says itself how tables and reports call it: `label`, and for its options what
`option` was given.
"""

from collections.abc import Mapping
import dataclasses
import difflib
import math
import re
import types
from typing import Any, TypeVar, get_args, get_type_hints

from tttjax.errors import UserError

T = TypeVar("T")
_FORM = re.compile(r"\s*([A-Za-z_]\w*)\s*(?:\((.*)\))?\s*", re.DOTALL)
_BOOLEANS = {"on": True, "off": False, "true": True, "false": False}
_KINDS = {
  int: "a whole number below 2^31",
  float: "a finite number",
  bool: "on or off",
  str: "text",
}
_MOST = 2**31 - 1  # arrays of indices are int32
# A value in quotes, and what separates items or encloses them.
_MARKS = re.compile(r"""=\s*(?P<quote>['"]).*?(?P=quote)\s*(?=[,)]|$)|[(),]""", re.DOTALL)


def split(text: str) -> list[str]:
  """The comma-separated items of `text`; commas in parentheses or quotes do not separate."""
  items, depth, begin = [], 0, 0
  for match in _MARKS.finditer(text):
    depth += (match[0] == "(") - (match[0] == ")")
    if match[0] == "," and depth == 0:
      items.append(text[begin : match.start()])
      begin = match.end()
  items.append(text[begin:])
  return [item.strip() for item in items if item.strip()]


def parse(text: str, registry: Mapping[str, type[T]], field: str) -> T:
  """The object that `text` names.

  Args:
    text: a name, with options in parentheses where they differ from the defaults.
    registry: name to dataclass.
    field: what the text was given for, named in errors.

  Raises:
    UserError: unknown name or option, or a value that is not of the option's type or range.
  """
  match = _FORM.fullmatch(text)
  if match is None:
    raise UserError(f"{field}: cannot read {text!r}; write a name, or name(option=value, ...)")
  name, options = match[1], match[2] or ""
  if name not in registry:
    raise UserError(
      f"{field}: unknown {name!r}{_hint(name, registry)}; choose from {', '.join(registry)}"
    )
  kinds = get_type_hints(registry[name])
  fields = {f.name: _plain(kinds[f.name]) for f in dataclasses.fields(registry[name])}
  values: dict[str, Any] = {}
  for item in split(options):
    option, equals, value = (part.strip() for part in item.partition("="))
    if option not in fields:
      known = f"its options are {', '.join(fields)}" if fields else "it has no options"
      if values and fields[last := list(values)[-1]] is str:
        known += f'; a value with a comma needs quotes: {last}="..."'
      raise UserError(f"{field}: {name} has no option {option!r}{_hint(option, fields)}; {known}")
    if not equals:
      raise UserError(f"{field}: {name} needs a value for {option}: {option}=...")
    if option in values:
      raise UserError(f"{field}: {name} has the option {option} twice; remove one")
    try:
      values[option] = _convert(value, fields[option])
    except ValueError:
      raise UserError(
        f"{field}: {name}({option}={value}): expected {_KINDS[fields[option]]}"
      ) from None
  try:
    return registry[name](**values)
  except UserError as error:
    raise UserError(f"{field}: {error}") from None


def canonical(named: Any, registry: Mapping[str, type]) -> str:
  """The shortest text that `parse` turns into `named`."""
  name = next(name for name, kind in registry.items() if kind is type(named))
  changed = [f"{option}={_quoted(value)}" for option, value in options_of(named).items()]
  return name + (f"({', '.join(changed)})" if changed else "")


def option(
  default: Any, label: str | Mapping[str, str] | None = None, description: str = ""
) -> Any:
  """A field of a named dataclass, with what tables and reports say about it.

  Args:
    default: its value where a spec does not give one.
    label: text with {} for the value, or a text for each value that is worth one and under "" for
      the others; by default the name and the value.
    description: one sentence for the report.
  """
  return dataclasses.field(default=default, metadata={"label": label, "description": description})


def options_of(named: Any) -> dict[str, str]:
  """The options that differ from their defaults, as texts."""
  return {
    f.name: _text(getattr(named, f.name))
    for f in dataclasses.fields(named)
    if getattr(named, f.name) != f.default
  }


def taken_apart(text: str) -> tuple[str, dict[str, str]]:
  """('qttt', {'steps': '8'}) of a canonical 'qttt(steps=8)'."""
  name, _, inside = text.strip().partition("(")
  pairs = (item.partition("=") for item in split(inside.removesuffix(")")))
  return name.strip(), {option.strip(): _unquoted(value.strip()) for option, _, value in pairs}


def label(registry: Mapping[str, type], name: str, options: Mapping[str, str]) -> str:
  """'qTTT, learning rate 0.0003' of ('qttt', {'learning_rate': '0.0003'}).

  A name that is not registered (any more) is called by itself.
  """
  kind = registry.get(name)
  known = {} if kind is None else {f.name: f.metadata for f in dataclasses.fields(kind)}
  parts = [getattr(kind, "label", name.replace("_", " "))]
  for option, value in options.items():
    form = known.get(option, {}).get("label")
    if isinstance(form, Mapping):
      form = form.get(value, form.get(""))
    parts.append(form.format(value) if form else f"{option.replace('_', ' ')} {value}")
  return ", ".join(parts)


def _plain(kind: Any) -> type:
  """The type of an option's value: X of X | None, whose None is a default that is not written."""
  if isinstance(kind, types.UnionType):
    return next(part for part in get_args(kind) if part is not types.NoneType)
  return kind


def _convert(text: str, kind: type) -> Any:
  text = _unquoted(text)
  if kind is bool:
    if text.lower() not in _BOOLEANS:
      raise ValueError(text)
    return _BOOLEANS[text.lower()]
  value = kind(text)
  if kind is int and abs(value) > _MOST or kind is float and not math.isfinite(value):
    raise ValueError(text)
  return value


def _unquoted(text: str) -> str:
  return text[1:-1] if len(text) > 1 and text[0] in "'\"" and text[0] == text[-1] else text


def _quoted(text: str) -> str:
  """`text` in quotes where `split` or `_unquoted` would change it."""
  if _unquoted(text) == text == text.strip() and not re.search("[(),]", text):
    return text
  quote = "'" if '"' in text else '"'
  return f"{quote}{text}{quote}"


def _text(value: Any) -> str:
  if isinstance(value, bool):
    return "on" if value else "off"
  return str(value)


def _hint(name: str, known) -> str:
  close = difflib.get_close_matches(name, list(known), n=1)
  return f"; did you mean {close[0]!r}?" if close else ""
