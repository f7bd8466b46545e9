"""What each family adds to the decoder, against transformers: modules, training, decoding, files.

Whole prompts are compared in test_model_parity.py.
"""

import copy

import jax
import jax.numpy as jnp
import mesh_flow
import numpy as np
import pytest
import torch

from tests import hf as files
from tests import reference
from tests.errors import user_error
from tests.reference import Shape, norm_error, relative_error
import tttjax as tt
from tttjax.attention.phases import SelfAttention
from tttjax.checkpoint import open_checkpoint
from tttjax.models import decoder as modules
from tttjax.models.fast_weights import delta
from tttjax.models.rope import rotations

_T = 200
LLAMA3 = {
  "rope_type": "llama3",
  "factor": 8.0,
  "low_freq_factor": 1.0,
  "high_freq_factor": 4.0,
  "original_max_position_embeddings": 64,
}
# Query heads that no power of two divides, as in SmolLM2; and each shape unlike the other.
SHAPES = {
  "llama": Shape(
    hidden=36, heads=9, kv_heads=3, head_dim=16, family="llama", rope_scaling=LLAMA3, tied=True
  ),
  "qwen2": Shape(hidden=44, heads=4, kv_heads=2, head_dim=8, family="qwen2"),
}


@pytest.fixture(scope="module", params=SHAPES)
def family(request):
  """(transformers model, tttjax model, params, tokens [1, 200], their cache)."""
  hf, model, params = reference.pair(SHAPES[request.param])
  tokens = reference.repeating_tokens(np.random.default_rng(2), _T)
  return hf, model, params, tokens, tt.prefill(model, params, tokens)[0]


def test_attention_equals_transformers(family, rng):
  hf, model, params, _, _ = family
  x = rng.normal(size=(2, 33, model.config.hidden_size)).astype(np.float32)
  positions = np.broadcast_to(np.arange(33, dtype=np.int32), (2, 33))
  rope = hf.model.rotary_emb(torch.tensor(x), torch.tensor(positions))
  mask = torch.full((33, 33), -torch.inf).triu(1)[None, None]
  expected, _ = hf.model.layers[1].self_attn(torch.tensor(x), rope, mask)
  attention = modules.Attention(model.config, jnp.float32, None)
  layer = {"params": jax.tree.map(lambda leaf: leaf[1], params["layers"]["attention"])}
  ours = rotations(model.config, jnp.asarray(positions))
  got = attention.apply(layer, x, (), ours, SelfAttention(), 0)[0]
  assert relative_error(got, expected) < 1e-5


def test_params_are_those_that_are_declared(family):
  _, model, params, _, _ = family
  describe = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)
  assert describe(modules.abstract_params(model)) == describe(params)


@pytest.mark.parametrize("span_kv", ["frozen", "recomputed"])
def test_steps_equal_torch_autograd_and_adamw(family, span_kv):
  hf, model, params, tokens, cache = family
  cfg = tt.TTTConfig(steps=3, span=16, learning_rate=1e-3, span_kv=span_kv)
  starts = [0, 91, 40]
  expected = reference.torch_ttt(copy.deepcopy(hf), tokens, starts, cfg)
  fast = tt.init_fast(model, params)
  optimizer = tt.init_optimizer(fast)
  losses, norms = [], []
  for start in starts:
    fast, optimizer, metrics = tt.ttt_step(
      model, params, fast, optimizer, cache, tokens, np.int32(start), cfg
    )
    losses.append(float(metrics.loss))
    norms.append(float(metrics.grad_norm))
  np.testing.assert_allclose(losses, expected.losses, rtol=1e-4)
  np.testing.assert_allclose(norms, expected.grad_norms, rtol=1e-3)
  assert norm_error(delta(fast), expected.delta) < 1e-3


def test_greedy_text_equals_transformers_token_by_token(family):
  hf, model, params, tokens, cache = family
  prompt = reference.random_tokens(np.random.default_rng(3), 1, 5)
  expected = hf.generate(
    torch.tensor(np.concatenate([tokens, prompt], axis=1)),
    do_sample=False,
    max_new_tokens=40,
    pad_token_id=0,
    eos_token_id=None,
  )[:, -40:]
  sampling = tt.SamplingConfig(max_new_tokens=40)
  got = tt.generate(model, params, None, cache, prompt, jax.random.key(0), sampling)
  np.testing.assert_array_equal(got.tokens, expected)


