"""How a transaction log is written: what a dialect of it says, and its lines."""

from typing import ClassVar

from tttjax.tasks.synthetic.ledger import Entry, Operation

Lines = list[tuple[str, Operation | None]]  # (text with its newline, what it says)


class LogDialect:
  """One way to write operations; BankLog's is compact, TransactionLog's is prose."""

  open_share: ClassVar[float]  # of the operations open an account
  id_digits: ClassVar[int]  # of a transaction id
  opens_in_place: ClassVar[bool]  # else a list of initial balances precedes the transfers

  def header(self) -> str:
    """The prompt's start, up to the log."""
    raise NotImplementedError

  def line(self, operation: Operation) -> str:
    """The line of an operation, newline included."""
    raise NotImplementedError

  def head(self, operation: Operation) -> str:
    """The part of a transfer's line that states its id and amount."""
    raise NotImplementedError

  def entry(self, entry: Entry) -> str:
    """The part of a line that states an account's balances."""
    raise NotImplementedError

  def balance(self, balance: int) -> str:
    raise NotImplementedError

  def amount(self, amount: int) -> str:
    raise NotImplementedError

  def question(self, subject: str) -> str:
    """The question about an account or transaction; `subject` is '' for the anomaly."""
    raise NotImplementedError

  def written(self, operations: list[Operation]) -> Lines:
    """The log as text."""
    if self.opens_in_place:
      return [(self.line(operation), operation) for operation in operations]
    initial, later = [], []
    for operation in operations:
      (later if operation.transaction else initial).append((self.line(operation), operation))
    # Sorted, so that their order does not tell the needles' accounts from the others.
    initial.sort(key=lambda line: line[0])
    return [("Initial balances:\n", None), *initial, ("Operations:\n", None), *later]


def join(lines: Lines) -> str:
  """The text of all lines."""
  return "".join(text for text, _ in lines)
