"""FLOP counts: hand arithmetic, exact agreement with what JAX executes, matched budgets."""

import dataclasses
import math

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np
import pytest

from tttjax import flops
from tttjax.attention import attend_dense
from tttjax.attention import phases as memory
from tttjax.attention.caches import PrefixCache
from tttjax.decode.generation import generate
from tttjax.decode.prefilling import prefill
from tttjax.decode.sampling_config import SamplingConfig
from tttjax.errors import UserError
from tttjax.models.decoder import Decoder, abstract_params
from tttjax.models.decoder_config import DecoderConfig
from tttjax.ttt.adamw import init_optimizer
from tttjax.ttt.adaptation import adapt, ttt_step
from tttjax.ttt.hyperparameters import TTTConfig
from tttjax.ttt.weights import init_fast

# By hand, one row through one layer: W_Q 2*4*2*3 = 48, W_K and W_V 2*(2*4*1*3) = 48,
# W_O 2*2*3*4 = 48, MLP 3*(2*4*5) = 120: 264 together, 528 over both layers.
# A row of logits: 2*4*7 = 56. One attention product of one pair: 2 heads * 2*3 = 12, 24 over both
# layers.
TINY = DecoderConfig(
  vocab_size=7,
  hidden_size=4,
  intermediate_size=5,
  num_hidden_layers=2,
  num_attention_heads=2,
  num_key_value_heads=1,
  head_dim=3,
  rope_theta=1e4,
  max_position_embeddings=512,
)
# All sizes different, so that no two terms can be confused; head_dim even for RoPE.
SMALL = dataclasses.replace(
  TINY,
  vocab_size=53,
  hidden_size=10,
  intermediate_size=17,
  num_hidden_layers=3,
  num_attention_heads=6,
  num_key_value_heads=2,
  head_dim=4,
)
QWEN3_4B = DecoderConfig(
  vocab_size=151936,
  hidden_size=2560,
  intermediate_size=9728,
  num_hidden_layers=36,
  num_attention_heads=32,
  num_key_value_heads=8,
  head_dim=128,
  rope_theta=1e6,
  max_position_embeddings=40960,
  tie_word_embeddings=True,
)


# Hand-computed. -----------------------------------------------------------------------------------


def test_prefill_by_hand():
  # 3 rows, 1 + 2 + 3 pairs of two products, one row of logits.
  assert flops.prefill(TINY, 3) == 3 * 528 + 6 * 2 * 24 + 56 == 1928
  assert flops.prefill(TINY, 1) == 528 + 2 * 24 + 56


def test_decode_by_hand():
  # Two prompt tokens at positions 3 and 4, one of the two new tokens at 5: 4 + 5 + 6 pairs.
  expected = 3 * 528 + 15 * 2 * 24 + 2 * 56
  assert flops.decode(TINY, 3, 2, 2, delta=False) == expected == 2416
  # Delta's own product: 48 per row and layer.
  assert flops.decode(TINY, 3, 2, 2, delta=True) == expected + 3 * 2 * 48
  # Nothing generated: the prompt is encoded, no logits.
  assert flops.decode(TINY, 3, 2, 0, delta=False) == 2 * 528 + 9 * 2 * 24


def test_ttt_step_by_hand():
  # Inputs at positions 1 and 2 see 2 + 3 = 5 slots. Rows x layers = 4.
  forward = 4 * (48 + 48 + 48 + 120) + 5 * 2 * 24 + 2 * 56
  backward = 2 * 56 + 4 * (120 + 48) + 5 * 3 * 24 + 4 * (48 + 48) + 4 * 48
  assert flops.ttt_step(TINY, 5, span=2, start=1) == forward + backward == 3128
  # K,V projections and their dx; dk and dv over the span's own 1 + 2 pairs.
  recomputed = 4 * 48 + 4 * 48 + 3 * 2 * 24
  assert flops.ttt_step(TINY, 5, 2, 1, span_kv="recomputed") == forward + backward + recomputed


def test_full_ttt_step_by_hand():
  # 2 inputs with targets, products with weights three times; 1 + 2 pairs: 2 forward, 5 backward.
  assert flops.full_ttt_step(TINY, 3) == 3 * 2 * (528 + 56) + 3 * 7 * 24 == 4008


