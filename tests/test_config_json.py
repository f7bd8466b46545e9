"""config.json: read as transformers reads it, written so that transformers reads it, or refused."""

import json
import math

import jax.numpy as jnp
import numpy as np
import pytest
from transformers import AutoConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from tests.errors import user_error
from tttjax.checkpoint import read_config, write_config
from tttjax.errors import UserError
from tttjax.models.decoder_config import DecoderConfig, Llama3Config, YarnConfig
from tttjax.models.rope import inverse_frequencies

# As Qwen3-8B was released, by transformers 4.
RELEASED = {
  "architectures": ["Qwen3ForCausalLM"],
  "attention_bias": False,
  "attention_dropout": 0.0,
  "bos_token_id": 151643,
  "eos_token_id": 151645,
  "head_dim": 128,
  "hidden_act": "silu",
  "hidden_size": 4096,
  "initializer_range": 0.02,
  "intermediate_size": 12288,
  "max_position_embeddings": 40960,
  "max_window_layers": 36,
  "model_type": "qwen3",
  "num_attention_heads": 32,
  "num_hidden_layers": 36,
  "num_key_value_heads": 8,
  "rms_norm_eps": 1e-06,
  "rope_scaling": None,
  "rope_theta": 1000000,
  "sliding_window": None,
  "tie_word_embeddings": False,
  "torch_dtype": "bfloat16",
  "transformers_version": "4.51.0",
  "use_cache": True,
  "use_sliding_window": False,
  "vocab_size": 151936,
}
EXPECTED = DecoderConfig(
  vocab_size=151936,
  hidden_size=4096,
  intermediate_size=12288,
  num_hidden_layers=36,
  num_attention_heads=32,
  num_key_value_heads=8,
  head_dim=128,
  rope_theta=1e6,
  max_position_embeddings=40960,
)
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}


def write(directory, remove=(), **changes):
  values = {k: v for k, v in (RELEASED | changes).items() if k not in remove}
  (directory / "config.json").write_text(json.dumps(values))
  return directory


def replaced(**changes) -> DecoderConfig:
  return DecoderConfig(**(vars(EXPECTED) | changes))


def test_reads_a_release_of_transformers_4(tmp_path):
  assert read_config(write(tmp_path)) == EXPECTED


def test_reads_rope_parameters_of_transformers_5(tmp_path):
  rope = {"rope_type": "default", "rope_theta": 5000000}
  write(tmp_path, remove=["rope_theta", "rope_scaling"], rope_parameters=rope)
  assert read_config(tmp_path) == replaced(rope_theta=5e6)


def test_absent_head_dim_is_transformers_default(tmp_path):
  write(tmp_path, remove=["head_dim"], hidden_size=1024)
  assert read_config(tmp_path).head_dim == AutoConfig.from_pretrained(tmp_path).head_dim == 128


def test_absent_tie_flag_and_eps_are_transformers_defaults(tmp_path):
  write(tmp_path, remove=["tie_word_embeddings", "rms_norm_eps"])
  theirs, ours = AutoConfig.from_pretrained(tmp_path), read_config(tmp_path)
  assert ours.tie_word_embeddings == theirs.tie_word_embeddings
  assert ours.rms_norm_eps == theirs.rms_norm_eps


@pytest.mark.parametrize("place", ["rope_scaling", "rope_parameters"])
@pytest.mark.parametrize(
  "settings",
  [
    {},
    {"attention_factor": 1.3},
    {"beta_fast": 16, "beta_slow": 2.0, "truncate": False},
    {"beta_fast": None, "attention_factor": None},
    {"mscale": 0.7, "mscale_all_dim": 0.5},
    {"mscale": 0.7},
    {"factor": None},
    {"factor": 1},
  ],
  ids=str,
)
def test_yarn_is_resolved_as_in_transformers(tmp_path, place, settings):
  write(tmp_path, **{place: YARN | settings})
  theirs = AutoConfig.from_pretrained(tmp_path)
  inv_freq, attention_factor = ROPE_INIT_FUNCTIONS["yarn"](theirs)
  yarn = read_config(tmp_path).rope_scaling
  ours = yarn.attention_factor or 0.1 * math.log(yarn.factor) + 1
  assert ours == pytest.approx(attention_factor, rel=1e-12)
  # The slowest frequency is interpolated by the whole factor.
  assert inv_freq[-1] == pytest.approx(1e6 ** (-126 / 128) / yarn.factor, rel=1e-5)
  assert yarn.truncate == theirs.rope_parameters.get("truncate", True)
  assert yarn.beta_fast == (settings.get("beta_fast") or 32)
  assert yarn.beta_slow == (settings.get("beta_slow") or 1)


