"""Strategies on a tiny random checkpoint: what each may do, and what it is charged."""

import dataclasses

import jax
import numpy as np
import pytest

from tests import tiny_run
from tests.errors import user_error
from tttjax import flops
from tttjax.errors import UserError
from tttjax.experiment import config as run_config
from tttjax.experiment import spending
from tttjax.experiment.work_units import Place, Work, _longest_shared
from tttjax.session import Ending, Output, Session, model_session
from tttjax.strategies import STRATEGIES, second_calls
from tttjax.strategies.budget import Lengths
from tttjax.strategies.qttt import QTTT
from tttjax.strategies.selectors.oracle import OracleSpans
from tttjax.strategies.self_consistency import voted
from tttjax.strategies.strategy import Prediction
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
  "retrieve",
  "qttt(spans=oracle)",
  "qttt(question=before)",
  "qttt_other_context(question=before)",
  "qttt(span_kv=recomputed)",
  "in_context(stretch=500)",
  "in_context(rope=off)",
  "qttt(steps=0)",
  "self_consistency(share=0.5, n=2, temperature=0.6)",
  "beam(rope=off, share=0.5, n=2)",
)
_UNMEASURED = {"self_consistency", "beam"}
_MEASURED = [
  name
  for name in _NAMES
  if name.partition("(")[0] not in _UNMEASURED and "question=before" not in name
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
def architecture(plan, model):
  return plan.models[model].config


@pytest.fixture(scope="module")
def work(plan, model):
  return Work(plan, model)


def unit_of(work, context=0):
  return work.unit(dataclasses.replace(next(work.places()), context=context))


@pytest.fixture(scope="module")
def unit(work):
  return unit_of(work)


@pytest.fixture(scope="module")
def session(plan, model):
  return Session.open(plan.models[model])


def run(plan, session, unit, name, case=None):
  return plan.strategies[name](session, case or unit.case, unit.allowances[name], unit.key)


@pytest.fixture(scope="module")
def results(plan, session, unit):
  return {name: run(plan, session, unit, name) for name in _NAMES}


def test_all_registered_strategies_are_tested():
  assert {name.partition("(")[0] for name in _NAMES} == set(STRATEGIES)


def test_every_strategy_answers_every_question(results, unit):
  for result in results.values():
    assert len(result.predictions) == unit.case.num_questions == 2
    assert all(prediction.tokens > 0 for prediction in result.predictions)


@pytest.mark.parametrize("name", ["thinking", "qttt", _SAMPLED, "beam(n=2)"])
def test_strategies_repeat_exactly(plan, session, unit, results, name):
  assert run(plan, session, unit, name).predictions == results[name].predictions


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
def test_measured_mass_is_a_share_and_agrees_by_layer(architecture, results, name):
  layers = architecture.num_hidden_layers
  for measured in results[name].mechanism:
    assert 0 < measured.mass < 1 and len(measured.mass_by_layer) == layers
    assert measured.mass == pytest.approx(np.mean(measured.mass_by_layer), rel=1e-5)
    assert measured.lead > measured.margin  # the largest other score is below their logsumexp


def test_control_is_qttt_where_the_other_context_is_its_own(plan, session, unit, results):
  mirrored = dataclasses.replace(unit.case, other=unit.case)
  result = run(plan, session, unit, "qttt_other_context", case=mirrored)
  assert result.predictions == results["qttt"].predictions
  for control, own in zip(result.mechanism, results["qttt"].mechanism):
    assert control.mass == own.mass


def test_control_adapts_on_another_context(unit, results):
  assert unit.case.other.example.key != unit.case.example.key
  assert results["qttt_other_context"].adaptation.loss != results["qttt"].adaptation.loss
  assert results["qttt_other_context"].adaptation.start == results["qttt"].adaptation.start


def test_question_encoded_before_adaptation_does_not_pay_for_delta(architecture, unit, results):
  c = architecture
  before, after = results["qttt(question=before)"], results["qttt"]
  assert before.adaptation == after.adaptation
  per_row = 2 * c.num_hidden_layers * c.hidden_size * c.num_attention_heads * c.head_dim
  for question, (old, new) in enumerate(zip(before.predictions, after.predictions)):
    rows = len(unit.case.prompts[question]) - 1
    assert old.tokens == new.tokens == 4
    assert after.cost.flops(question) - before.cost.flops(question) == rows * per_row


def test_thinking_ends_within_its_budget_by_force(plan, session, unit):
  decoding = unit.case.decoding
  endless = dataclasses.replace(
    unit.case,
    decoding=dataclasses.replace(
      decoding, thinking=dataclasses.replace(decoding.thinking, stop_ids=())
    ),
  )
  allowance = unit.allowances["thinking"]
  result = run(plan, session, unit, "thinking", case=endless)
  for prediction in result.predictions:
    (output,) = prediction.outputs
    assert 0 < prediction.thinking_tokens <= allowance.thinking_tokens
    assert prediction.tokens <= prediction.thinking_tokens + 4
    assert "Thinking budget used up.\n</think>" in output.text
    assert "budget used up" not in prediction.answer
    assert output.ending == Ending("limit", "forced")


def test_a_forced_stop_may_go_on_after_the_token_that_closes(model):
  plan = run_config.check(
    tiny_run.config(model, strategies=("thinking",), thinking__forced_stop="\nStop.\n</think>\n\n")
  )
  unit = unit_of(Work(plan, model))
  session = Session.open(plan.models[model])
  result = run(plan, session, unit, "thinking")
  for prediction in result.predictions:
    (output,) = prediction.outputs
    if output.ending.thought == "forced":
      assert output.text.count("</think>\n\n") == 1
      assert prediction.thinking_tokens == unit.allowances["thinking"].thinking_tokens


def test_endings_say_whether_an_answer_was_cut_off(results, unit):
  stops = unit.case.decoding.answer.stop_ids
  for prediction in results["in_context"].predictions:
    (output,) = prediction.outputs
    ended = "stop" if output.ids[-1] in stops else "limit"
    assert prediction.endings == (Ending(ended, None),)
    assert ended == "stop" or len(output.ids) == 4


def cost(lengths, name, tokens):
  """Model FLOPs after the prefill of a strategy with `tokens` thinking tokens per sample."""
  thought = lambda n, delta=False: flops.decode(*lengths.shape, n + lengths.answer, delta)
  ttt = QTTT(span=8).hyperparameters(tiny_run.TTT)
  half = lengths.adapt_flops(ttt, 4)
  return {
    "thinking": lambda: thought(tokens),
    _SAMPLED: lambda: 2 * thought(tokens),
    "beam(n=2)": lambda: flops.beam(*lengths.shape, tokens + lengths.answer, 2, False),
    "qttt_thinking": lambda: half + thought(tokens, True),
    "self_consistency(share=0.5, n=2, temperature=0.6)": lambda: half + 2 * thought(tokens, True),
  }[name]()


@pytest.mark.parametrize(
  "name",
  [
    "thinking",
    _SAMPLED,
    "beam(n=2)",
    "qttt_thinking",
    "self_consistency(share=0.5, n=2, temperature=0.6)",
  ],
)
def test_matched_budgets_cost_qttt_flops_to_within_one_token(work, unit, name):
  lengths, allowed = work._lengths(unit.place.task, unit.case, unit.key), unit.allowances[name]
  target = unit.allowances["qttt"].flops
  assert allowed.flops == cost(lengths, name, allowed.thinking_tokens) <= target
  assert cost(lengths, name, allowed.thinking_tokens + 1) > target


def budget_of(plan, model, tokens=128, **changes):
  """The run's budget on a context of so many tokens, spans at uniform starts."""
  answer = plan.config.sampling.max_new_tokens
  lengths = Lengths(plan.models[model].config, tokens, 64, answer, tokens)
  return spending.budget_of(plan, dataclasses.replace(lengths, **changes))


def test_steps_are_matched_to_a_given_thinking_budget(plan, model):
  config = tiny_run.config(
    model, strategies=("qttt", "thinking", _SAMPLED), ttt__steps="matched", thinking__budget=100
  )
  matched = run_config.check(config)
  budget = budget_of(matched, model)
  allowed = spending.allowances(matched, budget)
  assert allowed["thinking"].thinking_tokens == 100
  step = flops.ttt_step(budget.lengths.architecture, 128, 8)
  assert allowed["qttt"].flops <= allowed["thinking"].flops < allowed["qttt"].flops + step
  assert allowed[_SAMPLED].flops <= allowed["thinking"].flops


def test_papers_rule_gives_thinking_2nk_tokens_and_each_sample_its_share(model):
  config = tiny_run.config(
    model,
    strategies=("thinking", _SAMPLED, "beam(n=4)"),
    ttt__steps=8,
    thinking__budget="paper",
  )
  plan = run_config.check(config)
  allowed = spending.allowances(plan, budget_of(plan, model))
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
    (
      ("self_consistency", "temperature=0.6"),
      dict(strategies=("self_consistency",)),
    ),
  ):
    plan = run_config.check(tiny_run.config(model, **overrides))
    with user_error(*words):
      Work(plan, model).first_units()