@pytest.mark.parametrize("span_kv", ["frozen", "recomputed"])
@pytest.mark.parametrize("context, span", [(5, 2), (6, 3), (9, 1), (4, 3)])
def test_mean_step_is_exact_mean_over_uniform_starts(context, span, span_kv):
  starts = range(context - span)  # the last target is the context's last token
  every = [flops.ttt_step(SMALL, context, span, start, span_kv) for start in starts]
  assert flops.ttt_step(SMALL, context, span, span_kv=span_kv) * len(every) == sum(every)
  assert flops.adapt(SMALL, context, span, len(every), starts, span_kv) == sum(every)


def test_grouped_queries_shrink_only_key_value_projections():
  ungrouped = dataclasses.replace(SMALL, num_key_value_heads=6)
  # 4 more KV heads of 4: K and V, 2*2*10*16 per row and layer.
  assert flops.prefill(ungrouped, 8) - flops.prefill(SMALL, 8) == 8 * 3 * 2 * 2 * 10 * 16
  assert flops.ttt_step(ungrouped, 9, 4) == flops.ttt_step(SMALL, 9, 4)


def test_leading_terms_are_those_of_the_performance_model():
  c, context, span = QWEN3_4B, 32768, 128
  layers, wide = c.num_hidden_layers, c.num_attention_heads * c.head_dim
  query = layers * c.hidden_size * wide
  without_kv = 2 * query + layers * 3 * c.hidden_size * c.intermediate_size
  vocabulary = c.hidden_size * c.vocab_size
  mean_pairs = span * context // 2
  assert flops.ttt_step(c, context, span) == (
    span * (4 * without_kv + 4 * vocabulary + 2 * query + 4 * query)
    + 10 * layers * wide * mean_pairs
  )


@pytest.mark.parametrize(
  "count",
  [
    lambda n: flops.prefill(SMALL, n),
    lambda n: flops.decode(SMALL, n, 2, 3, delta=True),
    lambda n: flops.decode(SMALL, 5, n, 3, delta=False),
    lambda n: flops.decode(SMALL, 5, 2, n, delta=False),
    lambda n: flops.ttt_step(SMALL, 20 + n, 4),
    lambda n: flops.ttt_step(SMALL, 40, 4, start=n),
    lambda n: flops.ttt_step(SMALL, 40, n),
    lambda n: flops.adapt(SMALL, 40, 4, n),
    lambda n: flops.thinking(SMALL, 40, 2, n, 1),
    lambda n: flops.full_ttt_step(SMALL, 1 + n),
  ],
)
def test_counts_grow(count):
  values = [count(n) for n in range(1, 20)]
  assert all(isinstance(value, int) for value in values)
  assert all(a < b for a, b in zip(values, values[1:]))


def test_numpy_integers_do_not_overflow():
  exact = flops.adapt(QWEN3_4B, 131072, 128, 32, starts=[7] * 32)
  starts = np.full(32, 7, np.int32)
  assert flops.adapt(QWEN3_4B, np.int32(131072), np.int32(128), np.int64(32), starts) == exact


def test_impossible_counts_are_users_mistakes():
  with pytest.raises(UserError, match="at least 5 tokens, not 4; use a smaller span"):
    flops.ttt_step(SMALL, 4, 4)
  with pytest.raises(UserError, match=r"start=6 .* 0\.\.5"):
    flops.ttt_step(SMALL, 10, 4, start=6)
  with pytest.raises(UserError, match="'thawed' is unknown; use 'frozen' or 'recomputed'"):
    flops.ttt_step(SMALL, 10, 4, span_kv="thawed")
  with pytest.raises(UserError, match="1 starts for 2 steps"):
    flops.adapt(SMALL, 10, 4, 2, starts=[0])
  with pytest.raises(UserError, match="prompt_tokens=0 must be at least 1"):
    flops.decode(SMALL, 10, 0, 1, delta=False)


# Executed, against what the model does. -----------------------------------------------------------

# Slots of the prefix, and of the suffix: one block each, so the loop over blocks runs once.
CAPACITY = 128


def _ints(*shape):
  return jax.ShapeDtypeStruct(shape, jnp.int32)


def _cache(batch):
  shape = (SMALL.num_hidden_layers, batch, SMALL.num_key_value_heads, CAPACITY, SMALL.head_dim)
  slots = jax.ShapeDtypeStruct(shape, jnp.float32)
  return PrefixCache(slots, slots, _ints(batch, CAPACITY), _ints(batch))


def _weights(model):
  params = abstract_params(model)
  return params, jax.eval_shape(lambda p: init_fast(model, p), params)


# Biases and norms are no products: what families differ in costs nothing here.
FAMILY = pytest.mark.parametrize(
  "family",
  [dict(), dict(qk_norm=False), dict(qk_norm=False, qkv_bias=True)],
  ids=["qwen3", "llama", "qwen2"],
)