def test_old_type_key_and_default_original_length(tmp_path):
  write(tmp_path, rope_scaling={"type": "yarn", "factor": 4.0})
  assert read_config(tmp_path).rope_scaling == YarnConfig(4.0, RELEASED["max_position_embeddings"])


@pytest.mark.parametrize(
  "config",
  [
    EXPECTED,
    replaced(tie_word_embeddings=True, head_dim=64, rope_theta=1e7, rms_norm_eps=1e-5),
    replaced(rope_scaling=YarnConfig(4.0, 32768)),
    replaced(rope_scaling=YarnConfig(2.5, 32768, 16.0, 2.0, attention_factor=1.2, truncate=False)),
    replaced(rope_scaling=Llama3Config(8.0, 1.0, 4.0, 8192), model_type="llama", qk_norm=False),
    replaced(model_type="qwen2", qk_norm=False, qkv_bias=True),
  ],
  ids=["plain", "tied", "yarn", "yarn with all fields", "llama3", "qwen2"],
)
def test_written_config_is_read_back_and_by_transformers(tmp_path, config):
  (tmp_path / "config.json").write_text(json.dumps(write_config(config, jnp.bfloat16)))
  assert read_config(tmp_path) == config
  theirs = AutoConfig.from_pretrained(tmp_path)
  for name in set(vars(config)) - {"rope_theta", "rope_scaling", "qk_norm", "qkv_bias"}:
    assert getattr(theirs, name) == getattr(config, name), name
  rope = theirs.rope_parameters
  assert rope["rope_theta"] == config.rope_theta
  scaling = config.rope_scaling
  kind = {type(None): "default", YarnConfig: "yarn", Llama3Config: "llama3"}[type(scaling)]
  assert rope["rope_type"] == kind
  for name, value in vars(scaling).items() if scaling else ():
    assert rope.get(name) == value, name
  assert str(theirs.dtype) == "torch.bfloat16"


