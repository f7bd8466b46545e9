"""A family of checkpoints is a value of its own: one made here loads like those of the package."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests import hf
from tests.errors import user_error
from tttjax.checkpoint import export, from_pretrained, open_checkpoint
from tttjax.models.families import FAMILIES, NOT_IMPLEMENTED
from tttjax.models.qwen3 import QWEN3

WEIGHTS = "model.safetensors"


def toy_name(name: str) -> str:
  return name.replace("model.", "transformer.").replace("lm_head.weight", "output.weight")


TOY = dataclasses.replace(
  QWEN3,
  model_type="toy",
  architecture="ToyForCausalLM",
  releases="a toy",
  defaults={"rms_norm_eps": 1e-3, "tie_word_embeddings": True},
  only={"nonsense": (0, "nonsense is not implemented; remove it")},
  layouts=tuple(dataclasses.replace(x, name=toy_name(x.name)) for x in QWEN3.layouts),
)


def make_toy(directory, tied=False):
  """The weights of a random Qwen3 as a checkpoint of the toy family."""
  hf.make_checkpoint(directory, tied=tied)
  tensors = load_file(directory / WEIGHTS)
  save_file({toy_name(name): x for name, x in tensors.items()}, directory / WEIGHTS)
  hf.edit_config(directory, model_type="toy", architectures=["ToyForCausalLM"])
  return directory


@pytest.fixture
def toy(tmp_path, monkeypatch):
  monkeypatch.setitem(FAMILIES, "toy", TOY)
  return make_toy(tmp_path / "toy")


def test_registered_family_loads_and_is_exported(toy, tmp_path):
  model, params = from_pretrained(toy)
  assert model.config.model_type == "toy"
  same = from_pretrained(hf.make_checkpoint(tmp_path / "qwen3"))[1]
  jax.tree.map(np.testing.assert_array_equal, params, same)

  out = export(tmp_path / "out", model, params)
  assert load_file(out / WEIGHTS).keys() == load_file(toy / WEIGHTS).keys()
  values = json.loads((out / "config.json").read_text())
  assert (values["architectures"], values["nonsense"]) == (["ToyForCausalLM"], 0)
  assert "attention_bias" not in values
  assert open_checkpoint(out).config == model.config


def test_its_defaults_stand_for_absent_fields_and_only_they(toy):
  hf.edit_config(toy, remove=["rms_norm_eps"])
  assert open_checkpoint(toy).config.rms_norm_eps == 1e-3
  hf.edit_config(toy, remove=["head_dim"])
  with user_error("head_dim", "missing"):
    open_checkpoint(toy)


@pytest.mark.parametrize(
  "changes, words",
  [
    (dict(nonsense=1), ["'nonsense' is 1", "nonsense is not implemented"]),
    (dict(architectures=["Qwen3ForCausalLM"]), ["only ToyForCausalLM", "use a toy"]),
    (dict(hidden_act="gelu"), ["'silu'", "use a toy"]),
    (dict(num_hidden_layers=4), ["transformer.layers.3.input_layernorm.weight", "missing"]),
  ],
)
def test_its_words_are_used_in_errors(toy, changes, words):
  hf.edit_config(toy, **changes)
  with user_error(*words):
    open_checkpoint(toy)


def test_its_head_may_be_stored_though_tied(tmp_path, monkeypatch):
  monkeypatch.setitem(FAMILIES, "toy", TOY)
  directory = make_toy(tmp_path, tied=True)
  embedding = load_file(directory / WEIGHTS)["transformer.embed_tokens.weight"]
  hf.rewrite(directory, **{"output.weight": embedding})
  open_checkpoint(directory)
  hf.rewrite(directory, **{"output.weight": embedding + 1})
  with user_error("output.weight differs from transformer.embed_tokens.weight"):
    open_checkpoint(directory)


def test_family_that_is_not_registered_is_refused(tmp_path):
  with user_error("'toy'", "only 'qwen3', 'qwen2', 'llama'", "dense Qwen3"):
    open_checkpoint(make_toy(tmp_path))


def test_no_family_is_both_implemented_and_refused():
  assert not FAMILIES.keys() & NOT_IMPLEMENTED.keys()
