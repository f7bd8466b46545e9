"""Outside references: transformers' models, and Algorithm 1 of the paper in torch.

The conversion of weights here is written apart from the project's loader, so that
the two can be compared.
"""

import copy
import dataclasses

import jax.numpy as jnp
import numpy as np
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache, PreTrainedModel
from transformers.models.qwen3.modeling_qwen3 import apply_rotary_pos_emb, repeat_kv

import tttjax as tt

# What config.json does not say and transformers' model classes do.
DIFFERENCES = {
  "qwen3": dict(qk_norm=True, qkv_bias=False),
  "qwen2": dict(qk_norm=False, qkv_bias=True),
  "llama": dict(qk_norm=False, qkv_bias=False),
}


@dataclasses.dataclass(frozen=True)
class Shape:
  """A small model: the numbers that tests vary."""

  hidden: int = 40
  heads: int = 6
  kv_heads: int = 2
  head_dim: int = 16
  mlp: int = 64
  layers: int = 3
  vocab: int = 97
  theta: float = 1e6
  tied: bool = False
  rope_scaling: dict | None = None
  positions: int = 4096
  family: str = "qwen3"


def hf_model(shape: Shape, seed: int = 0, attention: str = "sdpa") -> PreTrainedModel:
  """A random float32 transformers model whose attention is far from uniform.

  transformers initialises with a standard deviation of 0.02: every score would be
  close to 0, and no error in RoPE or the masks would show.
  """
  rope = {"rope_theta": shape.theta, "rope_type": "default"}
  config = AutoConfig.for_model(
    shape.family,
    vocab_size=shape.vocab,
    hidden_size=shape.hidden,
    intermediate_size=shape.mlp,
    num_hidden_layers=shape.layers,
    num_attention_heads=shape.heads,
    num_key_value_heads=shape.kv_heads,
    head_dim=shape.head_dim,
    max_position_embeddings=shape.positions,
    tie_word_embeddings=shape.tied,
    rope_parameters=rope | (shape.rope_scaling or {}),
    attn_implementation=attention,
  )
  model = AutoModelForCausalLM.from_config(config).eval()
  generator = torch.Generator().manual_seed(seed)
  with torch.no_grad():
    for name, weight in model.named_parameters():
      noise = torch.randn(weight.shape, generator=generator)
      if name.endswith("norm.weight") or "layernorm" in name:
        middle = 1.5 if "q_norm" in name or "k_norm" in name else 1.0
        weight.copy_(middle + 0.2 * noise)
      elif "embed_tokens" in name:
        weight.copy_(noise)
      elif name.endswith("bias"):
        weight.copy_(0.5 * noise)
      else:
        weight.copy_(noise * weight.shape[1] ** -0.5)
  return model.requires_grad_(False)


def model_config(shape: Shape) -> tt.DecoderConfig:
  """The same architecture as a tttjax config."""
  scaling = None
  if shape.rope_scaling is not None:
    fields = dict(shape.rope_scaling)
    scaling = {"yarn": tt.YarnConfig, "llama3": tt.Llama3Config}[fields.pop("rope_type")](**fields)
  return tt.DecoderConfig(
    vocab_size=shape.vocab,
    hidden_size=shape.hidden,
    intermediate_size=shape.mlp,
    num_hidden_layers=shape.layers,
    num_attention_heads=shape.heads,
    num_key_value_heads=shape.kv_heads,
    head_dim=shape.head_dim,
    rope_theta=shape.theta,
    max_position_embeddings=shape.positions,
    tie_word_embeddings=shape.tied,
    rope_scaling=scaling,
    model_type=shape.family,
    **DIFFERENCES[shape.family],
  )


