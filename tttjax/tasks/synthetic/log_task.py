"""What the two dialects of the transaction log share: the options, and building an example.

The example of a seed is that seed's growing log (LookupLog, AnomalyLog), as long as it fits: a
longer context has the shorter one's lines, and more.
"""

from collections.abc import Iterator
import dataclasses
from typing import ClassVar

import numpy as np

from tttjax.errors import UserError
from tttjax.spec import option
from tttjax.tasks import prompt
from tttjax.tasks.example import Example, Question
from tttjax.tasks.prompt_tokens import encode_context
from tttjax.tasks.synthetic import auditor as audit
from tttjax.tasks.synthetic import fitting, log_answers
from tttjax.tasks.synthetic.ledger import ANOMALIES, Entry, Operation, check_transactions
from tttjax.tasks.synthetic.log_branches import FEWEST_TRANSFERS, AnomalyLog, check_branches
from tttjax.tasks.synthetic.log_dialect import Lines, LogDialect, join
from tttjax.tasks.synthetic.log_needles import MOST_NEEDLES, MOST_UPDATES, LookupLog, Needle

KINDS = ("balance", "amount", "anomaly")

_TRANSFERS = {"balance": MOST_UPDATES, "amount": 1, "anomaly": FEWEST_TRANSFERS}

VISIBLE = (
  "Among anomalies DUPLICATE_TXN and NEGATIVE_BAL are visible by nature, by an id that stands "
  "twice and a minus sign; CALC_ERROR takes arithmetic and LOST_UPDATE the order of an account's "
  "lines."
)


def kind_option(default: str):
  """The option `kind` with the default of a dialect."""
  return option(
    default,
    {kind: kind for kind in KINDS},
    "A balance or an amount stands in one line; an anomaly has to be found, by its type and id.",
  )


