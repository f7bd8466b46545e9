"""The bank log against an independent auditor that reads nothing but the text."""

import collections
import re

import numpy as np
import pytest

from tttjax.embedded.vocabulary import build_tokenizer
from tttjax.errors import UserError
from tttjax.tasks.synthetic.bank_log import HEADER, BankLog

KINDS = ("balance", "amount", "anomaly")
ANOMALIES = {"CALC_ERROR", "NEGATIVE_BAL", "LOST_UPDATE", "DUPLICATE_TXN"}
_OPEN = re.compile(r"OPEN ([A-Z]\d\d)=(\d{4})")
_TRANSFER = re.compile(
  r"TX(\d{4}):(\d\d) ([A-Z]\d\d)=(\d{4})>(-?\d{4}) ([A-Z]\d\d)=(\d{4})>(\d{4})"
)


@pytest.fixture(scope="module")
def tokenizer():
  return build_tokenizer()


def log_lines(context):
  return context.split("[CONTEXT]\n")[1].splitlines()


def parse(line):
  """('', 0, [(account, None, balance)]) or (transaction, amount, [(account, old, new)] * 2)."""
  if opened := _OPEN.fullmatch(line):
    return "", 0, [(opened[1], None, int(opened[2]))]
  transaction, amount, *sides = _TRANSFER.fullmatch(line).groups()
  return (
    transaction,
    int(amount),
    [(account, int(old), int(new)) for account, old, new in (sides[:3], sides[3:])],
  )


def replay(operations):
  """(balances, amounts, anomalies) of parsed lines.

  An anomaly is (type, transaction, numbers of the lines that show it).
  """
  balances, amounts, anomalies, first = {}, {}, [], {}
  touched, before = collections.defaultdict(list), collections.defaultdict(list)
  for number, (transaction, amount, entries) in enumerate(operations):
    if not transaction:
      ((account, _, balance),) = entries
      assert account not in balances
      balances[account] = balance
      touched[account].append(number)
      continue
    if transaction in amounts:
      anomalies.append(("DUPLICATE_TXN", transaction, [first[transaction], number]))
      assert amounts[transaction] == amount
    amounts[transaction] = amount
    first[transaction] = number
    assert entries[0][0] != entries[1][0]
    for (account, old, new), sign in zip(entries, (-1, 1)):
      if old != balances[account]:
        assert old in before[account]
        anomalies.append(("LOST_UPDATE", transaction, [touched[account][-1], number]))
      if new != old + sign * amount:
        anomalies.append(("CALC_ERROR", transaction, [number]))
      if new < 0:
        anomalies.append(("NEGATIVE_BAL", transaction, [number]))
      before[account].append(balances[account])
      balances[account] = new
      touched[account].append(number)
  return balances, amounts, anomalies


def audit(context):
  return replay([parse(line) for line in log_lines(context)])


def evidence_texts(tokenizer, example, question):
  ids = tokenizer(example.context, add_special_tokens=False)["input_ids"]
  return [tokenizer.decode(ids[start:end]) for start, end in question.evidence]


@pytest.mark.parametrize("length", [128, 384, 2048])
def test_balances_are_the_replayed_ones_and_evidence_is_what_sets_them(tokenizer, length):
  for seed in range(30):
    example = BankLog("balance", needles=8).at(seed, length, tokenizer, True)
    balances, _, anomalies = audit(example.context)
    assert not anomalies
    asked = [re.search(r"balance of ([A-Z]\d\d)\?", q.text)[1] for q in example.questions]
    assert len(set(asked)) == len(asked) >= (8 if length > 300 else 1)
    for account, question in zip(asked, example.questions):
      assert int(question.references[0]) == balances[account]
      (evidence,) = evidence_texts(tokenizer, example, question)
      assert evidence.startswith(f" {account}=") and evidence.endswith(question.references[0])
      # Nothing later updates it.
      assert f"{account}=" not in example.context.rpartition(evidence)[2]


def test_amounts_and_their_evidence(tokenizer):
  for seed in range(30):
    example = BankLog("amount", needles=8).at(seed, 384, tokenizer, True)
    _, amounts, anomalies = audit(example.context)
    assert len(example.questions) == 8 and not anomalies
    for question in example.questions:
      transaction = re.search(r"amount of TX(\d{4})\?", question.text)[1]
      assert int(question.references[0]) == amounts[transaction]
      assert evidence_texts(tokenizer, example, question) == [
        f"TX{transaction}:{question.references[0]}"
      ]