@pytest.fixture(params=["cached", "dense"])
def backend(request, monkeypatch):
  """The model's own cached attention, and plain dense autodiff in its place."""
  if request.param == "dense":

    def dense(q, keys, values, layer, first, limits, backend=None):
      del backend
      return attend_dense(q, keys[layer], values[layer], first, limits)

    monkeypatch.setattr(memory, "attend_cache", dense)
    monkeypatch.setattr(memory, "attend_written", lambda q, k, v, *cached: dense(q, *cached[:5]))
  return request.param


def _model(backend, **changes):
  # The norm's eps only keeps jit from giving one backend what it traced with the other.
  eps = {"cached": 1e-6, "dense": 1e-5}[backend]
  return Decoder(dataclasses.replace(SMALL, rms_norm_eps=eps, **changes))


def _block_loops(backend, count):
  """Trip counts of the loops over blocks, which dense attention does not have."""
  return (1,) * count if backend == "cached" else ()


@FAMILY
@pytest.mark.parametrize("tied", [False, True])
def test_prefill_executes_dense_count(backend, tied, family):
  model = _model(backend, tie_word_embeddings=tied, **family)
  params, _ = _weights(model)
  executed = flops.executed_flops(
    lambda params, tokens: prefill(model, params, tokens),
    params,
    _ints(2, 100),  # padded to the capacity, one chunk
    while_trips=(1, *_block_loops(backend, 1)),
  )
  assert executed == flops.dense_prefill(model.config, 2, CAPACITY, CAPACITY)


@FAMILY
@pytest.mark.parametrize("span_kv", ["frozen", "recomputed"])
def test_adaptation_executes_dense_count(backend, span_kv, family):
  model = _model(backend, **family)
  params, fast = _weights(model)
  cfg = TTTConfig(span=11, steps=5, span_kv=span_kv)
  opt_state = jax.eval_shape(init_optimizer, fast)
  dense_step = flops.dense_ttt_step(
    model.config, 11, CAPACITY, span_kv, recompute_scores=backend == "cached"
  )
  executed = flops.executed_flops(
    lambda *args: ttt_step(model, *args, cfg),
    *(params, fast, opt_state, _cache(1), _ints(1, 100), _ints()),
    while_trips=_block_loops(backend, 2),  # forward and backward
  )
  assert executed == dense_step
  executed = flops.executed_flops(
    lambda params, cache, tokens: adapt(model, params, cache, tokens, jax.random.key(0), cfg),
    *(params, _cache(1), _ints(1, 100)),
    while_trips=(5, *_block_loops(backend, 2)),
  )
  assert executed == 5 * dense_step


@FAMILY
@pytest.mark.parametrize("delta", [False, True])
def test_generate_executes_dense_count(backend, delta, family):
  model = _model(backend, **family)
  params, fast = _weights(model)
  sampling = SamplingConfig(max_new_tokens=9, temperature=0.6, top_k=5, top_p=0.9)
  executed = flops.executed_flops(
    lambda params, fast, cache, prompt: generate(
      model, params, fast, cache, prompt, jax.random.key(0), sampling
    ),
    *(params, fast if delta else None, _cache(2), _ints(4, 32)),  # 2 rows share each prefix
    # Suffix and prefix attention of the prompt; the loop over new tokens, with both inside.
    while_trips=(*_block_loops(backend, 2), 8, *_block_loops(backend, 2)),
  )
  assert executed == flops.dense_decode(model.config, 4, 32, 9, delta, slots=2 * CAPACITY)


def test_dense_count_minus_masked_pairs_is_model_flops():
  c, tokens = SMALL, 31
  product = 2 * c.num_hidden_layers * c.num_attention_heads * c.head_dim
  masked = tokens * CAPACITY - tokens * (tokens + 1) // 2
  dense = flops.dense_prefill(c, 1, tokens, CAPACITY)
  assert dense - flops.prefill(c, tokens) == 2 * masked * product
  visible = 11 * 40 + 11 * 12 // 2
  dense = flops.dense_ttt_step(c, 11, CAPACITY)
  step = flops.ttt_step(c, 100, 11, start=40)
  assert dense - step == 5 * (11 * CAPACITY - visible) * product


# Executed, one construct each. --------------------------------------------------------------------

X, W = np.ones((3, 5), np.float32), np.ones((7, 5, 5), np.float32)
DOT = 2 * 3 * 5 * 5  # x @ w for one w


