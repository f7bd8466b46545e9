"""The session: token ids or text in, outputs and their cost out."""

import jax
import numpy as np
import pytest

from tests import tiny_run
from tests.errors import user_error
import tttjax as tt
from tttjax import flops
from tttjax.decode.generation import Generation
from tttjax.session import Cost, Phase, Room

TEXT = "OPEN A12=1240\nTX4821:35 A12=1240>1205 B07=0310>0345\n" * 6
QUESTIONS = ("balance of A12?", "amount of TX4821?")


@pytest.fixture(scope="module")
def session(tmp_path_factory):
  checkpoint = tmp_path_factory.mktemp("checkpoint")
  tiny_run.write(checkpoint)
  return tt.Session.open(checkpoint)


@pytest.fixture(scope="module")
def context(session):
  return session.read(TEXT)[0]


def test_open_finds_tokenizer_stop_ids_and_trained_length(session):
  assert session.stop_ids == (session.tokenizer.eos_token_id,)
  assert session.trained_length == session.model.config.max_position_embeddings
  assert session.tokenizer.decode(session.encode(TEXT)) == TEXT


def test_text_and_ids_are_read_alike(session):
  from_text, cost = session.read(TEXT)
  from_ids, again = session.read(list(session.encode(TEXT)))
  assert from_ids is from_text and again == cost  # the last context is kept, and charged again
  assert cost.phase_flops(0) == {
    "prefill": flops.prefill(session.model.config, len(session.encode(TEXT)))
  }


def test_generate_gives_the_public_function_s_tokens(session, context):
  sampling = tt.SamplingConfig(max_new_tokens=5, stop_ids=session.stop_ids)
  outputs, _ = session.generate(context, None, QUESTIONS, sampling, jax.random.key(0))
  for question, (output,) in zip(QUESTIONS, outputs):
    prompt = np.array([session.encode(question)])
    cache = tt.prefill(session.model, session.params, context.tokens)[0]
    out = tt.generate(
      session.model, session.params, None, cache, prompt, jax.random.key(0), sampling
    )
    assert output.ids == tuple(np.asarray(out.tokens)[0, : int(out.lengths[0])])


@pytest.mark.parametrize("before", [False, True])
def test_writing_ends_soon_after_every_answer_has_a_stop_text(session, context, before):
  """The answers begin as they would without, and what is left out is not charged."""
  sampling = tt.SamplingConfig(max_new_tokens=120)
  how = {"question_before": before}
  arguments = context, None, QUESTIONS, sampling, jax.random.key(0)
  whole, cost = session.generate(*arguments, **how)
  stops = tuple(own[0].text[:2] for own in whole)
  cut, less = session.generate(*arguments, stop_texts=stops, **how)
  for (output,), (expected,), stop in zip(cut, whole, stops):
    assert len(output.ids) < 40 < len(expected.ids) and stop in output.text
    assert output.ids == expected.ids[: len(output.ids)]
  assert less.flops(0) < cost.flops(0)
  same, _ = session.generate(*arguments, stop_texts=("never written",), **how)
  assert [own[0].ids for own in same] == [own[0].ids for own in whole]


def test_scores_of_targets_are_those_of_the_tokens_that_follow(session, context):
  rows = [session.encode(question) for question in QUESTIONS]
  scores, _ = session.score(context, None, rows)
  inputs, targets = [row[:-1] for row in rows], [row[1:] for row in rows]
  scored, cost = session.score_targets(context, None, inputs, targets, Room(prompts=4))
  assert len(scored) == 2 and cost.flops(0) > 0
  for (values, likeliest), expected in zip(scored, scores):
    np.testing.assert_allclose(values, expected[1:], atol=1e-5)
    assert likeliest.dtype == bool and len(likeliest) == len(values)


