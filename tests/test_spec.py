"""Specs: names with options as configs write them."""

import dataclasses
from typing import get_args, get_type_hints

import pytest

from tests.errors import user_error
from tttjax import spec
from tttjax.errors import UserError
from tttjax.strategies import STRATEGIES
from tttjax.tasks import TASKS


@dataclasses.dataclass(frozen=True)
class _Thing:
  size: int = 3
  rate: float | None = None
  kind: str = "plain"
  on: bool = True

  def __post_init__(self):
    if self.size < 0:
      raise UserError(f"size={self.size} must be at least 0")


REGISTRY = {"thing": _Thing, "other": dataclasses.make_dataclass("_Other", [], frozen=True)}


@pytest.mark.parametrize(
  "text, thing",
  [
    ("thing", _Thing()),
    (" thing ( ) ", _Thing()),
    ("thing(size=5)", _Thing(size=5)),
    ('thing(rate=3e-4, kind="fast",on=off)', _Thing(rate=3e-4, kind="fast", on=False)),
    ("thing(on=true)", _Thing()),
  ],
)
def test_options_take_the_types_of_their_fields(text, thing):
  assert spec.parse(text, REGISTRY, "field") == thing


@pytest.mark.parametrize(
  "thing, text",
  [
    (_Thing(), "thing"),
    (_Thing(size=3, on=False), "thing(on=off)"),
    (_Thing(rate=0.0003, size=4), "thing(size=4, rate=0.0003)"),
    (_Thing(kind="/a,b (1)/c.txt", on=False), 'thing(kind="/a,b (1)/c.txt", on=off)'),
    (_Thing(kind="/a)b"), 'thing(kind="/a)b")'),
    (_Thing(kind='5", 6"'), "thing(kind='5\", 6\"')"),
    (_Thing(kind="it's"), "thing(kind=it's)"),
    (_Thing(kind="'quoted'"), "thing(kind=\"'quoted'\")"),
    (_Thing(kind=" "), 'thing(kind=" ")'),
  ],
)
def test_canonical_text_holds_what_differs_and_parses_back(thing, text):
  assert spec.canonical(thing, REGISTRY) == text
  assert spec.parse(text, REGISTRY, "field") == thing
  assert spec.taken_apart(text) == ("thing", spec.options_of(thing))
  assert spec.split(f"a, {text},b") == ["a", text, "b"]


@pytest.mark.parametrize("name", list(STRATEGIES))
def test_every_strategy_has_defaults_and_a_canonical_name(name):
  assert spec.canonical(STRATEGIES[name](), STRATEGIES) == name


_POSITIVE = ("temperature", "learning_rate")
_LARGE = (*_POSITIVE, "stretch", "steps", "span", "tokens", "trained", "n")
# Extreme values and the options for which they mean something.
EXTREMES = {
  "0": (*_POSITIVE, "stretch", "depth", "share", "steps"),
  "-1": ("depth",),
  "1e20": _POSITIVE,
  "2147483647": _LARGE,
  "2147483648": _POSITIVE,
  "nan": (),
  "inf": (),
  "-inf": (),
}


def numeric_options():
  for registry in (STRATEGIES, TASKS):
    for name, kind in registry.items():
      hints = get_type_hints(kind)
      for field in dataclasses.fields(kind):
        if {int, float} & {hints[field.name], *get_args(hints[field.name])}:
          yield pytest.param(registry, name, field.name, id=f"{name}.{field.name}")


@pytest.mark.parametrize("registry, name, option", list(numeric_options()))
def test_extreme_numbers_are_refused_by_name_or_mean_something(registry, name, option):
  for value, meant in EXTREMES.items():
    text = f"{name}({option}={value})"
    try:
      named = spec.parse(text, registry, "field")
    except UserError as error:
      assert option in str(error), text
    else:
      assert option in meant, text
      assert spec.parse(spec.canonical(named, registry), registry, "field") == named


@pytest.mark.parametrize(
  "text, words",
  [
    ("thin", ("field", "unknown 'thin'", "did you mean 'thing'?", "thing, other")),
    ("thing(siz=1)", ("no option 'siz'", "did you mean 'size'?")),
    ("other(a=1)", ("it has no options",)),
    ("thing(size)", ("needs a value for size",)),
    ("thing(size=1.5)", ("thing(size=1.5): expected a whole number",)),
    ("thing(on=maybe)", ("expected on or off",)),
    ("thing(size=1, size=2)", ("the option size twice",)),
    ("thing(size=1", ("cannot read",)),
    ("thing(size=-1)", ("field: size=-1 must be at least 0",)),
    ("thing(size=2147483648)", ("thing(size=2147483648)", "a whole number below 2^31")),
    ("thing(rate=nan)", ("thing(rate=nan): expected a finite number",)),
    ("thing(rate=-inf)", ("thing(rate=-inf): expected a finite number",)),
    (
      "thing(kind=/a,b.txt)",
      ("no option 'b.txt'", 'a value with a comma needs quotes: kind="..."'),
    ),
  ],
)
def test_mistakes_name_the_field_and_the_remedy(text, words):
  with user_error(*words):
    spec.parse(text, REGISTRY, "field")


def test_commas_inside_parentheses_do_not_split():
  assert spec.split("a, b(x=1, y=2),c") == ["a", "b(x=1, y=2)", "c"]
  assert spec.split(" , ") == []
