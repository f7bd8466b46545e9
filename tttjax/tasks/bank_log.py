"""The transaction-log task: a multi-account bank log and questions about it (paper, section 4).

A log is a list of lines. `OPEN A12=1240` opens an account; `TX4821:35 A12=1240>1205 B07=0310>0345`
moves 35 from A12 to B07 and writes both balances, old>new. Accounts open all through the log, so
the lines that compete with the asked one grow with its length. Three questions: the current
balance of an account, the amount of a transaction, and {type, TX id} of the single anomaly:

  CALC_ERROR     a new balance is not the old one plus or minus the amount
  NEGATIVE_BAL   an account is debited below zero
  LOST_UPDATE    an old balance is stale: it ignores that account's last update
  DUPLICATE_TXN  a transaction is posted a second time under the same id

The log of (seed, length) is a prefix of the log of (seed, longer), anomalies apart: a growing
haystack.
"""

import dataclasses
import re

import numpy as np

from tttjax.errors import UserError
from tttjax.tasks import prompt
from tttjax.tasks.example import Example, Question

HEADER = '[SYSTEM] Bank auditor\n[TASK] Reply with the answer only\n[CONTEXT]\n'
FORCED_STOP = '\nThinking budget used up.\n</think>'
KINDS = ('balance', 'amount', 'anomaly')
ANOMALIES = ('CALC_ERROR', 'NEGATIVE_BAL', 'LOST_UPDATE', 'DUPLICATE_TXN')

_OPEN_SHARE = 0.3  # of the lines open an account
_POOR_SHARE = 0.15  # of the accounts can be overdrawn by one transfer
_POOR, _RICH = (5, 95), (100, 9900)
_MAX_BALANCE = 9999
_FIRST_ACCOUNTS = 4  # open before the first transfer
_LONGEST_LINE = 'TX0000:00 A00=0000>-0000 B00=0000>0000\n'
_STREAM = {'log': 0, 'anomaly': 1, 'questions': 2}  # independent random streams of one seed


@dataclasses.dataclass(frozen=True)
class Entry:
  """What one line says about one account.

  Attributes:
    account: letter and two digits.
    new: balance after the line.
    old: balance before it; None where the line opens the account.
    span: character span [start, end) within the line, leading space included.
  """

  account: str
  new: int
  old: int | None
  span: tuple[int, int]

  @property
  def text(self) -> str:
    return f'{self.account}={"" if self.old is None else balance_text(self.old) + ">"}' + (
        balance_text(self.new))


@dataclasses.dataclass(frozen=True)
class Line:
  """One line of the log, newline included; `transaction` is '' where an account opens."""

  text: str
  entries: tuple[Entry, ...]
  transaction: str = ''
  amount: int = 0
  anomaly: str = ''


def balance_text(balance: int) -> str:
  """Four digits, with a minus sign in front of them where negative."""
  return f'-{-balance:04d}' if balance < 0 else f'{balance:04d}'


def open_line(account: str, balance: int) -> Line:
  """The line that opens an account."""
  head = 'OPEN'
  text = f'{head} {account}={balance_text(balance)}'
  return Line(text + '\n', (Entry(account, balance, None, (len(head), len(text))),))


def transfer_line(
    transaction: str, amount: int, source: tuple[str, int, int], target: tuple[str, int, int],
    anomaly: str = '') -> Line:
  """A transfer; source and target are (account, old balance, new balance)."""
  text = f'TX{transaction}:{amount:02d}'
  entries = []
  for account, old, new in (source, target):
    start = len(text)
    text += f' {account}={balance_text(old)}>{balance_text(new)}'
    entries.append(Entry(account, new, old, (start, len(text))))
  return Line(text + '\n', tuple(entries), transaction, amount, anomaly)


