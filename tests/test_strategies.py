"""Strategies on a tiny random checkpoint: what each may do, and what it is charged."""

import dataclasses

import jax
import numpy as np
import pytest

from tests import tiny_run
from tests.errors import user_error
from tttjax import flops
from tttjax import session as engine_module
from tttjax.errors import UserError
from tttjax.experiment import allowances, runner
from tttjax.experiment import config as run_config
from tttjax.experiment import work as run_work
from tttjax.session import Engine
from tttjax.strategies import STRATEGIES
from tttjax.strategies.qttt import QTTT
from tttjax.strategies.selectors import oracle_spans
from tttjax.strategies.self_consistency import _vote
from tttjax.strategies.strategy import Prediction, Sizes
from tttjax.ttt.spans import sample_start

# A rate at which a few steps on a random model change what it writes.
_RATE = 0.3
_SAMPLED = "self_consistency(n=2, temperature=0.6)"
_NAMES = (
  "in_context",
  "thinking",
  "qttt",
  "qttt_other_context",
  "qttt_thinking",
  "log_temperature",
  _SAMPLED,
  "beam(n=2)",
  "full_ttt",
  "qttt(spans=oracle)",
  "qttt(question=before)",
  "qttt_other_context(question=before)",
  "qttt(span_kv=recomputed)",
  "in_context(stretch=500)",
  "in_context(rope=off)",
  "qttt(steps=0)",
)
_MEASURED = [
  name
  for name in _NAMES
  if name
  not in (_SAMPLED, "beam(n=2)", "qttt(question=before)", "qttt_other_context(question=before)")
]


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
  checkpoint = tmp_path_factory.mktemp("checkpoint")
  tiny_run.write(checkpoint)
  return run_config.check(
    tiny_run.config(checkpoint, strategies=_NAMES, ttt__steps=8, ttt__learning_rate=_RATE)
  )


@pytest.fixture(scope="module")
def model(plan):
  return next(iter(plan.models))


@pytest.fixture(scope="module")
def work(plan, model):
  return run_work.prepare(plan)[model]


@pytest.fixture(scope="module")
def engine(plan, model, work):
  return runner.load_engine(plan, model, work.tokenizer)


def run(plan, engine, work, item, name, key=jax.random.key(1), case=None):
  return plan.strategies[name](
    engine, case or item.case, item.allowances[name], work.decoding_of(name, item), key
  )


@pytest.fixture(scope="module")
def results(plan, engine, work):
  return {name: run(plan, engine, work, work.items[0], name) for name in _NAMES}


@pytest.fixture(scope="module")
def item(work):
  return work.items[0]


def test_all_registered_strategies_are_tested():
  assert {name.partition("(")[0] for name in _NAMES} == set(STRATEGIES)


def test_every_strategy_answers_every_question(results, item):
  for result in results.values():
    assert len(result.predictions) == item.case.num_questions == 2
    assert all(prediction.tokens > 0 for prediction in result.predictions)


@pytest.mark.parametrize("name", ["thinking", "qttt", _SAMPLED, "beam(n=2)"])
def test_strategies_repeat_exactly(plan, engine, work, item, results, name):
  assert run(plan, engine, work, item, name).predictions == results[name].predictions


def test_no_steps_is_in_context(results):
  assert results["qttt(steps=0)"].predictions == results["in_context"].predictions
  for still, plain in zip(results["qttt(steps=0)"].mechanism, results["in_context"].mechanism):
    assert still.mass == pytest.approx(plain.mass, rel=1e-4)


@pytest.mark.parametrize(
  "name",
  [
    "qttt",
    "qttt_other_context",
    "qttt(spans=oracle)",
    "qttt(span_kv=recomputed)",
    "full_ttt",
    "log_temperature",
    "in_context(stretch=500)",
    "in_context(rope=off)",
  ],
)
def test_what_changes_the_queries_or_positions_changes_the_attention(results, name):
  for changed, plain in zip(results[name].mechanism, results["in_context"].mechanism):
    assert changed.mass != pytest.approx(plain.mass, rel=1e-4)


@pytest.mark.parametrize("name", _MEASURED)
def test_measured_mass_is_a_share_and_agrees_by_layer(plan, results, name):
  layers = next(iter(plan.models.values())).architecture.num_hidden_layers
  for measured in results[name].mechanism:
    assert 0 < measured.mass < 1 and len(measured.mass_by_layer) == layers
    assert measured.mass == pytest.approx(np.mean(measured.mass_by_layer), rel=1e-5)
    assert measured.lead > measured.margin  # the largest other score is below their logsumexp


def test_control_is_qttt_where_the_other_context_is_its_own(plan, engine, work, item, results):
  mirrored = dataclasses.replace(item.case, other=item.case)
  result = run(plan, engine, work, item, "qttt_other_context", case=mirrored)
  assert result.predictions == results["qttt"].predictions
  for control, own in zip(result.mechanism, results["qttt"].mechanism):
    assert control.mass == own.mass


