"""The accounts behind a transaction log: openings, transfers, anomalies (paper, section 4).

An operation is what one line of a log says, however it is written: `Ledger` produces operations,
a task writes them as text. A transfer names its transaction, its amount and, of both accounts, the
balance before and after. An anomaly is one such line that breaks a rule:

  CALC_ERROR     a new balance is not the old one plus or minus the amount
  NEGATIVE_BAL   an account is debited below zero
  LOST_UPDATE    an old balance is stale: it ignores that account's last update
  DUPLICATE_TXN  a transaction is posted a second time under the same id

Whatever comes after an anomaly continues from the balances that its line has written, so that one
anomaly does not make later lines wrong.
"""

from collections.abc import Iterable
import dataclasses

import numpy as np

from tttjax.errors import UserError

ANOMALIES = ("CALC_ERROR", "NEGATIVE_BAL", "LOST_UPDATE", "DUPLICATE_TXN")
MAX_BALANCE = 9999

_FIRST_ACCOUNTS = 4  # open before the first transfer
_POOR_SHARE = 0.15  # of the accounts can be overdrawn by one transfer
_POOR, _RICH = (5, 95), (100, 9900)
NUM_NAMES = 2600  # accounts A00 to Z99
_MOST_ACCOUNTS = 2000  # more would make unused names hard to find by drawing


@dataclasses.dataclass(frozen=True)
class Entry:
  """What one operation does to one account.

  Attributes:
    account: letter and two digits.
    old: balance before it; None where the operation opens the account.
    new: balance after it.
  """

  account: str
  old: int | None
  new: int


@dataclasses.dataclass(frozen=True)
class Operation:
  """One line of a log.

  Attributes:
    entries: of a transfer the source's and the target's, of an opening the one account's.
    transaction: digits of the id; '' where an account opens.
    amount: what moves from the source to the target.
    anomaly: the rule that it breaks, or ''.
  """

  entries: tuple[Entry, ...]
  transaction: str = ""
  amount: int = 0
  anomaly: str = ""


def account_name(number: int) -> str:
  """The name of one of the 2600 accounts."""
  return f"{chr(ord('A') + number // 100)}{number % 100:02d}"


def opening_balance(rng: np.random.Generator) -> int:
  """The balance a new account starts with: some accounts are poor."""
  poor = rng.random() < _POOR_SHARE
  return int(rng.integers(*(_POOR if poor else _RICH)))


def transfer_amount(rng: np.random.Generator) -> int:
  """A multiple of 5 below 100."""
  return 5 * int(rng.integers(1, 20))