@pytest.mark.parametrize("adapted", [False, True])
def test_samples_and_beams_run_over_adapted_queries_and_are_charged_for_them(
  session, context, adapted
):
  fast = None
  if adapted:
    ttt = tt.TTTConfig(steps=2, span=8, learning_rate=0.1)
    fast, adaptation, _ = session.adapt(context, ttt, jax.random.key(1))
    assert len(adaptation.loss) == 2 and adaptation.fallback is None
  sampling = tt.SamplingConfig(max_new_tokens=4, temperature=1.0)
  outputs, cost = session.generate(context, fast, QUESTIONS, sampling, jax.random.key(0), samples=3)
  shape = session.model.config, context.num_tokens
  for i, own in enumerate(outputs):
    prompt = len(session.encode(QUESTIONS[i]))
    assert len(own) == 3
    assert cost.flops(i) == sum(
      flops.decode(*shape, prompt, len(output.ids), adapted) for output in own
    )
  greedy = tt.SamplingConfig(max_new_tokens=4)
  beams, cost = session.generate(context, fast, QUESTIONS, greedy, jax.random.key(0), beams=2)
  for i, (best,) in enumerate(beams):
    prompt = len(session.encode(QUESTIONS[i]))
    assert cost.flops(i) == flops.beam(*shape, prompt, best.generated // 2, 2, adapted)


def test_scores_are_those_of_the_public_function(session, context):
  scores, cost = session.score(context, None, QUESTIONS)
  cache = tt.prefill(session.model, session.params, context.tokens)[0]
  for question, own in zip(QUESTIONS, scores):
    ids = np.array([session.encode(question)])
    expected = np.asarray(tt.score(session.model, session.params, None, cache, ids))[0]
    np.testing.assert_allclose(own, expected, atol=1e-5)
  assert set(cost.seconds()) == {"score"}


def test_the_reference_s_log_probability_is_that_of_its_score(session, context):
  prompts = [session.encode(question) for question in QUESTIONS]
  written = [session.encode(answer) for answer in ("1205", "35")]
  fast, _, _ = session.adapt(
    context, tt.TTTConfig(steps=2, span=8, learning_rate=0.1), jax.random.key(1)
  )
  found = []
  for weights in (None, fast):
    measured = session.measure(context, weights, prompts, written, [[(0, 4)]] * 2)
    scores, _ = session.score(context, weights, [p + w for p, w in zip(prompts, written)])
    found.append([m.reference_logprob for m in measured])
    expected = [s[len(p) :].sum() for s, p in zip(scores, prompts)]
    np.testing.assert_allclose(found[-1], expected, rtol=1e-5)
  assert np.abs(np.subtract(*found)).min() > 1e-3
  (output,) = session.measure(context, None, prompts[:1], written[:1], [[(0, 4)]], "output")
  assert output.reference_logprob is None


def test_empty_context_is_refused(session):
  with user_error("the context is empty"):
    session.read("")


def test_cost_adds_phases_and_shares_what_is_shared():
  read = Cost((Phase("prefill", 1.0, False, 100),))
  answer = Cost(
    (Phase("generate", 2.0, True, 0, (10, 20)), Phase("generate", 0.5, False, 0, (1, 2)))
  )
  both = read + answer
  assert both.seconds() == {"prefill": 1.0, "generate": 2.5} and both.compiled
  assert both.phase_flops(1) == {"prefill": 100, "generate": 22} and both.flops(1) == 122
  assert both.amortised_flops(1, 2) == 72


def test_room_for_more_and_longer_prompts_changes_no_answer_and_compiles_nothing_new(
  session, context, compilations
):
  sampling = tt.SamplingConfig(max_new_tokens=5, stop_ids=session.stop_ids)
  room = Room(prompts=3, tokens=40)
  written = [session.encode("1205")] * 2
  ids = [session.encode(question) for question in QUESTIONS]

  def answers(prompts, room):
    key = jax.random.key(0)
    outputs, cost = session.generate(context, None, prompts, sampling, key, room=room)
    evidence = [[(0, 4)]] * len(prompts)
    mass = session.measure(context, None, prompts, written[: len(prompts)], evidence, room=room)
    assert len(outputs) == len(mass) == len(prompts)
    return (
      [output.ids for (output,) in outputs],
      cost.phases[0].question_flops,
      [m.mass for m in mass],
    )

  plain = answers(ids, None)
  roomy = answers(ids, room)
  assert roomy[:2] == plain[:2]
  np.testing.assert_allclose(roomy[2], plain[2], rtol=1e-5)
  before = compilations()
  assert answers([ids[0] * 2], room)[0]
  assert compilations() == before


@pytest.mark.parametrize(
  "tokens, words",
  [
    ([1.5, 2.0], "one row of token ids, not float64"),
    ([[1, 2], [3, 4]], r"one row of token ids, not int64 \[2, 2\]"),
    ([[1, 2], [3]], "rows of unequal lengths"),
    ([], "empty"),
    ("", "empty"),
  ],
  ids=str,
)
def test_what_is_no_row_of_tokens(session, tokens, words):
  with pytest.raises(tt.UserError, match=words):
    session.read(tokens)
  context, _ = session.read([5, 6, 7, 8])
  with pytest.raises(tt.UserError, match=rf"prompts\[1\] .*{words}|{words}"):
    session.generate(context, None, [[5], tokens], tt.SamplingConfig(), jax.random.key(0))
  with pytest.raises(tt.UserError, match=words):
    session.score(context, None, [tokens])


@pytest.mark.parametrize(
  "prompts, options, words",
  [
    ([], {}, "prompts is empty: give at least one"),
    ("one text", {}, "prompts is one text: give a list"),
    (["a"], {"samples": 1.5}, "samples must be a whole number"),
    (["a"], {"samples": 0}, "samples must be at least 1"),
    (["a"], {"beams": 2.5}, "num_beams must be a whole number"),
    (["a"], {"beams": -1}, "num_beams must be at least 1"),
  ],
)
def test_batches_that_are_none(session, prompts, options, words):
  context, _ = session.read([5, 6, 7, 8])
  key = jax.random.key(0)
  with pytest.raises(tt.UserError, match=words):
    session.generate(context, None, prompts, tt.SamplingConfig(), key, **options)


def test_numpy_numbers_are_numbers(session):
  context, _ = session.read(np.arange(5, 45))
  ttt = tt.TTTConfig(steps=np.int64(2), span=np.int32(8), learning_rate=np.float32(1e-3))
  _, adaptation, _ = session.adapt(context, ttt, jax.random.key(0))
  assert len(adaptation.loss) == 2


_STOP, _END, _WORD, _INSERTED = 2, 4, 100, 101


@pytest.mark.parametrize("as_text", [False, True])
@pytest.mark.parametrize(
  "ids, thought, ending",
  [
    ([_WORD, _END, _WORD, _STOP], 2, ("stop", "closed")),
    ([_WORD, _END, _WORD, _WORD], 2, ("limit", "closed")),
    ([_WORD, _WORD, _END, _STOP], 3, ("stop", "closed")),  # closed with the budget's last token
    ([_WORD, _WORD, _WORD, _INSERTED, _END, _STOP], 5, ("stop", "forced")),
    ([_WORD, _STOP], 2, ("stop", "open")),
    ([_STOP], 1, ("stop", "open")),
    ([_WORD, _WORD, _STOP], 3, ("stop", "open")),
    ([_WORD, _WORD], 2, ("limit", "open")),
    ([_WORD, _END], 2, ("limit", "closed")),  # nothing was left for an answer
  ],
)
def test_a_thought_ends_closed_by_the_model_by_force_or_not_at_all(
  session, ids, thought, ending, as_text
):
  """A scripted output, whose thought ends by a token or by the text of one."""
  vocabulary = session.model.config.vocab_size
  end = tt.text_marker("</think>", session.tokenizer, vocabulary) if as_text else _END
  sampling = tt.SamplingConfig(
    max_new_tokens=8,
    stop_ids=(_STOP,),
    thinking_budget=3,
    end_think=end,
    forced_stop_ids=(_INSERTED, _END),
  )
  out = Generation(
    tokens=np.array([ids], np.int32),
    lengths=np.array([len(ids)]),
    logprobs=np.zeros((1, len(ids)), np.float32),
    thinking_lengths=np.array([thought]),
  )
  output = session._output(out, 0, sampling)
  assert (output.ending.answer, output.ending.thought) == ending


def test_a_stop_token_within_a_thought_leaves_it_open(session, context):
  """The model's own first token as stop token: it stops before it has closed anything."""
  free = tt.SamplingConfig(max_new_tokens=1)
  ((first,),), _ = session.generate(context, None, QUESTIONS[:1], free, jax.random.key(0))
  sampling = tt.SamplingConfig(
    max_new_tokens=12,
    stop_ids=first.ids,
    thinking_budget=6,
    end_think=_END,
    forced_stop_ids=(_END,),
  )
  ((output,),), _ = session.generate(context, None, QUESTIONS[:1], sampling, jax.random.key(0))
  assert output.ids == first.ids and output.answer == ""
  assert (output.ending.answer, output.ending.thought) == ("stop", "open")
  ((beam,),), _ = session.generate(
    context, None, QUESTIONS[:1], sampling, jax.random.key(0), beams=2
  )
  stopped = _END not in beam.ids and len(beam.ids) <= 6
  assert (beam.ending.thought == "open") == stopped


@pytest.mark.parametrize("prompts", [None, 3, np.array(3), {"a": 1}, b"ab"], ids=str)
def test_what_is_no_list_of_prompts(session, context, prompts):
  key = jax.random.key(0)
  with user_error("prompts is ", "give a list of texts or of rows of token ids"):
    session.generate(context, None, prompts, tt.SamplingConfig(), key)
  with user_error("continuations is ", "give a list"):
    session.score(context, None, prompts)


def test_text_that_no_encoding_has(session, context):
  words = "the text holds '\\ud800' at character 2, which is half of a surrogate pair"
  with user_error(words):
    session.read("ab\ud800")
  with user_error(words):
    session.generate(context, None, ["ab\ud800"], tt.SamplingConfig(), jax.random.key(0))


@pytest.mark.parametrize("ids", [[2**40], [-1], np.array([2**63], np.uint64)], ids=str)
def test_ids_beyond_the_vocabulary(session, context, ids):
  with user_error("the context holds token id", "outside the model's vocabulary"):
    session.read(ids)
  with user_error("prompts[0] holds token id"):
    session.generate(context, None, [ids], tt.SamplingConfig(), jax.random.key(0))


@pytest.mark.parametrize(
  "positions, words",
  [
    ([[1], [2]], "positions must have the shape (4,) of the context, not (2, 1)"),
    ([[1], [2, 3]], "positions has rows of unequal lengths"),
    ([1, 2], "positions must have the shape (4,)"),
    ("0123", "positions must hold numbers"),
    ([0.0, 1.0, 2.0, 3.0], "positions must be integers, not float64"),
    (np.array([3, 2, 1, 0], np.uint32), "at least 0 and increase"),
    (np.array([3, 2, 1, 0], np.uint64), "at least 0 and increase"),
  ],
  ids=str,
)
def test_positions_that_do_not_fit_a_context(session, positions, words):
  session.read([5, 6, 7, 8], positions=np.arange(4))  # is kept, and not for floats
  with user_error(words):
    session.read([5, 6, 7, 8], positions=positions)


@pytest.mark.parametrize(
  "options, words",
  [
    ({"capacity": "x"}, "capacity must be a whole number, not 'x'"),
    ({"capacity": -3}, "capacity must be at least 1, not -3"),
    ({"capacity": 0}, "capacity must be at least 1, not 0"),
    ({"ttt": {}}, "cfg is {}; give a TTTConfig"),
    ({"ttt": None}, "cfg is None; give a TTTConfig"),
  ],
  ids=str,
)
def test_training_all_weights_with_what_is_none(session, compilations, options, words):
  before = compilations()
  with user_error(words):
    session.train_all([5, 6, 7, 8], **{"ttt": tt.TTTConfig(steps=1), **options})
  assert compilations() == before


def test_training_all_weights_for_a_number_of_steps_that_is_an_array(session):
  ttt = tt.TTTConfig(steps=jax.numpy.array(1), learning_rate=1e-3)
  _, adaptation, cost = session.train_all([5, 6, 7, 8], ttt, capacity=np.array(128))
  assert len(adaptation.loss) == len(adaptation.start) == 1
  assert cost.flops(0) == flops.full_ttt_step(session.model.config, 4)


@pytest.mark.parametrize("rope", ["no", 0, None], ids=str)
def test_a_switch_of_rope_that_is_none(session, rope):
  with user_error("rope must be True or False"):
    session.read([5, 6, 7, 8], rope=rope)


def test_a_read_context_with_its_cost_is_no_context(session):
  both = session.read([5, 6, 7, 8])
  key, sampling = jax.random.key(0), tt.SamplingConfig()
  for call in (
    lambda: session.adapt(both, tt.TTTConfig(steps=1, span=2), key),
    lambda: session.generate(both, None, ["a"], sampling, key),
    lambda: session.score(both, None, ["a"]),
  ):
    with user_error("context is a value of type tuple", "the first of the two values"):
      call()


@pytest.mark.parametrize(
  "options, words",
  [
    ({"sampling": {}}, "sampling is {}; give a SamplingConfig"),
    ({"sampling": None, "beams": 2}, "sampling is None; give a SamplingConfig"),
    ({"key": 0}, "key is 0; give key=jax.random.key(seed)"),
    ({"question_before": "no"}, "question_before must be True or False, not 'no'"),
    ({"question_before": "no", "beams": 2}, "question_before must be True or False, not 'no'"),
  ],
  ids=str,
)
def test_generation_with_arguments_of_another_kind(session, context, options, words):
  arguments = {"sampling": tt.SamplingConfig(), "key": jax.random.key(0), **options}
  with user_error(words):
    session.generate(context, None, ["a"], **arguments)


def test_arrays_of_no_axes_are_numbers_in_a_session(session, context):
  zero, sampling = np.array, tt.SamplingConfig(max_new_tokens=jax.numpy.array(2))
  key = jax.random.key(0)
  outputs, _ = session.generate(
    context, None, ["a"], sampling, key, samples=zero(2), question_before=zero(True)
  )
  assert len(outputs[0]) == 2
  beams, cost = session.generate(context, None, ["a"], sampling, key, beams=zero(2))
  assert len(beams[0]) == 1 and cost.flops(0) > 0