def test_qttt_is_charged_prefill_its_spans_and_its_answer(architecture, unit, results):
  case, spent = unit.case, results["qttt"].cost
  span_key, _ = jax.random.split(unit.key)
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


@pytest.mark.parametrize("name", [name for name in _NAMES if name != "qttt(steps=0)"])
def test_what_is_spent_is_within_what_was_given(unit, results, name):
  allowed, spent = unit.allowances[name], results[name].cost
  for question in range(unit.case.num_questions):
    phases = spent.phase_flops(question)
    assert phases.get("adapt", 0) <= allowed.shared_flops
    assert sum(phases.values()) - phases["prefill"] <= allowed.flops


def test_uniform_spans_spend_exactly_what_was_given(unit, results):
  for name in ("qttt", "qttt_other_context", "qttt(span_kv=recomputed)"):
    assert results[name].cost.phase_flops(0)["adapt"] == unit.allowances[name].shared_flops


def test_chosen_spans_take_as_many_steps_as_the_budget_pays_for(architecture, unit, results):
  tokens, given = unit.case.num_tokens, unit.allowances["qttt(spans=oracle)"].shared_flops
  spent = results["qttt(spans=oracle)"].cost.phase_flops(0)["adapt"]
  assert given - flops.ttt_step(architecture, tokens, 8, tokens - 9) < spent <= given