@pytest.mark.parametrize("length", [128, 200, 512])
def test_anomaly_logs_hold_exactly_the_one_that_is_asked_for(tokenizer, length):
  seen = collections.Counter()
  for seed in range(200):
    example = BankLog("anomaly", needles=3).at(seed, length, tokenizer, True)
    ((kind, transaction, where),) = audit(example.context)[2]
    (question,) = example.questions
    assert question.references[0] == f"{{{kind}, TX{transaction}}}"
    lines = log_lines(example.context)
    assert evidence_texts(tokenizer, example, question) == [lines[i] for i in where]
    seen[kind] += 1
  assert set(seen) == ANOMALIES and min(seen.values()) >= 30


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length", [150, 511, 1024])
def test_context_is_just_under_the_asked_length(tokenizer, kind, length):
  for seed in range(10):
    example = BankLog(kind, needles=1).at(seed, length, tokenizer, True)
    tokens = tokenizer(example.context, add_special_tokens=False)["input_ids"]
    assert len(tokens) == example.num_tokens
    assert length - 22 < len(tokens) <= length
    first = [tokenizer.decode([tokens[i]]) for i in example.line_starts]
    assert set(first) <= {"OPEN", "TX"}
    assert len(first) == len(log_lines(example.context))


@pytest.mark.parametrize("kind", KINDS)
def test_length_in_operations_counts_transfers(tokenizer, kind):
  for length in (3, 25, 8000):
    example = BankLog(kind, needles=4).at(5, length, tokenizer, False)
    assert sum(line.startswith("TX") for line in log_lines(example.context)) == length


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_needles_stand_in_a_growing_haystack(tokenizer, kind):
  for seed in range(12):
    examples = [
      BankLog(kind, needles=8).at(seed, length, tokenizer, True)
      for length in (150, 300, 1024, 4096)
    ]
    for short, long in zip(examples, examples[1:]):
      assert len(short.questions) <= len(long.questions)
      for a, b in zip(short.questions, long.questions):
        assert (a.text, a.thinking_text, a.references[0]) == (
          b.text,
          b.thinking_text,
          b.references[0],
        )
        assert evidence_texts(tokenizer, short, a) == evidence_texts(tokenizer, long, b)
    long, longest = examples[2:]  # All needles fit: every line is reused.
    assert set(log_lines(long.context)) < set(log_lines(longest.context))
    for a, b in zip(long.questions, longest.questions):
      places = [q.evidence[-1][0] / e.num_tokens for q, e in ((a, long), (b, longest))]
      assert abs(places[0] - places[1]) < 0.15


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("depth", [0.0, 0.3, 0.8, 1.0])
def test_depth_is_where_the_evidence_stands(tokenizer, kind, depth):
  for seed in range(5):
    example = BankLog(kind, depth, needles=6).at(seed, 4096, tokenizer, True)
    for question in example.questions:
      assert question.evidence[-1][0] / example.num_tokens == pytest.approx(depth, abs=0.07)
  assert {q.references[0] for q in example.questions} == {
    q.references[0] for q in BankLog(kind, needles=6).at(seed, 4096, tokenizer, True).questions
  }


def test_depths_of_their_own_are_spread_over_the_log(tokenizer):
  for kind, median in (("amount", 0.5), ("balance", 0.5**0.5)):
    places = []
    for seed in range(30):
      example = BankLog(kind, needles=8).at(seed, 1024, tokenizer, True)
      places += [q.evidence[0][0] / example.num_tokens for q in example.questions]
    assert np.median(places) == pytest.approx(median, abs=0.1)
    assert min(places) < 0.2 and max(places) > 0.9


def test_examples_are_a_function_of_the_seed(tokenizer):
  for kind in KINDS:
    make = lambda seed: BankLog(kind, needles=4).at(seed, 384, tokenizer, True)
    assert make(7) == make(7) and make(7).context != make(8).context
  keys = {
    BankLog(kind, depth, needles=1).at(seed, length, tokenizer, tokens).key
    for kind in KINDS
    for depth in (-1, 0.5)
    for seed in (1, 2)
    for length, tokens in ((200, True), (400, True), (200, False))
  }
  assert len(keys) == 36


