"""The report's page: foreign text stays text, what comes first, and what is shown where."""

import base64
import hashlib
import json

import pytest

from tests import synthetic_rows
from tests.html_page import Page, read
from tests.synthetic_rows import failed
from tttjax import report, spec
from tttjax.report.page import configuration, markup

HOSTILE = (
  "<script>alert(1)</script></style>\"'><img src=x onerror=alert(2)> {{ 7*7 }} &amp; \x00\x1b["
)


def built(directory, rows, **config):
  synthetic_rows.write(directory, rows, **config)
  return report.build([directory], directory)


def hostile_rows(strategy, model, **fields):
  row = synthetic_rows.row(strategy, model=model, context=fields.pop("context", 0))
  row["doc"] |= {
    "context_head": HOSTILE,
    "question": HOSTILE,
    "evidence_text": [{"before": HOSTILE, "text": HOSTILE, "after": HOSTILE}],
  }
  row |= {
    "target": HOSTILE,
    "filtered_resps": [HOSTILE],
    "resps": [[HOSTILE + " and more thoughts", HOSTILE]],
    "metrics": ["acc", HOSTILE],
    HOSTILE: 0.5,
    "adaptation": {"loss": [1.0, 0.5], "start": [3]},
  }
  return row | fields


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
  """A page about two runs with hostile text wherever a row, a config or a path can hold it."""
  parent, directories = tmp_path_factory.mktemp("hostile"), []
  for name in ("a", "b"):
    directory = parent / f'{name}<b onclick="alert(3)">&'
    rows = [
      hostile_rows(strategy, f"models/{HOSTILE}".replace("/script", "script"), **fields)
      for strategy in ("in_context", f"qttt(spans={HOSTILE})", f"<u>{HOSTILE}")
      for fields in (
        {"context": 0, "slices": {HOSTILE: HOSTILE}},
        {"context": 1, "slices": {HOSTILE: "<i>"}, "fallback": HOSTILE},
        {"context": 2, "error": HOSTILE},
      )
    ]
    for row in rows:
      row["task"] = f"bank_log(kind={HOSTILE})"
      row["task_family"], row["task_options"] = spec.taken_apart(row["task"])
    synthetic_rows.write(directory, rows, **{HOSTILE: [HOSTILE, name], "other": HOSTILE})
    directories.append(directory)
  return report.build(directories, parent / "out")


def test_foreign_text_is_text_wherever_it_stands(hostile):
  page = read(hostile)
  tags = {tag for tag, _ in page.tags}
  assert not {"img", "b", "u", "i"} & {t for t, attrs in page.tags if "onerror" in attrs}
  assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
  assert len(page.named("script")) == len(page.named("style")) == 1
  assert not {"u", "iframe", "object"} & tags
  assert all(not attrs["src"].startswith("x") for attrs in page.named("img"))
  assert page.text.count("<script>alert(1)</script></style>\"'><img src=x onerror=alert(2)>") > 30
  assert "{{ 7*7 }} &amp;" in page.text


def test_control_characters_and_halves_of_characters_are_shown_as_pictures(hostile, tmp_path):
  assert not {chr(code) for code in range(32)} - {"\n"} & set(hostile.read_text(encoding="utf-8"))
  assert "␀␛[" in read(hostile).text
  row = synthetic_rows.row(filtered_resps=["half \ud83d \x7f\x9f"])
  assert "half � ␡�" in read(built(tmp_path, [row])).text


def test_a_directory_that_looks_like_a_scheme_is_no_address(tmp_path):
  address = configuration.link(tmp_path / "javascript:alert(1)" / "a?b#c.png", tmp_path / "r.html")
  assert address == "javascript%3Aalert%281%29/a%3Fb%23c.png"