def test_control_is_charged_both_prefills(architecture, unit, results):
  prefills = sum(
    flops.prefill(architecture, case.num_tokens) for case in (unit.case, unit.case.other)
  )
  assert results["qttt_other_context"].cost.phase_flops(0)["prefill"] == prefills


@pytest.mark.parametrize("name", _NAMES)
def test_second_context_compiles_nothing(plan, session, work, unit, results, compilations, name):
  second = unit_of(work, 1)
  assert second.case.capacity == unit.case.capacity
  before = compilations()
  result = run(plan, session, second, name)
  # Measuring what was written may meet another width; answering may not.
  assert not result.cost.compiled
  if name not in ("thinking", "qttt_thinking"):
    assert compilations() == before


def test_answers_do_not_depend_on_the_other_rows(plan, session, unit, results):
  case = unit.case
  answer = case.decoding.answer
  answer = dataclasses.replace(answer, max_answer_tokens=answer.max_answer_tokens[:1])
  one = dataclasses.replace(
    case,
    decoding=dataclasses.replace(case.decoding, answer=answer),
    prompts=case.prompts[:1],
    answers=case.answers[:1],
    thinking_prompts=case.thinking_prompts[:1],
    example=dataclasses.replace(case.example, questions=case.example.questions[:1]),
  )
  result = run(plan, session, unit, "in_context", case=one)
  assert result.predictions == results["in_context"].predictions[:1]


def output(text, answer):
  return Output((1, 2, 3), text, answer, 2, Ending("stop", "closed"), 3)


def test_a_second_call_without_beams_counts_once():
  """Its tokens are those of one output, whatever found the first one."""
  first = dataclasses.replace(output("a", "a"), generated=80)  # 8 beams of 10 steps
  second = dataclasses.replace(output("b", "b"), generated=5)
  assert Prediction.of((second_calls._joined(first, second),)).tokens == 85