class Ledger:
  """Writes a log line by line, from one random stream."""

  def __init__(self, seed: int):
    self._rng = np.random.default_rng((seed, _STREAM['log']))
    self._anomaly_rng = np.random.default_rng((seed, _STREAM['anomaly']))
    self._used = set()
    self.accounts = []
    self.history = {}  # account -> balances in order
    self.lines = []

  def _unused(self, draw) -> str:
    """A name from `draw` that this log has not used."""
    name = draw()
    while name in self._used:
      name = draw()
    self._used.add(name)
    return name

  def _account(self) -> str:
    letter, number = self._rng.integers((26, 100))
    return f'{chr(ord("A") + letter)}{number:02d}'

  def _transaction(self) -> str:
    return self._unused(lambda: f'{self._rng.integers(10000):04d}')

  def _append(self, line: Line) -> Line:
    for entry in line.entries:
      self.history.setdefault(entry.account, []).append(entry.new)
    self.lines.append(line)
    return line

  def _pair(self, rng) -> tuple[str, str, int]:
    """Source, target and amount of a transfer that breaks no rule."""
    while True:
      i, j = rng.integers((len(self.accounts), len(self.accounts) - 1))
      source, target = self.accounts[i], self.accounts[j + (j >= i)]
      amount = 5 * int(rng.integers(1, 20))
      if (self.history[source][-1] >= amount
          and self.history[target][-1] + amount <= _MAX_BALANCE):
        return source, target, amount

  def write(self) -> Line:
    """Appends a regular line."""
    room = len(self.accounts) < 2000  # of the 2600 names
    if len(self.accounts) < _FIRST_ACCOUNTS or (self._rng.random() < _OPEN_SHARE and room):
      account = self._unused(self._account)
      self.accounts.append(account)
      poor = self._rng.random() < _POOR_SHARE
      return self._append(open_line(account, int(self._rng.integers(*(_POOR if poor else _RICH)))))
    source, target, amount = self._pair(self._rng)
    old, to = self.history[source][-1], self.history[target][-1]
    return self._append(transfer_line(
        self._transaction(), amount, (source, old, old - amount), (target, to, to + amount)))

  def drop_last(self):
    """Takes the last line back; nothing may be written afterwards."""
    for entry in self.lines.pop().entries:
      self.history[entry.account].pop()
      if not self.history[entry.account]:
        del self.history[entry.account]
        self.accounts.remove(entry.account)

  def write_anomaly(self, kind: str) -> Line | None:
    """Appends the anomaly, or returns None where the log so far does not allow this kind."""
    rng = self._anomaly_rng
    source, target, amount = self._pair(rng)
    old, to = self.history[source][-1], self.history[target][-1]
    new, to_new = old - amount, to + amount
    if kind == 'CALC_ERROR':
      error = int(rng.choice([-1, 1])) * 5 * int(rng.integers(1, 20))
      if rng.random() < 0.5:
        new = min(max(new + error, 0), _MAX_BALANCE)
      else:
        to_new = min(max(to_new + error, 0), _MAX_BALANCE)
      if (new, to_new) == (old - amount, to + amount):
        return None  # the limits undid the error
    elif kind == 'NEGATIVE_BAL':
      poor = [a for a in self.accounts if self.history[a][-1] < 95 and a != target]
      if not poor:
        return None
      source = poor[int(rng.integers(len(poor)))]
      old = self.history[source][-1]
      amount = 5 * int(rng.integers(old // 5 + 1, 20))
      if to + amount > _MAX_BALANCE:
        return None
      new, to_new = old - amount, to + amount
      self.accounts.remove(source)  # A negative balance is written once.
    elif kind == 'LOST_UPDATE':
      stale = [a for a in self.accounts if len(self.history[a]) > 1 and a != target
               and self.history[a][-2] >= amount]
      if not stale:
        return None
      source = stale[int(rng.integers(len(stale)))]
      old = self.history[source][-2]
      new = old - amount
    elif kind == 'DUPLICATE_TXN':
      earlier = [line for line in self.lines if line.transaction]
      if not earlier:
        return None
      line = earlier[int(rng.integers(len(earlier)))]
      source, target = (entry.account for entry in line.entries)
      old, to = self.history[source][-1], self.history[target][-1]
      if old < line.amount or to + line.amount > _MAX_BALANCE:
        return None
      return self._append(transfer_line(
          line.transaction, line.amount, (source, old, old - line.amount),
          (target, to, to + line.amount), kind))
    return self._append(transfer_line(
        self._transaction(), amount, (source, old, new), (target, to, to_new), kind))


def write_log(seed: int, room: int, length, anomaly: bool = False) -> tuple[Ledger, int]:
  """Writes the longest log of `seed` that fits.

  Args:
    seed: names the log.
    room: tokens that the log may have.
    length: function from a line's text to its number of tokens.
    anomaly: put exactly one anomaly in, of a random kind at a random place.

  Returns:
    (ledger, number of tokens of its lines).
  """
  ledger = Ledger(seed)
  used = 0
  if anomaly:
    rng = np.random.default_rng((seed, _STREAM['anomaly'], 1))
    kind = ANOMALIES[int(rng.integers(len(ANOMALIES)))]
    longest = length(_LONGEST_LINE)
    place = rng.random() * (room - 2 * longest)
    line = None
    while line is None:
      ready = len(ledger.lines) > _FIRST_ACCOUNTS and used >= place
      if ready:
        line = ledger.write_anomaly(kind)
      if line is None and used + 2 * longest > room:  # Its line is the last one that fits.
        if not ready:
          raise UserError(f'task.context_tokens leaves {room} tokens for the log, too few for one '
                          'with an anomaly: raise it to 150 or more')
        line = ledger.write_anomaly('CALC_ERROR')
      used += length((line or ledger.write()).text)
  while True:
    line = ledger.write()
    size = length(line.text)
    if used + size > room:
      ledger.drop_last()
      return ledger, used
    used += size


def last_entry(ledger: Ledger, account: str) -> tuple[int, Entry]:
  """(line index, entry) that set the account's current balance."""
  for i in range(len(ledger.lines) - 1, -1, -1):
    for entry in ledger.lines[i].entries:
      if entry.account == account:
        return i, entry
  raise KeyError(account)


def ask(ledger: Ledger, rng, kind: str, num_questions: int) -> list[tuple[str, str, int, tuple]]:
  """Distinct questions about a log.

  Returns:
    A list of (question, answer, line, span): the evidence is the character span [start, end)
    of that line.
  """
  if kind == 'anomaly':
    i = next(i for i, line in enumerate(ledger.lines) if line.anomaly)
    line = ledger.lines[i]
    answer = f'{{{line.anomaly}, TX{line.transaction}}}'
    return [('anomaly as {type, TX id}?', answer, i, (0, len(line.text) - 1))]
  asked = []
  if kind == 'balance':
    for j in rng.permutation(len(ledger.accounts))[:num_questions]:
      account = ledger.accounts[j]
      i, entry = last_entry(ledger, account)
      asked.append((f'balance of {account}?', balance_text(entry.new), i, entry.span))
    return asked
  transfers = [i for i, line in enumerate(ledger.lines) if line.transaction]
  for j in rng.permutation(len(transfers))[:num_questions]:
    line = ledger.lines[transfers[j]]
    head = f'TX{line.transaction}:{line.amount:02d}'
    asked.append(
        (f'amount of TX{line.transaction}?', f'{line.amount:02d}', transfers[j], (0, len(head))))
  return asked


def make_example(
    seed: int, context_tokens: int, tokenizer, num_questions: int, kind: str = 'balance'
) -> Example:
  """One log of at most `context_tokens` tokens and questions of one kind about it.

  Args:
    seed: names the example; examples of different seeds are independent.
    context_tokens: length limit of the context, chat header included; at most one line is missing.
    tokenizer: transformers fast tokenizer with a chat template.
    num_questions: number of questions; fewer where the log has fewer accounts or transactions,
      and always one for 'anomaly'.
    kind: 'balance', 'amount' or 'anomaly'; only logs of 'anomaly' contain one.

  Raises:
    UserError: unknown kind, or a context too short for a question.
  """
  if kind not in KINDS:
    raise UserError(f'task.kind={kind!r}: choose one of {", ".join(KINDS)}')
  encode = lambda text: tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
  head = prompt.render(tokenizer, HEADER, '')[0]
  room = context_tokens - len(encode(head)['input_ids'])
  ledger, _ = write_log(seed, room, lambda text: len(encode(text)['input_ids']), kind == 'anomaly')
  rng = np.random.default_rng((seed, _STREAM['questions']))
  asked = ask(ledger, rng, kind, num_questions)
  if not asked:
    raise UserError(
        f'task.context_tokens={context_tokens} holds no line that can be asked about: raise it')

  context = head + ''.join(line.text for line in ledger.lines)
  starts = np.cumsum([len(head)] + [len(line.text) for line in ledger.lines])
  offsets = np.array(encode(context)['offset_mapping'])
  # Token i covers the characters offsets[i]; spans and line starts fall on token boundaries.
  token_at = lambda character: int(np.searchsorted(offsets[:, 1], character, side='right'))
  questions = []
  for text, answer, i, (start, end) in asked:
    _, suffix, thinking = prompt.render(tokenizer, HEADER, text)
    evidence = token_at(starts[i] + start), token_at(starts[i] + end - 1) + 1
    questions.append(Question(suffix, thinking, answer, evidence, kind))
  return Example(
      context=context, questions=tuple(questions), num_tokens=len(offsets),
      line_starts=tuple(token_at(start) for start in starts[:-1]),
      key=f'bank_log/{kind}/{context_tokens}/{seed}')


_ANSWER = {
    'balance': re.compile(r'-?[0-9]+'),
    'amount': re.compile(r'[0-9]+'),
    'anomaly': re.compile(r'\{([A-Z_]+), *TX *([0-9]+)\}'),
}


def parse_answer(text: str, kind: str) -> str | None:
  """The answer in a model's output: the first one after the thoughts, None where there is none."""
  match = _ANSWER[kind].search(text.rpartition('</think>')[2])
  if match is None:
    return None
  return f'{{{match[1]}, TX{match[2]}}}' if kind == 'anomaly' else match[0]


def score_answer(text: str, question: Question) -> bool:
  """Whether the model's output states the reference answer (exact match after parsing)."""
  return parse_answer(text, question.kind) == question.answer