def test_the_policy_admits_the_pages_own_script_and_style_only(hostile):
  page = read(hostile)
  (policy,) = [a["content"] for a in page.named("meta") if "http-equiv" in a]
  assert policy.startswith("default-src 'none'")
  assert "unsafe" not in policy
  for tag in ("script", "style"):
    digest = base64.b64encode(hashlib.sha256(page.raw[tag].encode()).digest()).decode()
    assert f"{tag}-src 'sha256-{digest}'" in policy


def test_numbers_sort_as_numbers(tmp_path):
  path = built(tmp_path, synthetic_rows.rows(("in_context",), (256, 1024, 2048), contexts=3))
  keys = [float(a["data-key"]) for a in read(path).named("td") if "data-key" in a]
  assert {256, 1024, 2048} <= set(keys)
  assert all(key == key for key in keys)  # none is nan


def questions(path):
  """Text of the examples, from the first question on."""
  text = read(path).text
  return text[text.index("A few contexts of each length") :]


def test_examples_show_failures_then_disagreement_then_wrong_answers(tmp_path):
  right = {context: (1, 1) for context in range(5)} | {2: (0, 0), 3: (0, 1)}
  rows = [
    synthetic_rows.row(strategy, context=context, acc=float(acc))
    for context, both in right.items()
    for strategy, acc in zip(("in_context", "qttt"), both)
  ]
  rows[-1] = failed("out of memory", strategy="qttt", context=4)
  text = questions(built(tmp_path, rows))
  order = [text.index(f"context {context} (") for context in (4, 3, 2)]
  assert order == sorted(order)
  assert "context 0 (" not in text and "3 of 5 contexts" in text


def test_within_a_context_the_question_worth_a_look_comes_first(tmp_path):
  rows = [
    synthetic_rows.row(strategy, question=question, acc=float(question != 3 or strategy == "qttt"))
    for question in range(5)
    for strategy in ("in_context", "qttt")
  ]
  assert "account Q3?" in questions(built(tmp_path, rows)).partition("Answer")[0]


def test_evidence_is_quoted_in_its_surroundings(tmp_path):
  row = synthetic_rows.row()
  row["doc"]["evidence_text"] = [
    {"before": f"line {i} before ", "text": f"ADD Q0 {i}", "after": " after"} for i in range(8)
  ]
  path = built(tmp_path, [row])
  assert "line 0 before ADD Q0 0 after" in read(path).text
  assert "<mark>ADD Q0 0</mark>" in path.read_text(encoding="utf-8")
  assert "2 more places are not quoted" in read(path).text


def test_rows_of_before_without_quoted_evidence_are_shown(tmp_path):
  assert not read(built(tmp_path, [synthetic_rows.row()])).named("mark")


def test_chat_marks_are_quiet():
  kinds = markup.pieces("<|im_start|>user\n<think>no</think> [INST] a < b <s>", 100)
  assert [text for kind, text in kinds if kind == "chat"] == [
    "<|im_start|>user",
    "<think>",
    "</think>",
    "[INST]",
    "<s>",
  ]
  assert (
    "".join(text for _, text in kinds) == "<|im_start|>user\n<think>no</think> [INST] a < b <s>"
  )


def test_long_texts_keep_their_head_and_tail():
  kinds = markup.pieces("a" * 50 + "b" * 1000 + "c" * 50, 90)
  assert kinds == [("text", "a" * 50 + "b" * 10), ("cut", "1,010"), ("text", "c" * 30)]


ENDINGS = [{"answer": "limit", "thought": "forced"}, {"answer": "stop", "thought": "closed"}]


def test_endings_are_columns_and_words_where_there_are_any(tmp_path):
  rows = [synthetic_rows.row(), synthetic_rows.row("thinking", endings=ENDINGS)]
  page = read(built(tmp_path, rows))
  assert {"cut off", "unclosed", "50.0%"} <= set(page.cells)
  assert "cut off at the longest output (1 of 2 samples)" in page.text
  assert "thought not closed (1 of 2 samples)" in page.text


