"""The opened checkpoint: what it says about a model before any weight is read, and its faults."""

import dataclasses
import json
import os
import pathlib
import shutil

import jax
import numpy as np
import pytest
import tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from tests import hf
from tests.errors import user_error
import tttjax as tt
from tttjax.checkpoint import Checkpoint, from_pretrained, load_tokenizer, open_checkpoint
from tttjax.checkpoint.safetensors_index import SafetensorsTensor

YARN = dict(rope_type="yarn", rope_theta=1e4, factor=4.0, original_max_position_embeddings=400)


def write_tokenizer(directory, words=("<unk>", "<end>", "the", "balance"), eos="<end>"):
  ids = {word: i for i, word in enumerate(words)}
  tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(ids, unk_token="<unk>"))
  tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
  PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=eos).save_pretrained(directory)


def write_template(directory, template: str) -> None:
  (directory / "chat_template.jinja").write_text(template)


@pytest.fixture
def directory(tmp_path) -> pathlib.Path:
  path = hf.make_checkpoint(tmp_path / "model", tied=True)
  (path / "generation_config.json").unlink()
  write_tokenizer(path)
  return path


def test_opening_reads_no_weights_and_loads_no_tokenizer(directory, monkeypatch):
  monkeypatch.setattr(AutoTokenizer, "from_pretrained", lambda *_, **__: pytest.fail("loaded"))
  hf.edit_config(directory, tie_word_embeddings=True)
  monkeypatch.setattr(SafetensorsTensor, "read", lambda *_: pytest.fail("read"))
  opened = open_checkpoint(directory)
  assert opened.config.num_hidden_layers == 3
  assert opened.tensors["model.norm.weight"].shape == (20,)
  assert "lm_head.weight" not in opened.tensors


def test_an_open_checkpoint_loads_as_its_path_does(directory):
  (model, params), (again, same) = (
    from_pretrained(x) for x in (directory, open_checkpoint(directory))
  )
  assert model.config == again.config
  jax.tree.map(np.testing.assert_array_equal, params, same)


@pytest.mark.parametrize(
  "generation, config, expected",
  [
    (None, None, (1,)),
    (5, None, (1, 5)),
    ([7, 1, 5], 60, (1, 5, 7, 60)),
  ],
)
def test_stop_ids_are_those_of_both_configs_and_the_tokenizer(
  directory, generation, config, expected
):
  (directory / "generation_config.json").write_text(json.dumps({"eos_token_id": generation}))
  hf.edit_config(directory, eos_token_id=config)
  assert open_checkpoint(directory).stop_ids == expected


@pytest.mark.parametrize("eos", ["abc", [2, "abc"], True, 1.5, -1, 61, [[2]], {}])
@pytest.mark.parametrize("file", ["generation_config.json", "config.json"])
def test_eos_that_is_no_id_of_the_vocabulary_is_named(directory, file, eos):
  path = directory / file
  values = json.loads(path.read_text()) if path.exists() else {}
  path.write_text(json.dumps(values | {"eos_token_id": eos}))
  with user_error(path, "eos_token_id", "vocabulary of 61"):
    open_checkpoint(directory)


def test_tokenizer_of_another_model_is_named(directory):
  write_tokenizer(directory, words=("<unk>", *map(str, range(70)), "<end>"))
  with user_error(directory, "eos_token has id 71", "vocabulary of 61"):
    _ = open_checkpoint(directory).stop_ids


def test_fingerprint_follows_weights_and_config_but_not_the_place(directory, tmp_path):
  fingerprint = open_checkpoint(directory).fingerprint
  copy = tmp_path / "copy"
  shutil.copytree(directory, copy)
  (copy / "notes.md").write_text("mine")
  assert open_checkpoint(copy).fingerprint == fingerprint
  hf.rewrite(copy, **{"model.norm.weight": np.ones(20, np.float32)})
  assert open_checkpoint(copy).fingerprint != fingerprint
  hf.edit_config(directory, rms_norm_eps=1e-5)
  assert open_checkpoint(directory).fingerprint != fingerprint


