"""Training of the embedded checkpoint: rows, step, resuming, export."""

import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
import torch
import transformers

from tests.errors import user_error
import tttjax as tt
from tttjax import flags as command_line
from tttjax.embedded.vocabulary import build_tokenizer
from tttjax.errors import UserError
from tttjax.models.decoder import Decoder, init_params
from tttjax.models.decoder_config import DecoderConfig
from tttjax.pretrain import curve, data, evaluate, logs, loop, train
from tttjax.tasks.synthetic.auditor import audit

CONFIG = "configs/pretrain_embedded.py"
STAGE = data.Stage(context=128, row=256, batch=2, share=1.0, anomaly=0.3, thinking=0.4, amount=0.2)


@pytest.fixture(scope="module")
def tokenizer():
  return build_tokenizer()


@pytest.fixture(scope="module")
def rows(tokenizer):
  generator = data.Generator(tokenizer, seed=0, max_position=16384)
  return [generator.row(data.FIRST_TRAINING_SEED + i, STAGE) for i in range(40)]


@pytest.fixture(scope="module")
def model():
  return Decoder(
    DecoderConfig(
      vocab_size=512,
      hidden_size=32,
      intermediate_size=48,
      num_hidden_layers=2,
      num_attention_heads=2,
      num_key_value_heads=1,
      head_dim=16,
      rope_theta=1e5,
      max_position_embeddings=16384,
      tie_word_embeddings=True,
    )
  )


def parts(row):
  """The row's tokens by segment."""
  segments = np.array(row.segments)
  return [np.array(row.tokens)[segments == i].tolist() for i in range(segments.max() + 1)]


def test_table_lookup_gives_the_tokenizers_ids(tokenizer, rows):
  for row in rows:
    for part in parts(row):
      text = tokenizer.decode(part)
      assert tokenizer(text, add_special_tokens=False)["input_ids"] == part


def test_training_prompts_are_the_evaluations_prompts(tokenizer, rows):
  """A trained question is a prompt of the chat template, followed by the answer's turn."""
  for row in rows:
    context, *questions = (tokenizer.decode(part) for part in parts(row))
    for text in questions:
      question = re.match(r"\[QUESTION\] (.*\?)<\|im_end\|>", text)[1]
      log = context.removeprefix("<|im_start|>user\n")
      rendered = [
        tokenizer.apply_chat_template(
          [{"role": "user", "content": f"{log}[QUESTION] {question}"}],
          tokenize=False,
          add_generation_prompt=True,
          enable_thinking=thinking,
        )
        for thinking in (False, True)
      ]
      whole = context + text
      assert whole.startswith(rendered[0]) or whole.startswith(rendered[1] + "<think>\n")
      assert whole.endswith("<|im_end|>") and "</think>\n\n" in text


def test_thoughts_walk_through_the_asked_account_and_some_are_cut(tokenizer, rows):
  thoughts = [
    tokenizer.decode(part)
    for row in rows
    for part in parts(row)[1:]
    if "<think>\n\n" not in tokenizer.decode(part)
  ]
  cut = ["Thinking budget used up." in text for text in thoughts]
  assert 0.15 < np.mean(cut) < 0.5
  for text, was_cut in zip(thoughts, cut):
    account = re.search(r"balance of ([A-Z]\d\d)", text)[1]
    thought, answer = re.search(r"<think>\n(.*)</think>\n\n(.*)<\|im_end\|>", text, re.S).groups()
    steps = [] if was_cut else thought.splitlines()
    assert all(step.startswith(f" {account}=") for step in steps)
    assert was_cut or (1 <= len(steps) <= 3 and steps[0].endswith(answer))
    for newer, older in zip(steps, steps[1:]):
      assert newer[5:9] == older[-4:]  # The newest update comes first.


