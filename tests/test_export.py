"""Export to transformers, the tokenizer, and fast weights saved and resumed with Orbax."""

import importlib
import json
import os
import pathlib
import resource
import stat
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from safetensors.numpy import load_file
import tokenizers
from transformers import PreTrainedTokenizerFast

from tests import hf
from tests.errors import user_error
from tttjax.checkpoint import export, from_pretrained, load_tokenizer, restore_fast, save_fast
from tttjax.errors import UserError
from tttjax.sharding import make_mesh

# The package exports the function of the same name.
export_module = importlib.import_module("tttjax.checkpoint.hf_export")

YARN = dict(rope_type="yarn", rope_theta=1e4, factor=4.0, original_max_position_embeddings=128)


def tokens() -> np.ndarray:
  return np.random.default_rng(0).integers(0, hf.SIZES["vocab_size"], (2, 160)).astype(np.int32)


def random_fast(params, scale: float = 0.02):
  """Fast weights that are not 0, sharded as W_Q is."""
  kernel = params["layers"]["attention"]["query"]["kernel"]
  delta = scale * jax.random.normal(jax.random.key(0), kernel.shape)
  return as_fast(jax.device_put(delta, kernel.sharding))


@pytest.fixture(name="source")
def _source(tmp_path):
  return hf.make_checkpoint(tmp_path / "source")


# Export.


@pytest.mark.parametrize(
  "options",
  [dict(), dict(tied=True, rope=YARN), dict(dtype="bfloat16")],
  ids=["untied", "tied, YaRN", "bfloat16"],
)
def test_round_trip_changes_no_logit_in_transformers(tmp_path, options):
  source = hf.make_checkpoint(tmp_path / "source", **options)
  out = export(tmp_path / "out", *from_pretrained(source))
  before, after = (hf.reference_logits(path, tokens()) for path in (source, out))
  np.testing.assert_array_equal(before, after)


def test_adapted_model_answers_the_same_in_transformers(tmp_path, source):
  model, params = from_pretrained(source)
  fast = random_fast(params)
  out = export(tmp_path / "deep" / "out", model, params, fast)
  ours = jax.jit(model.apply)({"params": params, "ttt": fast}, tokens())
  reference = hf.reference_logits(out, tokens())
  np.testing.assert_allclose(ours, reference, rtol=0, atol=3e-5)
  assert np.abs(reference - hf.reference_logits(source, tokens())).max() > 0.01


def test_sharded_parameters_are_exported_in_shards(tmp_path, source, monkeypatch):
  monkeypatch.setattr(export_module, "MAX_SHARD_BYTES", 20_000)
  model, params = from_pretrained(source, mesh=make_mesh(data=2, fsdp=2, tensor=2))
  out = export(tmp_path / "out", model, params, random_fast(params, 0.0))
  files = sorted(out.glob("*.safetensors"))
  assert len(files) > 2 and all(file.stat().st_size < 30_000 for file in files)
  written = {name: x for file in files for name, x in load_file(file).items()}
  stored = load_file(source / "model.safetensors")
  assert written.keys() == stored.keys()
  for name, x in stored.items():
    np.testing.assert_array_equal(written[name], x, err_msg=name)
  np.testing.assert_array_equal(
    hf.reference_logits(out, tokens()), hf.reference_logits(source, tokens())
  )


def test_bfloat16_export_prints_how_much_of_delta_it_loses(tmp_path, source, capsys):
  model, params = from_pretrained(source)
  fast = random_fast(params, 1e-4)
  out = export(tmp_path / "out", model, params, fast, dtype=jnp.bfloat16)
  merged = np.stack(
    [
      load_file(out / "model.safetensors")[f"model.layers.{i}.self_attn.q_proj.weight"].T
      for i in range(3)
    ]
  ).astype(np.float32)
  kernel = np.asarray(params["layers"]["attention"]["query"]["kernel"])
  delta = np.asarray(fast["layers"]["attention"]["query"]["delta"])
  error = np.linalg.norm(merged.reshape(kernel.shape) - kernel - delta) / np.linalg.norm(delta)
  assert error > 0.5
  assert f"changes Delta by {error:.1%}" in capsys.readouterr().err
  assert hf.reference_logits(out, tokens()).shape == (2, 160, 61)


