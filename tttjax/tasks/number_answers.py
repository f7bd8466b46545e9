"""The number in what a model wrote."""

import decimal
import re

from tttjax.tasks.cleaned_output import bulleted, clean
from tttjax.tasks.final_answer import only, read
from tttjax.tasks.mentions import Mention

_LONGEST = 40  # characters of a number
_SIGNS = r"$\u20ac\u00a3\u00a5\u20b9"
_CURRENCY = rf"[{_SIGNS}]"
_CODE = "(?:USD|EUR|GBP|CHF|JPY|CNY|INR|CAD|AUD)"
_GROUPED = r"\d{1,3}(?:[,'\u2019_\u00a0\u2009\u202f]\d{3})+(?!\d)"  # 1,340 1'340 and thin spaces
_SPACED = r"(?<!\d )[1-9]\d? \d{3}(?! ?\d)"  # 1 340, but not 340 350
_NUMBER = re.compile(
  rf"(?<![^\W_])(?<!\d[.,])(?:(?<![\w)\]}}])(?P<sign>-))?"
  rf"(?P<digits>{_GROUPED}|{_SPACED}|\d+(?:,\d+)*)(?P<decimals>\.\d+)?(?![^\W_]|[.,]\d)"
)
_TERM = rf"(?<![\d,.'])-?{_CURRENCY}?\d(?:[\d,.']*\d)?"
_SUM = rf"{_TERM}(?:\s*[-+*/\u00d7\u00f7\u2013]\s*{_TERM})*"
# Every part is optional, so that what is no equation is passed over as a whole: in linear time.
_EQUATION = re.compile(rf"{_SUM}(?:\s*=\s*{_SUM})*")
# How a number is written otherwise, and how `_NUMBER` reads it: in this order.
_FORMS = tuple(
  (re.compile(pattern, re.IGNORECASE | re.MULTILINE), plain)
  for pattern, plain in (
    (rf"(?<![^\W_])(?:(?:US|CA|AU)\$|{_CODE}(?=[^\S\n]?-?\d))", "$"),
    (rf"(?<=\d)[^\S\n]?{_CODE}(?![^\W_])", "$"),
    (rf"(?<=[-\u2013])([^\S\n]?){_CURRENCY}[^\S\n]?(?=\d)", r"\1"),
    (rf"(?<!\d )\b(?:minus|negative(?: balance of)?) {_CURRENCY}?[^\S\n]?(?=\d)", "-"),
    (r"(?<![\w)\]}])(?<!\d )\u2013(?=\d)", "-"),
    # A minus with a space: elsewhere that is an item of a list, a separator or a subtraction.
    (
      rf"([:=({{\[]|\b(?:is|was|are|be|equals))([*_`\"'{_SIGNS}]{{0,8}}[^\S\n]*[*_`\"'{_SIGNS}]{{0,8}})"
      r"[-\u2013][^\S\n]+(?=\d)",
      r"\1\2-",
    ),
  )
)
_TRUE_MINUS = re.compile(r"^([^\S\n]*)\u2212[^\S\n]+(?=\d)", re.MULTILINE)


def number(text: str, names: re.Pattern | None = None) -> decimal.Decimal | None:
  """The number that an output answers with.

  Thousands may be grouped by commas, apostrophes or spaces, the sign be any Unicode minus, a dash
  or a word, a currency stand before or after it; leading zeros do not count, decimals do. An
  equation is its value: 350 - 10 = 340. A dash and a space are a minus after a colon or 'is', not
  after a word, and at the start of a line they begin an item of a list, as '1. ' does.

  Args:
    text: the output.
    names: what has digits in a text but is no number, such as an account.
  """
  text = clean(_TRUE_MINUS.sub(r"\1-", text))
  if names:
    text = names.sub("N", text)
  for form, plain in _FORMS:
    text = form.sub(plain, text)
  text = _EQUATION.sub(_value_of_equation, bulleted(text))
  return only(read(text, _numbers)[0])


def _value_of_equation(match: re.Match) -> str:
  """The plain sides of an equation that has a sum on another side; any other text as it is."""
  sides = [side.strip() for side in match[0].split("=")]
  plain = [side for side in sides if re.fullmatch(_TERM, side)]
  return " = ".join(dict.fromkeys(plain)) if 0 < len(plain) < len(sides) else match[0]


def _numbers(text: str) -> list[Mention]:
  return [Mention(*match.span(), _value(match)) for match in _NUMBER.finditer(text)]


def _value(match: re.Match) -> decimal.Decimal | None:
  if len(match[0]) > _LONGEST:
    return None
  digits = match["digits"]
  if not digits.isdigit():
    if not re.fullmatch(rf"{_GROUPED}|{_SPACED}", digits):
      return None  # 1340,5 or 1,2,3
    digits = re.sub(r"\D", "", digits)
  return decimal.Decimal((match["sign"] or "") + digits + (match["decimals"] or ""))