def test_questions_follow_the_context_and_jumps_stand_at_line_starts(tokenizer, rows):
  largest = 0
  for row in rows:
    positions, segments = np.array(row.positions), np.array(row.segments)
    context = positions[segments == 0]
    assert positions.max() < 16384
    jumped = np.flatnonzero(np.diff(context) != 1) + 1
    assert {tokenizer.decode([row.tokens[i]]) for i in jumped} <= {"OPEN", "TX"}
    assert (np.diff(context) >= 1).all()
    for i in range(1, segments.max() + 1):
      own = positions[segments == i]
      assert (own == context[-1] + 1 + np.arange(len(own))).all()
    largest = max(largest, positions.max())
  assert largest > 10000


def test_only_answers_and_balances_of_transfers_weigh(tokenizer, rows):
  row = next(row for row in rows if len(parts(row)) > 3)
  context = [tokenizer.decode([i]) for i in parts(row)[0]]
  for i, weight in enumerate(np.array(row.weights)[: len(context)]):
    line = "".join(context[:i]).rpartition("\n")[2]
    balance = (
      line.startswith("TX") and "=" in line.rpartition(" ")[2] and context[i][0] not in " \n"
    )
    assert weight == (data.PREDICTABLE if balance else weight) and (weight <= 0.1) == (not balance)


@pytest.mark.parametrize(
  "context, row, anomaly, expected",
  [
    (128, 256, 0.3, "fa55518d330202971c32c8d54dbb6e4ad9540cf99b8c215c7db38c76fde0a783"),
    (384, 512, 0.5, "0ef55e179f0ad6332275272abcb55eff701c051f8ca11823557780dae64202a9"),
  ],
)
def test_rows_of_a_seed_stay_the_same(tokenizer, context, row, anomaly, expected):
  """The hashes were made with the code from before training had a log writer of its own."""
  stage = data.Stage(
    context=context, row=row, batch=2, share=1.0, anomaly=anomaly, thinking=0.4, amount=0.2
  )
  generator = data.Generator(tokenizer, seed=0, max_position=16384)
  digest = hashlib.sha256()
  for i in range(60):
    made = generator.row(data.FIRST_TRAINING_SEED + i, stage)
    fields = (made.tokens, made.positions, made.segments, made.weights)
    digest.update(repr([[float(x) for x in field] for field in fields]).encode())
  assert digest.hexdigest() == expected


