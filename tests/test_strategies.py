"""Strategies on a tiny random checkpoint: what each may do, and what it is charged."""

import dataclasses

import jax
import numpy as np
import pytest

from tests import tiny_run
from tttjax import flops
from tttjax.evaluation import config as run_config
from tttjax.evaluation import runner
from tttjax.strategies import STRATEGIES
from tttjax.ttt.spans import sample_start


@pytest.fixture(scope='module')
def plan(tmp_path_factory):
  checkpoint = tmp_path_factory.mktemp('checkpoint')
  tiny_run.write(checkpoint)
  return run_config.check(tiny_run.config(checkpoint))


@pytest.fixture(scope='module')
def engine(plan):
  return runner.load_engine(plan)


@pytest.fixture(scope='module')
def cases(plan, engine):
  return runner._cases(plan, engine, 128)


@pytest.fixture(scope='module')
def budget(plan, engine, cases):
  budget = runner._Sampling(plan, engine, cases).budget(cases[0])
  # A rate at which two steps on a random model change what it writes.
  return dataclasses.replace(budget, ttt=dataclasses.replace(budget.ttt, learning_rate=0.3))


@pytest.fixture(scope='module')
def results(engine, cases, budget):
  key = jax.random.key(1)
  return {name: f(engine, cases[0], budget, key) for name, f in STRATEGIES.items()}


@pytest.fixture
def no_stop(engine, budget):
  """The thinking budget with a model that never stops by itself."""
  return dataclasses.replace(budget, thinking=dataclasses.replace(
      budget.thinking, stop_ids=(), end_think_id=budget.thinking.end_think_id))


def test_every_strategy_answers_every_question(results, cases):
  for result in results.values():
    assert len(result.predictions) == cases[0].num_questions == 2
    assert all(prediction.tokens > 0 for prediction in result.predictions)


def test_strategies_repeat_exactly(engine, cases, budget, results):
  for name in ('thinking', 'qttt'):
    again = STRATEGIES[name](engine, cases[0], budget, jax.random.key(1))
    assert again.predictions == results[name].predictions


def test_no_steps_is_in_context(engine, cases, budget, results):
  still = dataclasses.replace(budget, ttt=dataclasses.replace(budget.ttt, steps=0))
  result = STRATEGIES['qttt'](engine, cases[0], still, jax.random.key(1))
  assert result.predictions == results['in_context'].predictions
  np.testing.assert_allclose(
      result.evidence_mass, results['in_context'].evidence_mass, rtol=1e-4)


def test_adaptation_changes_the_attention(results):
  assert results['qttt'].evidence_mass != pytest.approx(
      results['in_context'].evidence_mass, rel=1e-3)


def test_control_is_qttt_where_the_other_context_is_its_own(engine, cases, budget, results):
  mirrored = dataclasses.replace(cases[0], other=cases[0])
  result = STRATEGIES['qttt_other_context'](engine, mirrored, budget, jax.random.key(1))
  assert result.predictions == results['qttt'].predictions
  assert result.evidence_mass == results['qttt'].evidence_mass


def test_control_adapts_on_another_context(cases, results):
  assert cases[0].other.example.key != cases[0].example.key
  assert results['qttt_other_context'].evidence_mass != results['qttt'].evidence_mass


def test_thinking_ends_within_its_budget_by_force(engine, cases, no_stop):
  result = STRATEGIES['thinking'](engine, cases[0], no_stop, jax.random.key(1))
  limit = no_stop.thinking.thinking_budget + len(no_stop.thinking.forced_stop_ids)
  for prediction in result.predictions:
    assert 0 < prediction.thinking_tokens <= limit
    assert prediction.tokens <= prediction.thinking_tokens + 4
    assert '</think>' in prediction.text and '</think>' not in prediction.answer


def test_matched_thinking_costs_qttt_flops_to_within_one_token(plan, cases, results):
  architecture, context = plan.architecture, cases[0].num_tokens
  prompt = max(map(len, cases[0].prompts))
  steps, thinking = run_config.budgets(plan, context, prompt)
  assert steps == 2
  answer = plan.config.sampling.max_new_tokens
  qttt = flops.qttt(architecture, context, prompt, plan.config.ttt.span, steps, answer)
  below, above = (
      flops.thinking(architecture, context, prompt, thinking + more, answer) for more in (0, 1))
  assert below <= qttt < above


def test_steps_are_matched_to_a_given_thinking_budget(plan, cases):
  config = tiny_run.config(plan.checkpoint, ttt__steps='matched', thinking__budget=100)
  matched = run_config.check(config)
  steps, thinking = run_config.budgets(matched, 128, 16)
  assert thinking == 100
  assert run_config.budgets(
      run_config.check(tiny_run.config(plan.checkpoint, ttt__steps=steps)), 128, 16)[1] <= 100


def test_qttt_is_charged_prefill_its_spans_and_its_answer(plan, cases, budget, results):
  architecture, case, cost = plan.architecture, cases[0], results['qttt'].cost
  span_key, _ = jax.random.split(jax.random.key(1))
  starts = [
      int(sample_start(span_key, i, case.num_tokens, budget.ttt.span))
      for i in range(budget.ttt.steps)]
  shared = flops.prefill(architecture, case.num_tokens) + flops.adapt(
      architecture, case.num_tokens, budget.ttt.span, budget.ttt.steps, starts)
  for question, prediction in enumerate(results['qttt'].predictions):
    own = flops.decode(
        architecture, case.num_tokens, len(case.prompts[question]), prediction.tokens, delta=True)
    assert cost.flops(question) == shared + own
    assert cost.amortised_flops(question, 2) == shared / 2 + own
  assert set(cost.seconds()) == {'prefill', 'adapt', 'generate'}


def test_second_context_compiles_nothing(engine, cases, budget, results, compilations):
  assert cases[1].capacity == cases[0].capacity
  before = compilations()
  for strategy in STRATEGIES.values():
    result = strategy(engine, cases[1], budget, jax.random.key(2))
    assert not result.cost.compiled
  assert compilations() == before


def test_answers_do_not_depend_on_the_other_rows(engine, cases, budget, results):
  one = dataclasses.replace(
      cases[0], prompts=cases[0].prompts[:1], answers=cases[0].answers[:1],
      thinking_prompts=cases[0].thinking_prompts[:1],
      example=dataclasses.replace(
          cases[0].example, questions=cases[0].example.questions[:1]))
  result = STRATEGIES['in_context'](engine, one, budget, jax.random.key(1))
  assert result.predictions == results['in_context'].predictions[:1]


def test_lengths_share_programs_within_a_factor_below_four(plan):
  config = tiny_run.config(
      plan.checkpoint, lengths=(128, 256, 512, 768), share_programs=True)
  shared = run_config.check(config)
  assert [shared.capacity(n) for n in config.lengths] == [128, 768, 768, 768]
  config.share_programs = False
  assert [shared.capacity(n) for n in config.lengths] == [128, 256, 512, 768]