def to_params(hf: PreTrainedModel, dtype=jnp.float32) -> dict:
  """A transformers model's weights as tttjax params."""
  c = hf.config

  def numpy(tensor):
    return tensor.detach().float().numpy()

  def stack(read):
    return jnp.asarray(np.stack([read(layer) for layer in hf.model.layers]), dtype)

  def heads_in(projection, heads):  # torch [heads * d, D] -> [D, heads, d]
    return lambda layer: numpy(getattr(layer.self_attn, projection).weight).T.reshape(
      -1, heads, layer.self_attn.head_dim
    )

  def matrix(name):
    return lambda layer: numpy(getattr(layer.mlp, name).weight).T

  params = {
    "embed": {"embedding": jnp.asarray(numpy(hf.model.embed_tokens.weight), dtype)},
    "layers": {
      "attention_norm": {"scale": stack(lambda layer: numpy(layer.input_layernorm.weight))},
      "attention": {
        "query": {"kernel": stack(heads_in("q_proj", c.num_attention_heads))},
        "key": {"kernel": stack(heads_in("k_proj", c.num_key_value_heads))},
        "value": {"kernel": stack(heads_in("v_proj", c.num_key_value_heads))},
        "output": {
          "kernel": stack(
            lambda layer: numpy(layer.self_attn.o_proj.weight).T.reshape(
              c.num_attention_heads, layer.self_attn.head_dim, -1
            )
          )
        },
      },
      "mlp_norm": {"scale": stack(lambda layer: numpy(layer.post_attention_layernorm.weight))},
      "mlp": {
        "gate": {"kernel": stack(matrix("gate_proj"))},
        "up": {"kernel": stack(matrix("up_proj"))},
        "down": {"kernel": stack(matrix("down_proj"))},
      },
    },
    "final_norm": {"scale": jnp.asarray(numpy(hf.model.norm.weight), dtype)},
  }
  attention = params["layers"]["attention"]
  if hasattr(hf.model.layers[0].self_attn, "q_norm"):
    for name, norm in (("query_norm", "q_norm"), ("key_norm", "k_norm")):
      attention[name] = {
        "scale": stack(lambda x, norm=norm: numpy(getattr(x.self_attn, norm).weight))
      }
  for name, projection in (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj")):
    if getattr(hf.model.layers[0].self_attn, projection).bias is not None:
      bias = lambda x, name=projection: numpy(getattr(x.self_attn, name).bias)
      attention[name]["bias"] = stack(lambda x: bias(x).reshape(-1, x.self_attn.head_dim))
  if not c.tie_word_embeddings:
    params["lm_head"] = {"kernel": jnp.asarray(numpy(hf.lm_head.weight).T, dtype)}
  return params


def pair(shape: Shape, seed: int = 0, attention: str = "sdpa"):
  """(transformers model, tttjax model, tttjax params) with the same weights, float32."""
  hf = hf_model(shape, seed, attention)
  return hf, tt.Decoder(model_config(shape), jnp.float32), to_params(hf)


def cast(hf: PreTrainedModel, dtype: torch.dtype) -> PreTrainedModel:
  """A copy with its parameters in `dtype`. The RoPE frequencies, buffers, stay float32 as when
  transformers loads a checkpoint; `Module.to` would round them too."""
  hf = copy.deepcopy(hf)
  for parameter in hf.parameters():
    parameter.data = parameter.data.to(dtype)
  hf.config.dtype = dtype
  return hf


def random_tokens(rng: np.random.Generator, *shape: int, vocab: int = 97) -> np.ndarray:
  """Uniform int32 token ids."""
  return rng.integers(0, vocab, shape).astype(np.int32)


def repeating_tokens(rng: np.random.Generator, length: int, vocab: int = 97) -> np.ndarray:
  """int32 [1, length] in which phrases come back, so that there is something to learn."""
  phrases = rng.integers(0, vocab, (4, 12))
  return phrases[rng.integers(0, 4, -(-length // 12))].reshape(1, -1)[:, :length].astype(np.int32)


def torch_ids(tokens) -> torch.Tensor:
  return torch.as_tensor(np.asarray(tokens), dtype=torch.long)


def hf_logits(hf, tokens, **kwargs) -> np.ndarray:
  """float32 logits [B, T, V] of all positions."""
  with torch.no_grad():
    return hf(torch_ids(tokens), **kwargs).logits.float().numpy()


def hf_cache(hf, tokens) -> DynamicCache:
  """transformers' own cache after a prefill."""
  with torch.no_grad():
    return hf(torch_ids(tokens), use_cache=True).past_key_values


def cache_tensors(cache: DynamicCache) -> list[tuple[torch.Tensor, torch.Tensor]]:
  """(keys, values), each [B, K, T, d], of every layer."""
  return [(layer.keys.clone(), layer.values.clone()) for layer in cache.layers]


def relative_error(ours, reference) -> float:
  """Largest difference over the largest reference value."""
  ours, reference = np.asarray(ours, np.float64), np.asarray(reference, np.float64)
  return float(np.abs(ours - reference).max() / np.abs(reference).max())


def norm_error(ours, reference) -> float:
  """Norm of the difference over the norm of the reference."""
  ours, reference = np.asarray(ours, np.float64), np.asarray(reference, np.float64)
  return float(np.linalg.norm(ours - reference) / np.linalg.norm(reference))


def log_softmax(logits) -> np.ndarray:
  return torch.log_softmax(torch.tensor(np.asarray(logits)), -1).numpy()


def token_logprobs(logits, tokens) -> np.ndarray:
  """float32 [B, T-1]: log-probability of tokens[:, 1:] from logits of the tokens before."""
  chosen = torch_ids(tokens)[:, 1:, None]
  return torch.as_tensor(log_softmax(logits))[:, :-1].gather(-1, chosen)[..., 0].numpy()


def span_loss(hf, frozen, tokens, start: int, span: int, recomputed: bool = False):
  """Loss of a span against frozen keys and values (paper, section 3), with autograd.

  Args:
    frozen: per layer (keys, values) [1, K, T, d] of the context.
    recomputed: the span's own keys and values are computed again and take part in the gradient.
  """
  ids = torch_ids(tokens)
  x = hf.model.embed_tokens(ids[:, start : start + span])
  place = torch.arange(start, start + span)
  cos, sin = hf.model.rotary_emb(x, place[None])
  visible = torch.arange(start + span)[None] <= place[:, None]
  for layer, (keys, values) in zip(hf.model.layers, frozen):
    attention = layer.self_attn
    heads = (1, span, -1, attention.head_dim)
    h = layer.input_layernorm(x)
    q, k = attention.q_proj(h).view(heads), attention.k_proj(h).view(heads)
    if hasattr(attention, "q_norm"):
      q, k = attention.q_norm(q), attention.k_norm(k)
    q, k = q.transpose(1, 2), k.transpose(1, 2)
    q, k = apply_rotary_pos_emb(q, k, cos, sin)
    if recomputed:
      v = attention.v_proj(h).view(heads).transpose(1, 2)
      keys = torch.cat([keys[:, :, :start], k], 2)
      values = torch.cat([values[:, :, :start], v], 2)
    groups = attention.num_key_value_groups
    keys = repeat_kv(keys[:, :, : start + span], groups)
    values = repeat_kv(values[:, :, : start + span], groups)
    scores = q @ keys.transpose(2, 3) * attention.scaling
    weights = scores.masked_fill(~visible, -torch.inf).softmax(-1)
    x = x + attention.o_proj((weights @ values).transpose(1, 2).reshape(1, span, -1))
    x = x + layer.mlp(layer.post_attention_layernorm(x))
  logits = hf.lm_head(hf.model.norm(x))[0]
  return nn.functional.cross_entropy(logits, ids[0, start + 1 : start + span + 1])


def query_weights(hf) -> list[nn.Parameter]:
  return [layer.self_attn.q_proj.weight for layer in hf.model.layers]


def query_array(hf, tensors) -> np.ndarray:
  """Tensors shaped as the query weights, as [L, D, H, d]."""
  c = hf.config
  shape = (c.hidden_size, c.num_attention_heads, -1)
  return np.stack([t.detach().numpy().T.reshape(shape) for t in tensors])


@dataclasses.dataclass
class TorchRun:
  """What test-time training in torch did: losses and gradient norms by step, and Delta."""

  losses: list[float]
  grad_norms: list[float]
  delta: np.ndarray


def torch_ttt(hf, tokens, starts, cfg: tt.TTTConfig) -> TorchRun:
  """Algorithm 1 with torch.optim.AdamW and clip_grad_norm_; changes hf's query weights."""
  frozen = cache_tensors(hf_cache(hf, tokens))
  weights = query_weights(hf)
  before = [w.detach().clone() for w in weights]
  for w in weights:
    w.requires_grad_(True)
  optimizer = torch.optim.AdamW(
    weights,
    lr=cfg.learning_rate,
    betas=(cfg.b1, cfg.b2),
    eps=cfg.eps,
    weight_decay=cfg.weight_decay,
  )
  run = TorchRun([], [], np.zeros(()))
  for start in starts:
    optimizer.zero_grad()
    loss = span_loss(hf, frozen, tokens, start, cfg.span, cfg.span_kv == "recomputed")
    loss.backward()
    run.grad_norms.append(float(nn.utils.clip_grad_norm_(weights, cfg.clip)))
    optimizer.step()
    run.losses.append(float(loss.detach()))
  for w in weights:
    w.requires_grad_(False)
  run.delta = query_array(hf, [w - b for w, b in zip(weights, before)])
  return run


def set_query_kernels(hf, kernels) -> None:
  """Puts [L, D, H, d] query kernels into a transformers model."""
  kernels = np.asarray(kernels, np.float32)
  with torch.no_grad():
    for weight, kernel in zip(query_weights(hf), kernels):
      weight.copy_(torch.tensor(kernel.reshape(weight.shape[1], -1).T))