def test_vote_takes_the_most_frequent_answer_and_outputs_without_one_abstain(unit):
  case = dataclasses.replace(unit.case, extract=lambda text: text.strip(".") or None)
  outputs = tuple(
    output(*pair) for pair in (("a", ""), ("b", ""), ("c", "7."), ("d", "5"), ("e", "7"))
  )
  chosen = Prediction.of(outputs, voted(case, outputs))
  assert chosen.answer == "7." and chosen.outputs == outputs
  assert (chosen.tokens, chosen.thinking_tokens) == (15, 2)
  assert voted(case, outputs[:2]) == 0  # nobody voted: the first
  assert voted(case, outputs[2:4]) == 0  # a tie: the earliest


def test_oracle_spans_have_the_whole_evidence_among_their_targets(session, unit):
  context, _ = session.read(unit.case.tokens, unit.case.capacity)
  questions = unit.case.example.questions
  starts, cost = OracleSpans()(session, context, questions, jax.random.key(3), 24, 50)
  places = [place for question in questions for place in question.evidence]
  for i, start in enumerate(starts):
    begin, end = places[i % len(places)]
    assert 0 <= start and start + 1 <= begin and end <= start + 1 + 24
  assert len(set(starts.tolist())) > len(places) and not cost.phases
  fewer, _ = OracleSpans()(session, context, questions, jax.random.key(3), 24, 20)
  assert fewer.tolist() == starts[:20].tolist()


def test_spans_cannot_be_chosen_by_evidence_that_is_not_known(plan, session, unit):
  unknown = tuple(
    dataclasses.replace(question, evidence=None) for question in unit.case.example.questions
  )
  case = dataclasses.replace(
    unit.case, example=dataclasses.replace(unit.case.example, questions=unknown)
  )
  with user_error("spans=oracle", "spans=random"):
    run(plan, session, unit, "qttt(spans=oracle)", case=case)
  assert run(plan, session, unit, "in_context", case=case).mechanism is None


def test_adaptation_that_is_not_finite_falls_back_to_the_base_weights(
  plan, session, unit, results, monkeypatch
):
  real = model_session.adapt

  def diverged(*arguments):
    fast, state, history = real(*arguments)
    loss = np.array(history.loss)
    loss[3] = np.nan
    return fast, state, history.replace(loss=loss, ok=np.isfinite(loss))

  monkeypatch.setattr(model_session, "adapt", diverged)
  result = run(plan, session, unit, "qttt")
  assert result.predictions == results["in_context"].predictions
  assert result.adaptation.fallback.startswith("step 4 of 8 was not finite (loss nan)")


def test_lengths_share_programs_within_a_factor_below_four():
  lengths = (128, 256, 512, 768)
  assert [_longest_shared(n, lengths) for n in lengths] == [128, 768, 768, 768]


@pytest.mark.parametrize("share", [False, True])
def test_question_batches_of_all_tasks_have_one_shape_where_programs_are_shared(model, share):
  tasks = ("bank_log", "bank_log(kind=anomaly)")  # two questions, and one longer one
  config = tiny_run.config(model, tasks=tasks, share_programs=share, lengths=(300,))
  config.sampling.max_new_tokens = 0
  units = Work(run_config.check(config), model).first_units()
  rooms = [unit.case.room for unit in units]
  assert [room.prompts for room in rooms] == ([2, 2] if share else [2, 1])
  assert [unit.own_program for unit in units] == [True, not share]  # one of two is not timed
  longest = max(len(prompt) for unit in units for prompt in unit.case.prompts)
  assert (min(room.tokens for room in rooms) >= longest) == share