def test_control_adapts_on_another_context(item, results):
  assert item.case.other.example.key != item.case.example.key
  assert results["qttt_other_context"].adaptation.loss != results["qttt"].adaptation.loss
  assert results["qttt_other_context"].adaptation.start == results["qttt"].adaptation.start


def test_question_encoded_before_adaptation_does_not_pay_for_delta(plan, item, results):
  (model,) = plan.models.values()
  c = model.architecture
  before, after = results["qttt(question=before)"], results["qttt"]
  assert before.adaptation == after.adaptation
  per_row = 2 * c.num_hidden_layers * c.hidden_size * c.num_attention_heads * c.head_dim
  for question, (old, new) in enumerate(zip(before.predictions, after.predictions)):
    rows = len(item.case.prompts[question]) - 1
    assert old.tokens == new.tokens == 4
    assert after.cost.flops(question) - before.cost.flops(question) == rows * per_row


def test_thinking_ends_within_its_budget_by_force(plan, engine, work, item):
  decoding = work.decoding_of("thinking", item)
  endless = dataclasses.replace(
    decoding, thinking=dataclasses.replace(decoding.thinking, stop_ids=(), temperature=0.0)
  )
  allowance = item.allowances["thinking"]
  result = plan.strategies["thinking"](engine, item.case, allowance, endless, jax.random.key(1))
  for prediction in result.predictions:
    assert 0 < prediction.thinking_tokens <= allowance.thinking_tokens
    assert prediction.tokens <= prediction.thinking_tokens + 4
    assert "Thinking budget used up.\n</think>" in prediction.texts[0]
    assert "budget used up" not in prediction.answer


def shape(plan, item):
  (model,) = plan.models.values()
  case = item.case
  prompt = max(map(len, case.prompts + case.thinking_prompts))
  context = min(case.num_tokens, case.other.num_tokens)
  return Sizes(model.architecture, context, prompt, plan.config.sampling.max_new_tokens, context)


def cost(size, name, tokens):
  """Model FLOPs after the prefill of a strategy with `tokens` thinking tokens per sample."""
  base = size.architecture, size.context, size.prompt
  thought = lambda n: flops.decode(*base, n + size.answer, delta=False)
  return {
    "thinking": lambda: thought(tokens),
    _SAMPLED: lambda: 2 * thought(tokens),
    "beam(n=2)": lambda: flops.beam(*base, tokens + size.answer, 2, delta=False),
    "qttt_thinking": lambda: (
      flops.adapt(size.architecture, size.context, 8, 4)
      + flops.decode(*base, tokens + size.answer, delta=True)
    ),
  }[name]()


@pytest.mark.parametrize("name", ["thinking", _SAMPLED, "beam(n=2)", "qttt_thinking"])
def test_matched_budgets_cost_qttt_flops_to_within_one_token(plan, item, name):
  size, allowed = shape(plan, item), item.allowances[name]
  target = flops.qttt(size.architecture, size.context, size.prompt, 8, 8, size.answer)
  assert item.allowances["qttt"].flops == target
  assert allowed.flops == cost(size, name, allowed.thinking_tokens) <= target
  assert cost(size, name, allowed.thinking_tokens + 1) > target


def test_steps_are_matched_to_a_given_thinking_budget(plan, model):
  config = tiny_run.config(
    model, strategies=("qttt", "thinking", _SAMPLED), ttt__steps="matched", thinking__budget=100
  )
  matched = run_config.check(config)
  size = allowances.sizes(matched, matched.models[model], 128)
  allowed = allowances.allowances(matched, size)
  assert allowed["thinking"].thinking_tokens == 100
  step = flops.ttt_step(size.architecture, 128, 8)
  assert allowed["qttt"].flops <= allowed["thinking"].flops < allowed["qttt"].flops + step
  assert allowed[_SAMPLED].flops <= allowed["thinking"].flops


def test_papers_rule_gives_thinking_2nk_tokens_and_each_sample_its_share(model):
  config = tiny_run.config(
    model, strategies=("thinking", _SAMPLED, "beam(n=4)"), ttt__steps=8, thinking__budget="paper"
  )
  plan = run_config.check(config)
  allowed = allowances.allowances(plan, allowances.sizes(plan, plan.models[model], 128))
  assert [a.thinking_tokens for a in allowed.values()] == [128, 64, 32]