def test_trained_length_is_the_range_before_yarn(tmp_path):
  plain = open_checkpoint(hf.make_checkpoint(tmp_path / "plain"))
  yarn = open_checkpoint(hf.make_checkpoint(tmp_path / "yarn", rope=YARN))
  assert (plain.trained_length, yarn.trained_length) == (512, 400)
  assert open_checkpoint(tt.EMBEDDED).trained_length == 384


# Qwen's own recipe raises rope_scaling alone and leaves max_position_embeddings as it was.
@pytest.mark.parametrize("stored, expected", [(512, 1600), (1600, 1600), (2000, 2000)])
def test_yarn_extends_the_positions(tmp_path, stored, expected):
  hf.make_checkpoint(tmp_path, rope=YARN, max_position_embeddings=stored)
  config = open_checkpoint(tmp_path).config
  assert config.max_position_embeddings == stored
  assert config.max_positions == expected


def test_yarn_that_is_asked_for_is_that_of_the_files(tmp_path):
  plain = open_checkpoint(hf.make_checkpoint(tmp_path / "plain", rope=dict(rope_theta=1e4)))
  asked = plain.extended(4, 400)
  written = open_checkpoint(hf.make_checkpoint(tmp_path / "yarn", rope=YARN))
  assert asked.config == written.config and asked.trained_length == written.trained_length
  prints = {one.fingerprint for one in (plain, asked, plain.extended(2.0, 400))}
  assert len(prints) == 3
  tokens = np.arange(30, dtype=np.int32)[None] % 50
  ours, theirs = (tt.prefill(*from_pretrained(one), tokens)[1] for one in (asked, written))
  np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
  "arguments, words",
  [
    ((0.5, 400), "factor must be at least 1, not 0.5"),
    ((4.0, 513), "original must be at most 512, not 513"),
    ((4.0, 0), "original must be at least 1, not 0"),
    ((1e9, 400), "factor=1000000000.0 extends 400"),
    ((1.25, 400), "512 positions, and YaRN of factor=1.25 over original=400 gives it no more"),
    ((float("nan"), 400), "factor must be"),
  ],
)
def test_yarn_out_of_range_is_refused(tmp_path, arguments, words):
  checkpoint = open_checkpoint(hf.make_checkpoint(tmp_path))
  with user_error(words):
    checkpoint.extended(*arguments)


def test_a_context_is_not_extended_twice(tmp_path):
  with user_error(tmp_path, "1600 positions already"):
    open_checkpoint(hf.make_checkpoint(tmp_path, rope=YARN)).extended(2.0, 512)


def test_context_within_yarns_range_is_read(tmp_path):
  hf.make_checkpoint(tmp_path, rope=YARN | {"original_max_position_embeddings": 16, "factor": 2.0})
  hf.edit_config(tmp_path, max_position_embeddings=20)
  model, params = from_pretrained(tmp_path)
  tokens = np.ones((1, 32), np.int32)
  tt.prefill(model, params, tokens)
  with user_error("position 32", "allow 32"):
    tt.prefill(model, params, np.ones((1, 33), np.int32))


def test_tilde_is_the_home_directory(directory, monkeypatch, tmp_path):
  monkeypatch.setenv("HOME", str(directory.parent))
  assert open_checkpoint("~/model").path == directory
  assert load_tokenizer("~/model").eos_token_id == 1
  model, params = from_pretrained("~/model")
  assert tt.export("~/out", model, params, source="~/model") == directory.parent / "out"
  assert open_checkpoint("~/out").stop_ids == (1,)
  with user_error("~nobody-of-this-name"):
    open_checkpoint("~nobody-of-this-name/model")


# Whatever is not a file that can be read.


def make_directory(path):
  path.unlink(missing_ok=True)
  path.mkdir()


def make_pipe(path):
  path.unlink(missing_ok=True)
  os.mkfifo(path)


