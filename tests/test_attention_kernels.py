"""The TPU kernels, interpreted, against dense attention in float32 and the portable backend."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import reference
from tests.errors import user_error
import tttjax as tt
from tttjax.attention import attend_cache, attend_dense, backends, chunked, pallas_tpu, slot_grid
from tttjax.attention.backends import Backend, backend_of
from tttjax.attention.dealt_slots import dealt_order
from tttjax.attention.merging import MASKED

_TPU = Backend(name="pallas_tpu")
_B, _S, _LAYER = 2, 384, 1  # three slot blocks


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
  """Several row blocks and several slot blocks in shapes that are quickly interpreted."""
  monkeypatch.setattr(slot_grid, "_MAX_ROWS", 32)
  monkeypatch.setattr(slot_grid, "_MAX_SLOTS", 128)


@dataclasses.dataclass(frozen=True)
class Problem:
  """Arguments of the kernels, and cotangents of o and lse."""

  q: jax.Array
  keys: jax.Array
  values: jax.Array
  first: jax.Array
  limits: jax.Array
  do: jax.Array
  dlse: jax.Array


def problem(heads, kv_heads, dim, dtype=jnp.float32, tokens=13, first=(0, 37), limits=None):
  """Random numbers, and windows of all kinds: empty, one slot, all, at the edges of blocks."""
  rng = np.random.default_rng(heads * dim)
  normal = lambda dtype, *shape: jnp.asarray(rng.normal(size=shape) * 1.5, dtype)
  if limits is None:
    edges = [0, 1, 38, 127, 128, 129, 255, 256, 257, _S - 1, _S, -7, _S + 9]
    limits = np.stack([rng.permutation(edges), rng.permutation(edges)])[:, :tokens]
  q_shape, slots = (_B, tokens, heads, dim), (2, _B, kv_heads, _S, dim)
  return Problem(
    normal(dtype, *q_shape),
    normal(dtype, *slots),
    normal(dtype, *slots),
    jnp.asarray(first, jnp.int32),
    jnp.asarray(limits, jnp.int32),
    normal(jnp.float32, *q_shape),
    normal(jnp.float32, *q_shape[:-1]),
  )


def pulled(attend, p: Problem):
  """(o, lse, dq) of attention as a function of q."""
  (o, lse), pull = jax.vjp(attend, p.q)
  return o, lse, pull((p.do, p.dlse))[0]


@jax.jit
def dense(p: Problem):
  """(o, lse, dq) in float32, by autodiff, of the numbers as they are rounded in p."""
  k, v = (x[_LAYER].astype(jnp.float32) for x in (p.keys, p.values))
  p = dataclasses.replace(p, q=p.q.astype(jnp.float32))
  return pulled(lambda q: attend_dense(q, k, v, p.first, p.limits), p)


def cached(p: Problem, backend=_TPU, layer=_LAYER):
  attend = lambda q: attend_cache(q, p.keys, p.values, layer, p.first, p.limits, backend)
  return pulled(attend, p)


jax.tree_util.register_dataclass(Problem)
kernels, portable = jax.jit(cached), jax.jit(lambda p: cached(p, Backend()))


def assert_close(got, wanted, error):
  """Largest difference of (o, lse, dq) below `error`; lse of rows that see nothing is exact."""
  for name, a, b in zip(("o", "lse", "dq"), got, wanted):
    np.testing.assert_allclose(a.astype(jnp.float32), b, atol=error, err_msg=name)


@pytest.mark.parametrize(
  "heads, kv_heads, dim",
  [(1, 1, 128), (4, 2, 64), (9, 3, 64), (8, 2, 128), (5, 1, 128), (6, 1, 64), (7, 1, 64)]
  + [(8, 1, 128), (9, 1, 64)],
)
def test_float32_equals_dense_attention(heads, kv_heads, dim):
  p = problem(heads, kv_heads, dim)
  assert_close(kernels(p), dense(p), 2e-5)


@pytest.mark.parametrize("heads, kv_heads, dim", [(9, 3, 64), (8, 2, 128)])
def test_bfloat16_is_as_near_to_dense_attention_as_the_portable_kernels(heads, kv_heads, dim):
  p = problem(heads, kv_heads, dim, jnp.bfloat16)
  wanted, ours, theirs = dense(p), kernels(p), portable(p)
  assert [x.dtype for x in ours] == [jnp.float32, jnp.float32, jnp.bfloat16]
  for name, a, b, c in zip(("o", "lse", "dq"), ours, theirs, wanted):
    error = lambda x, c=c: float(jnp.abs(x.astype(jnp.float32) - c).max() / jnp.abs(c).max())
    # Weights, dO, dS and dq are rounded, each by 2**-9; the scores and their sums are not.
    assert error(a) <= 4 * 2**-9, name
    assert error(a) <= 1.5 * error(b) + 1e-6, name


def test_rows_that_see_no_slot_are_zero_and_masked():
  p = problem(4, 2, 64, limits=[[0] * 13, [37, 20, 38, -5] + [0] * 9])
  o, lse, dq = kernels(p)
  empty = np.ones((_B, 13), bool)
  empty[1, 2] = False
  assert (o[empty] == 0).all() and (lse[empty] == MASKED).all() and (dq[empty] == 0).all()
  np.testing.assert_allclose(o[1, 2, 0], p.values[_LAYER, 1, 0, 37], rtol=1e-6)


@pytest.mark.parametrize("spoiled", [1e4, np.nan])
@pytest.mark.parametrize("dim", [64, 128])
def test_slots_that_no_row_sees_change_nothing(spoiled, dim):
  windows = dict(first=(130, 0), limits=[[200] * 6 + [131] * 7, [129] * 12 + [5]])
  p = problem(4 if dim == 64 else 8, 2, dim, **windows)
  slots = np.arange(_S)
  seen = (slots >= p.first[:, None]) & (slots < p.limits.max(1)[:, None])
  spoil = lambda x: jnp.where(seen[None, :, None, :, None], x, spoiled).at[1 - _LAYER].set(spoiled)
  other = dataclasses.replace(p, keys=spoil(p.keys), values=spoil(p.values))
  for a, b in zip(kernels(p), kernels(other)):
    assert np.isfinite(a).all()
    np.testing.assert_array_equal(a, b)


def test_spans_anywhere_and_layers_are_one_program(compilations):
  """Every start and layer, at the edges of blocks too, without compiling again."""
  p = problem(4, 2, 64, first=(0, 0))
  tokens = p.limits.shape[1]

  def at(p, start):
    limits = start + jnp.arange(1, tokens + 1, dtype=jnp.int32)
    return dataclasses.replace(p, limits=jnp.broadcast_to(limits, p.limits.shape))

  span = jax.jit(lambda p, start, layer: cached(at(p, start), layer=layer))

  starts = [0, 114, 115, 116, 127, 128, 129, 256, _S - tokens]
  span(p, np.int32(1), np.int32(0))
  before = compilations()
  got = [span(p, np.int32(start), np.int32(start % 2)) for start in starts]
  assert compilations() == before
  for start, results in zip(starts, got):
    here = at(p, start)
    if start % 2 == 0:  # in layer 0
      here = dataclasses.replace(here, keys=p.keys[::-1], values=p.values[::-1])
    assert_close(results, dense(here), 2e-5)


@pytest.mark.parametrize("dim", [64, 128])
def test_a_decoded_token_and_a_chunk_of_prefill(dim):
  token = problem(8, 2, dim, tokens=1, limits=[[_S], [200]])
  chunk = 140 + np.broadcast_to(np.arange(1, 65), (_B, 64))
  chunk = problem(4, 1, dim, tokens=64, first=(0, 0), limits=chunk)
  assert slot_grid.row_block(64 * 4)[1] == 8
  for p in (token, chunk):
    ours = jax.jit(pallas_tpu.forward)(p.q, p.keys, p.values, _LAYER, p.first, p.limits)
    assert_close(ours, dense(p)[:2], 2e-5)


def test_large_scores_do_not_overflow():
  p = problem(4, 2, 64)
  assert all(np.isfinite(x).all() for x in kernels(dataclasses.replace(p, q=p.q * 1e4)))


def test_float32_queries_of_a_bfloat16_cache_are_not_rounded():
  p = problem(4, 2, 64)
  slots = [x.astype(jnp.bfloat16) for x in (p.keys, p.values)]
  p = dataclasses.replace(p, keys=slots[0], values=slots[1])
  np.testing.assert_allclose(kernels(p)[1], dense(p)[1], atol=2e-5)


@pytest.mark.parametrize("shared", [False, True], ids=["own caches", "one cache"])
def test_contexts_under_vmap_are_those_one_by_one(shared):
  ps = [problem(heads, 2, 64) for heads in (4, 4, 4)]
  shift = lambda p, i: dataclasses.replace(
    p, q=p.q + i, first=p.first + 60 * i, limits=jnp.roll(p.limits, i, 1) - 20 * i
  )
  ps = [shift(p, i) for i, p in enumerate(ps)]
  together = jax.tree.map(lambda *x: jnp.stack(x), *ps)
  axes = jax.tree.map(lambda _: 0, together)
  if shared:
    together = dataclasses.replace(together, keys=ps[0].keys, values=ps[0].values)
    axes = dataclasses.replace(axes, keys=None, values=None)
  got = jax.jit(jax.vmap(cached, (axes,)))(together)
  for i, p in enumerate(ps):
    assert_close([x[i] for x in got], dense(p), 3e-5)


def test_nested_vmap_reads_each_context_from_its_own_cache():
  """Queries have the inner axis, keys the outer one, values both."""
  p = problem(4, 2, 64)
  several = lambda x, n: jnp.stack([x * (i + 1) for i in range(n)])
  q, keys, values = several(p.q, 2), several(p.keys, 3), several(several(p.values, 2), 3)

  def both(forward):
    one = lambda q, k, v: forward(q, k, v, _LAYER, p.first, p.limits)
    return jax.jit(jax.vmap(jax.vmap(one, (0, None, 0)), (None, 0, 0)))(q, keys, values)

  for ours, theirs in zip(both(pallas_tpu.forward), both(chunked.forward)):
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize(
  "axes",
  [dict(context=4), dict(tensor=2, context=2), dict(tensor=2, fsdp=2), dict(data=2, tensor=2)],
  ids=str,
)
def test_a_mesh_changes_nothing(axes):
  """With slots dealt out most shards see limits that are none of their own slots."""
  mesh = tt.make_mesh(**axes, devices=jax.devices()[:4])
  p = problem(4, 2, 64)
  p = dataclasses.replace(
    p, **{x: jnp.pad(getattr(p, x), [(0, 0)] * 3 + [(0, 128), (0, 0)]) for x in ("keys", "values")}
  )
  order = dealt_order(p.keys.shape[3], axes.get("context", 1))
  dealt = dataclasses.replace(p, keys=p.keys[..., order, :], values=p.values[..., order, :])
  got = jax.jit(lambda p: cached(p, Backend(mesh, "pallas_tpu")))(dealt)
  wanted = dense(dataclasses.replace(p, limits=jnp.minimum(p.limits, _S + 9)))
  assert_close([x for x in got if x.ndim == 4], [x for x in wanted if x.ndim == 4], 2e-5)
  seen = np.asarray(wanted[1]) > MASKED / 2
  np.testing.assert_allclose(got[1][seen], wanted[1][seen], atol=2e-5)
  assert (np.asarray(got[1])[~seen] < MASKED / 2).all()


def test_the_slots_that_are_read_follow_the_length_and_not_the_capacity(monkeypatch):
  monkeypatch.undo()
  for rows in (1, 16, 100, 512, 4096):
    in_block, blocks = slot_grid.row_block(rows)
    assert rows <= in_block * blocks < rows + 16 * blocks and in_block <= 512
    for slots in (96, 128, 640, 1024, 1408, 8192, 40960, 131072):
      block = slot_grid.slot_block(in_block, slots)
      assert slots % block == 0 and block <= 2048 and block * in_block <= 1 << 19
      assert block % 128 == 0 or block == slots


@pytest.mark.parametrize("dim", [64, 128])
def test_a_row_block_stays_at_its_last_slots_when_others_go_on(dim):
  grid = slot_grid.Grid(batch=2, rows=32, row_blocks=2, slots=128, dim=dim)
  scalars = np.asarray([3]), np.asarray([0, 130]), np.zeros(4, int), np.asarray([5, 257, 384, 0])
  index = grid.of_slots(contexts=1).index_map
  visited = lambda i, row: [
    [int(x) for x in index(i, 7, row, jnp.int32(step), *map(jnp.asarray, scalars))]
    for step in range(3)
  ]
  place = lambda i, block: [0, 3, i, 7, *((block, 0) if dim == 128 else (0, block))]
  for i, row, blocks in (
    (0, 0, [0, 0, 0]),
    (0, 1, [0, 1, 2]),
    (1, 0, [1, 2, 2]),
    (1, 1, [0, 0, 0]),
  ):
    assert visited(i, row) == [place(i, block) for block in blocks]


def _flow(model, params, fast_step, tokens, prompt):
  """Everything that a model computes over a cache, but Algorithm 1's many steps."""
  cache, logits = tt.prefill(model, params, tokens)
  fast = tt.init_fast(model, params)
  fast, _, metrics = tt.ttt_step(
    model, params, fast, tt.init_optimizer(fast), cache, tokens, fast_step, _CFG
  )
  sampling = tt.SamplingConfig(max_new_tokens=5)
  out = tt.generate(model, params, fast, cache, prompt, jax.random.key(0), sampling)
  score = lambda params: tt.score(model, params, fast, cache, prompt).sum()
  scores, gradient = jax.value_and_grad(score)(params)
  return out.tokens, (logits, fast, metrics.loss, metrics.grad_norm, out.logprobs, scores, gradient)


