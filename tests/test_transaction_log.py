"""The transaction log in prose, its auditor, its answers, and tokenizers other than ours."""

import collections
import dataclasses
import re

import numpy as np
import pytest
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from tests.test_bank_log import ANOMALIES, KINDS, evidence_texts, log_lines, replay
from tttjax import spec
from tttjax.embedded.vocabulary import CHAT_TEMPLATE, build_tokenizer
from tttjax.errors import UserError
from tttjax.tasks.synthetic.auditor import Finding, audit, verify
from tttjax.tasks.synthetic.bank_log import BankLog
from tttjax.tasks.synthetic.transaction_log import TransactionLog


@pytest.fixture(scope="module")
def embedded():
  return build_tokenizer()


def train_bpe(splits, seeds=3):
  """A byte-level BPE tokenizer trained on logs."""
  texts = [
    task.at(seed, 60, build_tokenizer(), False).context
    for task in (TransactionLog(), BankLog())
    for seed in range(seeds)
  ]
  tokenizer = Tokenizer(models.BPE())
  tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
    [*splits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
  )
  tokenizer.decoder = decoders.ByteLevel()
  tokenizer.train_from_iterator(
    texts,
    trainers.BpeTrainer(
      vocab_size=700,
      show_progress=False,
      special_tokens=["<|im_start|>", "<|im_end|>"],
      initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    ),
  )
  fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
  fast.chat_template = CHAT_TEMPLATE
  return fast