def test_training_logs_have_the_anomaly_that_is_asked_for_and_no_other():
  for seed in range(200):
    for anomaly in (False, True):
      lines, size = logs.write_log(seed, 150, lambda text: len(text) // 2, anomaly)
      assert size <= 150
      found = audit("".join(line.text for line in lines))
      assert len(found) == anomaly
      if anomaly:
        answer = logs.ask(lines, np.random.default_rng(0), "anomaly")[1]
        assert answer == f"{{{found[0].rule}, TX{found[0].transaction}}}"


def test_batches_are_a_function_of_seed_and_step(tokenizer):
  make = lambda seed, step: data.Generator(tokenizer, seed, 16384).batch(step, STAGE).tokens
  np.testing.assert_array_equal(make(0, 3), make(0, 3))
  assert (make(0, 3) != make(0, 4)).any() and (make(0, 3) != make(1, 3)).any()


def test_a_question_in_a_row_gets_the_logits_it_gets_alone(model, rows):
  """The packed forward pass against the model's own causal one on context + question."""
  params = init_params(model, jax.random.key(0))
  row = next(row for row in rows if len(parts(row)) > 3)
  fill = STAGE.row - len(row.tokens)
  arrays = [
    np.array([values + [pad] * fill], np.int32)
    for values, pad in ((row.tokens, 0), (row.positions, 0), (row.segments, -1))
  ]

  @jax.jit
  def forward(tokens, positions, segments):
    hidden, _ = model.apply(
      {"params": params}, tokens, positions, train.Segments(segments), method="hidden"
    )
    return model.apply({"params": params}, hidden, method="logits")[0]

  packed = forward(*arrays)
  plain = jax.jit(lambda *inputs: model.apply({"params": params}, *inputs)[0])
  alone = np.flatnonzero((arrays[2][0] == 0) | (arrays[2][0] == 3))
  logits = plain(arrays[0][:, alone], arrays[1][:, alone])
  np.testing.assert_allclose(packed[alone], logits, atol=2e-5)


def test_muon_gets_every_matrix_and_orthogonalises_each_layer(model):
  params = init_params(model, jax.random.key(0))
  axes = train.matrix_axes(params)
  flat = jax.tree_util.tree_flatten_with_path(
    axes, is_leaf=lambda x: x is None or not isinstance(x, dict)
  )[0]
  assert {path[-2].key for path, value in flat if value is not None} == {
    "query",
    "key",
    "value",
    "output",
    "gate",
    "up",
    "down",
  }
  optimizer = train.make_optimizer(1.0, 1.0, 0.0)
  mlp = params["layers"]["mlp"]
  params = {"gate": mlp["gate"], "norm": params["final_norm"]}  # All seven take long to compile.
  grads = jax.tree.map(lambda x: jax.random.normal(jax.random.key(x.size), x.shape), params)
  update = jax.jit(lambda g, p: optimizer.update(g, optimizer.init(p), p)[0])(grads, params)
  for layer in update["gate"]["kernel"]:
    values = np.linalg.svd(np.asarray(layer), compute_uv=False)
    assert values.min() > 0.5 * values.max()


def test_rates_rise_then_fall_over_the_last_third():
  scale = lambda progress, step=1000: train.rate_scale(progress, step, 100)
  assert scale(0.0, 0) == pytest.approx(0.01) and scale(0.3) == scale(0.66) == 1.0
  assert scale(5 / 6) == pytest.approx(0.5) and scale(1.0) == 0.0


def small_config(steps):
  config = command_line.load_config(CONFIG)
  for name, value in {
    "steps": str(steps),
    "warmup": "2",
    "log_every": "2",
    "eval_every": "4",
    "save_every": "3",
    "model.hidden_size": "32",
    "model.intermediate_size": "48",
    "model.num_layers": "1",
    "model.num_heads": "2",
    "model.num_kv_heads": "1",
    "model.head_dim": "16",
    "stages.context": "128,128",
    "stages.row": "192,192",
    "stages.batch": "2,2",
    "stages.share": "1,1",
    "stages.anomaly": "0,0.5",
    "stages.thinking": "0,0.5",
    "stages.amount": "0,0.5",
    "eval.examples": "2",
    "eval.kinds": "balance",
    "eval.contexts": "128",
  }.items():
    command_line.override(config, name, value)
  return config


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  """A finished run of 6 steps."""
  run = loop.Run(small_config(6), tmp_path_factory.mktemp("whole"))
  assert set(run.train()) == {"balance_128"}
  return run


def test_an_interrupted_run_resumes_to_the_same_model(whole, tmp_path):
  # What is left of a run that was stopped after its save at step 3.
  shutil.copytree(whole.workdir, tmp_path, dirs_exist_ok=True)
  shutil.rmtree(tmp_path / "checkpoints" / "6")
  resumed = loop.Run(small_config(6), tmp_path)
  assert resumed.state["progress"][0] == 3
  resumed.step_fn = whole.step_fn  # Compiled already.
  resumed.train()
  jax.tree.map(np.testing.assert_array_equal, resumed.state["params"], whole.state["params"])
  assert [row["step"] for row in resumed.rows] == [2, 4, 6]
  assert (tmp_path / "curve.png").stat().st_size > 1000


def test_a_damaged_checkpoint_is_named(whole, tmp_path):
  shutil.copytree(whole.workdir, tmp_path, dirs_exist_ok=True)
  path = max((tmp_path / "checkpoints" / "6").rglob("*"), key=lambda path: path.stat().st_size)
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 1
  path.write_bytes(content)
  with user_error(f"{tmp_path}/checkpoints/6: cannot be resumed from ({path}: not the file"):
    loop.Run(small_config(6), tmp_path)


def test_a_run_of_another_model_is_not_resumed(whole):
  config = small_config(6)
  command_line.override(config, "model.hidden_size", "64")
  with user_error(
    f"{whole.workdir}/checkpoints/6: cannot be resumed from (", "has shape", "config.model"
  ):
    loop.Run(config, whole.workdir)


@pytest.mark.parametrize("name", ["checkpoints", "model"])
@pytest.mark.parametrize("make", [os.mkfifo, pathlib.Path.touch])
def test_what_is_no_directory_is_named_before_training(tmp_path, name, make):
  make(tmp_path / name)
  with user_error(tmp_path / name, "not a directory"):
    loop.Run(small_config(6), tmp_path)


@pytest.mark.parametrize(
  "data",
  [None, b"step,loss\n1,x\n", b"\xff\xfe\n1\n", b"step,loss\n1,2\n", b"step\n1,2\n", b"a,b\n1,2\n"],
  ids=str,
)
def test_curve_that_is_none_is_named_and_not_waited_for(tmp_path, data):
  path = tmp_path / "curve.csv"
  os.mkfifo(path) if data is None else path.write_bytes(data)
  with user_error(path):
    curve.read(path)


def test_curve_is_read_back_and_replaces_what_is_no_file(tmp_path):
  path, row = tmp_path / "curve.csv", dict.fromkeys(curve.FIELDS, 2.0)
  os.mkfifo(path)
  rows = [row, row | {"balance_128": 0.5}]
  curve.write(path, rows, ["balance_128"])
  assert curve.read(path) == rows
  assert curve.read(tmp_path / "absent.csv") == []


def test_transformers_gets_the_same_logits_from_the_exported_model(whole):
  exported = transformers.AutoModelForCausalLM.from_pretrained(whole.workdir / "model")
  tokens = np.arange(40)[None] * 7 % 512
  with torch.no_grad():
    reference = exported(torch.tensor(tokens)).logits.numpy()
  ours = jax.jit(whole.model.apply)(
    {"params": whole.state["params"]}, jnp.asarray(tokens, jnp.int32)
  )
  np.testing.assert_allclose(ours, reference, atol=1e-4)


def test_a_non_finite_loss_stops_the_run(whole, monkeypatch):
  monkeypatch.setattr(whole, "state", whole.state | {"progress": np.zeros(3)})
  monkeypatch.setattr(
    whole, "step_fn", lambda params, opt_state, *_: (params, opt_state, np.array([np.nan, 0, 0]))
  )
  with pytest.raises(UserError, match="not finite at step 1: lower config.muon_rate"):
    whole.train()


@pytest.mark.parametrize(
  "row, message",
  [
    ("224", "config.stages: every field needs one entry per stage"),
    ("224,320,512,514", "config.stages.row=514: must be a multiple of 4"),
    ("224,320,512,384", "config.stages.row=384: must be at least context"),
  ],
)
def test_impossible_stages_are_named(row, message):
  config = command_line.load_config(CONFIG)
  command_line.override(config, "stages.row", row)
  with pytest.raises(UserError, match=message):
    loop.stages_of(config)


@pytest.mark.parametrize(
  "name, value, words",
  [
    ("seed", -1, "config.seed must be at least 0"),
    ("seed", 2**31, "config.seed must be at most 2147483647"),
    ("seed", 0.5, "config.seed must be a whole number"),
    ("seed", (1, 2), "config.seed must be a whole number"),
    ("workdir", 3, "config.workdir=3 must be a path"),
    ("steps", 0, "config.steps must be at least 1"),
    ("steps", -5, "config.steps must be at least 1"),
    ("steps", 10.5, "config.steps must be a whole number"),
    ("steps", 2**31, "config.steps must be at most 2147483647"),
    ("warmup", 0, "config.warmup must be at least 1"),
    ("warmup", -1, "config.warmup must be at least 1"),
    ("warmup", 1.5, "config.warmup must be a whole number"),
    ("warmup", 2901, "config.warmup=2901 must be at most config.steps=2900"),
    ("minutes", -1.0, "config.minutes must be at least 0"),
    ("minutes", float("nan"), "config.minutes must be at least 0"),
    ("muon_rate", 0.0, "config.muon_rate must be above 0"),
    ("adam_rate", float("inf"), "config.adam_rate must be at most"),
    ("weight_decay", -0.1, "config.weight_decay must be at least 0"),
    ("save_every", 0, "config.save_every must be at least 1"),
    ("model.num_layers", 0, "config.model.num_layers must be at least 1"),
    ("model.num_kv_heads", 3, "config.model.num_kv_heads=3 must divide config.model.num_heads=4"),
    ("model.head_dim", 31, "config.model.head_dim=31 must be even"),
    ("model.rope_theta", 1.0, "config.model.rope_theta must be above 1"),
    ("model.max_positions", 400, "config.stages.row must be at most 400"),
    ("stages.context", (100, 192, 384, 384), "config.stages.context must be at least 120"),
    ("stages.batch", (0, 1, 1, 1), "config.stages.batch must be at least 1"),
    ("stages.share", (1.0, 0.0, 1.0, 1.0), "config.stages.share must be above 0"),
    ("stages.anomaly", (1.5, 0.0, 0.0, 0.0), "config.stages.anomaly must be at most 1"),
    ("stages.amount", (1.0, 0.0, 0.0, 0.0), "config.stages.amount must be below 1"),
    ("stages.row", (), "config.stages.row is empty"),
    ("stages.row", 512, "config.stages.row=512: give a list"),
    ("eval.questions", 17, "config.eval: bank_log: needles=17"),
    ("eval.kinds", ("sum",), "config.eval: bank_log: kind='sum'"),
    ("eval.contexts", (16,), "config.eval: length=16 tokens hold no balance"),
  ],
)
def test_field_that_cannot_work_is_named_before_anything_is_made(tmp_path, name, value, words):
  fields = command_line.load_config(CONFIG).to_dict()
  group, _, leaf = name.rpartition(".")
  (fields[group] if group else fields)[leaf] = value
  with user_error(words):
    loop.Run(ml_collections.ConfigDict(fields), tmp_path / "run")
  assert not (tmp_path / "run").exists()


def test_field_that_is_missing_or_unknown_is_named(tmp_path):
  fields = command_line.load_config(CONFIG).to_dict()
  del fields["warmup"]
  with user_error("config.warmup: is missing"):
    loop.Run(ml_collections.ConfigDict(fields), tmp_path / "run")
  with user_error("config.warm: no such field"):
    loop.Run(ml_collections.ConfigDict({**fields, "warmup": 1, "warm": 1}), tmp_path / "run")


def test_a_bad_field_is_one_line_and_exit_code_2(tmp_path):
  result = subprocess.run(
    [sys.executable, "-m", "tttjax.pretrain", f"--workdir={tmp_path}", "--config.stepz=5"],
    capture_output=True,
    text=True,
    check=False,
  )
  assert result.returncode == 2 and not list(tmp_path.iterdir())
  assert re.fullmatch(
    r".*--config\.stepz: no such field; did you mean --config\.steps\?\n", result.stderr
  )


def test_the_shipped_checkpoint_answers_at_the_trained_lengths(tokenizer):
  """What docs/embedded/README.md claims, on a few of its logs."""
  model, params = tt.from_pretrained(tt.EMBEDDED)
  shipped = tt.load_tokenizer(tt.EMBEDDED)
  assert shipped.get_vocab() == tokenizer.get_vocab()
  assert shipped.chat_template == tokenizer.chat_template
  assert sum(file.stat().st_size for file in tt.EMBEDDED.iterdir()) < 12e6
  seeds = range(evaluate.FIRST_SEED, evaluate.FIRST_SEED + 8)
  for kind in ("balance", "amount"):
    rows = evaluate.held_out(shipped, kind, 384, seeds, 4)
    assert evaluate.accuracy(model, params, rows) >= 0.9