def test_scan_remat_and_gradient_are_counted():
  def chain(x, w):
    return lax.scan(jax.remat(lambda x, w: (jnp.tanh(x @ w), None)), x, w)[0].sum()

  assert flops.executed_flops(chain, X, W) == 7 * DOT
  # Forward, recomputed forward, dx, dw.
  assert flops.executed_flops(jax.grad(chain, 1), X, W) == 4 * 7 * DOT


def test_custom_derivative_is_counted_as_written():
  @jax.custom_vjp
  def f(x, w):
    return x @ w

  f.defvjp(lambda x, w: (x @ w, (x, w)), lambda saved, g: (g @ saved[1].T, saved[0].T @ g))
  loss = lambda x, w: (f(x, w) ** 2).sum()
  assert flops.executed_flops(loss, X, W[0]) == DOT
  assert flops.executed_flops(jax.grad(loss), X, W[0]) == 2 * DOT  # the unused dw is dead code


def test_batching_branches_and_dead_code():
  assert flops.executed_flops(jax.vmap(jnp.matmul, (None, 0)), X, W) == 7 * DOT
  branches = lambda x, w: lax.cond(x[0, 0] > 0, lambda: x @ w, lambda: x @ (w @ w))
  assert flops.executed_flops(branches, X, W[0]) == DOT + 2 * 5 * 5 * 5
  assert flops.executed_flops(jax.jit(lambda x, w: (x @ w, x)[1]), X, W[0]) == 0


def test_shard_map_counts_every_device():
  auto = (jax.sharding.AxisType.Auto,)  # the default kind depends on jax's version
  mesh = jax.sharding.AbstractMesh((3,), ("data",), axis_types=auto)
  spec = jax.sharding.PartitionSpec("data")
  f = jax.shard_map(lambda x: x @ x.T, mesh=mesh, in_specs=spec, out_specs=spec)
  assert flops.executed_flops(f, X) == 3 * 2 * 1 * 1 * 5  # one row on each of 3 devices


def test_while_loops_need_their_trips():
  loop = lambda x, w: lax.while_loop(lambda x: x[0, 0] < 9, lambda x: x @ w, x)
  with pytest.raises(ValueError, match="give its count in while_trips"):
    flops.executed_flops(loop, X, W[0])
  assert flops.executed_flops(loop, X, W[0], while_trips=6) == 6 * DOT
  twice = lambda x, w: loop(loop(x, w), w)
  assert flops.executed_flops(twice, X, W[0], while_trips=(6, 2)) == 8 * DOT
  with pytest.raises(ValueError, match="give its count"):
    flops.executed_flops(twice, X, W[0], while_trips=(6,))
  with pytest.raises(ValueError, match="1 of while_trips=.* left over"):
    flops.executed_flops(loop, X, W[0], while_trips=(6, 2))
  no_dots = lambda x: lax.while_loop(lambda x: x[0, 0] < 9, lambda x: x + 1, x)
  assert flops.executed_flops(no_dots, X) == 0


def test_invisible_products_are_refused():
  convolve = lambda x: jnp.convolve(x, x)
  with pytest.raises(ValueError, match="inside conv_general_dilated are not in the jaxpr"):
    flops.executed_flops(convolve, X[0])


# Matching. ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("context", [200, 4096, 131072])
@pytest.mark.parametrize("steps, samples", [(1, 1), (32, 1), (32, 4)])
def test_thinking_budget_is_the_largest_within(context, steps, samples):
  budget = flops.qttt(QWEN3_4B, context, 20, 128, steps, 16)
  tokens = flops.match_thinking_tokens(QWEN3_4B, context, 20, 128, steps, 16, samples)
  cost = lambda m: samples * flops.thinking(QWEN3_4B, context, 20, m, 16)
  assert cost(tokens) <= budget < cost(tokens + 1)


@pytest.mark.parametrize("context", [200, 4096, 131072])
def test_steps_are_the_most_within(context):
  budget = flops.thinking(QWEN3_4B, context, 20, 8192, 16)
  steps = flops.match_steps(QWEN3_4B, context, 20, 128, 8192, 16)
  cost = lambda n: flops.qttt(QWEN3_4B, context, 20, 128, n, 16)
  assert cost(steps) <= budget < cost(steps + 1)


def test_matching_there_and_back_loses_less_than_a_step():
  for steps in (1, 8, 32):
    tokens = flops.match_thinking_tokens(QWEN3_4B, 4096, 20, 128, steps, 16)
    assert flops.match_steps(QWEN3_4B, 4096, 20, 128, tokens, 16) in (steps - 1, steps)
    assert flops.match_steps(QWEN3_4B, 4096, 20, 128, tokens + 1, 16) >= steps