def test_budget_too_small_for_one_step_or_token_is_refused(model):
  for words, overrides in (
    (
      ("thinking.budget=1 is too small for one step",),
      dict(ttt__steps="matched", thinking__budget=1),
    ),
    (
      ("self_consistency(n=16", "no thinking token"),
      dict(strategies=("self_consistency(n=16, temperature=0.6)",), ttt__steps=1),
    ),
    (
      ("qttt_thinking", "too small for one step"),
      dict(strategies=("qttt_thinking",), ttt__steps=1),
    ),
    (("too few for the", "forced_stop"), dict(ttt__steps=1, ttt__span=2)),
  ):
    plan = run_config.check(tiny_run.config(model, **overrides))
    with user_error(*words):
      run_work.prepare(plan)


def test_qttt_is_charged_prefill_its_spans_and_its_answer(plan, item, results):
  (model,) = plan.models.values()
  architecture, case, spent = model.architecture, item.case, results["qttt"].cost
  span_key, _ = jax.random.split(jax.random.key(1))
  starts = [int(sample_start(span_key, i, case.num_tokens, 8)) for i in range(8)]
  assert results["qttt"].adaptation.start == tuple(starts)
  adapting = flops.adapt(architecture, case.num_tokens, 8, 8, starts)
  reading = flops.prefill(architecture, case.num_tokens)
  for question, prediction in enumerate(results["qttt"].predictions):
    own = flops.decode(
      architecture, case.num_tokens, len(case.prompts[question]), prediction.tokens, delta=True
    )
    assert spent.phase_flops(question) == {"prefill": reading, "adapt": adapting, "generate": own}
    assert spent.flops(question) == reading + adapting + own
    assert spent.amortised_flops(question, 2) == (reading + adapting) / 2 + own
  assert set(spent.seconds()) == {"prefill", "adapt", "generate"}


def test_control_is_charged_both_prefills(plan, item, results):
  (model,) = plan.models.values()
  prefills = sum(
    flops.prefill(model.architecture, case.num_tokens) for case in (item.case, item.case.other)
  )
  assert results["qttt_other_context"].cost.phase_flops(0)["prefill"] == prefills


@pytest.mark.parametrize("name", _NAMES)
def test_second_context_compiles_nothing(plan, engine, work, results, compilations, name):
  first, second = work.items[:2]
  assert second.case.capacity == first.case.capacity
  before = compilations()
  result = run(plan, engine, work, second, name, jax.random.key(2))
  # Measuring what was written may meet another width; answering may not.
  assert not result.cost.compiled
  if name not in ("thinking", "qttt_thinking"):
    assert compilations() == before


def test_answers_do_not_depend_on_the_other_rows(plan, engine, work, item, results):
  case = item.case
  one = dataclasses.replace(
    case,
    prompts=case.prompts[:1],
    answers=case.answers[:1],
    thinking_prompts=case.thinking_prompts[:1],
    example=dataclasses.replace(case.example, questions=case.example.questions[:1]),
  )
  result = run(plan, engine, work, item, "in_context", case=one)
  assert result.predictions == results["in_context"].predictions[:1]


def sample(text, answer):
  return Prediction((text,), answer, tokens=3, thinking_tokens=2, ids=(1,), endings=())


def test_vote_takes_the_most_frequent_answer_and_outputs_without_one_abstain(item):
  case = dataclasses.replace(item.case, extract=lambda text: text.strip(".") or None)
  votes = [sample("a", ""), sample("b", ""), sample("c", "7."), sample("d", "5"), sample("e", "7")]
  chosen = _vote(case, votes)
  assert chosen.answer == "7." and chosen.texts == ("a", "b", "c", "d", "e")
  assert (chosen.tokens, chosen.thinking_tokens) == (15, 2)
  assert _vote(case, votes[:2]).texts == ("a", "b")  # nobody voted: the first
  assert _vote(case, votes[2:4]).answer == "7."  # a tie: the earliest


def test_oracle_spans_have_the_whole_evidence_among_their_targets(plan, item):
  ttt = plan.ttt(50, 24)
  starts = oracle_spans(item.case, ttt, jax.random.key(3))
  places = [place for q in item.case.example.questions for place in q.evidence]
  for i, start in enumerate(starts):
    begin, end = places[i % len(places)]
    assert 0 <= start and start + 1 <= begin and end <= start + 1 + ttt.span
  assert len(set(starts.tolist())) > len(places)


def test_adaptation_that_is_not_finite_falls_back_to_the_base_weights(
  plan, engine, work, item, results, monkeypatch
):
  real = engine_module.adapt

  def diverged(*arguments):
    fast, state, history = real(*arguments)
    loss = np.array(history.loss)
    loss[3] = np.nan
    return fast, state, history.replace(loss=loss, ok=np.isfinite(loss))

  monkeypatch.setattr(engine_module, "adapt", diverged)
  result = run(plan, engine, work, item, "qttt")
  assert result.predictions == results["in_context"].predictions
  assert result.adaptation.fallback.startswith("step 4 of 8 was not finite (loss nan)")


