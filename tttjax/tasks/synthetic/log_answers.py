"""Reads what is asked of a transaction log out of what a model wrote, and scores it."""

from collections.abc import Sequence
import decimal
import re
from typing import NamedTuple

from tttjax.tasks import number_answers
from tttjax.tasks.cleaned_output import bulleted, clean
from tttjax.tasks.final_answer import goes_on, only, read
from tttjax.tasks.mentions import Mention
from tttjax.tasks.synthetic.ledger import ANOMALIES

_TYPES = {name.replace("_", ""): name for name in ANOMALIES}
_TYPE = r"(?<![^\W_])(?P<type>" + "|".join(n.replace("_", r"[\s_-]?") for n in ANOMALIES) + ")"
_BETWEEN = r"[\s_#:\"'`*-]*"
_ID = (
  r"(?<![^\W_])(?:(?:TXN?|transaction)[\s_]*(?:id|number|no\b\.?)|TXN?|transaction(?=\s+#?\d))"
  rf"{_BETWEEN}(?P<id>\d{{1,18}})"
)
# In JSON, or on a line of its own: "transaction": 123, id: 123.
_FIELD = rf"(?<![^\W_])(?:transaction|id)[\"'`*]*:{_BETWEEN}(?P<field>\d{{1,18}})"
_MENTION = re.compile(rf"(?:{_TYPE}|{_ID}|{_FIELD})(?![^\W_])", re.IGNORECASE)
# 'after TX: 340' says a number, unless another one follows: 'TX: 123, amount: 35'.
_COLON = (
  r"(?!(?:TXN?|transaction):\s+\d+"
  r"(?![^\n\d]{0,40}\d|[^\n\d]{0,4}\n[^\n:\d]{0,30}:[^\n\d]{0,20}\d)(?!\d))"
)
# Digits of names: transactions, accounts, numbered lines.
_NAMES = re.compile(
  rf"{_COLON}{_ID}|(?<![^\W_])[A-Z]\d\d(?![^\W_])"
  r"|\b(?:account|operation|line|row|step)\s+(?:id\s+|number\s+|no\.?\s*)?#?\d+\b",
  re.IGNORECASE,
)


class Anomaly(NamedTuple):
  """An anomaly as an output states it.

  Attributes:
    type: of ledger.ANOMALIES; None where it is missing or ambiguous.
    transaction: its id as a number, for leading zeros do not count; None likewise.
  """

  type: str | None
  transaction: int | None


def number(text: str) -> decimal.Decimal | None:
  """The balance or amount that an output states; None where it states none or several."""
  return number_answers.number(text, _NAMES)


def anomaly(text: str) -> Anomaly:
  """The type and the transaction that an output states, each by itself."""
  types, ids = read(bulleted(clean(text)), _mentions, ("type", "id"))
  return Anomaly(only(types), only(ids))


def scores(text: str, references: Sequence[str], anomalies: bool) -> dict[str, bool]:
  """Whether an output states a reference ('acc'), of anomalies also whether either half of one."""
  if not anomalies:
    found = number(text)
    return {"acc": found is not None and found in map(number, references)}
  found = anomaly(text)
  halves = [
    (found.type == right.type, found.transaction == right.transaction)
    for right in map(anomaly, references)
  ]
  return {
    "acc": any(map(all, halves)),
    "type_acc": any(type_right for type_right, _ in halves),
    "id_acc": any(id_right for _, id_right in halves),
  }


def _mentions(text: str) -> list[Mention]:
  return [
    Mention(*match.span(), _TYPES[re.sub(r"[\s_-]", "", match["type"].upper())], "type")
    if match["type"]
    else Mention(*match.span(), _id(match), "id")
    for match in _MENTION.finditer(text)
  ]


def _id(match: re.Match) -> int | None:
  """The transaction, None where it is no whole number or more of them follow."""
  return (
    None if goes_on(match.string, match.end(), listed=False) else int(match["id"] or match["field"])
  )