def make_dangling_link(path):
  path.unlink(missing_ok=True)
  path.symlink_to("nowhere")


def make_deep(path):
  path.write_text('{"a":' + "[" * 200_000)


def make_long_number(path):
  path.write_text('{"a": ' + "9" * 5000 + "}")


@pytest.mark.parametrize("file", ["config.json", "generation_config.json", "model.safetensors"])
@pytest.mark.parametrize(
  "change, word",
  [(make_directory, "a directory"), (make_pipe, "a pipe"), (make_dangling_link, "link")],
)
def test_what_is_no_file_is_named(directory, file, change, word):
  change(directory / file)
  with user_error(directory / file, word):
    from_pretrained(directory)


@pytest.mark.parametrize("change", [make_directory, make_pipe, make_dangling_link])
def test_shard_that_is_no_file_is_named_whatever_its_suffix(directory, change):
  index = {"weight_map": {"model.norm.weight": "weights"}}
  (directory / "model.safetensors").unlink()
  (directory / "model.safetensors.index.json").write_text(json.dumps(index))
  change(directory / "weights")
  with user_error(directory / "weights"):
    open_checkpoint(directory)


@pytest.mark.parametrize("change", [make_pipe, make_dangling_link])
def test_gguf_file_that_is_no_file_is_named(tmp_path, change):
  change(tmp_path / "x.gguf")
  with user_error(tmp_path / "x.gguf"):
    open_checkpoint(tmp_path / "x.gguf")


@pytest.mark.parametrize("change", [make_directory, make_pipe, make_dangling_link])
def test_licence_that_is_no_file_is_named_when_it_is_copied(directory, tmp_path, change):
  change(directory / "LICENSE")
  model, params = from_pretrained(directory)
  with user_error(directory / "LICENSE"):
    tt.export(tmp_path / "out", model, params, source=directory)
  assert sorted(tmp_path.iterdir()) == [directory]


@pytest.mark.parametrize("file", ["tokenizer.json", "chat_template.jinja"])
@pytest.mark.parametrize("change", [make_directory, make_pipe, make_dangling_link])
def test_what_is_no_tokenizer_file_is_named(directory, file, change):
  change(directory / file)
  with user_error(directory / file):
    load_tokenizer(directory)


@pytest.mark.parametrize("file", ["config.json", "generation_config.json"])
@pytest.mark.parametrize("change", [make_deep, make_long_number])
def test_json_beyond_the_parsers_limits_is_named(directory, file, change):
  change(directory / file)
  with user_error(directory / file, "invalid JSON"):
    open_checkpoint(directory)


def test_number_beyond_float_is_named(directory):
  hf.edit_config(directory, rms_norm_eps=10**400)
  with user_error("rms_norm_eps", "positive number"):
    open_checkpoint(directory)


def test_claim_of_a_billion_layers_ends_at_the_first_missing_tensor(directory):
  hf.edit_config(directory, num_hidden_layers=10**9)
  with user_error("model.layers.3.input_layernorm.weight", "missing", "num_hidden_layers"):
    open_checkpoint(directory)


@pytest.mark.parametrize(
  "template, word",
  [
    ("{% for %}", "chat_template fails"),
    ("{{ raise_exception('only in\\ntwo lines') }}", "only in"),
    ("{{ messages[1].content }}", "chat_template fails"),
    ("{{ 1 / 0 }}", "chat_template fails"),
  ],
)
def test_chat_template_that_fails_is_named(directory, template, word):
  write_template(directory, template)
  with user_error(directory, word):
    load_tokenizer(directory)


def test_chat_template_that_renders_is_kept(directory):
  write_template(directory, "{{ messages[0].content }}")
  assert load_tokenizer(directory).chat_template == "{{ messages[0].content }}"


def test_checkpoint_is_a_frozen_value(directory):
  opened = open_checkpoint(directory)
  assert isinstance(opened, Checkpoint)
  with pytest.raises(dataclasses.FrozenInstanceError):
    opened.path = directory