@pytest.mark.parametrize("own", ["span=16", "span=4", "span_kv=recomputed"])
def test_qttt_with_a_span_of_its_own_takes_the_steps_that_the_budget_pays_for(model, own):
  plan = run_config.check(
    tiny_run.config(
      model, strategies=("qttt", f"qttt({own})", f"qttt(steps=3, {own})"), ttt__steps=8
    )
  )
  budget = budget_of(plan, model)
  plain, matched, given = spending.allowances(plan, budget).values()
  step = flops.ttt_step(
    budget.lengths.architecture, 128, matched.ttt.span, span_kv=matched.ttt.span_kv
  )
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
  short = spending.allowances(plan, budget_of(plan, model, 90, cut_spans=True))
  assert short["qttt"].ttt.span == 64
  assert short["thinking"].flops <= short["qttt"].flops


def test_span_that_does_not_fit_is_refused_where_lengths_are_tokens(model):
  plan = run_config.check(tiny_run.config(model, strategies=("qttt",), ttt__span=126))
  with user_error("span=126 does not fit a context of", "config.ttt.span"):
    Work(plan, model).first_units()


def test_what_one_strategy_cannot_do_is_no_error_of_the_others(plan, model, monkeypatch):
  real = spending.allowance

  def impossible(plan, budget, name):
    if name == "qttt":
      raise UserError("too long")
    return real(plan, budget, name)

  monkeypatch.setattr(spending, "allowance", impossible)
  plan = run_config.check(tiny_run.config(model, strategies=("in_context", "qttt")))
  unit = unit_of(Work(plan, model))
  assert set(unit.allowances) == {"in_context"} and unit.errors == {"qttt": "too long"}


def test_positions_must_hold_the_control_too(model):
  plan = run_config.check(tiny_run.config(model, strategies=("in_context(stretch=200)",)))
  with user_error("stretch=200 is shorter than a context of 201"):
    spending.allowances(plan, budget_of(plan, model, 150, other=201))


def test_weights_that_are_not_finite_fall_back_to_the_base(plan, session, unit, results):
  strategy = dataclasses.replace(plan.strategies["full_ttt"], learning_rate=1e38)
  allowance = unit.allowances["full_ttt"]
  allowance = dataclasses.replace(
    allowance, ttt=dataclasses.replace(allowance.ttt, learning_rate=1e38)
  )
  result = strategy(session, unit.case, allowance, unit.key)
  assert "finite" in result.adaptation.fallback
  assert result.predictions == results["in_context"].predictions


def test_infinite_learning_rate_is_refused(model):
  with user_error("learning_rate", "finite"):
    run_config.check(tiny_run.config(model, ttt__learning_rate=float("inf")))


def test_output_that_is_not_finite_is_an_error_of_the_example(session, unit, plan):
  params = jax.tree.map(lambda x: x * np.nan, session.params)
  broken = Session(session.model, params, session.tokenizer, session.stop_ids, 128)
  with pytest.raises(FloatingPointError, match="not finite"):
    run(plan, broken, unit, "in_context")


def test_measurement_that_fails_keeps_the_answer(plan, session, unit, results, monkeypatch):
  def exhausted(*unused):
    raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED")

  monkeypatch.setattr(model_session.measuring, "attention_statistics", exhausted)
  result = run(plan, session, unit, "qttt")
  assert result.predictions == results["qttt"].predictions
  assert result.mechanism == (None, None)


def test_own_options_replace_the_configs(plan):
  own = QTTT(learning_rate=0.5, span=4).hyperparameters(plan.ttt(8, 8))
  assert (own.learning_rate, own.span, own.steps) == (0.5, 4, 8)


def test_every_strategy_says_what_it_is():
  for name, kind in STRATEGIES.items():
    assert kind.name == name and kind.label and kind.description.endswith(".")
    assert kind.role.value in ("reference", "baseline", "method", "control")


def test_contexts_do_not_depend_on_how_many_are_asked_for(plan, model):
  few, many = (
    Work(run_config.check(tiny_run.config(model, contexts=(n,), questions=q)), model)
    for n, q in ((1, 1), (3, 2))
  )
  place = Place("bank_log", 128, 0, 0)
  small, large = few.unit(place).case, many.unit(place).case
  assert small.tokens.tolist() == large.tokens.tolist()
  assert small.other.tokens.tolist() == large.other.tokens.tolist()
  assert small.prompts == large.prompts[:1]
