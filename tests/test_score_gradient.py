"""Gradients through the suffix against torch autograd over a frozen transformers cache."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from tests import reference
from tests.reference import norm_error, random_tokens, torch_ids
import tttjax as tt
from tttjax.decode.suffix import encode, new_suffix

_LENGTHS = np.asarray([20, 7, 2, 13])


@pytest.fixture(scope="module")
def case(small):
  """(context [2, 60], cache, tokens [4, 20], what each score counts [4, 20])."""
  _, model, params = small
  rng = np.random.default_rng(43)
  context, tokens = random_tokens(rng, 2, 60), random_tokens(rng, 4, 20)
  counts = np.where(np.arange(20) < _LENGTHS[:, None], rng.normal(size=(4, 20)), 0.0)
  return context, tt.prefill(model, params, context)[0], tokens, counts.astype(np.float32)


def _loss(model, params, fast, case):
  return (tt.score(model, params, fast, case[1], case[2], _LENGTHS) * case[3]).sum()


def _hf_loss(hf, case, caches):
  """`_loss` of a transformers model; `caches` hold the constant K and V of the contexts."""
  total = 0.0
  for row, length in enumerate(_LENGTHS):
    tokens = torch_ids(case[2][row : row + 1, :length])
    cache = copy.deepcopy(caches[row // 2])  # the call appends to it
    logprobs = hf(tokens, past_key_values=cache).logits.log_softmax(-1)
    chosen = logprobs[:, :-1].gather(-1, tokens[:, 1:, None])[0, :, 0]
    total = total + (chosen * torch.tensor(case[3][row, 1:length])).sum()
  return total


def _as_params(hf, tensors):
  """One tensor per parameter of `hf`, as params."""
  holder = copy.deepcopy(hf)
  for weight, tensor in zip(holder.parameters(), tensors):
    weight.data = tensor
  return reference.to_params(holder)


@pytest.fixture(scope="module")
def expected(small, case):
  """The gradient of `_loss` in every weight, as params, in float64."""
  hf = reference.cast(small[0], torch.float64).requires_grad_(True)
  caches = [reference.hf_cache(hf, case[0][row : row + 1]) for row in range(2)]
  return _as_params(hf, torch.autograd.grad(_hf_loss(hf, case, caches), list(hf.parameters())))


@pytest.fixture(scope="module")
def ours(small, case):
  """The gradient of `_loss` in the params and in Delta, at Delta = 0."""
  _, model, params = small
  gradient = jax.grad(lambda params, fast: _loss(model, params, fast, case), argnums=(0, 1))
  return gradient(params, tt.init_fast(model, params))


def test_the_gradient_of_score_in_every_weight_equals_autodiff(ours, expected):
  for (path, a), b in zip(jax.tree.leaves_with_path(ours[0]), jax.tree.leaves(expected)):
    assert norm_error(a, b) < 1e-5, jax.tree_util.keystr(path)


def test_the_gradient_of_score_in_the_fast_weights_equals_autodiff(ours, expected):
  (delta,) = jax.tree.leaves(ours[1])  # at 0 the gradient in Delta is that in W_Q
  assert norm_error(delta, expected["layers"]["attention"]["query"]["kernel"]) < 1e-5


def test_a_hessian_vector_product_of_score_is_the_change_of_the_gradient(small, case):
  """Forward over reverse, against a central difference of transformers' gradients in float64."""
  hf = reference.cast(small[0], torch.float64).requires_grad_(True)
  caches = [reference.hf_cache(hf, case[0][row : row + 1]) for row in range(2)]
  generator = torch.Generator().manual_seed(3)
  direction = [
    torch.randn(w.shape, generator=generator, dtype=w.dtype) * w.std() for w in hf.parameters()
  ]

  def gradient(step):
    moved = copy.deepcopy(hf)
    for weight, d in zip(moved.parameters(), direction):
      weight.data += step * d
    return torch.autograd.grad(_hf_loss(moved, case, caches), list(moved.parameters()))

  step = 1e-3
  change = [(a - b) / (2 * step) for a, b in zip(gradient(step), gradient(-step))]
  _, model, params = small
  ours = jax.jvp(
    jax.grad(lambda params: _loss(model, params, None, case)),
    (params,),
    (_as_params(hf, direction),),
  )[1]
  for (path, a), b in zip(jax.tree.leaves_with_path(ours), jax.tree.leaves(_as_params(hf, change))):
    assert norm_error(a, b) < 2e-4, jax.tree_util.keystr(path)


def test_a_gradient_through_the_context_is_refused(small, case):
  _, model, params = small

  def loss(params):
    cache, _ = tt.prefill(model, params, case[0])
    return tt.score(model, params, None, cache, case[2], _LENGTHS).sum()

  with pytest.raises(tt.UserError, match="keys and values are frozen .*stop_gradient"):
    jax.grad(loss)(params)
  with pytest.raises(tt.UserError, match="keys and values are frozen"):
    jax.jvp(lambda p: tt.prefill(model, p, case[0])[1].sum(), (params,), (params,))
  with pytest.raises(tt.UserError, match="keys and values are frozen"):
    jax.grad(lambda cache: _loss(model, params, None, (None, cache, *case[2:])), allow_int=True)(
      case[1]
    )


def test_a_context_read_with_constant_weights_is_accepted(small, case):
  _, model, params = small

  def loss(params):
    cache, _ = tt.prefill(model, jax.lax.stop_gradient(params), case[0])
    return _loss(model, params, None, (None, cache, *case[2:]))

  jax.eval_shape(jax.grad(loss), params)


def test_a_gradient_through_an_earlier_part_of_the_suffix_is_refused(small, case):
  _, model, params = small
  cache, tokens = case[1], jnp.asarray(case[2])

  def loss(params, keep):
    suffix = new_suffix(model, cache, jnp.full((4,), 20, jnp.int32), 20, 0)
    _, suffix, _ = encode(model, params, None, cache, suffix, tokens[:, :12])
    hidden, _, _ = encode(model, params, None, cache, keep(suffix), tokens[:, 12:])
    return hidden.sum()

  gradient = lambda keep: jax.eval_shape(jax.grad(lambda params: loss(params, keep)), params)
  with pytest.raises(tt.UserError, match="keys and values are frozen"):
    gradient(lambda suffix: suffix)
  gradient(jax.lax.stop_gradient)  # the remedy that the message gives