REFUSED = {
  "Gemma": (dict(model_type="gemma"), "model_type", "'gemma'"),
  "MoE": (dict(model_type="qwen3_moe"), "model_type", "mixture of experts"),
  "Qwen3-Next": (dict(model_type="qwen3_next"), "model_type", "DeltaNet"),
  "Qwen3.5": (dict(model_type="qwen3_5"), "model_type", "Qwen3.5 is a hybrid"),
  "unheard of": (dict(model_type="gpt_9"), "model_type", "only 'qwen3'"),
  "classifier": (
    dict(architectures=["Qwen3ForSequenceClassification"]),
    "architectures",
    "Qwen3ForCausalLM",
  ),
  "biases": (dict(attention_bias=True), "attention_bias", "biases"),
  "sliding window": (dict(use_sliding_window=True), "use_sliding_window", "full attention"),
  "sliding layers": (dict(layer_types=["sliding_attention"]), "layer_types", "full attention"),
  "activation": (dict(hidden_act="gelu"), "hidden_act", "'silu'"),
  "quantised": (dict(quantization_config={"bits": 8}), "quantization_config", "bfloat16"),
  "no theta": (dict(rope_theta=None), "rope_theta", "never assumed"),
  "theta disagrees": (
    dict(rope_parameters={"rope_theta": 5e6, "rope_type": "default"}),
    "rope_theta",
    "contradicting",
  ),
  "theta is text": (dict(rope_theta="1e6"), "rope_theta", "number"),
  "theta is negative": (dict(rope_theta=-1.0), "rope_theta", "positive"),
  "rope type": (
    dict(rope_scaling={"rope_type": "longrope", "factor": 8}),
    "rope_scaling.rope_type",
    "'yarn'",
  ),
  "partial rotary": (dict(partial_rotary_factor=0.5), "partial_rotary_factor", "not 1"),
  "rope is a list": (dict(rope_scaling=[1]), "rope_scaling", "an object"),
  "no factor": (dict(rope_scaling={"rope_type": "yarn"}), "rope_scaling.factor", "missing"),
  "factor below 1": (dict(rope_scaling=YARN | {"factor": 0.5}), "rope_scaling.factor", "1"),
  "unknown YaRN field": (dict(rope_scaling=YARN | {"bata": 1}), "rope_scaling.bata", "remove"),
  "betas swapped": (
    dict(rope_scaling=YARN | {"beta_fast": 1, "beta_slow": 32}),
    "rope_scaling.beta_fast",
    "beta_slow",
  ),
  "heads": (dict(num_key_value_heads=5), "num_key_value_heads", "divide"),
  "odd head_dim": (dict(head_dim=127), "head_dim", "even"),
  "size is text": (dict(hidden_size="4096"), "hidden_size", "positive integer"),
  "size is a float": (dict(hidden_size=4096.5), "hidden_size", "positive integer"),
  "size is a flag": (dict(num_hidden_layers=True), "num_hidden_layers", "positive integer"),
  "size is zero": (dict(num_hidden_layers=0), "num_hidden_layers", "positive integer"),
  "flag is a number": (dict(tie_word_embeddings=1), "tie_word_embeddings", "true or false"),
  "eps is infinite": (dict(rms_norm_eps=math.inf), "rms_norm_eps", "positive"),
}


LLAMA3 = {
  "rope_type": "llama3",
  "factor": 8.0,
  "low_freq_factor": 1.0,
  "high_freq_factor": 4.0,
  "original_max_position_embeddings": 8192,
}
ABSURD = {
  "huge": 10**400,
  "beyond float32": 1e39,
  "below float32": 1e-50,
  "negative": -1.0,
  "nan": math.nan,
  "infinite": math.inf,
  "text": "4",
  "flag": True,
  "list": [[[[[4]]]]],
  "deep": json.loads("[" * 300 + "]" * 300),
}
NUMBERS = [(YARN, name) for name in ("factor", "attention_factor", "mscale", "mscale_all_dim")]
NUMBERS += [(YARN, name) for name in ("beta_fast", "beta_slow")]
NUMBERS += [(LLAMA3, name) for name in ("factor", "low_freq_factor", "high_freq_factor")]
NUMBERS += [(kind, "original_max_position_embeddings") for kind in (YARN, LLAMA3)]


@pytest.mark.parametrize("value", ABSURD.values(), ids=ABSURD.keys())
@pytest.mark.parametrize("settings, name", NUMBERS, ids=lambda x: x if isinstance(x, str) else "")
def test_absurd_number_is_named(tmp_path, settings, name, value):
  write(tmp_path, rope_scaling=settings | {name: value})
  with user_error(tmp_path / "config.json", f"'rope_scaling.{name}'", "positive") as error:
    read_config(tmp_path)
  assert len(str(error.value)) < len(str(tmp_path)) + 250


@pytest.mark.parametrize(
  "settings, name",
  [(YARN, "factor"), (YARN, "attention_factor"), (YARN, "original_max_position_embeddings")]
  + [(LLAMA3, name) for name in LLAMA3 if name != "rope_type"],
  ids=str,
)
def test_zero_is_named_where_it_does_not_mean_absent(tmp_path, settings, name):
  write(tmp_path, rope_scaling=settings | {name: 0})
  with user_error(f"'rope_scaling.{name}'", "positive"):
    read_config(tmp_path)