def test_float32_export_keeps_delta_and_prints_nothing(tmp_path, source, capsys):
  model, params = from_pretrained(source, dtype=jnp.bfloat16)
  fast = random_fast(params, 1e-4)
  out = export(tmp_path / "out", model, params, fast)
  written = load_file(out / "model.safetensors")["model.layers.0.self_attn.q_proj.weight"].T
  kernel = params["layers"]["attention"]["query"]["kernel"][0].astype(jnp.float32)
  delta = fast["layers"]["attention"]["query"]["delta"][0]
  np.testing.assert_array_equal(written.reshape(kernel.shape), kernel + delta)
  assert capsys.readouterr().out == ""


def test_tokenizer_generation_config_and_token_ids_come_from_the_source(tmp_path, source):
  hf.edit_config(source, eos_token_id=[3, 4], bos_token_id=1)
  (source / "generation_config.json").write_text('{"eos_token_id": [3, 4]}')
  make_tokenizer(source)
  out = export(tmp_path / "out", *from_pretrained(source), source=source)
  config = json.loads((out / "config.json").read_text())
  assert (config["eos_token_id"], config["bos_token_id"]) == ([3, 4], 1)
  assert (out / "generation_config.json").read_text() == '{"eos_token_id": [3, 4]}'
  assert load_tokenizer(out)("the balance").input_ids == [2, 3]


@pytest.mark.parametrize("content", ["file", "directory with a file"])
def test_target_in_use_is_refused_and_untouched(tmp_path, source, content):
  out = tmp_path / "out"
  if content == "file":
    out.write_text("mine")
  else:
    out.mkdir()
    (out / "mine").write_text("mine")
  with user_error(out, "nothing is overwritten"):
    export(out, *from_pretrained(source))
  assert (out if content == "file" else out / "mine").read_text() == "mine"


def test_empty_target_is_filled(tmp_path, source):
  (tmp_path / "out").mkdir()
  out = export(tmp_path / "out", *from_pretrained(source))
  assert {path.name for path in out.iterdir()} == {"config.json", "model.safetensors"}


def test_failed_export_leaves_nothing(tmp_path, source):
  model, params = from_pretrained(source)
  params["final_norm"]["scale"] = 1e6 * params["final_norm"]["scale"]
  with user_error("model.norm.weight", "float16", "float32"):
    export(tmp_path / "out", model, params, dtype=jnp.float16)
  assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_full_disk_is_named_and_leaves_nothing(tmp_path, source):
  model, params = from_pretrained(source)
  params = jax.tree.map(np.asarray, params)  # Slices of these compile nothing.
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
  try:
    with user_error(tmp_path / "out", "cannot be written", "too large"):
      export(tmp_path / "out", model, params)
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
  assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_written_files_can_be_read_by_others(tmp_path, source):
  out = export(tmp_path / "out", *from_pretrained(source))
  for path in out.iterdir():
    assert path.stat().st_mode & stat.S_IROTH, path


