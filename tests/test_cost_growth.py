"""How cost grows with the context: memory beside weights and cache not at all, work as counted.

Seconds are benchmarks/'s; these are the compiler's account of memory, and exact counts.
"""

import functools

import pytest

import tttjax as tt
from tttjax import flops
from tttjax.plan.abstract_programs import programs
from tttjax.plan.planned_work import Work

_CONFIG = tt.DecoderConfig(
  vocab_size=512,
  hidden_size=128,
  intermediate_size=256,
  num_hidden_layers=2,
  num_attention_heads=4,
  num_key_value_heads=2,
  head_dim=64,
  rope_theta=1e6,
  max_position_embeddings=1 << 20,
)
_LENGTHS = 2048, 8192, 65_536
# The positions and ids of the context: what grows and is neither weights nor cache.
_BYTES_A_TOKEN = 16


@functools.cache
def memory(length, steps=4):
  """program -> (bytes of temporaries, bytes of arguments and outputs) of a compiled program."""
  work = Work(_CONFIG, length, tt.TTTConfig(steps=steps, span=64), samples=1, new_tokens=32)
  found = {}
  for name, program in programs(tt.Decoder(_CONFIG), work).items():
    sizes = program.lower().compile().memory_analysis()
    entering = sizes.argument_size_in_bytes + sizes.output_size_in_bytes
    found[name] = sizes.temp_size_in_bytes, entering
  return found


@pytest.mark.parametrize("name", ["prefill", "adapt", "generate"])
def test_temporary_memory_does_not_grow_with_the_context(name):
  (short, _), *others = (memory(length)[name] for length in _LENGTHS)
  for length, (temporary, _) in zip(_LENGTHS[1:], others, strict=True):
    assert temporary - short <= _BYTES_A_TOKEN * (length - _LENGTHS[0])


def test_the_cache_is_what_grows():
  for name in ("adapt", "generate"):
    entering = [memory(length)[name][1] for length in _LENGTHS]
    for length, grown in zip(_LENGTHS[1:], entering[1:], strict=True):
      slots = 2 * 4 * 2 * 2 * 64 * (length - _LENGTHS[0])  # K and V, float32, layers, heads
      assert slots <= grown - entering[0] <= slots + _BYTES_A_TOKEN * length


def test_memory_does_not_grow_with_the_number_of_steps():
  assert memory(_LENGTHS[0], steps=4)["adapt"] == memory(_LENGTHS[0], steps=48)["adapt"]


def test_steps_cost_alike_and_linearly_in_what_they_attend_to():
  step = lambda start: flops.ttt_step(_CONFIG, 1 << 20, 64, start)
  one = step(8192) - step(0)
  assert step(16_384) - step(8192) == one > 0
  assert step(819_200) - step(0) == 100 * one
  places = [1000, 5000, 5000, 9000]
  assert flops.adapt(_CONFIG, 10_000, 64, 4, places) == sum(map(step, places))