class Ledger:
  """Keeps the balances of a log and, with `write`, makes its operations up at random.

  Attributes:
    accounts: names of the open accounts that transfers may use, in order of opening.
    history: account -> its balances in order.
    operations: all operations so far.
    used: account names and transaction ids that are taken.
  """

  def __init__(
    self,
    rng: np.random.Generator,
    used: Iterable[str] = (),
    open_share: float = 0.3,
    id_digits: int = 4,
    ids: Iterable[str] = (),
  ):
    """
    Args:
      rng: the one source of what `write` does.
      used: names and ids to stay clear of.
      open_share: share of the operations that open an account.
      id_digits: length of a transaction id.
      ids: the first transactions' ids, in order.
    """
    self._rng = rng
    self._ids = list(ids)
    self._open_share = open_share
    self._id_digits = id_digits
    self._transactions = 0
    self.used = set(used)
    self.accounts: list[str] = []
    self.history: dict[str, list[int]] = {}
    self.operations: list[Operation] = []

  def balance(self, account: str) -> int:
    return self.history[account][-1]

  def open(self, account: str, balance: int) -> Operation:
    self.accounts.append(account)
    return self._append(Operation((Entry(account, None, balance),)))

  def transfer(self, transaction: str, amount: int, source: str, target: str) -> Operation:
    """Appends a regular transfer."""
    old, to = self.balance(source), self.balance(target)
    return self._append(
      Operation(
        (Entry(source, old, old - amount), Entry(target, to, to + amount)), transaction, amount
      )
    )

  def write(self) -> Operation:
    """Appends a regular operation at random."""
    rng = self._rng
    room = len(self.accounts) < _MOST_ACCOUNTS
    if len(self.accounts) < _FIRST_ACCOUNTS or (rng.random() < self._open_share and room):
      account = self._unused(self._account)
      return self.open(account, opening_balance(rng))
    source, target, amount = self.pair(rng)
    return self.transfer(self.next_transaction(), amount, source, target)

  def write_anomaly(
    self,
    kind: str,
    rng: np.random.Generator,
    transfer: tuple[str, str, int] | None = None,
  ) -> tuple[Operation, Operation | None] | None:
    """Appends an anomaly.

    Args:
      kind: one of ANOMALIES.
      rng: source of its choices, apart from its id.
      transfer: source, target and amount of the transfer that goes wrong; random where None.

    Returns:
      (the operation, the earlier one without which it were none: the update that a LOST_UPDATE
      ignores, the first posting of a DUPLICATE_TXN, else None), or None where the ledger so far
      does not allow this kind.
    """
    source, target, amount = transfer or self.pair(rng)
    transaction = earlier = None
    old, to = self.balance(source), self.balance(target)
    new, to_new = old - amount, to + amount
    if kind == "CALC_ERROR":
      error = int(rng.choice([-1, 1])) * transfer_amount(rng)
      if rng.random() < 0.5:
        new = min(max(new + error, 0), MAX_BALANCE)
      else:
        to_new = min(max(to_new + error, 0), MAX_BALANCE)
      if (new, to_new) == (old - amount, to + amount):
        return None  # the limits undid the error
    elif kind == "NEGATIVE_BAL":
      poor = [a for a in self.accounts if self.balance(a) < 95 and a != target]
      if not poor:
        return None
      source = poor[int(rng.integers(len(poor)))]
      old = self.balance(source)
      amount = 5 * int(rng.integers(old // 5 + 1, 20))
      if to + amount > MAX_BALANCE:
        return None
      new, to_new = old - amount, to + amount
      self.accounts.remove(source)  # A negative balance is written once.
    elif kind == "LOST_UPDATE":
      stale = [
        a
        for a in self.accounts
        if len(self.history[a]) > 1 and a != target and self.history[a][-2] >= amount
      ]
      if not stale:
        return None
      source = stale[int(rng.integers(len(stale)))]
      old = self.history[source][-2]
      new = old - amount
      earlier = [
        line for line in self.operations if any(entry.account == source for entry in line.entries)
      ][-1]
    elif kind == "DUPLICATE_TXN":
      posted = [line for line in self.operations if line.transaction]
      if not posted:
        return None
      earlier = posted[int(rng.integers(len(posted)))]
      transaction, amount = earlier.transaction, earlier.amount
      source, target = (entry.account for entry in earlier.entries)
      old, to = self.balance(source), self.balance(target)
      if old < amount or to + amount > MAX_BALANCE:
        return None
      new, to_new = old - amount, to + amount
    operation = self._append(
      Operation(
        (Entry(source, old, new), Entry(target, to, to_new)),
        transaction or self.next_transaction(),
        amount,
        kind,
      )
    )
    return operation, earlier

  def _append(self, operation: Operation) -> Operation:
    for entry in operation.entries:
      self.history.setdefault(entry.account, []).append(entry.new)
    self.operations.append(operation)
    return operation

  def _unused(self, draw) -> str:
    """A name from `draw` that this log has not used."""
    name = draw()
    while name in self.used:
      name = draw()
    self.used.add(name)
    return name

  def _account(self) -> str:
    letter, number = self._rng.integers((26, 100))
    return account_name(100 * int(letter) + int(number))

  def next_transaction(self) -> str:
    """An id that this log has not used: the next of those given, else a random one."""
    if self._ids:
      return self._ids.pop(0)
    self._transactions += 1
    bound = 10**self._id_digits
    if self._transactions > 0.9 * bound:  # Above the limit of a log: its length is found by trying.
      check_transactions(self._transactions, self._id_digits)
    return self._unused(lambda: f"{self._rng.integers(bound):0{self._id_digits}d}")

  def pair(self, rng: np.random.Generator) -> tuple[str, str, int]:
    """Random source, target and amount of a transfer that breaks no rule."""
    while True:
      i, j = rng.integers((len(self.accounts), len(self.accounts) - 1))
      source, target = self.accounts[i], self.accounts[j + (j >= i)]
      amount = transfer_amount(rng)
      if self.balance(source) >= amount and self.balance(target) + amount <= MAX_BALANCE:
        return source, target, amount


def check_transactions(number: int, id_digits: int):
  """Raises UserError where a log has too many transactions for ids of `id_digits` digits."""
  most = 8 * 10 ** (id_digits - 1)
  if number > most:
    raise UserError(
      f"a log of more than {most} transactions runs out of its ids "
      f"of {id_digits} digits; shorten it"
    )