@pytest.fixture(scope="module")
def words():
  """Splits text as large models' tokenizers do: words with their space, single digits."""
  return train_bpe(
    [
      pre_tokenizers.Split(
        Regex(r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"), behavior="isolated"
      )
    ]
  )


@pytest.fixture(scope="module")
def straddling():
  """Does not split text at all, so that tokens reach across words and lines."""
  return train_bpe([])


def parse(line):
  """The line in the form of tests.test_bank_log.parse."""
  if not line.startswith("TX"):
    account, balance = line.split(": ")
    return "", 0, [(account, None, int(balance))]
  numbers, balances = line.split("; ")
  transaction, amount, source, target = re.fullmatch(
    r"TX(\d{5}): transfer (\d+) from (\w+) to (\w+)", numbers
  ).groups()
  entries = []
  for account, part in zip((source, target), balances.split(", ")):
    name, old, new = part.replace(": ", " -> ").split(" -> ")
    assert name == account
    entries.append((account, int(old), int(new)))
  return transaction, int(amount), entries


def body(context):
  """Lines of the log without its two headings."""
  lines = log_lines(context)
  assert lines[0] == "Initial balances:" and lines.count("Operations:") == 1
  return [line for line in lines if line not in ("Initial balances:", "Operations:")]


@pytest.mark.parametrize("operations, seeds", [(25, 200), (100, 60)])
def test_the_labelled_anomaly_is_the_only_one(embedded, operations, seeds):
  seen = collections.Counter()
  for seed in range(seeds):
    example = TransactionLog(needles=1).at(seed, operations, embedded, False)
    lines = body(example.context)
    ((kind, transaction, where),) = replay(map(parse, lines))[2]
    assert example.questions[0].references[0] == f"{{{kind}, TX{transaction}}}"
    evidence = [text.strip() for text in evidence_texts(embedded, example, example.questions[0])]
    assert evidence == [lines[i] for i in where]
    assert len(where) == (2 if kind in ("LOST_UPDATE", "DUPLICATE_TXN") else 1)
    assert sum(line.startswith("TX") for line in lines) == operations
    seen[kind] += 1
  assert set(seen) == ANOMALIES and min(seen.values()) > seeds / 8


@pytest.mark.parametrize("kind", ["balance", "amount"])
def test_lookups_have_their_answers_in_the_evidence_and_no_anomaly(embedded, kind):
  for seed in range(20):
    example = TransactionLog(kind, needles=8).at(seed, 100, embedded, False)
    balances, amounts, anomalies = replay(map(parse, body(example.context)))
    assert not anomalies and len(example.questions) == 8
    for question in example.questions:
      asked = re.search(r"account (\w+)|TX(\d+)", question.text)
      (evidence,) = evidence_texts(embedded, example, question)
      assert int(question.references[0]) == (balances[asked[1]] if asked[1] else amounts[asked[2]])
      assert evidence.strip().endswith(question.references[0])
      assert evidence.strip().startswith(f"{asked[1]}: " if asked[1] else f"TX{asked[2]}: ")


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_needles_stand_in_a_growing_haystack(embedded, kind):
  for seed in range(5):
    examples = [
      TransactionLog(kind, needles=6).at(seed, n, embedded, False) for n in (25, 100, 600)
    ]
    for short, long in zip(examples, examples[1:]):
      assert set(body(short.context)) < set(body(long.context))
      assert len(short.questions) == len(long.questions)
      for a, b in zip(short.questions, long.questions):
        assert (a.text, a.references[0]) == (b.text, b.references[0])
        assert evidence_texts(embedded, short, a) == evidence_texts(embedded, long, b)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("depth", [0.0, 0.5, 1.0])
def test_depth_is_where_the_evidence_stands_among_the_operations(embedded, kind, depth):
  example = TransactionLog(kind, depth, needles=4).at(1, 600, embedded, False)
  transfers = [line for line in body(example.context) if line.startswith("TX")]
  for question in example.questions:
    text = evidence_texts(embedded, example, question)[-1].strip()
    number = next(i for i, line in enumerate(transfers) if text in line)
    assert number / 599 == pytest.approx(depth, abs=0.02)


def test_the_prompt_states_the_task(embedded):
  context = TransactionLog(needles=1).at(0, 25, embedded, False).context
  header = context.split("[CONTEXT]")[0]
  assert all(word in header for word in (*ANOMALIES, "{bug_type, TX id}", "`Final:`", "[TASK]"))
  lookup = TransactionLog("amount", needles=1).at(0, 25, embedded, False).context
  assert not any(word in lookup for word in ANOMALIES)
  initial = context.split("Initial balances:\n")[1].split("Operations:\n")[0].splitlines()
  assert initial == sorted(initial)  # Their order tells nothing of the needle.


@pytest.mark.parametrize("name", ["words", "straddling"])
@pytest.mark.parametrize("task", [TransactionLog(), TransactionLog("balance"), BankLog("amount")])
def test_any_fast_tokenizer_gives_the_tokens_that_overlap_the_evidence(request, name, task):
  tokenizer = request.getfixturevalue(name)
  for seed in range(12):
    example = task.at(seed, 1200, tokenizer, True)
    encoded = tokenizer(example.context, add_special_tokens=False, return_offsets_mapping=True)
    offsets = encoded["offset_mapping"]
    assert len(offsets) == example.num_tokens and 1200 - 60 < example.num_tokens <= 1200
    lines = re.compile(r"^(?:TX|OPEN |[A-Z]\d\d: |Initial|Operations).*$", re.MULTILINE)
    begin = example.context.index("[CONTEXT]")
    starts = [match.start() for match in lines.finditer(example.context, begin)]
    assert len(starts) == len(example.line_starts)
    for start, token in zip(starts, example.line_starts):
      assert offsets[token][0] <= start < offsets[token][1]
    for question in example.questions:
      ends = [0]
      for first, end in question.evidence:
        assert ends[-1] <= first < end <= example.num_tokens
        ends.append(end)
        text = example.context[offsets[first][0] : offsets[end - 1][1]]
        shortest = example.context[offsets[first][1] : offsets[end - 1][0]]
        if task.kind == "anomaly":
          assert any(line in text and line not in shortest for line in text.split("\n"))
        else:
          subject = re.search(r"account (\w+)|(TX\d+)", question.text)
          assert (subject[1] or subject[2]) in text and question.references[0] in text
          assert question.references[0] not in shortest or subject[0] not in shortest


def test_lines_that_share_a_token_make_one_span(straddling):
  """Where the lost update stands right in front of the line that loses it."""
  joined = 0
  for seed in range(60):
    example = TransactionLog(needles=1).at(seed, 6, straddling, False)
    question = example.questions[0]
    joined += len(question.evidence) == 1 and question.references[0].startswith(("{LOST", "{DUP"))
    assert all(a[1] <= b[0] for a, b in zip(question.evidence, question.evidence[1:]))
  assert joined


_CLEAN = """\
OPEN A00=0100
OPEN B00=0050
TX0001:10 A00=0100>0090 B00=0050>0060
TX0002:20 B00=0060>0040 A00=0090>0110
"""


@pytest.mark.parametrize(
  "line, found",
  [
    ("TX0003:10 A00=0110>0100 B00=0040>0050", []),
    ("TX0003:10 A00=0110>0105 B00=0040>0050", ["CALC_ERROR"]),
    ("TX0003:10 A00=0110>0100 B00=0040>0030", ["CALC_ERROR"]),
    ("TX0003:60 B00=0040>-0020 A00=0110>0170", ["NEGATIVE_BAL"]),
    ("TX0003:10 A00=0090>0080 B00=0040>0050", ["LOST_UPDATE"]),
    ("TX0003:10 A00=0110>0100 B00=0060>0070", ["LOST_UPDATE"]),
    ("TX0001:10 A00=0110>0100 B00=0040>0050", ["DUPLICATE_TXN"]),
    # Looks like one rule and breaks another, or breaks two.
    ("TX0003:10 A00=0111>0101 B00=0040>0050", ["UNKNOWN_BALANCE"]),
    ("TX0003:10 A00=0090>0100 B00=0040>0050", ["LOST_UPDATE", "CALC_ERROR"]),
    ("TX0002:60 B00=0040>-0020 A00=0110>0170", ["DUPLICATE_TXN", "NEGATIVE_BAL"]),
    ("TX0001:10 A00=0100>0090 B00=0050>0060", ["DUPLICATE_TXN", "LOST_UPDATE"]),
    ("TX0003:10 A00=0110>0100 C00=0040>0050", ["UNKNOWN_ACCOUNT"]),
  ],
)
def test_the_auditor_names_the_broken_rules(line, found):
  prose = re.sub(
    r"TX(\d+):(\d+) (\w+)=(-?\d+)>(-?\d+) (\w+)=(-?\d+)>(-?\d+)",
    r"TX\1: transfer \2 from \3 to \6; \3: \4 -> \5, \6: \7 -> \8",
    _CLEAN + line + "\n",
  )
  prose = "Initial balances:\n" + prose.replace("=", ": ").replace("OPEN ", "")
  for log in (_CLEAN + line + "\n", prose):
    assert audit(log) == [Finding(rule, line[2:6]) for rule in found]
  # Whatever was written, lines that continue from it are right.
  if found and "UNKNOWN_ACCOUNT" not in found:
    end = {entry[:3]: int(entry.split(">")[1]) for entry in line.split()[1:]}
    a, b = end["A00"], end["B00"]
    more = f"TX0009:5 A00={a:04d}>{a - 5:04d} B00={b:04d}>{b + 5:04d}\n"
    assert audit(_CLEAN + line + "\n" + more) == audit(_CLEAN + line + "\n")


@pytest.mark.parametrize("task", [TransactionLog(), BankLog("anomaly")])
def test_the_auditor_finds_a_second_anomaly(embedded, task, rng):
  """Every changed number and every repeated line shows, next to the anomaly that is there."""
  for seed in range(40):
    example = task.at(seed, 25, embedded, False)
    lines = log_lines(example.context)
    label = Finding(
      *re.fullmatch(r"\{(\w+), TX(\d+)\}", example.questions[0].references[0]).groups()
    )
    verify("\n".join(lines), label)
    transfers = [
      i for i, line in enumerate(lines) if line.startswith("TX") and label.transaction not in line
    ]
    i = int(rng.choice(transfers))
    numbers = list(re.finditer(r"(?<=[ :=>])\d+", lines[i]))  # the amount and four balances
    assert len(numbers) == 5
    number = numbers[int(rng.integers(5))]
    changed = f"{int(number[0]) + 5:0{len(number[0])}d}"
    edited = lines[:i] + [lines[i][: number.start()] + changed + lines[i][number.end() :]]
    repeated = lines[: i + 1] + [lines[i]]
    for log in (edited + lines[i + 1 :], repeated + lines[i + 1 :]):
      assert set(audit("\n".join(log))) - {label}
      with pytest.raises(ValueError, match="was meant"):
        verify("\n".join(log), label)
    with pytest.raises(ValueError, match="was meant"):
      verify("\n".join(lines))  # The anomaly itself.


def test_a_log_that_is_written_wrong_is_not_handed_out(embedded):
  class Wrong(BankLog):
    def line(self, operation):
      return super().line(operation).replace(">00", ">01")

  for kind in KINDS:
    with pytest.raises(ValueError, match="the log breaks .* was meant"):
      Wrong(kind).at(0, 1024, embedded, True)


def test_the_auditor_refuses_what_it_cannot_read():
  for line, message in (
    ("TX1:5 A00=1>2", "no opening"),
    ("OPEN A00=0001", "opened twice"),
    ("TX0003: transfer 5 from A00 to B00; B00: 1 -> 2, A00: 1 -> 2", "no op"),
  ):
    with pytest.raises(ValueError, match=message):
      audit(_CLEAN + line)


@pytest.mark.parametrize(
  "output, kind, transaction",
  [
    ("{CALC_ERROR, TX0123}", 1, 1),
    ("CALC_ERROR TX0123", 1, 1),
    ("{calc_error,tx0123}<|im_end|>", 1, 1),
    ("**Final:** Calc error in TX 0123.", 1, 1),
    ("TX0001 or TX0002? LOST_UPDATE? Final: {CALC_ERROR, TX0123}", 1, 1),
    ("Final: {LOST_UPDATE, TX0001}\nNo. Final: {CALC_ERROR, TX0123}", 1, 1),
    ("{CALC_ERROR, TX0123} and again {CALC_ERROR, TX0123}", 1, 1),
    ("{LOST_UPDATE, TX0123}", 0, 1),
    ("{CALC_ERROR, TX0124}", 1, 0),
    ("{CALC_ERROR, TX01234}", 1, 0),
    ("{CALC_ERROR, TX123}", 1, 1),
    ("{CALC_ERROR, 0123}", 1, 0),
    ("TX0123", 0, 1),
    ("{CALC_ERROR, TX0123} or {LOST_UPDATE, TX0123}", 0, 1),
    ("{CALC_ERROR, TX0123}, {CALC_ERROR, TX0124}", 1, 0),
    ("CALC_ERROR, NEGATIVE_BAL, LOST_UPDATE, DUPLICATE_TXN: TX0123", 0, 1),
    ("{CALC_ERROR, TX0123} Final: none", 0, 0),
    ("", 0, 0),
  ],
)
def test_anomaly_answers_are_scored_whole_and_by_halves(embedded, output, kind, transaction):
  task = BankLog("anomaly")
  question = dataclasses.replace(
    task.at(0, 200, embedded, True).questions[0], references=("{CALC_ERROR, TX0123}",)
  )
  right = kind and transaction
  assert task.score(output, question) == {
    "acc": float(right),
    "type_acc": float(kind),
    "id_acc": float(transaction),
  }
  assert (task.extract(output) == "{CALC_ERROR, TX0123}") == right


def test_numbers_in_prose_are_not_those_of_names(embedded):
  task = TransactionLog("balance")
  question = task.at(0, 25, embedded, False).questions[0]
  for text in (
    question.references[0],
    f"A12: {question.references[0]}.",
    f"TX48213. Final: {question.references[0]}",
  ):
    assert task.score(text, question) == {"acc": 1.0}
  assert task.score(f"{question.references[0]}0", question) == {"acc": 0.0}


def test_specs_name_the_tasks_and_their_options():
  registry = {"bank_log": BankLog, "transaction_log": TransactionLog}
  for text in (
    "bank_log",
    "bank_log(kind=amount, depth=0.5)",
    "transaction_log",
    "transaction_log(kind=balance)",
  ):
    assert spec.canonical(spec.parse(text, registry, "tasks"), registry) == text
  assert spec.parse("transaction_log", registry, "tasks").kind == "anomaly"
  with pytest.raises(UserError, match="tasks: transaction_log: kind='bug': choose one of"):
    spec.parse("transaction_log(kind=bug)", registry, "tasks")
  with pytest.raises(UserError, match="tasks: bank_log: depth=2.0: choose 0 to 1"):
    spec.parse("bank_log(depth=2)", registry, "tasks")


def test_lengths_without_room_are_named(embedded):
  with pytest.raises(UserError, match="length=2 operations hold no anomaly .* 3 or more"):
    TransactionLog().check(2, False)
  with pytest.raises(UserError, match="length=100 tokens hold no anomaly"):
    TransactionLog().check(100, True)
  TransactionLog().check(5000, False)
  TransactionLog().check(3, False)
  with pytest.raises(UserError, match="tokens hold no anomaly .* raise it to [0-9]+ or more"):
    TransactionLog(needles=1).at(0, 500, embedded, True)


def test_examples_are_a_function_of_the_seed(embedded):
  make = lambda seed: TransactionLog(needles=1).at(seed, 40, embedded, False)
  assert make(3) == make(3) and make(3) != make(4)
  assert np.unique([make(seed).questions[0].references[0] for seed in range(20)]).size == 20
