"""Lookups in a transaction log: the operations that are asked about, and where they stand.

Needles have accounts and transaction ids of their own, which the rest of the log never touches. So
the same needles can stand in any log, at any place, and every balance is right: the haystack grows
around them. A place is the share of the haystack's lines in front, 0 to 1.

  balance  an account and up to two transfers with it; asked for its last balance
  amount   one transfer; asked for its amount

The other side of their transfers is one of four accounts that all of them share. An anomaly stands
in another kind of log (log_branches).

These lines meet no other account of the log. Who sees that, but does not look for the asked name,
still has to guess which of the needles is meant: 16 % to 21 % right for the amount with 6 needles,
7 % to 9 % for the balance (chance: 6 % to 9 %, 2 % to 6 %). Who looks for it needs nothing else.
"""

from collections.abc import Iterable, Sequence
import dataclasses

import numpy as np

from tttjax.tasks.synthetic.ledger import (
  MAX_BALANCE,
  NUM_NAMES,
  Ledger,
  Operation,
  account_name,
  opening_balance,
  transfer_amount,
)

MOST_NEEDLES = 16  # the shared accounts can pay for so many
MOST_UPDATES = 2

_PARTNERS = 4
_PARTNER_BALANCE = (3100, 6900)  # at most 190 for each needle away from 0 and MAX_BALANCE
# Independent random streams of one seed.
_NAMES, _PARTNER, _NEEDLE = range(10, 13)
_HAYSTACK = 20


@dataclasses.dataclass(frozen=True)
class Needle:
  """What is asked.

  Attributes:
    subject: the account or transaction id that the question names; '' for an anomaly.
    operation: the one that holds the answer.
    earlier: the operation without which an anomaly were none, if there is one.
  """

  subject: str
  operation: Operation
  earlier: Operation | None = None


@dataclasses.dataclass(frozen=True)
class Plan:
  """The needles of one log.

  Attributes:
    placed: (place, operation) in the order of the log.
    needles: what is asked, in the order of the questions.
    used: account names and ids that the haystack must not use; the same for any number of needles.
  """

  placed: tuple[tuple[float, Operation], ...]
  needles: tuple[Needle, ...]
  used: frozenset[str]


class LookupLog:
  """The growing log of a seed that is asked for balances or amounts; it breaks no rule.

  Attributes:
    needles: what is asked, in the order of the questions.
  """

  def __init__(
    self,
    kind: str,
    seed: int,
    count: int,
    depth: float,
    id_digits: int,
    open_share: float,
    opens_in_place: bool,
  ):
    """
    Args:
      kind: 'balance' or 'amount'.
      seed: names the log.
      count: needles, at most MOST_NEEDLES; needle j is the same for every count.
      depth: place of the operations that hold the answers; each needle's own where negative.
      id_digits: length of a transaction id.
      open_share: share of the haystack's operations that open an account.
      opens_in_place: whether openings stand among the transfers; else they come first, and places
        are shares of the transfers.
    """
    self._plan = lookup_plan(kind, seed, count, depth, id_digits, 0 if opens_in_place else 1)
    self._haystack = Ledger(
      np.random.default_rng((seed, _HAYSTACK)), self._plan.used, open_share, id_digits
    )
    self._opens_in_place = opens_in_place
    self.needles = self._plan.needles

  def operations(self, count: int) -> list[Operation]:
    """The log with `count` operations around the needles, in order."""
    while len(self._haystack.operations) < count:
      self._haystack.write()
    haystack, placed = self._haystack.operations[:count], self._plan.placed
    if self._opens_in_place:
      return interleave(haystack, placed)
    everything = haystack + [operation for _, operation in placed]
    return [operation for operation in everything if not operation.transaction] + interleave(
      [operation for operation in haystack if operation.transaction],
      [(place, operation) for place, operation in placed if operation.transaction],
    )


