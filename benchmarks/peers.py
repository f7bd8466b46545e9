"""The phases in torch, each as an action: transformers with sdpa, and the loops of torch_loops."""

import functools
import time

import torch
from transformers import AutoModelForCausalLM, DynamicCache, StaticCache

from benchmarks.alternating import Action
from benchmarks.ours import PROMPT
from benchmarks.subjects import context
from benchmarks.suites import Suite
from benchmarks.torch_loops import AdapterLoop, FrozenCacheLoop


def load(directory, suite: Suite, device: str):
  """transformers' model of the same weights."""
  model = AutoModelForCausalLM.from_pretrained(
    directory, dtype=getattr(torch, suite.dtype), attn_implementation="sdpa"
  )
  return model.to(device).eval().requires_grad_(False)


class Peers:
  """Everything about one context of one length, in torch."""

  def __init__(self, suite: Suite, model, length: int):
    self._suite, self.model, self._length = suite, model, length
    self._device = model.device
    self._ids = self._tensor(context(suite, length))
    self._prompt = self._tensor(context(suite, PROMPT, seed=1))
    with torch.inference_mode():
      self._cache = self._read()
    # Tensors of inference mode take part in no graph.
    self._frozen = [(one.keys.clone(), one.values.clone()) for one in self._cache.layers]

  def _tensor(self, tokens) -> torch.Tensor:
    return torch.as_tensor(tokens, dtype=torch.long, device=self._device)

  def _wait(self) -> None:
    if self._device.type == "cuda":
      torch.cuda.synchronize()

  def _read(self) -> DynamicCache:
    cache = DynamicCache(config=self.model.config)
    self.model(self._ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
    return cache

  @torch.inference_mode()
  def prefill(self) -> None:
    self._read()
    self._wait()

  @torch.inference_mode()
  def decode(self, rows: int, new_tokens: int) -> float:
    """Seconds of the tokens after the first, greedy; rows are a batch, each with its cache."""
    cache = DynamicCache(config=self.model.config)
    return self._decode(self.model, cache, rows, new_tokens)

  @torch.inference_mode()
  def decode_static(self, compiled, new_tokens: int) -> float:
    """The same in a cache of fixed size, by a compiled model."""
    size = self._length + PROMPT + new_tokens + 1
    return self._decode(
      compiled, StaticCache(config=self.model.config, max_cache_len=size), 1, new_tokens
    )

  def _decode(self, model, cache, rows: int, new_tokens: int) -> float:
    for number, (keys, values) in enumerate(self._frozen):
      cache.update(keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1), number)
    how = {"past_key_values": cache, "use_cache": True, "logits_to_keep": 1}
    ids = self._prompt.expand(rows, -1)
    place = torch.arange(self._length, self._length + PROMPT, device=self._device)[None]
    logits = self.model(ids, position_ids=place, **how).logits  # of another shape: not compiled
    self._wait()
    begin = time.perf_counter()
    for _ in range(new_tokens):
      place = place[:, -1:] + 1
      logits = model(logits[:, -1:].argmax(-1), position_ids=place, **how).logits
    self._wait()
    return time.perf_counter() - begin

  @torch.inference_mode()
  def score(self) -> None:
    cache = DynamicCache(config=self.model.config)
    for number, (keys, values) in enumerate(self._frozen):
      cache.update(keys, values, number)
    ids = self._tensor(context(self._suite, self._suite.span, seed=2))
    logits = self.model(ids, past_key_values=cache, use_cache=True).logits
    torch.log_softmax(logits[0, :-1].float(), -1).gather(-1, ids[0, 1:, None])
    self._wait()

  def frozen_loop(self) -> FrozenCacheLoop:
    return FrozenCacheLoop(self.model, self._frozen, self._ids)

  def adapter_loop(self) -> AdapterLoop:
    return AdapterLoop(self.model, self._ids)

  def steps(self, loop, number: int, start: int) -> None:
    for _ in range(number):
      loop.step(start, self._suite.span)
    self._wait()


def actions(peers: Peers, suite: Suite) -> dict[str, Action]:
  """By the phase's name; the loops are made where they are measured."""
  return {
    "prefill": peers.prefill,
    "decode": functools.partial(peers.decode, 1, suite.new_tokens),
    "decode, shared": functools.partial(peers.decode, suite.samples, suite.new_tokens),
    "score": peers.score,
  }
