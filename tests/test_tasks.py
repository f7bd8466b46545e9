"""What every registered task says of itself."""

import dataclasses

import pytest

from tttjax import spec
from tttjax.tasks import TASKS
from tttjax.tasks.protocol import reads_documents


@pytest.mark.parametrize("name", TASKS)
def test_a_task_describes_itself_and_its_options(name):
  kind = TASKS[name]
  assert kind.name == name and kind.label
  if not reads_documents(kind):  # benchmarks have names of their own
    assert kind.label.lower() == name.replace("_", " ")
  assert kind.description.endswith(".") and "\n" not in kind.description
  assert all("label" in field.metadata for field in dataclasses.fields(kind))
  if name != "zero_scrolls":  # whose task is to be chosen
    assert spec.canonical(kind(), TASKS) == name


@pytest.mark.parametrize("name", ["bank_log", "transaction_log"])
def test_logs_say_which_anomalies_are_visible(name):
  assert "DUPLICATE_TXN and NEGATIVE_BAL are visible by nature" in TASKS[name].description


def test_labels_name_options_by_what_they_mean():
  label = lambda text: spec.label(TASKS, *spec.taken_apart(text))
  assert label("bank_log(kind=amount)") == "bank log, amount"
  assert label("transaction_log(depth=0.5)") == "transaction log, answers at depth 0.5"
  assert label("code_bugs(source=jax)") == "code bugs, source jax"