def lookup_plan(
  kind: str, seed: int, count: int, depth: float, id_digits: int, fewest_updates: int
) -> Plan:
  """`count` needles of 'balance' or 'amount'; needle j is the same for every count.

  Args:
    kind: 'balance' or 'amount'.
    seed: names the needles.
    count: at most MOST_NEEDLES.
    depth: place of the operations that hold the answers; each needle's own where negative.
    id_digits: length of a transaction id.
    fewest_updates: least number of transfers of an asked account, 0 to MOST_UPDATES.
  """
  rng = np.random.default_rng((seed, _NAMES))
  names = [account_name(int(i)) for i in rng.permutation(NUM_NAMES)[: _PARTNERS + MOST_NEEDLES]]
  ids = [
    f"{int(i):0{id_digits}d}" for i in rng.permutation(10**id_digits)[: MOST_NEEDLES * MOST_UPDATES]
  ]
  partners, accounts = names[:_PARTNERS], names[_PARTNERS:]

  rng = np.random.default_rng((seed, _PARTNER))
  ledger = Ledger(rng)
  placed = [(0.0, ledger.open(name, int(rng.integers(*_PARTNER_BALANCE)))) for name in partners]
  steps = []  # (place, needle, what to do)
  for j in range(count):
    rng = np.random.default_rng((seed, _NEEDLE, j))
    own = rng.random()
    if kind == "balance":
      own **= 0.5  # Where all accounts are in use, the last line of most is a late one.
    place = own if depth < 0 else depth
    mine = ids[j * MOST_UPDATES : (j + 1) * MOST_UPDATES]
    actions = (
      _account_life(rng, accounts[j], mine, partners, fewest_updates)
      if kind == "balance"
      else [_payment(rng, mine[0], partners)]
    )
    places = [*np.sort(rng.random(len(actions) - 1)) * place, place]
    steps += [(at, j, action) for at, action in zip(places, actions)]

  last: dict[int, Operation] = {}
  for place, j, action in sorted(steps, key=lambda step: step[0]):  # stable: a needle's own order
    # Partners' balances depend on the order, so they are known only now.
    last[j] = getattr(ledger, action[0])(*action[1:])
    placed.append((place, last[j]))
  needles = tuple(
    Needle(accounts[j] if kind == "balance" else last[j].transaction, last[j]) for j in range(count)
  )
  return Plan(tuple(placed), needles, frozenset(names + ids))


def _account_life(rng, account, ids, partners, fewest_updates) -> list[tuple]:
  """Opening and transfers of one account: (method of Ledger, arguments...)."""
  balance = opening_balance(rng)
  actions: list[tuple] = [("open", account, balance)]
  for transaction in ids[: int(rng.integers(fewest_updates, MOST_UPDATES + 1))]:
    amount, pays = transfer_amount(rng), rng.random() < 0.5
    pays = balance >= amount and (pays or balance + amount > MAX_BALANCE)
    balance += -amount if pays else amount
    partner = partners[int(rng.integers(len(partners)))]
    source, target = (account, partner) if pays else (partner, account)
    actions.append(("transfer", transaction, amount, source, target))
  return actions


def _payment(rng, transaction, partners) -> tuple:
  """One transfer between two of the shared accounts."""
  source, target = rng.permutation(len(partners))[:2]
  return "transfer", transaction, transfer_amount(rng), partners[source], partners[target]


def interleave(
  haystack: Sequence[Operation],
  placed: Iterable[tuple[float, Operation]],
  of_transfers: bool = False,
) -> list[Operation]:
  """The haystack's operations with the needles' at their places.

  Args:
    haystack: operations in order.
    placed: (place, operation), by place.
    of_transfers: whether a place is the share of the haystack's transfers, else of its operations,
      in front.
  """
  counted = [i for i, operation in enumerate(haystack) if operation.transaction or not of_transfers]
  out = []
  done = 0
  for place, operation in placed:
    before = round(place * len(counted))
    upto = counted[before] if before < len(counted) else len(haystack)
    out += haystack[done:upto]
    done = upto
    out.append(operation)
  return [*out, *haystack[done:]]