@dataclasses.dataclass(frozen=True)
class LogTask(LogDialect):
  """A transaction log and questions about it (paper, section 4).

  Attributes:
    kind: what is asked: 'balance' of an account at the end, 'amount' of a transaction, or the type
      and id of the single 'anomaly'. Only logs of 'anomaly' have one.
    needles: lookups that a log holds, 1 to 16: more questions need more of them; fewer where they
      do not fit. A log of 'anomaly' has one.
    depth: share of the haystack's lines (of 'anomaly', of its transfers) in front of the line that
      holds the answer, 0 to 1; -1 draws a depth for every needle, later ones with higher
      probability for 'balance'.
  """

  kind: str = kind_option("balance")
  depth: float = option(
    -1.0, "answers at depth {}", "The lines that hold the answers stand at one depth of the log."
  )
  needles: int = option(6, "{} lookups")

  unit: ClassVar[str] = "operations"  # transfers
  name: ClassVar[str]
  label: ClassVar[str]
  description: ClassVar[str]
  answer_tokens: ClassVar[int]  # longest answer

  def __post_init__(self):
    if self.kind not in KINDS:
      raise UserError(f"{self.name}: kind={self.kind!r}: choose one of {', '.join(KINDS)}")
    if not 1 <= self.needles <= MOST_NEEDLES:
      raise UserError(f"{self.name}: needles={self.needles}: choose 1 to {MOST_NEEDLES}")
    if self.depth != -1 and not 0 <= self.depth <= 1:
      raise UserError(f"{self.name}: depth={self.depth}: choose 0 to 1, or -1 for random depths")

  # Examples.

  def check(self, length: int, in_tokens: bool) -> None:
    """Raises UserError where `length` holds no needle, whatever the tokenizer, or is too long."""
    fewest = _TRANSFERS[self.kind]
    if in_tokens:
      # A lower bound: tokens have fewer than 6 characters of English and 3 of such lines.
      longest = Operation((Entry("A00", 1000, 1000),) * 2, "0" * self.id_digits, 10)
      fewest = len(self.header()) // 6 + fewest * len(self.line(longest)) // 3
    elif length >= fewest:
      check_transactions(length, self.id_digits)
      if self.kind == "anomaly":
        check_branches(length)
    if length < fewest:
      raise UserError(self._too_short(length, in_tokens, fewest))

  @property
  def most_questions(self) -> int:
    """Questions of one context at most."""
    return 1 if self.kind == "anomaly" else self.needles

  def at(self, seed: int, length: int, tokenizer, in_tokens: bool) -> Example:
    """The log of `seed`; question j, its answer and its evidence are the same at every length.

    Args:
      seed: names the example; examples of different seeds are independent.
      length: most tokens of the context, chat header included, or transfers (exactly so many); in
        tokens the next line of the haystack would not fit.
      tokenizer: transformers fast tokenizer.
      in_tokens: how `length` counts.

    Raises:
      UserError: a length without room for a needle.
      ValueError: the log's text, read by the auditor, is not what it should be.
    """
    self.check(length, in_tokens)
    rendered = prompt.render(tokenizer, self.header(), "")
    head, header = rendered.context, rendered.header

    def size(lines: Lines) -> int:
      if in_tokens:
        return len(encode_context(tokenizer, head + join(lines), header)[0])
      return sum(operation is not None and bool(operation.transaction) for _, operation in lines)

    for log in self._logs(seed):
      fewest = size(self.written(log.operations(0)))
      if fewest <= length:
        break
    else:
      raise UserError(self._too_short(length, in_tokens, fewest))
    count = fitting.longest(lambda count: size(self.written(log.operations(count))), length)
    lines = self.written(log.operations(count))
    anomalies = [needle.operation for needle in log.needles if needle.operation.anomaly]
    audit.verify(join(lines), *(audit.Finding(o.anomaly, o.transaction) for o in anomalies))
    _, offsets = encode_context(tokenizer, head + join(lines), header)
    starts = np.cumsum([len(head)] + [len(text) for text, _ in lines])
    return Example(
      context=head + join(lines),
      questions=tuple(
        self._question(needle, tokenizer, lines, starts, offsets) for needle in log.needles
      ),
      num_tokens=len(offsets),
      line_starts=tuple(fitting.token_span(offsets, start, start + 1)[0] for start in starts[:-1]),
      key=f"{self.name}/{self.kind}/{self.depth:g}/{length} "
      f"{'tokens' if in_tokens else self.unit}/{seed}",
      header=header,
    )

  def _logs(self, seed: int) -> Iterator[LookupLog | AnomalyLog]:
    """The log of a seed, then logs with fewer and fewer needles."""
    if self.kind == "anomaly":
      yield AnomalyLog(seed, self.depth, self.id_digits)
      return
    for count in range(self.needles, 0, -1):
      yield LookupLog(
        self.kind, seed, count, self.depth, self.id_digits, self.open_share, self.opens_in_place
      )

  def _question(self, needle: Needle, tokenizer, lines, starts, offsets) -> Question:
    operation = needle.operation
    if self.kind == "balance":
      entry = next(entry for entry in operation.entries if entry.account == needle.subject)
      answer, parts = self.balance(entry.new), [(operation, self.entry(entry))]
    elif self.kind == "amount":
      answer, parts = self.amount(operation.amount), [(operation, self.head(operation))]
    else:
      answer = f"{{{operation.anomaly}, TX{operation.transaction}}}"
      parts = [
        (part_of, self.line(part_of).removesuffix("\n"))
        for part_of in (needle.earlier, operation)
        if part_of
      ]
    spans: list[tuple[int, int]] = []
    for part_of, part in parts:
      i = next(i for i, (_, written) in enumerate(lines) if written is part_of)
      start = starts[i] + lines[i][0].index(part)
      span = fitting.token_span(offsets, start, start + len(part))
      if spans and span[0] < spans[-1][1]:  # one token holds parts of both lines
        span = spans.pop()[0], span[1]
      spans.append(span)
    question = prompt.headed(self.question(needle.subject))
    asked = prompt.render(tokenizer, self.header(), question)
    slices = {"kind": self.kind}
    metrics = ("acc",)
    if self.kind == "anomaly":
      slices["anomaly"] = operation.anomaly
      metrics = ("acc", "type_acc", "id_acc")
    return Question(
      text=asked.text,
      thinking_text=asked.thinking_text,
      references=(answer,),
      metrics=metrics,
      max_new_tokens=self.answer_tokens,
      evidence=tuple(spans),
      chance=self._chance(answer, [said for _, said in lines if said]),
      slices=slices,
      asked=asked.asked,
    )

  def _chance(self, answer: str, log: list[Operation]) -> float:
    """How often a guess is right that knows the candidates, and nothing else.

    It takes the last balance of any account, the amount of any transfer, or any transfer and one
    of the kinds of anomaly.
    """
    transfers = [said for said in log if said.transaction]
    if self.kind == "anomaly":
      return 1 / (len(ANOMALIES) * len({said.transaction for said in transfers}))
    if self.kind == "amount":
      candidates = [self.amount(said.amount) for said in transfers]
    else:
      last = {entry.account: entry.new for said in log for entry in said.entries}
      candidates = [self.balance(balance) for balance in last.values()]
    return candidates.count(answer) / len(candidates)

  def _too_short(self, length: int, in_tokens: bool, fewest: int) -> str:
    unit = "tokens" if in_tokens else self.unit
    return (
      f"length={length} {unit} hold no {self.kind} question of {self.name}; raise it"
      f" to {fewest} or more"
    )

  # Answers.

  def extract(self, text: str) -> str | None:
    """The answer in an output, in the form of the reference; None where it states none."""
    if self.kind == "anomaly":
      kind, transaction = log_answers.anomaly(text)
      if kind is None or transaction is None:
        return None
      return f"{{{kind}, TX{transaction:0{self.id_digits}d}}}"
    number = log_answers.number(text)
    if number is None or number != number.to_integral_value():
      return None if number is None else str(number)
    return (self.balance if self.kind == "balance" else self.amount)(int(number))

  def score(self, text: str, question: Question) -> dict[str, float]:
    """The question's metrics of an output: 'acc' is 1 where it states a reference answer.

    For 'anomaly' the halves are scored too ('type_acc', 'id_acc'); an output that states several
    types or several ids has none.
    """
    scores = log_answers.scores(text, question.references, self.kind == "anomaly")
    return {name: float(scores[name]) for name in question.metrics}