MEMORY_PROBE = """
    import gc, importlib, sys
    import jax
    import tttjax as tt
    module = importlib.import_module('tttjax.checkpoint.hf_export')
    tensor = 4 * 512 * 8192
    module.MAX_SHARD_BYTES = 2 * tensor
    model = tt.Decoder(tt.DecoderConfig(512, 512, 8192, 4, 4, 2, 128, 1e4, 512))
    params = jax.tree.map(lambda x: jax.numpy.zeros(x.shape), tt.abstract_params(model))

    def status(key):
      with open('/proc/self/status') as file:
        return next(1024 * int(l.split()[1]) for l in file if l.startswith(key))

    tt.export(sys.argv[1] + '/first', model, params)  # Compiles.
    gc.collect()
    with open('/proc/self/clear_refs', 'w') as file:
      file.write('5')  # Resets the peak.
    before = status('VmRSS')
    tt.export(sys.argv[1] + '/second', model, params)
    print((status('VmHWM') - before) / tensor)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="needs Linux's /proc")
def test_peak_memory_is_one_file_and_less_than_three_tensors(tmp_path):
  # A process of its own, whose allocator returns memory at once.
  environment = os.environ | {
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "PYTHONPATH": str(pathlib.Path(__file__).parents[1]),
  }
  probe = subprocess.run(
    [sys.executable, "-c", textwrap.dedent(MEMORY_PROBE), str(tmp_path)],
    env=environment,
    check=True,
    capture_output=True,
    text=True,
  )
  # Of twelve large tensors two fill a file; one more is copied and checked meanwhile.
  assert float(probe.stdout.split()[-1]) < 2 + 3


def test_other_faults_are_named(tmp_path, source):
  model, params = from_pretrained(source)
  fast = random_fast(params)
  stacked = jax.tree.map(lambda x: x[None], fast)
  (tmp_path / "file").write_text("")
  for arguments, words in [
    (dict(path_out=tmp_path / "out", dtype=jnp.int8), ["dtype", "float32"]),
    (dict(path_out=tmp_path / "out", source=tmp_path / "no"), [tmp_path / "no", "source"]),
    (dict(path_out=tmp_path / "out", fast=stacked), ["[1, 3, 20, 6, 8]", "[3, 20, 6, 8]"]),
    (dict(path_out=tmp_path / "file" / "out"), [tmp_path / "file", "cannot be written"]),
  ]:
    with user_error(*words):
      export(model=model, params=params, **arguments)


# Tokenizer.


def make_tokenizer(directory) -> None:
  words = {"<unk>": 0, "<end>": 1, "the": 2, "balance": 3}
  tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<unk>"))
  tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
  PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>").save_pretrained(directory)


def test_tokenizer_is_loaded(source):
  make_tokenizer(source)
  tokenizer = load_tokenizer(source)
  assert tokenizer("the balance").input_ids == [2, 3]
  assert tokenizer.eos_token_id == 1


def test_tokenizer_faults_are_named(tmp_path, source):
  with user_error(source, "no tokenizer", "tokenizer.json"):
    load_tokenizer(source)
  with user_error(tmp_path / "no", "no such directory"):
    load_tokenizer(tmp_path / "no")
  (source / "tokenizer.json").write_text("{")
  with user_error(source, "cannot load the tokenizer"):
    load_tokenizer(source)


# Fast weights.

SHAPE = (3, 8, 4, 2)
OPTIMIZER = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3))


def as_fast(delta):
  return {"layers": {"attention": {"query": {"delta": delta}}}}


def fast_state(steps: int):
  """(fast, optimizer state) after a few steps on random gradients."""
  fast = as_fast(jnp.zeros(SHAPE))
  state = OPTIMIZER.init(fast)
  for step in range(steps):
    gradient = as_fast(jax.random.normal(jax.random.key(step), SHAPE))
    updates, state = OPTIMIZER.update(gradient, state, fast)
    fast = optax.apply_updates(fast, updates)
  return fast, state


def test_saved_state_is_restored_and_the_newest_wins(tmp_path):
  save_fast(tmp_path / "fast", *fast_state(1), step=1)
  saved = fast_state(3)
  save_fast(tmp_path / "fast", *saved, step=3)
  fast, opt_state, step = restore_fast(tmp_path / "fast", like=fast_state(0))
  assert step == 3
  assert jax.tree.structure((fast, opt_state)) == jax.tree.structure(saved)
  jax.tree.map(np.testing.assert_array_equal, (fast, opt_state), saved)


def test_the_home_directory_is_expanded(tmp_path, monkeypatch):
  monkeypatch.setenv("HOME", str(tmp_path))
  monkeypatch.chdir(tmp_path)
  save_fast("~/fast", *fast_state(1), step=1)
  assert (tmp_path / "fast").is_dir() and not (tmp_path / "~").exists()
  assert restore_fast("~/fast", like=fast_state(0))[2] == 1


def test_restore_puts_the_state_on_the_mesh_of_like(tmp_path):
  saved = fast_state(2)
  save_fast(tmp_path, *saved, step=2)
  mesh = make_mesh(fsdp=4, tensor=2)
  sharding = jax.NamedSharding(mesh, jax.P(None, "fsdp", "tensor"))
  whole = jax.NamedSharding(mesh, jax.P())
  like = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding if x.ndim else whole),
    fast_state(0),
  )
  fast, opt_state, _ = restore_fast(tmp_path, like)
  for x in jax.tree.leaves((fast, opt_state)):
    assert x.sharding.is_equivalent_to(sharding if x.ndim else whole, x.ndim)
  jax.tree.map(np.testing.assert_array_equal, (fast, opt_state), saved)


def test_a_damaged_state_is_one_line_or_restored_whole(tmp_path):
  saved = fast_state(2)
  save_fast(tmp_path, *saved, step=2)
  refused = 0
  for path in sorted(path for path in tmp_path.rglob("*") if path.is_file()):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    try:
      fast, opt_state, _ = restore_fast(tmp_path, fast_state(0))
      jax.tree.map(np.testing.assert_array_equal, (fast, opt_state), saved)
    except UserError as error:
      refused += 1
      message = str(error)
      assert "\n" not in message and message.startswith(f"{tmp_path}: step 2 cannot be restored")
    path.write_bytes(content)
  assert refused >= 3  # the data itself, their index and their description


def flip_a_bit(path):
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 1
  path.write_bytes(content)


def test_a_flipped_bit_of_any_file_is_found_and_the_file_named(tmp_path):
  save_fast(tmp_path, *fast_state(2), step=2)
  for path in sorted(path for path in tmp_path.rglob("*") if path.is_file()):
    content = path.read_bytes()
    if content:
      flip_a_bit(path)
      words = () if path.name == "sha256.json" else (f"({path}: not the file that was saved)",)
      with user_error(f"{tmp_path}: step 2 cannot be restored", *words):
        restore_fast(tmp_path, fast_state(0))
      path.write_bytes(content)
  assert restore_fast(tmp_path, fast_state(0))[2] == 2


def test_state_that_was_saved_without_checksums_is_restored(tmp_path):
  saved = fast_state(2)
  save_fast(tmp_path, *saved, step=2)
  (tmp_path / "2" / "sha256.json").unlink()
  fast, opt_state, _ = restore_fast(tmp_path, fast_state(0))
  jax.tree.map(np.testing.assert_array_equal, (fast, opt_state), saved)


def test_fast_weight_faults_are_named(tmp_path):
  like = fast_state(0)
  (tmp_path / "file").touch()
  for place in (tmp_path / "file", tmp_path / "file" / "below"):
    with user_error(place, "cannot be made"):
      save_fast(place, *like, step=2)
  with user_error(tmp_path / "no", "no such directory"):
    restore_fast(tmp_path / "no", like)
  with user_error(tmp_path, "no saved fast weights"):
    restore_fast(tmp_path, like)
  save_fast(tmp_path, *like, step=2)
  with user_error(tmp_path, "step 2"):
    save_fast(tmp_path, *like, step=2)
  smaller = jax.tree.map(lambda x: x[:1] if x.ndim else x, like)
  with user_error(tmp_path, "cannot be restored", "model"):
    restore_fast(tmp_path, smaller)
  with user_error(tmp_path, "cannot be restored", "optimizer"):
    restore_fast(tmp_path, (like[0], optax.sgd(1.0, momentum=0.9).init(like[0])))