def test_unaffordable_budgets_are_zero():
  assert flops.match_thinking_tokens(QWEN3_4B, 200, 20, 128, 1, 512, samples=32) == 0
  assert flops.match_steps(QWEN3_4B, 200, 20, 128, 0, 512) == 0  # Delta already costs more
  with pytest.raises(UserError, match="samples=0"):
    flops.match_thinking_tokens(QWEN3_4B, 200, 20, 128, 1, 16, samples=0)


def test_ratio_tends_to_five_quarters_with_uniform_starts():
  # Per layer and head, a span's pair costs 10 d and sees T/2 keys on average, a token's 4 d and T.
  tokens = flops.match_thinking_tokens(QWEN3_4B, 10**9, 20, 128, 32, 16)
  assert tokens == 5 * 32 * 128 // 4


def test_ratio_tends_to_five_halves_at_the_end_and_two_without_recomputed_scores():
  context, span = 10**9, 128
  step = flops.ttt_step(QWEN3_4B, context, span, start=context - span - 1)
  token = flops.thinking(QWEN3_4B, context, 1, 1, 0)
  assert step / token / span == pytest.approx(5 / 2, rel=1e-3)
  # Dense autodiff keeps the scores: 4 + 4 instead of 4 + 6, the paper's 2 N k.
  step = flops.dense_ttt_step(QWEN3_4B, span, context, recompute_scores=False)
  assert step / token / span == pytest.approx(flops.paper_rule(span, 1) / span, rel=1e-3)


def test_paper_model_by_hand():
  # L 2, d 4, r 5/4: C_quad = 16, C_tok = 6.5 * 32 = 208, without K,V 4.5 * 32 = 144.
  assert flops.paper_prefill_cost(TINY, 3) == 16 * 9 + 208 * 3
  assert flops.paper_thinking_cost(TINY, 10, 3) == 16 * (30 + 3) + 208 * 3
  assert flops.paper_adaptation_cost(TINY, 10, span=2, steps=3) == 3 * 2 * (16 * 20 + 144 * 2)


def test_paper_rule_balances_paper_model():
  assert flops.paper_rule(span=128, steps=32) == 8192
  thinking = flops.paper_thinking_cost(QWEN3_4B, 10**9, 8192)
  assert flops.paper_adaptation_cost(QWEN3_4B, 10**9, 128, 32) / thinking == pytest.approx(1, 1e-3)


def test_full_ttt_step_against_thinking():
  # The paper: 1.2 T tokens, from T^2 = M T + M^2 / 2 twice over, M / T = sqrt(5) - 1 = 1.236.
  context = 10**8
  prefill = flops.paper_prefill_cost(QWEN3_4B, context)
  paper = flops.paper_thinking_cost(QWEN3_4B, context, int((math.sqrt(5) - 1) * context))
  assert paper / (2 * prefill) == pytest.approx(1, rel=1e-3)
  # Exact causal counts: 7 T^2 = 4 M T + 2 M^2, M / T = sqrt(4.5) - 1 = 1.121.
  exact = flops.thinking(QWEN3_4B, context, 1, int((math.sqrt(4.5) - 1) * context), 0)
  assert exact / flops.full_ttt_step(QWEN3_4B, context) == pytest.approx(1, rel=2e-3)


@pytest.mark.parametrize("delta", [False, True])
@pytest.mark.parametrize("beams, steps", [(1, 1), (4, 1), (4, 9)])
def test_beams_share_the_prompt_and_then_pay_each(beams, steps, delta):
  whole = flops.beam(SMALL, 50, 7, steps, beams, delta)
  one = flops.decode(SMALL, 50, 7, steps, delta)
  prompt = flops.decode(SMALL, 50, 7, 1, delta)
  assert whole == prompt + beams * (one - prompt)
  assert flops.beam(SMALL, 50, 7, steps, 1, delta) == one


def test_rows_encoded_without_delta_do_not_pay_for_it():
  with_delta = flops.decode(SMALL, 50, 7, 3, delta=True)
  saved = (
    6
    * 2
    * SMALL.num_hidden_layers
    * SMALL.hidden_size
    * (SMALL.num_attention_heads * SMALL.head_dim)
  )
  assert flops.decode(SMALL, 50, 7, 3, delta=True, plain_rows=6) == with_delta - saved
  assert flops.decode(SMALL, 50, 7, 3, delta=False, plain_rows=6) == flops.decode(
    SMALL, 50, 7, 3, delta=False
  )