# eps well above the gradient's rounding: Adam is ill-conditioned where a gradient is about eps.
_CFG = tt.TTTConfig(steps=1, span=24, learning_rate=1e-2, eps=1e-4)


def test_a_model_computes_the_same_with_either_backend(small, compilations, monkeypatch):
  _, model, params = small
  rng = np.random.default_rng(1)
  tokens, prompt = reference.repeating_tokens(rng, 200), reference.random_tokens(rng, 2, 6)
  flow = lambda name, *rest: _flow(model.clone(attention=name), params, *rest)
  tokens_ours, ours = flow("pallas_tpu", np.int32(100), tokens, prompt)
  before = compilations()
  flow("pallas_tpu", np.int32(7), tokens[:, :150], prompt)
  assert compilations() - before == 0
  tokens_theirs, theirs = flow("portable", np.int32(100), tokens, prompt)
  np.testing.assert_array_equal(tokens_ours, tokens_theirs)
  for (path, a), b in zip(jax.tree.leaves_with_path(ours), jax.tree.leaves(theirs)):
    assert reference.relative_error(a, b) < 1e-4, jax.tree_util.keystr(path)


def test_a_derivative_of_a_gradient_is_the_portable_one():
  p = problem(4, 2, 64)
  tangent = jax.random.normal(jax.random.key(0), p.q.shape)

  def second(backend):
    def gradient(q):
      o, lse = attend_cache(q, p.keys, p.values, _LAYER, p.first, p.limits, backend)
      return (o * p.do).sum() + (jnp.where(lse > MASKED / 2, lse, 0.0) ** 2).sum()

    return jax.jvp(jax.grad(gradient), (p.q,), (tangent,))

  for a, b in zip(jax.jit(lambda: second(_TPU))(), jax.jit(lambda: second(Backend()))()):
    np.testing.assert_allclose(a, b, atol=2e-4)


def test_auto_is_portable_on_every_platform_until_the_kernels_have_run_on_a_tpu(small):
  assert set(backends.AUTO.values()) == {"portable"}
  assert small[1].backend == Backend() == backend_of("auto", None)
  mesh = tt.make_mesh(tensor=8)
  assert backend_of("auto", mesh) == Backend(mesh, "portable")
  assert small[1].clone(attention="pallas_tpu").backend.kernels is pallas_tpu


def test_from_pretrained_and_sessions_take_a_backend_by_its_name():
  model, _ = tt.from_pretrained(tt.EMBEDDED, attention="pallas_tpu")
  session = tt.Session.open(tt.EMBEDDED, attention="pallas_tpu")
  assert model.backend == session.model.backend == _TPU


@pytest.mark.parametrize(
  "call",
  [
    lambda name: tt.from_pretrained(tt.EMBEDDED, attention=name),
    lambda name: tt.Session.open(tt.EMBEDDED, attention=name),
    lambda name: backend_of(name, None),
  ],
)
def test_an_unknown_backend_is_refused_with_the_known_ones(call):
  with user_error("attention='flash': choose one of auto, portable, pallas_tpu"):
    call("flash")
