"""Needles of a transaction log: the operations that are asked about, and where they stand.

Needles have accounts and transaction ids of their own, which the rest of the log never touches. So
the same needles can stand in any log, at any place, and every balance is right: the haystack grows
around them. A place is the share of the haystack's lines in front, 0 to 1.

  balance  an account and up to two transfers with it; asked for its last balance
  amount   one transfer; asked for its amount
  anomaly  a small log that ends in an anomaly: its earlier operations, among them the update that
           is lost or the first posting of a duplicate, stand at random places in front of it

The other side of the transfers of balance and amount needles is one of four accounts that all of
them share.
"""

import dataclasses
import itertools

import numpy as np

from tttjax.tasks.synthetic.ledger import (
  ANOMALIES,
  MAX_BALANCE,
  Ledger,
  Operation,
  account_name,
  opening_balance,
  transfer_amount,
)

MOST_NEEDLES = 16  # the shared accounts can pay for so many
MOST_UPDATES = 2
FIRST_OPERATIONS = 2  # transfers in front of an anomaly

_PARTNERS = 4
_PARTNER_BALANCE = (3100, 6900)  # at most 190 for each needle away from 0 and MAX_BALANCE
_WORLD_ACCOUNTS = 4
# Independent random streams of one seed.
_NAMES, _PARTNER, _NEEDLE, _ANOMALY_KIND, _WORLD, _ANOMALY = range(10, 16)


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


def anomaly_plan(seed: int, depth: float, id_digits: int, tail: bool) -> Plan:
  """One anomaly at `depth` (random where negative), followed by a regular transfer if `tail`."""
  kind = ANOMALIES[int(np.random.default_rng((seed, _ANOMALY_KIND)).integers(len(ANOMALIES)))]
  for attempt in itertools.count():
    ledger = Ledger(np.random.default_rng((seed, _WORLD, attempt)), (), 0.0, id_digits)
    for _ in range(_WORLD_ACCOUNTS + FIRST_OPERATIONS):
      ledger.write()
    rng = np.random.default_rng((seed, _ANOMALY, attempt))
    written = ledger.write_anomaly(kind, rng)
    if written:
      break
  ledger.write()
  anomaly, earlier = written
  own = rng.random()
  depth = own if depth < 0 else depth
  places = [*np.sort(rng.random(_WORLD_ACCOUNTS + FIRST_OPERATIONS)) * depth, depth]
  if tail:
    places.append(depth + (1 - depth) * rng.random())
  return Plan(
    tuple(zip(places, ledger.operations)), (Needle("", anomaly, earlier),), frozenset(ledger.used)
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
  names = [account_name(int(i)) for i in rng.permutation(2600)[: _PARTNERS + MOST_NEEDLES]]
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


def interleave(haystack: list[Operation], placed: list[tuple[float, Operation]]) -> list[Operation]:
  """The haystack's operations with the needles' at their places."""
  out = []
  done = 0
  for place, operation in placed:
    upto = round(place * len(haystack))
    out += haystack[done:upto]
    done = upto
    out.append(operation)
  return out + haystack[done:]
