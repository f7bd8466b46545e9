"""The model tttjax in lm-evaluation-harness, against the harness's own model hf."""

import json
import os
import pathlib
import sys

import numpy as np
import pytest
import yaml

from tests import smollm2
from tests.errors import user_error
import tttjax as tt
from tttjax import program
from tttjax.session import Session, model_session
from tttjax.tasks import BankLog

os.environ.setdefault("HF_DATASETS_OFFLINE", "1")  # read when the harness imports datasets
pytest.importorskip("lm_eval", reason="needs lm-evaluation-harness: pip install 'tttjax[lm-eval]'")
import lm_eval
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from tttjax.lm_eval import __main__ as command_line
from tttjax.lm_eval.language_model import TTTJaxLM
from tttjax.lm_eval_tasks import longbench_v2_documents

TASKS = pathlib.Path(tt.__file__).parent / "lm_eval_tasks"
_QTTT = {"strategy": "qttt", "steps": 2, "span": 32, "learning_rate": 1e-2}


def questions(seed, tokens=260):
  """(log, question) pairs about one generated log."""
  tokenizer = tt.load_tokenizer("embedded")
  example = BankLog().at(seed, tokens, tokenizer, in_tokens=True)
  return [(example.context, question.text) for question in example.questions[:2]]


def write_tasks(folder, documents):
  """Three local tasks: choices, texts with stop strings, and perplexity."""
  data = folder / "data.json"
  data.write_text("\n".join(map(json.dumps, documents)), encoding="utf-8")
  common = {
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": str(data)}, "cache_dir": str(folder / "cache")},
    "test_split": "test",
    "target_delimiter": "",
  }
  tasks = {
    "made_choices": {
      "output_type": "multiple_choice",
      "doc_to_text": "{{text}}",
      "doc_to_choice": "choices",
      "doc_to_target": 0,
    },
    "made_texts": {
      "output_type": "generate_until",
      "doc_to_text": "{{text}}",
      "doc_to_target": "{{choices[0]}}",
      "generation_kwargs": {"until": ["\n", "99"], "do_sample": False, "max_gen_toks": 24},
    },
    "made_rolling": {
      "output_type": "loglikelihood_rolling",
      "doc_to_text": "",
      "doc_to_target": "{{text}}",
    },
  }
  for name, task in tasks.items():
    text = yaml.safe_dump({"task": name, **common, **task})
    (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
  return list(tasks)


def evaluated(model, names, folder):
  """Responses by task, in the order of the documents."""
  manager = TaskManager(include_path=str(folder), include_defaults=False)
  results = lm_eval.simple_evaluate(
    model=model, tasks=names, task_manager=manager, bootstrap_iters=0
  )
  by_document = lambda samples: [s["resps"] for s in sorted(samples, key=lambda s: s["doc_id"])]
  return results["results"], {name: by_document(results["samples"][name]) for name in names}


def compare(ours, theirs, names, folder, rounding=1e-6):
  """Greedy texts are the same, log-likelihoods within 1e-3 and the rounding of whole documents."""
  table, own = evaluated(ours, names, folder)
  expected_table, expected = evaluated(theirs, names, folder)
  assert own["made_texts"] == expected["made_texts"]
  assert any(text.strip() for document in own["made_texts"] for (text,) in document)
  for document, other in zip(own["made_choices"], expected["made_choices"], strict=True):
    for ((value, greedy),), ((expected_value, expected_greedy),) in zip(document, other):
      assert abs(value - expected_value) < 1e-3 and greedy == expected_greedy
  assert any(greedy for document in own["made_choices"] for ((_, greedy),) in document)
  np.testing.assert_allclose(
    np.ravel(own["made_rolling"]).astype(float),
    np.ravel(expected["made_rolling"]).astype(float),
    rtol=rounding,
    atol=1e-3,
  )
  assert table["made_choices"]["acc,none"] == expected_table["made_choices"]["acc,none"]


@pytest.fixture(scope="module")
def ours():
  return TTTJaxLM("embedded")


@pytest.fixture(scope="module")
def theirs():
  return HFLM(pretrained=str(tt.EMBEDDED), dtype="float32", device="cpu", batch_size=4)


@pytest.fixture(scope="module")
def adapting():
  return TTTJaxLM("embedded", context_split="[QUESTION]", **_QTTT)


@pytest.fixture(scope="module")
def documents(theirs):
  """Long and short ones; the first choice of each is what the model hf writes."""
  texts = [
    f"{context}[QUESTION] {question}\n[ANSWER]\n"
    for seed in (0, 1)
    for context, question in questions(seed)
  ]
  texts += ["OPEN A12=1240\nOPEN", "A B ", "Ünï\n\nA12"]
  written = theirs.generate_until(requests((text, {"max_gen_toks": 3}) for text in texts))
  return [
    {"text": text, "choices": [best or "0", "77", " 1240\nA"]} for text, best in zip(texts, written)
  ]


def requests(arguments):
  return [Instance(request_type="loglikelihood", doc={}, arguments=own, idx=0) for own in arguments]


def test_the_harness_is_not_hidden_by_the_room_of_its_name():
  assert lm_eval.__name__ == "lm_eval" and "tttjax" not in pathlib.Path(lm_eval.__file__).parts
  assert lm_eval.api.registry.get_model("tttjax") is TTTJaxLM


def test_tasks_give_what_hf_gives(ours, theirs, documents, tmp_path):
  compare(ours, theirs, write_tasks(tmp_path, documents), tmp_path)


@pytest.mark.slow
def test_tasks_give_what_hf_gives_on_a_pretrained_model(tmp_path):
  import torch
  from transformers import AutoModelForCausalLM, AutoTokenizer

  path = smollm2.skip_without()
  model = AutoModelForCausalLM.from_pretrained(
    path.parent, gguf_file=path.name, dtype=torch.float32
  )
  tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
  theirs = HFLM(pretrained=model, tokenizer=tokenizer, device="cpu", batch_size=1)
  texts = ["The capital of France is", "Once upon a time, in a village by the sea, " * 20 + "there"]
  written = theirs.generate_until(requests((text, {"max_gen_toks": 3}) for text in texts))
  made = [{"text": t, "choices": [best, " Paris", " a"]} for t, best in zip(texts, written)]
  compare(TTTJaxLM("smollm2"), theirs, write_tasks(tmp_path, made), tmp_path, rounding=1e-4)


def test_requests_longer_than_the_model_are_cut_as_hf_does(documents):
  """On the left: log-likelihoods, texts and the windows of whole documents."""
  ours = TTTJaxLM("embedded", max_length=160, batch_size=2)
  theirs = HFLM(
    pretrained=str(tt.EMBEDDED), dtype="float32", device="cpu", batch_size=1, max_length=160
  )
  text = documents[0]["text"]
  asked = requests([(text, " 12"), (text, " 1240 and more\n"), (text[-90:], "7")])
  for (value, greedy), expected in zip(ours.loglikelihood(asked), theirs.loglikelihood(asked)):
    assert abs(value - expected[0]) < 1e-3 and greedy == expected[1]
  asked = requests([(text,), (text[:40],)])
  own, expected = ours.loglikelihood_rolling(asked), theirs.loglikelihood_rolling(asked)
  np.testing.assert_allclose(own, expected, rtol=1e-6, atol=1e-3)
  asked = requests([(text, {"until": ["\n"], "max_gen_toks": 12})])
  assert ours.generate_until(asked) == theirs.generate_until(asked)


def test_the_chat_template_is_hfs(ours, theirs):
  chat = [{"role": "system", "content": "s"}, {"role": "user", "content": "Hello"}]
  assert ours.apply_chat_template(chat) == theirs.apply_chat_template(chat)
  chat.append({"role": "assistant", "content": "He"})
  without = {"add_generation_prompt": False}
  assert ours.apply_chat_template(chat, **without) == theirs.apply_chat_template(chat, **without)
  assert ours.chat_template(True) == theirs.chat_template(True)
  assert ours.tokenizer_name


@pytest.mark.parametrize("split", [30, "[QUESTION]"])
def test_any_split_gives_the_same_numbers_in_context(ours, documents, split):
  other = TTTJaxLM("embedded", context_split=split)
  asked = requests((d["text"], choice) for d in documents for choice in d["choices"])
  own, expected = other.loglikelihood(asked), ours.loglikelihood(asked)
  np.testing.assert_allclose(own, expected, atol=1e-3)


@pytest.fixture
def counted(monkeypatch):
  """How often contexts were read and adapted to."""
  counts = {"prefill": 0, "adapt": 0}

  def counting(name, function):
    def call(*arguments, **named):
      counts[name] += 1
      return function(*arguments, **named)

    return call

  monkeypatch.setattr(model_session, "prefill", counting("prefill", model_session.prefill))
  monkeypatch.setattr(Session, "adapt", counting("adapt", Session.adapt))
  return counts


def test_a_context_is_read_and_adapted_to_once(adapting, documents, counted):
  """Two questions with three choices each about either of two logs, in mixed order."""
  asked = [(d["text"], choice) for choice in documents[0]["choices"] for d in documents[:4]]
  scores = adapting.loglikelihood(requests(asked))
  assert counted == {"prefill": 2, "adapt": 2}
  backwards = adapting.loglikelihood(requests(asked[::-1]))[::-1]
  np.testing.assert_allclose(backwards, scores, atol=1e-4)
  counted.update(prefill=0, adapt=0)
  texts = requests((d["text"], {"until": ["\n"], "max_gen_toks": 8}) for d in documents[:4])
  adapting.generate_until(texts)
  assert counted["adapt"] <= 2  # the last log of before may be the first one now


def test_adapted_scores_are_those_of_the_functions(adapting, ours, documents):
  """The steps on the tokens before [QUESTION] alone; and they change the scores."""
  text, choice = documents[0]["text"], documents[0]["choices"][1]
  encode = lambda part: tt.load_tokenizer("embedded")(part)["input_ids"]
  context = np.array([encode(text[: text.rindex("[QUESTION]")])])
  rest = np.array([encode(text.rstrip() + "\n" + choice)[context.shape[1] :]])
  model, params = adapting.session.model, adapting.session.params
  cache, _ = tt.prefill(model, params, context)
  key = adapting._contexts.key(tuple(context[0].tolist()))
  fast, _, _ = tt.adapt(model, params, cache, context, key, adapting.arguments.ttt)
  number = len(encode(text + choice)) - len(encode(text.rstrip()))
  expected = float(tt.score(model, params, fast, cache, rest)[0, -number:].sum())
  asked = requests([(text, choice)])
  ((score, _),) = adapting.loglikelihood(asked)
  assert abs(score - expected) < 1e-3
  assert abs(score - ours.loglikelihood(asked)[0][0]) > 1e-2


def test_short_contexts_are_answered_without_adaptation_and_counted(adapting, ours, capsys):
  asked = requests([("A1 [QUESTION] x", "7"), ("no mark " * 40, "7")])
  own = adapting.loglikelihood(asked)
  np.testing.assert_allclose(own, ours.loglikelihood(asked), atol=1e-3)
  said = [line for line in capsys.readouterr().err.splitlines() if "without adaptation" in line]
  assert len(said) == 1 and "2 of 2 requests" in said[0] and "span + 1 = 33" in said[0]


def test_thoughts_do_not_count(ours):
  """With a budget: what follows the section, at most max_gen_toks of it."""
  thinking = TTTJaxLM("embedded", thinking_budget=8)
  chat = [{"role": "user", "content": "OPEN A12=1240\n[QUESTION] balance of A12?"}]
  prompt = thinking.apply_chat_template(chat)
  (text,) = thinking.generate_until(requests([(prompt, {"max_gen_toks": 4})]))
  assert "think" not in text and len(ours.tok_encode(text)) <= 4
  with user_error("thinking_budget", "leave them out"):
    thinking.loglikelihood(requests([("a", "b")]))


def test_sampling_follows_the_seed(ours):
  arguments = "OPEN A12=", {"do_sample": True, "temperature": 1.5, "max_gen_toks": 12}
  first = ours.generate_until(requests([arguments] * 3))
  assert first == ours.generate_until(requests([arguments] * 3)) and len(set(first)) > 1
  other = TTTJaxLM("embedded", seed=1)
  assert other.generate_until(requests([arguments] * 3)) != first


@pytest.mark.parametrize(
  "generation, words",
  [
    ({"num_beams": 4}, ["num_beams"]),
    ({"repetition_penalty": 1.2}, ["repetition_penalty", "not implemented"]),
    ({"do_sample": True, "temperature": 1.0, "top_p": 2}, ["top_p"]),
    ({"max_gen_toks": 1 << 20}, ["max_length=16384", "max_gen_toks"]),
  ],
)
def test_generation_that_cannot_be_done_is_one_line(ours, generation, words):
  with user_error(*words):
    ours.generate_until(requests([("a", generation)]))


def test_devices_share_the_work(ours, documents):
  sharded = TTTJaxLM("embedded", tensor=2, context=4, batch_size=2)
  asked = requests((documents[0]["text"], choice) for choice in documents[0]["choices"])
  np.testing.assert_allclose(sharded.loglikelihood(asked), ours.loglikelihood(asked), atol=1e-3)


@pytest.fixture
def benchmark(tmp_path):
  """Two records in the fields of LongBench-v2."""
  record = {
    "_id": "a",
    "domain": "Single-Document QA",
    "sub_domain": "Financial",
    "difficulty": "easy",
    "length": "short",
    "context": questions(0)[0][0],
    "question": "Which one?",
    **{f"choice_{letter}": letter * 2 for letter in "ABCD"},
    "answer": "B",
  }
  (tmp_path / "data.json").write_text(json.dumps([record, record | {"_id": "b", "answer": "C"}]))
  return tmp_path / "data.json"


def test_the_command_runs_our_task(monkeypatch, benchmark, capsys):
  arguments = (
    "--model_args=pretrained=embedded,strategy=qttt(steps=1,span=32),context_split=[QUESTION]",
    "--tasks=tttjax_longbench_v2",
    f"--metadata=data={benchmark}",
    "--batch_size=auto",
    "--gen_kwargs=max_gen_toks=8",
  )
  monkeypatch.setattr(sys, "argv", ["lm_eval", "run", "--model", "tttjax", *arguments])
  code = program.run(command_line.main)
  out = capsys.readouterr()
  assert code == 0 and "tttjax_longbench_v2" in out.out and "answered" in out.out, out.err
  assert "without adaptation" not in out.err


def test_a_mistake_ends_the_command_with_one_line(monkeypatch, capsys):
  given = lambda: TTTJaxLM.create_from_arg_string(
    "pretrained=embedded,strategy=qttt(steps=2,span=4)"
  )
  monkeypatch.setattr("lm_eval.__main__.cli_evaluate", given)
  assert program.run(command_line.main) == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert "error: strategy=qttt(steps=2: the harness cuts" in line


def test_only_the_benchmarks_own_sentence_is_an_answer(benchmark):
  manager = TaskManager(
    include_path=str(TASKS), include_defaults=False, metadata={"data": str(benchmark)}
  )
  task = manager.load(["tttjax_longbench_v2"])["tasks"]["tttjax_longbench_v2"]
  document = next(iter(task.test_docs()))
  assert task.doc_to_text(document).count("[QUESTION]") == 1
  score = lambda text: task.process_results(document, [text])
  assert score("So: **The correct answer is (B)**.") == {"acc": 1.0, "answered": 1.0}
  assert score("The correct answer is (A), not (B)") == {"acc": 0.0, "answered": 1.0}
  assert score("B") == {"acc": 0.0, "answered": 1.0}  # an output, as in configs/longbench_v2.py
  assert score(" ") == {"acc": 0.0, "answered": 0.0}


@pytest.mark.parametrize(
  "content, words",
  [
    (None, ("no such file or folder",)),
    ('[{"_id": 1}]', ("item 1", "has no field 'domain'")),
    ("[{]", ("not JSON", "line 1")),
  ],
)
def test_what_is_wrong_with_the_data_is_one_line(tmp_path, content, words):
  path = tmp_path / "data.json"
  if content is not None:
    path.write_text(content, encoding="utf-8")
  with user_error(path, *words):
    longbench_v2_documents.load(data=str(path), pretrained="embedded")
