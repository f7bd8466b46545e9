"""Chance levels: what a guess scores that knows the candidates and nothing else."""

import re

import numpy as np
import pytest

from tttjax.embedded.vocabulary import build_tokenizer
from tttjax.tasks.synthetic.bank_log import BankLog
from tttjax.tasks.synthetic.code_bugs import CodeBugs
from tttjax.tasks.synthetic.ledger import ANOMALIES
from tttjax.tasks.synthetic.transaction_log import TransactionLog


@pytest.fixture(scope="module")
def tokenizer():
  return build_tokenizer()


def guesses(kind, log):
  """Every answer that such a guess may give, as often as it gives it, read from the text."""
  transfers = re.findall(r"^TX(\d+):(?: transfer )?(\d+)", log, re.M)
  if kind == "anomaly":
    ids = {transaction for transaction, _ in transfers}
    return [f"{{{name}, TX{transaction}}}" for transaction in sorted(ids) for name in ANOMALIES]
  if kind == "amount":
    return [amount for _, amount in transfers]
  last = {}
  for account, balance in re.findall(r"([A-Z]\d\d)(?:=|: )(?:-?\d+(?:>| -> ))?(-?\d+)", log):
    last[account] = balance
  return list(last.values())


@pytest.mark.parametrize("task", [BankLog, TransactionLog])
@pytest.mark.parametrize("kind", ["balance", "amount", "anomaly"])
def test_chance_is_the_share_of_guesses_that_are_right(task, kind, tokenizer):
  for seed in range(5):
    example = task(kind).at(seed, 40, tokenizer, False)
    log = example.context.partition("[CONTEXT]\n")[2]
    for question in example.questions:
      scores = [task(kind).score(guess, question)["acc"] for guess in guesses(kind, log)]
      assert question.chance == pytest.approx(np.mean(scores))
      assert 0 < question.chance < 0.4


def test_chance_falls_with_the_length(tokenizer):
  for task in (BankLog(), BankLog("anomaly"), CodeBugs()):
    short, long = (task.at(3, n, tokenizer, False).questions[0].chance for n in (20, 200))
    assert long < short
  assert CodeBugs().at(0, 50, tokenizer, False).questions[0].chance == 1 / 50
