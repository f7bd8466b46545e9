"""One span and one step of test-time training against torch autograd and torch.optim.AdamW."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import reference
from tests.reference import norm_error
import tttjax as tt
from tttjax.models.fast_weights import delta
from tttjax.ttt.step import span_loss

_T, _SPAN = 200, 16
_STARTS = [0, 91, _T - _SPAN - 1, 40, 91, 0, 133, 91]


@pytest.fixture(scope="module")
def losses(small, context):
  """A compiled function: (fast, start, span_kv) to (span loss, its gradient)."""
  _, model, params = small
  tokens, cache = context
  padded = np.pad(tokens, ((0, 0), (0, cache.capacity - _T)))

  def run(fast, start, span_kv):
    return jax.value_and_grad(
      lambda fast: span_loss(model, params, fast, cache, padded, start, _SPAN, span_kv)
    )(fast)

  return jax.jit(run, static_argnums=2)


def _random_fast(model, params, scale=0.05):
  zero = tt.init_fast(model, params)
  noise = np.random.default_rng(9).normal(size=delta(zero).shape) * scale
  return jax.tree.map(lambda d: jnp.asarray(noise, d.dtype), zero)


def _torch_gradient(small, context, start, fast, recomputed):
  hf, model, params = small
  hf = copy.deepcopy(hf)
  frozen = reference.cache_tensors(reference.hf_cache(hf, context[0]))
  kernels = tt.merge(model, params, fast)["layers"]["attention"]["query"]["kernel"]
  reference.set_query_kernels(hf, kernels)
  for weight in reference.query_weights(hf):
    weight.requires_grad_(True)
  loss = reference.span_loss(hf, frozen, context[0], start, _SPAN, recomputed)
  loss.backward()
  gradient = reference.query_array(hf, [w.grad for w in reference.query_weights(hf)])
  return float(loss.detach()), gradient


@pytest.mark.parametrize("span_kv", ["frozen", "recomputed"])
@pytest.mark.parametrize("start", [0, 91, _T - _SPAN - 1])
def test_span_loss_at_delta_zero_equals_the_full_forward(small, context, losses, start, span_kv):
  hf, model, params = small
  tokens, _ = context
  logits = reference.hf_logits(hf, tokens)
  scores = reference.token_logprobs(logits, tokens)
  expected = -scores[0, start : start + _SPAN].mean()
  loss, _ = losses(tt.init_fast(model, params), start, span_kv)
  assert abs(float(loss) - expected) < 1e-5


@pytest.mark.parametrize("span_kv", ["frozen", "recomputed"])
@pytest.mark.parametrize("start", [0, 91])
def test_span_loss_and_gradient_equal_torch_after_adaptation(
  small, context, losses, start, span_kv
):
  _, model, params = small
  fast = _random_fast(model, params)
  expected = _torch_gradient(small, context, start, fast, span_kv == "recomputed")
  loss, gradient = losses(fast, start, span_kv)
  assert abs(float(loss) - expected[0]) < 1e-5
  assert norm_error(delta(gradient), expected[1]) < 1e-4


def test_frozen_and_recomputed_spans_differ_after_adaptation(small, losses):
  _, model, params = small
  fast = _random_fast(model, params)
  frozen, recomputed = (losses(fast, 91, kv) for kv in ("frozen", "recomputed"))
  assert abs(float(frozen[0] - recomputed[0])) > 1e-3
  assert norm_error(delta(frozen[1]), delta(recomputed[1])) > 1e-2


_CONFIGS = {
  "paper's weight decay and clip": {},
  "clip active": {"clip": 0.05, "eps": 1e-3},
  "large weight decay": {"weight_decay": 10.0},
  "recomputed span": {"span_kv": "recomputed", "eps": 1e-6},
}


def _config(**changes):
  return tt.TTTConfig(**({"span": _SPAN, "learning_rate": 1e-3} | changes))


def _run_steps(small, context, cfg, starts=_STARTS):
  _, model, params = small
  tokens, cache = context
  fast = tt.init_fast(model, params)
  opt_state = tt.init_optimizer(fast)
  history = []
  for start in starts:
    fast, opt_state, metrics = tt.ttt_step(
      model, params, fast, opt_state, cache, tokens, start, cfg
    )
    history.append(metrics)
  return fast, jax.tree.map(lambda *x: np.asarray(x), *history)


@pytest.mark.parametrize("changes", _CONFIGS.values(), ids=_CONFIGS.keys())
def test_eight_steps_equal_torch_adamw(small, context, changes):
  cfg = _config(**changes)
  expected = reference.torch_ttt(copy.deepcopy(small[0]), context[0], _STARTS, cfg)
  fast, history = _run_steps(small, context, cfg)
  assert history.ok.all()
  assert history.start.tolist() == _STARTS
  np.testing.assert_allclose(history.loss, expected.losses, atol=1e-5)
  np.testing.assert_allclose(history.grad_norm, expected.grad_norms, rtol=1e-3)
  assert norm_error(delta(fast), expected.delta) < 1e-3
  # The steps matter to what is compared: the span seen three times is better known.
  assert history.loss[7] < history.loss[1] - 1e-2


@pytest.mark.parametrize(
  "changes, without",
  [
    (_CONFIGS["clip active"], {"clip": np.inf, "eps": 1e-3}),
    (_CONFIGS["large weight decay"], {"weight_decay": 0.0}),
  ],
  ids=["clip", "weight decay"],
)
def test_clip_and_weight_decay_matter_in_those_cases(small, context, changes, without):
  with_it, history = _run_steps(small, context, _config(**changes))
  without_it, _ = _run_steps(small, context, _config(**without))
  assert (history.grad_norm > _config(**changes).clip).all() or "clip" not in changes
  assert norm_error(delta(without_it), delta(with_it)) > 0.05


def test_update_norm_is_the_change_of_delta(small, context):
  fast, history = _run_steps(small, context, _config(), starts=[91])
  assert history.update_norm[0] == pytest.approx(np.linalg.norm(delta(fast)), rel=1e-5)


def test_only_the_query_kernels_change(small, context):
  _, model, params = small
  before = jax.tree.map(lambda x: np.array(x, copy=True), params)
  fast, _ = _run_steps(small, context, _config())
  jax.tree.map(np.testing.assert_array_equal, params, before)
  paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(fast)]
  assert paths == ["['layers']['attention']['query']['delta']"]
  assert delta(fast).dtype == jnp.float32
  assert (np.abs(delta(fast)).max(axis=(1, 2, 3)) > 0).all()  # of every layer
  merged = tt.merge(model, params, fast)
  kernel = merged["layers"]["attention"]["query"].pop("kernel")
  params_left = jax.tree.map(lambda x: x, params)
  base = params_left["layers"]["attention"]["query"].pop("kernel")
  np.testing.assert_array_equal(kernel, np.asarray(base) + np.asarray(delta(fast)))
  jax.tree.map(np.testing.assert_array_equal, merged, params_left)


def test_bfloat16_model_learns_a_repeated_span_at_the_papers_rate(small, context):
  hf, model, _ = small
  tokens, _ = context
  half = model.clone(dtype=jnp.bfloat16)
  params = reference.to_params(hf, jnp.bfloat16)
  cache, _ = tt.prefill(half, params, tokens)
  cfg = tt.TTTConfig(span=_SPAN, learning_rate=1e-6)
  steps = 800
  fast, _, history = tt.adapt(
    half, params, cache, tokens, None, cfg, starts=np.full(steps, 91, np.int32)
  )
  assert history.ok.all()
  assert delta(fast).dtype == jnp.float32
  assert np.mean(np.asarray(delta(fast)) != 0) > 0.99
  # Rounding scatters a single bfloat16 loss; the means of 50 do not.
  assert history.loss[-50:].mean() < history.loss[:50].mean()
  # AdamW's steps are about the learning rate: a bfloat16 W_Q would lose nearly all of them.
  kernel = params["layers"]["attention"]["query"]["kernel"]
  assert np.mean(np.asarray(kernel + jnp.bfloat16(1e-6) != kernel)) < 0.02


def test_an_invalid_start_under_tracing_is_not_ok_and_changes_nothing(small, context):
  _, model, params = small
  tokens, cache = context
  cfg = _config()
  fast = _random_fast(model, params)
  opt_state = tt.init_optimizer(fast)
  step = jax.jit(
    lambda start: tt.ttt_step(model, params, fast, opt_state, cache, tokens, start, cfg)
  )
  for start in (-1, _T - _SPAN, 10_000):
    new, new_state, metrics = step(start)
    assert not metrics.ok and metrics.update_norm == 0
    jax.tree.map(np.testing.assert_array_equal, (new, new_state), (fast, opt_state))
  new, _, metrics = step(_T - _SPAN - 1)
  assert metrics.ok and norm_error(delta(new), delta(fast)) > 0


@pytest.mark.parametrize("broken", ["parameters", "fast weights"])
def test_a_step_that_is_not_finite_changes_nothing(small, context, broken):
  _, model, params = small
  tokens, cache = context
  cfg = _config()
  fast = _random_fast(model, params)
  opt_state = tt.init_optimizer(fast)
  if broken == "parameters":
    scale = params["final_norm"]["scale"].at[0].set(jnp.nan)
    params = params | {"final_norm": {"scale": scale}}
  else:
    fast = jax.tree.map(lambda d: d.at[0, 0, 0, 0].set(jnp.inf), fast)
  new, new_state, metrics = tt.ttt_step(model, params, fast, opt_state, cache, tokens, 91, cfg)
  assert not metrics.ok and metrics.update_norm == 0
  jax.tree.map(np.testing.assert_array_equal, (new, new_state), (fast, opt_state))
