"""The log of an anomaly: many branches of a bank, all alike, one of which breaks a rule once.

A branch is four accounts and thirteen transfers among them. Branches share nothing, so their lines
can be merged in any way and every balance is right: a longer log holds more branches, its lines are
the shorter one's and more, and what belongs together moves apart as the log grows. The branch with
the anomaly is drawn like every other one, its transfers at random places and the anomaly one of
them, so that accounts, ids, amounts, places, groups of accounts or the length of lines tell no more
of it than of any other line. Many transfers take an account back to its balance before its
last line: a balance that is written again is nothing special, and only the order of an account's
lines tells a stale one.

Visible by nature are NEGATIVE_BAL, by its minus sign, and DUPLICATE_TXN, by its id that stands
twice; CALC_ERROR takes arithmetic and LOST_UPDATE the latest line of an account.
"""

import dataclasses
import itertools

import numpy as np

from tttjax.errors import UserError
from tttjax.tasks.synthetic.ledger import (
  ANOMALIES,
  MAX_BALANCE,
  NUM_NAMES,
  Entry,
  Ledger,
  Operation,
  account_name,
  opening_balance,
)
from tttjax.tasks.synthetic.log_needles import Needle, interleave

ACCOUNTS = 4
TRANSFERS = 13  # of a branch: as many as let the accounts' names last for 8,000 transfers
FEWEST_TRANSFERS = 3  # of a log
MOST_TRANSFERS = NUM_NAMES // ACCOUNTS * TRANSFERS

_RETURN_SHARE = 0.6  # of the transfers undo the last change of an account
_REACH = FEWEST_TRANSFERS - 1  # an anomaly's earlier operation is at most so many transfers back
# Independent random streams of one seed.
_NAMES, _KIND, _DEPTH, _BRANCH = range(30, 34)


@dataclasses.dataclass(frozen=True)
class _Branch:
  """The openings and transfers of a branch in order, and where they stand in the log.

  Attributes:
    openings, transfers: operations.
    opening_places, places: share of the other branches' transfers in front of each, 0 to 1.
    written: (anomaly, earlier operation or None), None in a branch that breaks no rule.
  """

  openings: tuple[Operation, ...]
  transfers: tuple[Operation, ...]
  opening_places: tuple[float, ...]
  places: tuple[float, ...]
  written: tuple[Operation, Operation | None] | None = None

  def placed(self) -> list[tuple[float, Operation]]:
    """(place, operation) of all of them in the order of the log."""
    pairs = [*zip(self.opening_places, self.openings), *zip(self.places, self.transfers)]
    return sorted(pairs, key=lambda pair: pair[0])

  def around_anomaly(self, count: int) -> "_Branch":
    """The branch as it is when all but `count` of its transfers lie outside the log.

    A larger count adds transfers at either end; accounts open with what they have at the first.
    """
    wrong = self.transfers.index(self.written[0])
    first, end = max(wrong - _REACH, 0), max(wrong + 1, FEWEST_TRANSFERS)
    while end - first < count:
      before, after = first, len(self.transfers) - end
      first, end = (first - 1, end) if before > after else (first, end + 1)
    balances = {
      operation.entries[0].account: operation.entries[0].new for operation in self.openings
    }
    for operation in self.transfers[:first]:
      balances |= {entry.account: entry.new for entry in operation.entries}
    return dataclasses.replace(
      self,
      openings=tuple(
        Operation((Entry(name, None, balance),)) for name, balance in balances.items()
      ),
      transfers=self.transfers[first:end],
      places=self.places[first:end],
    )


def check_branches(number: int):
  """Raises UserError where a log has too many transfers for the names of its branches' accounts."""
  if number > MOST_TRANSFERS:
    raise UserError(
      f"a log of more than {MOST_TRANSFERS} transfers runs out of account names; shorten it"
    )


