"""Incomplete or corrupt weights: each fault has its message, before any device work."""

import json
import struct

import numpy as np
import pytest

from tests import hf
from tests.errors import user_error
from tttjax.checkpoint import from_pretrained, loading

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
HEAD = "lm_head.weight"
QUERY = "model.layers.1.self_attn.q_proj.weight"


@pytest.fixture
def untouched_devices(monkeypatch):
  def fail(*unused_args, **unused_kwargs):
    pytest.fail("device work before the checks")

  monkeypatch.setattr(loading, "_load", fail)


def corrupt_header(edit):
  """An edit of the JSON header of model.safetensors; the data stay."""

  def apply(directory):
    content = (directory / WEIGHTS).read_bytes()
    size = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + size])
    edit(header)
    text = json.dumps(header).encode()
    (directory / WEIGHTS).write_bytes(struct.pack("<Q", len(text)) + text + content[8 + size :])

  return apply


def set_bytes(change):
  return lambda directory: (directory / WEIGHTS).write_bytes(
    change((directory / WEIGHTS).read_bytes())
  )


def set_tensors(drop=(), **changes):
  return lambda directory: hf.rewrite(directory, drop, **changes)


def shift_range(header):
  header[QUERY]["data_offsets"] = [x + 4 for x in header[QUERY]["data_offsets"]]


SINGLE_FILE_FAULTS = {
  "no weights": (lambda d: (d / WEIGHTS).unlink(), ["neither", WEIGHTS, INDEX]),
  "empty file": (set_bytes(lambda b: b""), [WEIGHTS, "truncated"]),
  "truncated header": (set_bytes(lambda b: b[:100]), [WEIGHTS, "truncated"]),
  "truncated data": (set_bytes(lambda b: b[:-1]), [WEIGHTS, "truncated"]),
  "trailing bytes": (set_bytes(lambda b: b + b"\0"), [WEIGHTS, "corrupt", "not fully covered"]),
  "git-lfs pointer": (
    set_bytes(lambda b: b"version https://git-lfs.github.com/spec/v1\n"),
    [WEIGHTS, "pointer"],
  ),
  "header is not JSON": (
    set_bytes(lambda b: b[:8] + b"x" + b[9:]),
    [WEIGHTS, "corrupt", "invalid JSON"],
  ),
  "byte range too short for the shape": (
    corrupt_header(lambda h: h[QUERY].update(shape=[49, 20])),
    [WEIGHTS, "corrupt", "invalid shape"],
  ),
  "byte ranges overlap": (corrupt_header(shift_range), [QUERY, "corrupt", "invalid offset"]),
  "entry without dtype": (corrupt_header(lambda h: h[QUERY].pop("dtype")), [WEIGHTS, "`dtype`"]),
  "entry with a negative size": (
    corrupt_header(lambda h: h[QUERY].update(shape=[-48, -20])),
    [WEIGHTS, "corrupt", "-48"],
  ),
  "missing tensor": (set_tensors([QUERY]), [QUERY, "missing"]),
  "missing head": (set_tensors([HEAD]), [HEAD, "missing", "tie_word_embeddings"]),
  "unexpected tensor": (
    set_tensors(**{"model.layers.0.self_attn.q_proj.bias": np.ones(48, np.float32)}),
    ["unexpected", "q_proj.bias"],
  ),
  "more layers than configured": (
    lambda d: hf.edit_config(d, num_hidden_layers=2),
    ["unexpected", "model.layers.2."],
  ),
  "wrong shape": (
    set_tensors(**{QUERY: np.ones((48, 21), np.float32)}),
    [QUERY, "[48, 21]", "[48, 20]"],
  ),
  "transposed": (
    set_tensors(**{QUERY: np.ones((20, 48), np.float32)}),
    [QUERY, "[20, 48]", "[48, 20]"],
  ),
  "float64": (set_tensors(**{QUERY: np.ones((48, 20))}), [QUERY, "dtype F64", "BF16, F16, F32"]),
  "tied, but the head differs": (
    lambda d: hf.edit_config(d, tie_word_embeddings=True),
    [HEAD, "differs"],
  ),
}


@pytest.mark.parametrize("fault, words", SINGLE_FILE_FAULTS.values(), ids=SINGLE_FILE_FAULTS.keys())
def test_faulty_file_is_refused(tmp_path, untouched_devices, fault, words):
  fault(hf.make_checkpoint(tmp_path))
  with user_error(tmp_path, *words):
    from_pretrained(tmp_path)


def edit_index(edit):
  def apply(directory):
    index = json.loads((directory / INDEX).read_text())
    edit(index["weight_map"])
    (directory / INDEX).write_text(json.dumps(index))

  return apply


def first_shard(directory):
  return min(directory.glob("model-*.safetensors"))


SHARD_FAULTS = {
  "missing shard": (lambda d: first_shard(d).unlink(), ["model-00001", "shard is missing"]),
  "truncated shard": (
    lambda d: first_shard(d).write_bytes(first_shard(d).read_bytes()[:-3]),
    ["model-00001", "truncated"],
  ),
  "tensor absent from its shard": (
    edit_index(lambda m: m.update(ghost=m[QUERY])),
    ["ghost", "missing", INDEX],
  ),
  "tensor not in the index": (edit_index(lambda m: m.pop(QUERY)), [QUERY, "does not list"]),
  "path outside the directory": (
    edit_index(lambda m: m.update({QUERY: "../x.safetensors"})),
    [INDEX, "file name"],
  ),
  "no weight_map": (lambda d: (d / INDEX).write_text("{}"), [INDEX, "weight_map"]),
  "index is not JSON": (lambda d: (d / INDEX).write_text("{"), [INDEX, "invalid JSON"]),
}


@pytest.mark.parametrize("fault, words", SHARD_FAULTS.values(), ids=SHARD_FAULTS.keys())
def test_faulty_shards_are_refused(tmp_path, untouched_devices, fault, words):
  fault(hf.make_checkpoint(tmp_path, shard_size="20KB"))
  with user_error(tmp_path, *words):
    from_pretrained(tmp_path)


def test_unknown_dtype_is_refused(tmp_path, untouched_devices):
  hf.make_checkpoint(tmp_path)
  with user_error("'bf16'", "bfloat16"):
    from_pretrained(tmp_path, dtype="bf16")