def test_lengths_share_programs_within_a_factor_below_four():
  tokens = {n: n for n in (128, 256, 512, 768)}
  assert list(run_work._capacities(tokens, True, 1).values()) == [128, 768, 768, 768]
  assert list(run_work._capacities(tokens, False, 1).values()) == [128, 256, 512, 768]


@pytest.mark.parametrize("own", ["span=16", "span=4", "span_kv=recomputed"])
def test_qttt_with_a_span_of_its_own_takes_the_steps_that_the_budget_pays_for(model, own):
  plan = run_config.check(
    tiny_run.config(
      model, strategies=("qttt", f"qttt({own})", f"qttt({own}, steps=3)"), ttt__steps=8
    )
  )
  size = allowances.sizes(plan, plan.models[model], 128)
  plain, matched, given = allowances.allowances(plan, size).values()
  step = flops.ttt_step(size.architecture, 128, matched.ttt.span, span_kv=matched.ttt.span_kv)
  assert matched.flops <= plain.flops < matched.flops + step
  assert matched.ttt.steps != 8 and given.ttt.steps == 3


def test_contexts_shorter_than_the_span_take_a_shorter_one_and_others_do_not_mind(model):
  plan = run_config.check(
    tiny_run.config(
      model,
      strategies=("in_context", "thinking", "qttt"),
      ttt__span=100,
      ttt__steps=8,
      unit="native",
      lengths=(30,),
    )
  )
  short = allowances.allowances(plan, allowances.sizes(plan, plan.models[model], 90))
  assert short["qttt"].ttt.span == 64
  assert short["thinking"].flops <= short["qttt"].flops


def test_span_that_does_not_fit_is_refused_where_lengths_are_tokens(model):
  plan = run_config.check(tiny_run.config(model, strategies=("qttt",), ttt__span=126))
  with user_error("span=126 does not fit a context of", "config.ttt.span"):
    run_work.prepare(plan)


def test_what_one_strategy_cannot_do_is_no_error_of_the_others(plan, model, monkeypatch):
  real = allowances.allowance

  def impossible(plan, size, name):
    if name == "qttt" and (size.context, size.longest) != first:
      raise UserError("too long")
    return real(plan, size, name)

  config = tiny_run.config(
    model, strategies=("in_context", "qttt"), unit="native", lengths=(6,), contexts=(4,)
  )
  plan = run_config.check(config)
  items = run_work.prepare(plan)[model].items
  tokens = [(item.case.num_tokens, item.case.other.num_tokens) for item in items]
  first = min(tokens[0]), max(tokens[0])
  monkeypatch.setattr(allowances, "allowance", impossible)
  items = run_work.prepare(plan)[model].items
  assert any(item.errors for item in items)
  for item in items:
    assert "in_context" in item.allowances and set(item.errors) <= {"qttt"}


def test_positions_must_hold_the_control_too(model):
  plan = run_config.check(tiny_run.config(model, strategies=("in_context(stretch=200)",)))
  with user_error("stretch=200 is shorter than a context of 201"):
    allowances.allowances(plan, allowances.sizes(plan, plan.models[model], 150, longest=201))


def test_weights_that_are_not_finite_fall_back_to_the_base(plan, engine, work, item, results):
  strategy = dataclasses.replace(plan.strategies["full_ttt"], learning_rate=1e38)
  allowance = strategy.allowance(shape(plan, item), allowances.reference(plan, shape(plan, item)))
  result = strategy(
    engine, item.case, allowance, work.decoding_of("full_ttt", item), jax.random.key(1)
  )
  assert "finite" in result.adaptation.fallback
  assert result.predictions == results["in_context"].predictions


def test_infinite_learning_rate_is_refused(model):
  with user_error("learning_rate", "finite"):
    run_config.check(tiny_run.config(model, ttt__learning_rate=float("inf")))


def test_output_that_is_not_finite_is_an_error_of_the_example(engine, work, item, plan):
  broken = Engine(
    engine.model, jax.tree.map(lambda x: x * np.nan, engine.params), engine.tokenizer, 128
  )
  with pytest.raises(FloatingPointError, match="not finite"):
    run(plan, broken, work, item, "in_context")


def test_measurement_that_fails_keeps_the_answer(plan, engine, work, item, results, monkeypatch):
  def exhausted(*unused):
    raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED")

  monkeypatch.setattr(engine_module, "attention_statistics", exhausted)
  result = run(plan, engine, work, item, "qttt")
  assert result.predictions == results["qttt"].predictions
  assert result.mechanism == (None, None)


def test_own_options_replace_the_configs(plan):
  own = QTTT(learning_rate=0.5, span=4).hyperparameters(plan.ttt(8, 8))
  assert (own.learning_rate, own.span, own.steps) == (0.5, 4, 8)