@pytest.mark.parametrize("name", SHAPES)
def test_files_load_and_are_exported_as_transformers_does(name, tmp_path):
  scaling = SHAPES[name].rope_scaling
  rope = {"rope_theta": 1e5, "rope_type": "default"} | (scaling or {})
  directory = files.make_checkpoint(
    tmp_path / "in", model_type=name, hidden_size=24, tied=True, rope=rope
  )
  model, params = tt.from_pretrained(directory)
  tokens = reference.random_tokens(np.random.default_rng(0), 1, 50, vocab=61)
  expected = files.reference_logits(directory, tokens)
  assert relative_error(model.apply({"params": params}, tokens), expected) < 1e-4

  out = tt.export(tmp_path / "out", model, params)
  assert open_checkpoint(out).config == model.config
  np.testing.assert_array_equal(files.reference_logits(out, tokens), expected)


@pytest.mark.parametrize("name", SHAPES)
def test_head_dim_that_files_leave_out_is_the_hidden_size_over_the_heads(name, tmp_path):
  sizes = dict(hidden_size=48, num_attention_heads=6, head_dim=8)
  directory = files.make_checkpoint(tmp_path / "in", model_type=name, **sizes)
  files.edit_config(directory, remove=["head_dim"])
  assert open_checkpoint(directory).config.head_dim == 8
  files.edit_config(directory, hidden_size=50)
  with user_error("num_attention_heads", "does not divide hidden_size = 50"):
    open_checkpoint(directory)


@pytest.mark.parametrize(
  "name, changes",
  [
    ("qwen2", dict(use_sliding_window=True)),
    ("qwen2", dict(layer_types=["full_attention", "sliding_attention", "full_attention"])),
    ("llama", dict(attention_bias=True)),
    ("llama", dict(mlp_bias=True)),
    ("llama", dict(rope_interleaved=True)),
  ],
)
def test_what_a_family_does_not_do_is_refused(name, changes, tmp_path):
  directory = files.make_checkpoint(tmp_path / "in", model_type=name, hidden_size=24)
  files.edit_config(directory, **changes)
  with user_error("config.json", *changes):
    open_checkpoint(directory)


@pytest.mark.parametrize("name", ["mistral", "gemma", "gemma2", "qwen3_next", "qwen3_moe"])
def test_relatives_that_differ_are_refused_by_name(name, tmp_path):
  directory = files.make_checkpoint(tmp_path / "in", model_type="llama", hidden_size=24)
  files.edit_config(directory, model_type=name, hidden_size=24)
  with user_error("model_type", name, "not supported", "dense Llama", "dense Qwen3"):
    open_checkpoint(directory)


@pytest.mark.parametrize(
  "changes, words",
  [
    (dict(low_freq_factor=4.0), ["low_freq_factor", "below high_freq_factor"]),
    (dict(factor=0.5), ["factor", "at least 1"]),
    (dict(high_freq_factor=None), ["high_freq_factor", "missing"]),
    (dict(beta_fast=32.0), ["beta_fast", "not a setting of rope_type llama3"]),
  ],
)
def test_wrong_settings_of_llama_3s_rope_are_named(changes, words, tmp_path):
  directory = files.make_checkpoint(tmp_path / "in", model_type="llama", hidden_size=24)
  rope = {"rope_theta": 5e5} | LLAMA3 | changes
  files.edit_config(directory, rope_parameters=rope)
  with user_error(*words):
    open_checkpoint(directory)


# Three KV heads and nine query heads divide no axis of two, four or eight: they are replicated.
@pytest.mark.parametrize(
  "name, mesh",
  [
    ("llama", dict(tensor=4, data=2)),
    *(
      pytest.param(*case, marks=pytest.mark.slow)
      for case in [
        ("llama", dict(tensor=2, context=4)),
        ("llama", dict(tensor=8)),
        ("qwen2", dict(tensor=2, context=4)),
        ("qwen2", dict(tensor=4, data=2)),
        ("qwen2", dict(tensor=8)),
      ]
    ),
  ],
)
def test_results_on_eight_devices_equal_one_devices(name, mesh, one_device):
  model, params, expected = one_device(name)
  on_mesh = model.clone(mesh=tt.make_mesh(**mesh))
  got = mesh_flow.run(on_mesh, mesh_flow.place(on_mesh, params), everything=False)
  np.testing.assert_array_equal(got["tokens"], expected["tokens"])
  for leaf in ("logits", "fast", "loss", "logprobs"):
    errors = jax.tree.map(mesh_flow.relative_error, got[leaf], expected[leaf])
    assert max(jax.tree.leaves(errors)) < 1e-4, leaf


@pytest.fixture(scope="module")
def one_device():
  """A function: name of a family -> (model, host parameters, results on one device)."""
  results = {}

  def run(name):
    if name not in results:
      config = reference.model_config(SHAPES[name])
      params = mesh_flow.host_params(config)
      model = tt.Decoder(config)
      results[name] = model, params, mesh_flow.run(model, params, everything=False)
    return results[name]

  return run