def test_columns_of_trouble_chance_and_slices_are_left_out_where_they_say_nothing(tmp_path):
  page = read(built(tmp_path, synthetic_rows.rows(("in_context", "qttt"), (256,))))
  assert not {"cut off", "unclosed", "failed", "fell back", "chance"} & set(page.cells)
  assert not {"failures"} & {a.get("id") for a in page.named("section")}


def test_chance_and_slices_have_their_columns(tmp_path):
  rows = [
    synthetic_rows.row(context=context, chance=0.25, slices={"anomaly_kind": kind}, acc=acc)
    for context, kind, acc in ((0, "LOST_UPDATE", 1.0), (1, "LOST_UPDATE", 0.0), (2, "OTHER", 1.0))
  ]
  page = read(built(tmp_path, rows))
  assert {"chance", "0.250", "LOST_UPDATE", "0.500 ± 0.500"} <= set(page.cells)
  assert "By anomaly kind" in page.text


def test_column_heads_explain_themselves(tmp_path):
  page = read(built(tmp_path, synthetic_rows.rows(("in_context", "qttt"), (256,))))
  titles = [attrs["title"] for attrs in page.named("abbr")]
  assert any("on the same questions" in title for title in titles)
  assert all(title in page.text for title in titles if "share of the attention" not in title)


def test_it_is_readable_in_the_dark_and_on_a_phone(tmp_path):
  page = read(built(tmp_path, [synthetic_rows.row()]))
  assert "@media (prefers-color-scheme: dark)" in page.raw["style"]
  assert "@media (max-width: 700px)" in page.raw["style"]
  assert {"width=device-width, initial-scale=1", "light dark"} <= {
    attrs.get("content") for attrs in page.named("meta")
  }


def test_figures_beyond_the_limit_are_linked_those_of_the_result_last(tmp_path, monkeypatch):
  from tttjax.report.page import layout

  monkeypatch.setattr(layout, "_MAX_FIGURE_BYTES", 60_000)
  rows = [
    row
    for task in ("bank_log", "code_bugs")
    for row in synthetic_rows.rows(("in_context", "qttt"), (256, 512), task=task)
  ]
  sources = [attrs["src"] for attrs in read(built(tmp_path, rows)).named("img")]
  embedded = [source.startswith("data:") for source in sources]
  assert embedded[:2] == [True, True] and not all(embedded)
  linked = [source for source in sources if not source.startswith("data:")]
  assert all((tmp_path / source).is_file() for source in linked)


def test_the_templates_are_well_formed_without_any_row():
  Page(markup.render("reading.html.j2", base="in-context", strategies=[], tasks=[]))


def test_files_that_are_missing_are_not_linked(tmp_path):
  from tttjax.report.runs import read_run

  run = read_run(synthetic_rows.write(tmp_path / "run", [synthetic_rows.row()]))
  (tmp_path / "run" / "config.json").unlink()
  names = [name for name, _ in configuration.files(run, tmp_path / "report.html")]
  assert names == ["samples_2025-01-02T03-04-05.jsonl"]


def test_what_is_shown_of_a_config_is_json_in_words(tmp_path):
  path = built(tmp_path, [synthetic_rows.row()], seeds=[1, 2], smoke=False)
  assert "1, 2" in read(path).cells
  assert json.loads((tmp_path / "config.json").read_text())["seeds"] == [1, 2]


@pytest.mark.parametrize(
  "lengths, contexts, words",
  [
    (
      (256,),
      1,
      "model embedded; length 256 tokens; 1 context per length and strategy; 1 prediction;",
    ),
    (
      (256, 512),
      2,
      "model embedded; lengths 256, 512 tokens; 2 contexts per length and strategy; 4",
    ),
  ],
)
def test_the_head_counts_in_words(tmp_path, lengths, contexts, words):
  rows = synthetic_rows.rows(("in_context",), lengths, contexts=contexts, questions=1)
  assert words in " ".join(read(built(tmp_path, rows)).text.split())
