"""qTTT in torch as people write it: on a frozen cache, and with an adapter that reads all again."""

import torch
from torch import nn
from torch.nn import functional
from transformers.models.qwen3.modeling_qwen3 import apply_rotary_pos_emb

Frozen = list[tuple[torch.Tensor, torch.Tensor]]


class FrozenCacheLoop:
  """Steps on W_Q alone: sdpa over frozen keys and values, grouped queries, AdamW, clipping."""

  def __init__(self, model, frozen: Frozen, ids: torch.Tensor, learning_rate: float = 1e-5):
    self._model, self._frozen, self._ids = model, frozen, ids
    self._weights = [layer.self_attn.q_proj.weight for layer in model.model.layers]
    for weight in self._weights:
      weight.requires_grad_(True)
    self._optimizer = torch.optim.AdamW(self._weights, lr=learning_rate, weight_decay=0.01)

  def step(self, start: int, span: int) -> float:
    self._optimizer.zero_grad(set_to_none=True)
    loss = self.loss(start, span)
    loss.backward()
    nn.utils.clip_grad_norm_(self._weights, 1.0)
    self._optimizer.step()
    return loss.item()

  def loss(self, start: int, span: int) -> torch.Tensor:
    """Of a span's next tokens, with its graph."""
    model, ids = self._model, self._ids
    x = model.model.embed_tokens(ids[:, start : start + span])
    place = torch.arange(start, start + span, device=ids.device)
    cos, sin = model.model.rotary_emb(x, place[None])
    seen = torch.arange(start + span, device=ids.device)
    visible = seen[None] <= place[:, None]
    for layer, (keys, values) in zip(model.model.layers, self._frozen):
      attention = layer.self_attn
      h = layer.input_layernorm(x)
      q = attention.q_norm(attention.q_proj(h).view(1, span, -1, attention.head_dim))
      q, _ = apply_rotary_pos_emb(q.transpose(1, 2), q.transpose(1, 2), cos, sin)
      o = functional.scaled_dot_product_attention(
        q,
        keys[:, :, : start + span],
        values[:, :, : start + span],
        attn_mask=visible,
        scale=attention.scaling,
        enable_gqa=True,
      )
      x = x + attention.o_proj(o.transpose(1, 2).reshape(1, span, -1))
      x = x + layer.mlp(layer.post_attention_layernorm(x))
    logits = model.lm_head(model.model.norm(x))[0]
    return functional.cross_entropy(logits.float(), ids[0, start + 1 : start + span + 1])

  def close(self) -> None:
    for weight in self._weights:
      weight.requires_grad_(False)


class AdapterLoop:
  """A LoRA on q_proj by peft, whose every step runs the prefix again: there is no frozen cache.

  Raises:
    ImportError: peft is not installed.
  """

  def __init__(self, model, ids: torch.Tensor, learning_rate: float = 1e-4):
    import peft

    config = peft.LoraConfig(r=16, target_modules=["q_proj"], task_type="CAUSAL_LM")
    self._peft, self._ids = peft.get_peft_model(model, config), ids
    weights = [p for p in self._peft.parameters() if p.requires_grad]
    self._optimizer = torch.optim.AdamW(weights, lr=learning_rate)

  def step(self, start: int, span: int) -> float:
    self._optimizer.zero_grad(set_to_none=True)
    ids = self._ids[:, : start + span + 1]
    logits = self._peft(ids[:, :-1], logits_to_keep=span, use_cache=False).logits[0]
    loss = functional.cross_entropy(logits.float(), ids[0, start + 1 :])
    loss.backward()
    self._optimizer.step()
    return loss.item()

  def close(self) -> None:
    self._peft.unload()
