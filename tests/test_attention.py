"""Attention over the cache, its gradient in the queries, and the merge, against torch autograd."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from tests.reference import relative_error
from tttjax.attention import Backend, attend_cache, attend_dense, backends, blocks, chunked, merge
from tttjax.attention.folding import fold, unfold
from tttjax.attention.merging import MASKED

_B, _T, _H, _K, _S, _D, _LAYER = 2, 12, 6, 2, 96, 8, 1


@pytest.fixture(scope="module")
def problem():
  """Queries, a two-layer cache, windows of all kinds and cotangents of o and lse."""
  rng = np.random.default_rng(3)
  f32 = lambda *shape: (rng.normal(size=shape) * 1.5).astype(np.float32)
  limit = rng.integers(1, _S + 1, (_B, _T)).astype(np.int32)
  first = np.asarray([0, 37], np.int32)
  limit[0, :3] = [0, 1, _S]  # an empty query, a single slot, everything
  limit[1, :3] = [37, 20, 38]  # empty by first, limit below first, a single slot
  return {
    "q": f32(_B, _T, _H, _D),
    "keys": f32(2, _B, _K, _S, _D),
    "values": f32(2, _B, _K, _S, _D),
    "first": first,
    "limit": limit,
    "do": f32(_B, _T, _H, _D),
    "dlse": f32(_B, _T, _H),
  }


def _torch_attention(q, k, v, first, limit):
  """(o, lse, which queries see a slot), the softmax written out, float64."""
  slots = np.arange(k.shape[2])
  visible = (slots >= first[:, None, None]) & (slots < limit[:, :, None])
  k, v = (x.repeat_interleave(_H // _K, dim=1) for x in (k, v))
  seen = torch.tensor(visible.any(-1))[..., None].expand(q.shape[:3])
  scores = q.transpose(1, 2) @ k.transpose(2, 3) / q.shape[-1] ** 0.5
  scores = scores.masked_fill(~torch.tensor(visible)[:, None], -1e300)
  lse = scores.logsumexp(-1)
  o = ((scores - lse[..., None]).exp() @ v).transpose(1, 2)
  return torch.where(seen[..., None], o, 0.0), lse.transpose(1, 2), seen


@pytest.fixture(scope="module")
def expected(problem):
  """o, lse, dq, dk, dv in float64 from torch autograd, the lse of empty queries left out."""
  leaf = lambda x: torch.tensor(x, dtype=torch.float64, requires_grad=True)
  q, k, v = (leaf(x) for x in (problem["q"], problem["keys"][_LAYER], problem["values"][_LAYER]))
  o, lse, seen = _torch_attention(q, k, v, problem["first"], problem["limit"])
  loss = (o * torch.tensor(problem["do"])).sum()
  loss = loss + torch.where(seen, lse * torch.tensor(problem["dlse"]), 0.0).sum()
  loss.backward()
  result = {"o": o, "lse": lse, "dq": q.grad, "dk": k.grad, "dv": v.grad, "seen": seen}
  return {name: x.detach().numpy() for name, x in result.items()}


def _check_forward(o, lse, expected):
  seen = expected["seen"]
  np.testing.assert_allclose(o, expected["o"], atol=3e-6)
  np.testing.assert_allclose(np.asarray(lse)[seen], expected["lse"][seen], atol=3e-6)
  assert (np.asarray(o)[~seen] == 0).all()
  assert (np.asarray(lse)[~seen] == np.float32(MASKED)).all()


def _cached(problem, q):
  p = problem
  return attend_cache(q, p["keys"], p["values"], _LAYER, p["first"], p["limit"])


def _pulled(function, problem):
  (o, lse), pull = jax.vjp(function, problem["q"])
  return o, lse, pull((jnp.asarray(problem["do"]), jnp.asarray(problem["dlse"])))[0]


@pytest.mark.parametrize("block", [8, 32, 96])
def test_chunked_attention_and_its_query_gradient_equal_autodiff(
  problem, expected, block, monkeypatch
):
  monkeypatch.setattr(blocks, "_MAX_BLOCK", block)
  assert blocks.block_size(_T * _H // _K, _S) == block
  o, lse, dq = _pulled(lambda q: _cached(problem, q), problem)
  _check_forward(o, lse, expected)
  np.testing.assert_allclose(dq, expected["dq"], atol=1e-5)


@pytest.mark.parametrize("rows", [1, 8, 512, 4096])
def test_the_slots_that_are_read_follow_the_length_and_not_the_capacity(rows):
  for capacity, length in itertools.product((1024, 1408, 8192, 32768), (1, 300, 1000, 1024)):
    q, keys = np.zeros((1, 1, rows, 1)), np.broadcast_to(np.zeros(()), (1, 1, 1, capacity, 1))
    first, limit = np.zeros(1, np.int32), np.full((1, rows), length, np.int32)
    block, begin, end = blocks.visited(q, keys, first, limit)
    assert begin == 0 and length <= end * block < length + 512
    _, begin, end = blocks.visited(q, keys, limit[0, :1] - 1, limit)
    assert end - begin == 1


def test_dense_attention_and_all_its_gradients_equal_autodiff(problem, expected):
  p = problem
  function = lambda q, k, v: attend_dense(q, k, v, p["first"], p["limit"])
  (o, lse), pull = jax.vjp(function, p["q"], p["keys"][_LAYER], p["values"][_LAYER])
  _check_forward(o, lse, expected)
  gradients = pull((jnp.asarray(p["do"]), jnp.asarray(p["dlse"])))
  for name, gradient in zip(("dq", "dk", "dv"), gradients):
    np.testing.assert_allclose(gradient, expected[name], atol=1e-5)


def test_the_cotangent_of_the_logsumexp_matters(problem, expected):
  without = dict(problem, dlse=np.zeros_like(problem["dlse"]))
  _, _, dq = _pulled(lambda q: _cached(problem, q), without)
  assert np.abs(dq - expected["dq"]).max() > 0.1


def test_the_layer_may_be_traced(problem, expected):
  p = problem
  traced = jax.jit(
    lambda layer: attend_cache(p["q"], p["keys"], p["values"], layer, p["first"], p["limit"])
  )
  _check_forward(*traced(_LAYER), expected)


def test_slots_outside_every_window_are_never_read_into_the_result(problem):
  before = _cached(problem, problem["q"])
  slots = np.arange(_S)
  windows = (slots >= problem["first"][:, None, None]) & (slots < problem["limit"][:, :, None])
  unseen = ~windows.any(1)[None, :, None, :, None]
  spoiled = dict(
    problem,
    keys=np.where(unseen, np.float32(1e4), problem["keys"]),
    values=np.where(unseen, np.float32(1e4), problem["values"]),
  )
  for a, b in zip(before, _cached(spoiled, problem["q"])):
    np.testing.assert_array_equal(a, b)


def test_large_scores_do_not_overflow(problem):
  o, lse = _cached(problem, problem["q"] * 1e4)
  assert np.isfinite(o).all() and np.isfinite(lse).all()


def test_bfloat16_attention_is_within_bfloat16_rounding(problem, expected):
  rounded = {
    name: jnp.asarray(x, jnp.bfloat16) if name in ("q", "keys", "values") else x
    for name, x in problem.items()
  }
  o, lse, dq = _pulled(lambda q: _cached(rounded, q), rounded)
  assert (o.dtype, lse.dtype, dq.dtype) == (jnp.float32, jnp.float32, jnp.bfloat16)
  seen = expected["seen"]
  assert relative_error(o, expected["o"]) < 2**-5
  assert relative_error(np.asarray(lse)[seen], expected["lse"][seen]) < 2**-5
  assert relative_error(dq, expected["dq"]) < 2**-5


def _parts(problem, q, *edges):
  """Attention over the slots between consecutive edges, every query seeing all of them."""
  k, v = problem["keys"][_LAYER], problem["values"][_LAYER]
  for low, high in itertools.pairwise(edges):
    yield attend_dense(
      q,
      k,
      v,
      jnp.full((_B,), low, jnp.int32),
      jnp.full((_B, _T), high, jnp.int32),
    )


def test_merged_parts_equal_the_whole(problem):
  a, b = _parts(problem, problem["q"], 0, 41, _S)
  (whole,) = _parts(problem, problem["q"], 0, _S)
  for got, wanted in zip(merge(*a, *b), whole):
    np.testing.assert_allclose(got, wanted, atol=2e-6)


def test_merge_is_associative_and_commutative(problem):
  a, b, c = _parts(problem, problem["q"], 0, 5, 41, _S)
  left = merge(*merge(*a, *b), *c)
  right = merge(*a, *merge(*b, *c))
  swapped = merge(*merge(*c, *a), *b)
  for other in (right, swapped):
    for got, wanted in zip(other, left):
      np.testing.assert_allclose(got, wanted, atol=5e-6)


def test_merging_an_empty_part_changes_nothing(problem):
  empty, whole = _parts(problem, problem["q"], 0, 0, _S)
  for merged in (merge(*empty, *whole), merge(*whole, *empty)):
    for got, wanted in zip(merged, whole):
      np.testing.assert_allclose(got, wanted, atol=1e-6)


def test_merging_two_empty_parts_is_empty(problem):
  empty, _ = _parts(problem, problem["q"], 0, 0, _S)
  o, lse = merge(*empty, *empty)
  assert (o == 0).all() and (lse < MASKED / 2).all()


def test_the_gradient_through_a_merge_equals_the_whole(problem):
  def split(q):
    k, v = problem["keys"], problem["values"]
    first, limit = jnp.zeros((_B,), jnp.int32), jnp.full((_B, _T), 41, jnp.int32)
    prefix = attend_cache(q, k, v, _LAYER, first, limit)
    return merge(*prefix, *attend_dense(q, k[_LAYER], v[_LAYER], first + 41, limit * 0 + _S))

  _, _, got = _pulled(split, problem)
  _, _, wanted = _pulled(lambda q: next(_parts(problem, q, 0, _S)), problem)
  np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_folding_groups_heads_by_their_kv_head(rng):
  q = rng.normal(size=(2, 5, 6, 4))
  rows = np.asarray(fold(jnp.asarray(q), 2))
  for token in range(5):
    for head in range(6):
      np.testing.assert_allclose(rows[:, head // 3, token * 3 + head % 3], q[:, token, head], 1e-6)
  np.testing.assert_allclose(unfold(jnp.asarray(rows), 5), q, rtol=1e-6)


def test_a_backend_sees_queries_that_are_not_folded(problem, expected, monkeypatch):
  class Recorded:
    """The portable kernels, which also note what they are given."""

    shapes = []

    def __getattr__(self, name):
      def kernel(q, *rest):
        self.shapes.append((name, q.shape))
        return getattr(chunked, name)(q, *rest)

      return kernel

  monkeypatch.setitem(backends.BACKENDS, "recorded", Recorded())
  p, backend = problem, Backend(name="recorded")
  slots = p["keys"], p["values"], _LAYER, p["first"], p["limit"]
  o, lse, dq = _pulled(lambda q: attend_cache(q, *slots, backend), p)
  _check_forward(o, lse, expected)
  np.testing.assert_allclose(dq, expected["dq"], atol=1e-5)
  assert Recorded.shapes == [(name, (_B, _T, _H, _D)) for name in ("forward", "backward_q")]
