"""The bank log against an independent auditor that reads nothing but the text."""

import collections
import re

import numpy as np
import pytest

from tttjax.embedded.tokenizer import build_tokenizer
from tttjax.errors import UserError
from tttjax.tasks import bank_log

_OPEN = re.compile(r'OPEN ([A-Z]\d\d)=(\d{4})')
_TRANSFER = re.compile(
    r'TX(\d{4}):(\d\d) ([A-Z]\d\d)=(\d{4})>(-?\d{4}) ([A-Z]\d\d)=(\d{4})>(\d{4})')


@pytest.fixture(scope='module')
def tokenizer():
  return build_tokenizer()


def audit(context):
  """(balances, amounts, anomalies) of the log in a context, replayed line by line."""
  balances, amounts, anomalies, before = {}, {}, [], collections.defaultdict(list)
  for line in context.split('[CONTEXT]\n')[1].splitlines():
    if opened := _OPEN.fullmatch(line):
      assert opened[1] not in balances
      balances[opened[1]] = int(opened[2])
      continue
    transaction, amount, *sides = _TRANSFER.fullmatch(line).groups()
    amount = int(amount)
    if transaction in amounts:
      anomalies.append(('DUPLICATE_TXN', transaction))
    amounts[transaction] = amount
    for (account, old, new), sign in ((sides[:3], -1), (sides[3:], 1)):
      old, new = int(old), int(new)
      if old != balances[account]:
        assert old in before[account]
        anomalies.append(('LOST_UPDATE', transaction))
      if new != old + sign * amount:
        anomalies.append(('CALC_ERROR', transaction))
      elif new < 0:
        anomalies.append(('NEGATIVE_BAL', transaction))
      before[account].append(balances[account])
      balances[account] = new
  return balances, amounts, anomalies


def evidence_text(tokenizer, example, question):
  ids = tokenizer(example.context, add_special_tokens=False)['input_ids']
  start, end = question.evidence
  return tokenizer.decode(ids[start:end])


@pytest.mark.parametrize('context_tokens', [128, 384, 2048])
def test_balances_are_the_replayed_ones_and_evidence_is_what_sets_them(tokenizer, context_tokens):
  for seed in range(20):
    example = bank_log.make_example(seed, context_tokens, tokenizer, 8)
    balances, _, anomalies = audit(example.context)
    assert not anomalies
    asked = [re.search(r'balance of ([A-Z]\d\d)\?', q.text)[1] for q in example.questions]
    assert len(set(asked)) == len(asked) == min(8, len(balances))
    for account, question in zip(asked, example.questions):
      assert int(question.answer) == balances[account]
      evidence = evidence_text(tokenizer, example, question)
      assert evidence.startswith(f' {account}=') and evidence.endswith(question.answer)
      assert account not in example.context.rpartition(evidence)[2]  # Nothing later updates it.


def test_amounts_and_their_evidence(tokenizer):
  for seed in range(20):
    example = bank_log.make_example(seed, 384, tokenizer, 4, 'amount')
    _, amounts, _ = audit(example.context)
    for question in example.questions:
      transaction = re.search(r'amount of TX(\d{4})\?', question.text)[1]
      assert int(question.answer) == amounts[transaction]
      assert evidence_text(tokenizer, example, question) == f'TX{transaction}:{question.answer}'


def test_anomaly_logs_hold_exactly_the_one_that_is_asked_for(tokenizer):
  seen = collections.Counter()
  for seed in range(150):
    example = bank_log.make_example(seed, 200, tokenizer, 3, 'anomaly')
    _, _, anomalies = audit(example.context)
    (question,) = example.questions
    assert len(anomalies) == 1
    kind, transaction = anomalies[0]
    assert question.answer == f'{{{kind}, TX{transaction}}}'
    assert evidence_text(tokenizer, example, question).startswith(f'TX{transaction}:')
    seen[kind] += 1
  assert set(seen) == set(bank_log.ANOMALIES) and min(seen.values()) >= 15


@pytest.mark.parametrize('kind', bank_log.KINDS)
@pytest.mark.parametrize('context_tokens', [150, 511, 1024])
def test_context_is_just_under_the_asked_length(tokenizer, kind, context_tokens):
  for seed in range(10):
    example = bank_log.make_example(seed, context_tokens, tokenizer, 1, kind)
    tokens = tokenizer(example.context, add_special_tokens=False)['input_ids']
    assert len(tokens) == example.num_tokens
    assert context_tokens - 22 < len(tokens) <= context_tokens
    first = [tokenizer.decode([tokens[i]]) for i in example.line_starts]
    assert set(first) <= {'OPEN', 'TX'}
    assert len(first) == example.context.count('\n', example.context.index('[CONTEXT]\n') + 10)


def test_examples_are_a_function_of_the_seed_and_logs_grow(tokenizer):
  make = lambda seed, size: bank_log.make_example(seed, size, tokenizer, 4)
  assert make(7, 384) == make(7, 384)
  assert make(7, 384).context != make(8, 384).context
  assert make(7, 1024).context.startswith(make(7, 384).context)


def test_competing_accounts_grow_with_length(tokenizer):
  count = lambda size: bank_log.make_example(0, size, tokenizer, 1).context.count('OPEN')
  assert count(4096) > 2.5 * count(1024) > 5 * count(256)


def test_scoring_reads_the_first_answer_after_the_thoughts(tokenizer):
  question = bank_log.make_example(0, 200, tokenizer, 1).questions[0]
  wrong = f'{(int(question.answer) + 1) % 10000:04d}'
  good = [question.answer, f' {question.answer}<|im_end|>',
          f'{wrong}\n</think>\n\n{question.answer}']
  bad = ['', wrong, f'{wrong} {question.answer}', question.answer[:3], f'-{question.answer}']
  assert all(bank_log.score_answer(text, question) for text in good)
  assert not any(bank_log.score_answer(text, question) for text in bad)
  anomaly = bank_log.make_example(0, 200, tokenizer, 1, 'anomaly').questions[0]
  kind, transaction = re.fullmatch(r'\{(\w+), TX(\d{4})\}', anomaly.answer).groups()
  assert bank_log.score_answer(f'It is {{{kind},TX{transaction}}}.', anomaly)
  assert not bank_log.score_answer(f'{{{kind}, TX{9999 - int(transaction):04d}}}', anomaly)


def test_stretching_moves_whole_lines_apart_evenly(tokenizer):
  example = bank_log.make_example(0, 256, tokenizer, 1)
  positions = example.stretched_positions(8192)
  assert positions.shape == (example.num_tokens,) and positions.dtype == np.int32
  assert positions[0] == 0 and positions[-1] == 8191
  gaps = np.diff(positions, prepend=-1) - 1
  starts = list(example.line_starts)
  assert set(np.flatnonzero(gaps)) == set(starts) and np.ptp(gaps[starts]) <= 1
  with pytest.raises(UserError, match='stretch=100 is shorter'):
    example.stretched_positions(100)


def test_mistakes_are_answered_with_the_field_and_the_remedy(tokenizer):
  with pytest.raises(UserError, match="task.kind='total': choose one of balance, amount"):
    bank_log.make_example(0, 200, tokenizer, 1, 'total')
  for kind, size in (('balance', 20), ('amount', 40), ('anomaly', 60)):
    with pytest.raises(UserError, match='task.context_tokens.*: raise it'):
      bank_log.make_example(0, size, tokenizer, 1, kind)
