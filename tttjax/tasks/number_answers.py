"""The number in what a model wrote."""

import decimal
import re

from tttjax.tasks.final_answer import Mention, clean, only, read

_LONGEST = 40  # characters of a number
_CURRENCY = r"[$\u20ac\u00a3\u00a5\u20b9]"
_GROUPED = r"\d{1,3}(?:[,'\u2019_\u00a0\u2009\u202f]\d{3})+(?!\d)"  # 1,340 1'340 and thin spaces
_SPACED = r"(?<!\d )[1-9]\d? \d{3}(?! ?\d)"  # 1 340, but not 340 350
_NUMBER = re.compile(
  rf"(?<![^\W_])(?<!\d[.,])(?:(?<![\w)\]}}])(?P<sign>-))?"
  rf"(?P<digits>{_GROUPED}|{_SPACED}|\d+(?:,\d+)*)(?P<decimals>\.\d+)?(?![^\W_]|[.,]\d)"
)
_TERM = rf"(?<![\d,.'])-?{_CURRENCY}?\d(?:[\d,.']*\d)?"
_SUM = rf"{_TERM}(?:\s*[-+*/\u00d7\u00f7]\s*{_TERM})+"
_EQUATIONS = (
  re.compile(rf"{_SUM}\s*=\s*(?P<value>{_TERM})"),
  re.compile(rf"(?P<value>{_TERM})\s*=\s*{_SUM}"),
)


def number(text: str, names: re.Pattern | None = None) -> decimal.Decimal | None:
  """The number that an output answers with.

  Thousands may be grouped by commas, apostrophes or spaces, the sign be any Unicode minus, a
  currency stand before or after it; leading zeros do not count, decimals do. An equation is its
  value: 350 - 10 = 340.

  Args:
    text: the output.
    names: what has digits in a text but is no number, such as an account.
  """
  text = clean(text)
  if names:
    text = names.sub("N", text)
  text = re.sub(rf"-\s?{_CURRENCY}\s?(?=\d)", "-", text)
  text = re.sub(r"(?<![\w)\]])(?<![\w)\]] )\u2013(?=\d)", "-", text)
  for equation in _EQUATIONS:
    text = equation.sub(lambda match: match["value"], text)
  return only(read(text, _numbers)[0])


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
