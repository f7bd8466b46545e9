"""Full-parameter test-time training against torch autograd and torch.optim.AdamW."""

import copy
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn

from tests import reference
from tests.reference import norm_error, random_tokens, relative_error
import tttjax as tt
from tttjax import flops
from tttjax.flops import terms
from tttjax.ttt.full_parameters import full_ttt

_T, _STEPS = 200, 3
_CFG = tt.TTTConfig(steps=_STEPS, learning_rate=1e-3, weight_decay=0.1)


def _torch_full_ttt(hf, tokens, cfg):
  """(losses, gradient norms, params after) of AdamW on all weights of a copy of `hf`."""
  hf = copy.deepcopy(hf).requires_grad_(True)
  weights = list(hf.parameters())
  optimizer = torch.optim.AdamW(
    weights,
    lr=cfg.learning_rate,
    betas=(cfg.b1, cfg.b2),
    eps=cfg.eps,
    weight_decay=cfg.weight_decay,
  )
  ids = reference.torch_ids(tokens)
  losses, norms = [], []
  for _ in range(cfg.steps):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(hf(ids).logits[0, :-1], ids[0, 1:])
    loss.backward()
    norms.append(float(nn.utils.clip_grad_norm_(weights, cfg.clip)))
    optimizer.step()
    losses.append(float(loss.detach()))
  return losses, norms, reference.to_params(hf)


@pytest.fixture(scope="module")
def trained(small, context):
  """(params, history) after three steps on the shared context."""
  _, model, params = small
  return full_ttt(model, params, context[0], None, _CFG)


def _compare(ours, expected, before):
  changes = lambda after: jax.tree.map(lambda a, b: np.asarray(a) - np.asarray(b), after, before)
  errors = jax.tree.map(relative_error, ours, expected)
  assert max(jax.tree.leaves(errors)) < 1e-4, errors
  moved = jax.tree.map(norm_error, changes(ours), changes(expected))
  assert max(jax.tree.leaves(moved)) < 1e-2, moved


def test_three_steps_equal_torch(small, context, trained):
  hf, _, params = small
  losses, norms, expected = _torch_full_ttt(hf, context[0], _CFG)
  after, history = trained
  np.testing.assert_allclose(history.loss, losses, atol=1e-5)
  np.testing.assert_allclose(history.grad_norm, norms, rtol=1e-4)
  assert losses[2] < losses[0] and history.ok.all() and max(norms) > _CFG.clip
  _compare(after, expected, params)


def test_tied_embeddings_without_clipping_equal_torch():
  hf, model, params = reference.pair(reference.Shape(tied=True), seed=1)
  tokens = reference.repeating_tokens(np.random.default_rng(3), 90)
  cfg = dataclasses.replace(_CFG, clip=np.inf)
  losses, _, expected = _torch_full_ttt(hf, tokens, cfg)
  after, history = full_ttt(model, params, tokens, None, cfg)
  np.testing.assert_allclose(history.loss, losses, atol=1e-5)
  _compare(after, expected, params)


def test_training_does_not_depend_on_padding(small, context, trained):
  _, model, params = small
  padding = random_tokens(np.random.default_rng(4), 1, 50)
  padded = np.concatenate([context[0], padding], axis=1)
  after, history = full_ttt(model, params, padded, np.asarray([_T]), _CFG)
  jax.tree.map(np.testing.assert_array_equal, (after, history), trained)
  wide = np.pad(context[0], ((0, 0), (0, 184)))  # another capacity, another program
  _, history = full_ttt(model, params, wide, np.asarray([_T]), _CFG)
  np.testing.assert_allclose(history.loss, trained[1].loss, atol=1e-5)


def test_the_next_cache_is_made_with_the_returned_params(small, context, trained):
  _, model, params = small
  before, after = (tt.prefill(model, p, context[0])[0] for p in (params, trained[0]))
  for name in ("keys", "values"):
    assert relative_error(getattr(after, name), getattr(before, name)) > 1e-3


def test_the_callers_params_stay_and_no_step_changes_nothing(small, context):
  _, model, params = small
  same, history = full_ttt(model, params, context[0], None, dataclasses.replace(_CFG, steps=0))
  jax.tree.map(np.testing.assert_array_equal, same, params)
  assert history.loss.shape == (0,)


def test_a_step_that_is_not_finite_changes_nothing(small, context):
  _, model, params = small
  cfg = dataclasses.replace(_CFG, learning_rate=3e38)  # the norm of the update overflows
  after, history = full_ttt(model, params, context[0], None, cfg)
  jax.tree.map(np.testing.assert_array_equal, after, params)
  assert history.ok.tolist() == [False] * _STEPS
  assert history.update_norm.tolist() == [0.0] * _STEPS


def test_bfloat16_weights_have_float32_masters(small, context):
  """At a small rate every weight moves, and less than bfloat16 could hold."""
  _, model, params = small
  half = jax.tree.map(lambda w: w.astype(jnp.bfloat16), params)
  cfg = dataclasses.replace(_CFG, learning_rate=1e-5, steps=1)
  after, history = full_ttt(model.clone(dtype=jnp.bfloat16), half, context[0], None, cfg)
  assert history.ok.all()
  assert {w.dtype for w in jax.tree.leaves(after)} == {jnp.dtype(jnp.float32)}
  new, old = (tree["layers"]["mlp"]["up"]["kernel"] for tree in (after, half))
  assert (new != old).mean() > 0.99
  assert (new.astype(jnp.bfloat16) != old).mean() < 0.1


def test_what_varies_within_a_capacity_compiles_nothing(small, trained, compilations):
  del trained
  _, model, params = small
  rng = np.random.default_rng(5)
  before = compilations()
  cfg = tt.TTTConfig(steps=5, learning_rate=3e-5, weight_decay=0.0, clip=2.0, warmup_steps=2)
  _, history = full_ttt(model, params, random_tokens(rng, 1, 240), None, cfg)
  full_ttt(model, params, random_tokens(rng, 1, 220), np.asarray([170]), cfg)
  assert compilations() == before and history.loss.shape == (5,)


def test_executed_flops_are_the_count_with_dense_pairs_and_what_is_computed_again(small, context):
  _, model, params = small
  executed = flops.executed_flops(
    lambda params, tokens: full_ttt(model, params, tokens, None, _CFG),
    *(params, context[0]),
    while_trips=_STEPS,
  )
  c, rows = model.config, 256
  linear = terms.forward(c, rows, 0, rows, delta=False)
  again = rows * terms.logits_row(c)
  assert executed == _STEPS * (3 * linear + again + 8 * rows**2 * terms.pair(c))
  # The model count of the same rows has causal pairs and 7 products.
  count = flops.full_ttt_step(c, rows + 1)
  assert count == 3 * linear + 7 * terms.causal_pairs(0, rows) * terms.pair(c)


def test_mistakes_are_refused(small):
  _, model, params = small
  tokens = np.zeros((2, 5000), np.int32)
  for given, lengths, message in (
    (tokens, None, "one context, not tokens of batch 2"),
    (tokens[:1], [1], "at least 2 tokens, not 1"),
    (
      tokens[:1],
      None,
      "5000 tokens but max_position_embeddings and YaRN in config.json allow 4096",
    ),
    (tokens[:1] + 97, None, "token id 97"),
  ):
    lengths = None if lengths is None else np.asarray(lengths)
    with pytest.raises(tt.UserError, match=message):
      full_ttt(model, params, given, lengths, _CFG)
