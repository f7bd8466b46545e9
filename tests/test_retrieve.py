"""Retrieve and read: what of a context is kept, and what is answered from it."""

import numpy as np
import pytest

from tests import tiny_run
from tests.errors import user_error
from tttjax import flops
from tttjax.experiment import config as run_config
from tttjax.experiment.work_units import Place, Work
from tttjax.session import Session
from tttjax.strategies.in_context import InContext
from tttjax.strategies.retrieve import Retrieve, shortened

_ORACLE = "retrieve(count=3)"
_RANDOM = "retrieve(spans=random, count=3)"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """(plan, session, unit) of the tiny model, whose spans of 32 hold the evidence."""
  checkpoint = tmp_path_factory.mktemp("checkpoint")
  tiny_run.write(checkpoint)
  plan = run_config.check(
    tiny_run.config(
      checkpoint, strategies=("in_context", _ORACLE, _RANDOM), lengths=(256,), ttt__span=32
    )
  )
  (model,) = plan.models
  unit = Work(plan, model).unit(Place(next(iter(plan.tasks)), 256, 0, 0))
  return plan, Session.open(plan.models[model]), unit


def _answers(run, strategy, case=None):
  _, session, unit = run
  allowance = next(iter(unit.allowances.values()))
  result = strategy(session, case or unit.case, allowance, unit.key)
  return [prediction.outputs[0].ids for prediction in result.predictions], result


def test_all_of_the_context_is_the_context(run):
  case = run[2].case
  whole = shortened(case, np.arange(0, case.num_tokens, 8), 8, lambda tokens: case.capacity)
  np.testing.assert_array_equal(whole.tokens, case.tokens)
  assert whole.example == case.example
  assert _answers(run, InContext(), whole)[0] == _answers(run, InContext())[0]


def test_the_head_and_the_spans_are_kept_in_order_and_evidence_moves_with_its_tokens(run):
  case = run[2].case
  head, total = case.example.line_starts[0], case.num_tokens
  starts = np.array([total - 40, head + 9, head + 20])  # the last two overlap
  short = shortened(case, starts, 20, lambda tokens: tokens)
  expected = [*range(head), *range(head + 9, head + 41), *range(total - 40, total - 19)]
  np.testing.assert_array_equal(short.tokens, case.tokens[:, expected])
  assert short.num_tokens == short.capacity == short.example.num_tokens == len(expected)
  begins = [expected.index(line) for line in case.example.line_starts if line in expected]
  assert list(short.example.line_starts) == begins


def test_oracle_spans_hold_the_evidence(run):
  plan, _, unit = run
  _, result = _answers(run, plan.strategies[_ORACLE])
  case = unit.case
  starts = np.array([q.evidence[0][0] - 5 for q in case.example.questions])
  short = shortened(case, starts, 32, lambda tokens: tokens)
  for long_question, question in zip(case.example.questions, short.example.questions):
    for (begin, end), (new_begin, new_end) in zip(long_question.evidence, question.evidence):
      np.testing.assert_array_equal(short.tokens[0, new_begin:new_end], case.tokens[0, begin:end])
  for measured in result.mechanism:  # it is there to be looked at
    assert 0 < measured.mass < 1 and measured.reference_logprob < 0


def test_evidence_that_was_left_out_is_not_measured(run):
  case = run[2].case
  begin = max(end for q in case.example.questions for _, end in q.evidence)
  short = shortened(case, np.array([begin]), 4, lambda tokens: 256)
  assert all(begin == end for q in short.example.questions for begin, end in q.evidence)
  assert _answers(run, InContext(), short)[1].mechanism == (None, None)


def test_both_readings_are_charged_and_random_spans_are_the_seeds(run):
  plan, session, unit = run
  for strategy in (plan.strategies[_ORACLE], plan.strategies[_RANDOM]):
    ids, result = _answers(run, strategy)
    assert ids == _answers(run, strategy)[0]
    head = unit.case.example.line_starts[0]
    whole = flops.prefill(session.model.config, unit.case.num_tokens)
    most = flops.prefill(session.model.config, head + 3 * 33)
    assert whole < result.cost.phase_flops(0)["prefill"] <= whole + most


@pytest.mark.parametrize(
  "message, options",
  [
    ("spans=nowhere: choose one of random, oracle", {"spans": "nowhere"}),
    ("count=0 must be at least 1", {"count": 0}),
    ("span=0 must be at least 1", {"span": 0}),
  ],
)
def test_wrong_options_are_refused(message, options):
  with user_error(message):
    Retrieve(**options)
