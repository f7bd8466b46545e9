"""The report's opening: its sentences, and that they say no more than the numbers do."""

import pathlib

from tests import synthetic_rows
from tttjax.report import comparing, declining, rows_to_cells
from tttjax.report.page.conclusions import caveat, findings, tuning
from tttjax.report.runs import Run

LENGTHS = (256, 512)


def rows_of(right, contexts=10, lengths=LENGTHS):
  """Rows of strategies that answer the first so many contexts right at each of the lengths."""
  return [
    synthetic_rows.row(strategy, length, context, acc=float(context < number))
    for strategy, numbers in right.items()
    for length, number in zip(lengths, numbers)
    for context in range(contexts)
  ]


def found(*runs):
  """(findings, caveat) of runs' rows."""
  made = [Run(label, pathlib.Path(), {}, rows, "now") for label, rows in zip(("", "b"), runs)]
  compared = comparing.comparisons(made)
  cells = rows_to_cells.cells(made)
  models, units = {"embedded": "embedded"}, {row["task"]: "tokens" for r in runs for row in r}
  return findings(cells, compared, declining.decline(made), models, units), caveat(compared)


def sentences(right, **sizes):
  (finding,), _ = found(rows_of(right, **sizes))
  return finding.sentences


def test_the_best_strategy_its_control_and_the_decline_are_said_in_numbers():
  best, control, fall = sentences(
    {"in_context": (9, 0), "qttt": (10, 10), "qttt_other_context": (9, 1), "thinking": (9, 0)}
  )
  assert best.startswith("qTTT is best over all lengths: its accuracy is above that of in-context")
  assert "by +0.550 (95% interval +0.437 to +0.663; corrected p = 0.010)" in best
  assert control.startswith("qTTT differs from qTTT on another context (control) by +0.500 (95%")
  assert fall == (
    "The accuracy of in-context falls from 0.900 at 256 tokens to 0.000 on the same questions at"
    " 512 (p = 0.004)."
  )


def test_a_control_that_is_best_is_said_to_be_and_the_best_method_beside_it():
  best, method, _ = sentences(
    {
      "in_context": (9, 0),
      "log_temperature": (10, 9),
      "qttt": (10, 2),
      "qttt_other_context": (9, 2),
    }
  )
  assert best.startswith("Log-length temperature (control) is best over all lengths")
  assert method.startswith("qTTT differs from in-context by +0.150 (95% interval")
  assert ", and from qTTT on another context (control) by +0.050" in method


def test_a_gain_that_chance_explains_is_said_to_be_no_more():
  best, *_ = sentences({"in_context": (9, 2), "qttt": (10, 2), "thinking": (9, 1)})
  assert best.startswith("qTTT has the largest gain in accuracy over in-context over all lengths")
  assert best.endswith("corrected p = 1.000), which may be chance.")


def test_a_gain_that_does_not_survive_the_correction_is_a_hint():
  others = {f"qttt(steps={n})": (9, 0) for n in range(1, 12)}
  best, *_ = sentences({"in_context": (9, 0), "thinking": (10, 7), **others})
  assert best.startswith("Thinking has the largest gain") and best.endswith("a hint at most.")


def test_no_gain_is_said_plainly():
  best, *_ = sentences({"in_context": (9, 5), "qttt": (8, 5), "thinking": (1, 1)})
  assert best.startswith("No strategy is better than in-context: the best of them, qTTT, changes")


def test_a_single_strategy_is_not_called_the_best():
  best, *_ = sentences({"in_context": (9, 0), "thinking": (10, 9)})
  assert best.startswith("Thinking changes the accuracy by +0.500 (95% interval")


def test_too_few_contexts_are_said_once_for_the_whole_report():
  rows = rows_of({"in_context": (3, 0), "qttt": (3, 3), "qttt_other_context": (3, 0)}, contexts=3)
  other = [{**row, "task": "code_bugs", "task_family": "code_bugs"} for row in rows]
  several, warning = found(rows + other)
  assert warning.startswith("Too few contexts to tell: with 3 contexts no difference")
  said = [text for finding in several for text in (*finding.sentences, *finding.details)]
  assert not any("too few" in text or "chance" in text or "hint" in text for text in said)
  assert any(text.startswith("The accuracy of in-context goes from 1.000") for text in said)


def test_enough_contexts_need_no_caveat_and_some_of_them_are_counted():
  rows = rows_of({"in_context": (9, 0), "qttt": (10, 9)})
  assert found(rows)[1] == ""
  few = rows_of({"in_context": (3, 0), "qttt": (3, 3)}, contexts=3)
  few = [{**row, "task": "code_bugs", "task_family": "code_bugs"} for row in few]
  assert found(rows + few)[1] == (
    "1 of the 2 comparisons have too few contexts to tell (3 contexts at most)."
  )


def test_a_single_context_has_no_interval():
  best, *_ = sentences({"in_context": (1, 0), "qttt": (1, 1)}, contexts=1)
  assert "+0.500 (of a single context, so without an error)" in best
  assert "nan" not in best


def test_a_comparison_at_some_lengths_names_them():
  rows = rows_of({"in_context": (9, 0), "thinking": (9, 0)})
  rows += rows_of({"qttt": (10,)}, lengths=(512,))
  ((finding,), _) = found(rows)
  assert finding.sentences[0].startswith("qTTT is best at 512 tokens: its accuracy")


def test_where_there_is_nothing_to_compare_the_missing_strategy_is_named():
  (alone,), _ = found(rows_of({"qttt": (10, 9)}))
  assert alone.sentences == ["There is nothing to compare: in-context did not run."]
  (only,), _ = found(rows_of({"in_context": (10, 9)}))
  assert only.sentences[-1] == "There is nothing to compare: no other strategy ran."


def test_runs_are_named_where_they_differ():
  plain = rows_of({"in_context": (9, 0), "qttt": (9, 1)})
  better = rows_of({"in_context": (9, 0), "qttt": (10, 9)})
  (finding,), _ = found(plain, better)
  assert finding.sentences[0].startswith("qTTT [b] is best over all lengths")
  assert finding.sentences[-1].startswith("The accuracy of in-context falls")


def test_several_settings_of_a_method_are_a_warning():
  one = rows_to_cells.cells([Run("", pathlib.Path(), {}, rows_of({"qttt": (1, 1)}), "now")])
  assert tuning(one) == ""
  rows = rows_of({"qttt": (1, 1)})
  for row in rows_of({"qttt(steps=8)": (1, 1)}):
    rows.append({**row, "budget": {**row["budget"], "steps": 8}})
  several = rows_to_cells.cells([Run("", pathlib.Path(), {}, rows, "now")])
  assert tuning(several).startswith("Several settings of qTTT ran on the same questions")