def test_needles_do_not_depend_on_how_many_are_asked_for(tokenizer):
  few, many = (BankLog(needles=n).at(1, 1024, tokenizer, True) for n in (3, 16))
  assert [q.references[0] for q in few.questions] == [q.references[0] for q in many.questions[:3]]
  assert len(many.questions) == 16


def test_competing_accounts_grow_with_length(tokenizer):
  count = lambda size: BankLog(needles=1).at(0, size, tokenizer, True).context.count("OPEN")
  assert count(4096) > 2.5 * count(1024) > 3 * count(256)


def test_dialect_is_the_one_of_the_checkpoint(tokenizer):
  example = BankLog(needles=1).at(0, 300, tokenizer, True)
  assert example.context.startswith("<|im_start|>user\n" + HEADER)
  assert example.questions[0].text.startswith("[QUESTION] balance of ")
  texts = [
    BankLog(kind, needles=1).at(0, 300, tokenizer, True).questions[0].text
    for kind in ("amount", "anomaly")
  ]
  assert re.match(r"\[QUESTION\] amount of TX\d{4}\?<", texts[0])
  assert texts[1].startswith("[QUESTION] anomaly as {type, TX id}?<")


def test_scoring_reads_the_number_that_is_stated(tokenizer):
  task = BankLog()
  question = task.at(0, 200, tokenizer, True).questions[0]
  wrong = f"{(int(question.references[0]) + 1) % 10000:04d}"
  good = [
    question.references[0],
    f" {question.references[0]}<|im_end|>",
    f"Final: {question.references[0]}",
    f"{wrong}, no. Final: {question.references[0]}",
  ]
  bad = [
    "",
    "none",
    wrong,
    f"{wrong} {question.references[0]}",
    question.references[0][:3],
    f"-{question.references[0]}",
    f"{question.references[0]} Final: {wrong}",
  ]
  assert all(task.score(text, question) == {"acc": 1.0} for text in good)
  assert all(task.score(text, question) == {"acc": 0.0} for text in bad)
  assert task.extract(good[1]) == question.references[0] and task.extract("none") is None


def test_stretching_moves_whole_lines_apart_evenly(tokenizer):
  example = BankLog(needles=1).at(0, 256, tokenizer, True)
  positions = example.stretched_positions(8192)
  assert positions.shape == (example.num_tokens,) and positions.dtype == np.int32
  assert positions[0] == 0 and positions[-1] == 8191
  gaps = np.diff(positions, prepend=-1) - 1
  starts = list(example.line_starts)
  assert set(np.flatnonzero(gaps)) == set(starts) and np.ptp(gaps[starts]) <= 1
  with pytest.raises(UserError, match="stretch=100 is shorter"):
    example.stretched_positions(100)


def test_mistakes_are_answered_with_the_field_and_the_remedy(tokenizer):
  with pytest.raises(UserError, match="bank_log: kind='total': choose one of balance, amount"):
    BankLog("total")
  for depth in (1.5, -0.5, float("nan")):
    with pytest.raises(UserError, match="bank_log: depth=.*: choose 0 to 1, or -1"):
      BankLog(depth=depth)
  for kind, size in (("balance", 20), ("amount", 15), ("anomaly", 30)):
    with pytest.raises(UserError, match=f"length={size} tokens hold no .*; raise it to"):
      BankLog(kind).check(size, True)
  for kind, size in (("balance", 1), ("amount", 0), ("anomaly", 2)):
    with pytest.raises(UserError, match=f"length={size} operations hold no .*; raise it"):
      BankLog(kind).check(size, False)
  with pytest.raises(UserError, match="more than 8000 transactions .* shorten it"):
    BankLog().check(8001, False)
  with pytest.raises(UserError, match="bank_log: needles=17: choose 1 to 16"):
    BankLog(needles=17).at(0, 384, tokenizer, True)
  with pytest.raises(UserError, match="100 tokens hold no anomaly .* raise it to 110 or more"):
    BankLog("anomaly", needles=1).at(0, 100, tokenizer, True)