@pytest.mark.parametrize(
  "changes, field",
  [
    (dict(rope_scaling=YARN | {"factor": 1e6}), "rope_scaling.factor"),
    (dict(rope_scaling=LLAMA3 | {"factor": 1e6}), "rope_scaling.factor"),
    (dict(rope_scaling=LLAMA3 | {"low_freq_factor": 4 - 1e-12}), "rope_scaling.low_freq_factor"),
    (dict(rope_scaling=LLAMA3 | {"low_freq_factor": 1e-20}), "rope_scaling.low_freq_factor"),
    (dict(rope_theta=1.0, rope_scaling=YARN), "rope_theta"),
    (dict(rope_theta=0.5), "rope_theta"),
    (dict(rope_theta=1e30), "rope_theta"),
    (dict(rope_theta=10**400), "rope_theta"),
    (dict(hidden_size=2**31), "hidden_size"),
    (dict(max_position_embeddings=10**400), "max_position_embeddings"),
    (dict(model_type=[[[]]]), "model_type"),
    (dict(layer_types=[ABSURD["deep"]]), "layer_types"),
    (dict(attention_bias=ABSURD["deep"]), "attention_bias"),
  ],
)
def test_number_that_the_computation_cannot_take_is_named(tmp_path, changes, field):
  write(tmp_path, **changes)
  with user_error(tmp_path / "config.json", f"'{field}'"):
    read_config(tmp_path)


@pytest.mark.parametrize(
  "rope",
  [YARN | {"beta_fast": x, "beta_slow": y} for x in (1e-37, 1.0, 3e38) for y in (1e-37, 1.0)]
  + [YARN | {"mscale": x, "mscale_all_dim": y} for x in (1e-37, 3e38) for y in (1e-37, 3e38)]
  + [YARN | {"attention_factor": x, "factor": 65000.0} for x in (1e-37, 3e38)]
  + [LLAMA3 | {"low_freq_factor": 1e-16, "high_freq_factor": x} for x in (1e-15, 3e38)]
  + [LLAMA3 | {"factor": 262000.0, "high_freq_factor": 1.0001}],
  ids=str,
)
@pytest.mark.parametrize("theta", [1.0000000000000002, 1e20])
def test_what_is_accepted_has_finite_frequencies(tmp_path, theta, rope):
  write(tmp_path, rope_theta=theta, rope_scaling=rope)
  try:
    config = read_config(tmp_path)
  except UserError:
    assert rope["beta_slow"] > rope["beta_fast"]
    return
  with np.errstate(over="raise", divide="raise", invalid="raise"):
    frequencies, factor = inverse_frequencies(config)
  assert np.isfinite(frequencies).all() and math.isfinite(np.float32(factor))


@pytest.mark.parametrize("changes, field, reason", REFUSED.values(), ids=REFUSED.keys())
def test_refuses_with_file_field_and_reason(tmp_path, changes, field, reason):
  write(tmp_path, **changes)
  with user_error(str(tmp_path / "config.json"), f"'{field}'", reason):
    read_config(tmp_path)


@pytest.mark.parametrize(
  "field",
  [
    "model_type",
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "max_position_embeddings",
    "rope_theta",
  ],
)
def test_missing_field_is_named(tmp_path, field):
  write(tmp_path, remove=[field])
  with user_error(str(tmp_path / "config.json"), f"'{field}'", "missing"):
    read_config(tmp_path)


def test_missing_directory(tmp_path):
  with user_error(str(tmp_path / "Qwen3-8B"), "no such directory"):
    read_config(tmp_path / "Qwen3-8B")


@pytest.mark.parametrize(
  "content, reason",
  [(None, "no such file"), (b'{"a": ', "invalid JSON"), (b"[]", "object"), (b"\xff\xfe", "text")],
)
def test_unreadable_file(tmp_path, content, reason):
  if content is not None:
    (tmp_path / "config.json").write_bytes(content)
  with user_error(str(tmp_path / "config.json"), reason):
    read_config(tmp_path)