class AnomalyLog:
  """The growing log of a seed with one anomaly.

  Attributes:
    needles: the one thing that is asked.
  """

  def __init__(self, seed: int, depth: float, id_digits: int):
    """
    Args:
      seed: names the log.
      depth: place of the anomaly, 0 to 1; random where negative.
      id_digits: length of a transaction id.
    """
    rng = np.random.default_rng((seed, _NAMES))
    self._names = [account_name(int(i)) for i in rng.permutation(NUM_NAMES)]
    self._ids = rng.permutation(10**id_digits)[:MOST_TRANSFERS]
    self._id_digits = id_digits
    self._seed = seed
    self._others: list[_Branch] = []  # as many as were needed so far
    self._own = self._branch_with_anomaly(depth)
    self.needles = (Needle("", *self._own.written),)

  def operations(self, count: int) -> list[Operation]:
    """The log with `count` operations more than the fewest, in order.

    Raises:
      UserError: the accounts' names do not suffice.
    """
    inside = min(FEWEST_TRANSFERS + count, TRANSFERS)
    own = self._own if inside == TRANSFERS else self._own.around_anomaly(inside)
    missing = count - (inside - FEWEST_TRANSFERS)
    haystack: list[tuple[float, Operation]] = []
    for number in itertools.count():
      if missing <= 0:
        break
      branch = self._other(number).placed()[:missing]
      haystack += branch
      missing -= len(branch)
    haystack.sort(key=lambda pair: pair[0])
    return interleave([operation for _, operation in haystack], own.placed(), of_transfers=True)

  def _ledger(self, rng, number: int) -> Ledger:
    """An empty ledger that uses the names and ids of branch `number`."""
    check_branches(TRANSFERS * number + 1)
    ids = self._ids[TRANSFERS * number : TRANSFERS * (number + 1)]
    ledger = Ledger(rng, ids=[f"{int(i):0{self._id_digits}d}" for i in ids])
    for name in self._names[ACCOUNTS * number : ACCOUNTS * (number + 1)]:
      ledger.open(name, opening_balance(rng))
    return ledger

  def _other(self, number: int) -> _Branch:
    """One of the branches that break no rule."""
    while len(self._others) <= number:
      rng = np.random.default_rng((self._seed, _BRANCH, len(self._others) + 1))
      ledger = self._ledger(rng, len(self._others) + 1)
      while len(ledger.operations) < ACCOUNTS + TRANSFERS:
        _transfer(ledger, rng)
      self._others.append(_put(ledger.operations, np.sort(rng.random(TRANSFERS)), rng))
    return self._others[number]

  def _branch_with_anomaly(self, depth: float) -> _Branch:
    """Branch 0. What happens in it does not depend on `depth`."""
    kind = ANOMALIES[int(np.random.default_rng((self._seed, _KIND)).integers(len(ANOMALIES)))]
    rng = np.random.default_rng((self._seed, _DEPTH))
    fewest = 1 if kind in ("LOST_UPDATE", "DUPLICATE_TXN") else 0
    before = -1
    while before < fewest:
      own = float(rng.random())
      # Where one of the places is known, the others are still independent and uniform.
      before = int(np.sum(rng.random(TRANSFERS - 1) < own))
    place = own if depth < 0 else depth
    places = np.sort(
      [
        *(place * rng.random(before)),
        place,
        *(place + (1 - place) * rng.random(TRANSFERS - 1 - before)),
      ]
    )
    for attempt in itertools.count():
      rng = np.random.default_rng((self._seed, _BRANCH, 0, attempt))
      ledger = self._ledger(rng, 0)
      for _ in range(before):
        _transfer(ledger, rng)
      written = ledger.write_anomaly(kind, rng, _draw(ledger, rng))
      if written and _is_hidden(written[0]) and _is_near(written[1], ledger.operations):
        break
    while len(ledger.operations) < ACCOUNTS + TRANSFERS:
      _transfer(ledger, rng)
    return dataclasses.replace(_put(ledger.operations, places, rng), written=written)


def _put(operations: list[Operation], places: np.ndarray, rng) -> _Branch:
  """A branch with its accounts' openings at random places in front of their first transfer."""
  openings, transfers = operations[:ACCOUNTS], operations[ACCOUNTS:]
  first = {}
  for place, operation in zip(places, transfers):
    for entry in operation.entries:
      first.setdefault(entry.account, place)
  opening_places = [
    float(first.get(operation.entries[0].account, 1.0) * rng.random()) for operation in openings
  ]
  return _Branch(
    tuple(openings), tuple(transfers), tuple(opening_places), tuple(map(float, places))
  )


def _draw(ledger: Ledger, rng) -> tuple[str, str, int]:
  """Source, target and amount of a transfer; many undo the last change of an account."""
  if rng.random() < _RETURN_SHARE:
    account, partner = (ledger.accounts[i] for i in rng.permutation(len(ledger.accounts))[:2])
    change = int(np.diff(ledger.history[account][-2:]).sum())
    source, target = (account, partner) if change > 0 else (partner, account)
    amount = abs(change)
    fits = ledger.balance(source) >= amount and ledger.balance(target) + amount <= MAX_BALANCE
    if 0 < amount < 100 and fits:
      return source, target, amount
  return ledger.pair(rng)


def _transfer(ledger: Ledger, rng):
  """Appends a regular transfer."""
  source, target, amount = _draw(ledger, rng)
  ledger.transfer(ledger.next_transaction(), amount, source, target)


def _is_hidden(anomaly: Operation) -> bool:
  """Whether a wrong balance is not one at which the error had to stop."""
  limits = (0, MAX_BALANCE)
  return anomaly.anomaly != "CALC_ERROR" or not any(e.new in limits for e in anomaly.entries)


def _is_near(earlier: Operation | None, operations: list[Operation]) -> bool:
  return earlier is None or earlier in operations[-1 - _REACH :]
