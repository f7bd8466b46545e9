"""No generated task is solved without the skill that it measures (tests.no_skill_solvers).

The aim is that no such solver is right more often than 3/n, for n lines to choose from (of code:
the lines that some operator could change). What is tested is that the number of hits on 200
examples is one that this rate explains: the largest that comes up with probability 1e-4.
"""

import collections
import itertools
import re

import pytest
from scipy import stats

from tests import no_skill_solvers
from tttjax.embedded.vocabulary import build_tokenizer
from tttjax.tasks.synthetic.bank_log import BankLog
from tttjax.tasks.synthetic.code_bugs import CodeBugs
from tttjax.tasks.synthetic.code_bugs.task import draw_bug
from tttjax.tasks.synthetic.code_bugs.tree import load_tree
from tttjax.tasks.synthetic.needles import Needles
from tttjax.tasks.synthetic.transaction_log import TransactionLog
from tttjax.tasks.synthetic.word_counts import CommonWords, FrequentWords

EXAMPLES = 200
HIDDEN = {"CALC_ERROR", "LOST_UPDATE"}
LOGS = [BankLog("anomaly"), TransactionLog("anomaly")]


@pytest.fixture(scope="module")
def tokenizer():
  return build_tokenizer()


def most_hits(trials, rate):
  return stats.binom.ppf(1 - 1e-4, trials, min(rate, 1))


def share(guesses, right):
  """Probability that a random one of `guesses` is right."""
  return (right in guesses) / max(len(guesses), 1)


def anomalies(task, length, tokenizer, kinds, examples=EXAMPLES):
  """(context, number of the anomaly among the transfers) of the first examples of some kinds."""
  found = 0
  for seed in itertools.count():
    example = task.at(seed, length, tokenizer, False)
    (question,) = example.questions
    if question.slices["anomaly"] not in kinds:
      continue
    transfers, _ = no_skill_solvers.read_log(example.context)
    assert len(transfers) == length
    yield (
      example.context,
      max(i for i, t in enumerate(transfers) if f" TX{t.id}}}" in question.references[0]),
    )
    found += 1
    if found == examples:
      return


def check_battery(task, length, tokenizer):
  hits = collections.Counter()
  for context, right in anomalies(task, length, tokenizer, HIDDEN):
    for name, guesses in no_skill_solvers.log_guesses(context).items():
      hits[name] += share(guesses, right)
  assert len(hits) > 90
  allowed = most_hits(EXAMPLES, 3 / length)
  assert not {name: count for name, count in hits.items() if count > allowed}


@pytest.mark.parametrize("length", [25, 100])
@pytest.mark.parametrize("task", LOGS, ids=lambda task: task.name)
def test_calc_error_and_lost_update_are_hidden_from_solvers_without_skill(task, length, tokenizer):
  check_battery(task, length, tokenizer)


@pytest.mark.slow
@pytest.mark.parametrize("task", LOGS, ids=lambda task: task.name)
def test_calc_error_and_lost_update_are_hidden_in_long_logs(task, tokenizer):
  check_battery(task, 500, tokenizer)


@pytest.mark.parametrize("task", LOGS, ids=lambda task: task.name)
def test_duplicates_and_negative_balances_are_visible_by_nature(task, tokenizer):
  for context, right in anomalies(task, 25, tokenizer, {"DUPLICATE_TXN", "NEGATIVE_BAL"}, 40):
    transfers, _ = no_skill_solvers.read_log(context)
    assert no_skill_solvers.visible_anomaly(transfers) == [right]


def test_the_battery_finds_an_anomaly_whose_accounts_nothing_else_uses(tokenizer):
  """The solvers can fail a task: here the anomaly's accounts are renamed."""
  hits = collections.Counter()
  for context, right in anomalies(LOGS[0], 100, tokenizer, HIDDEN, 30):
    transfers, _ = no_skill_solvers.read_log(context)
    names = (f"A{i:02d}" for i in range(100))
    new = [name for name in names if name not in context][:2]
    line = transfers[right].text
    for account, name in zip(transfers[right].accounts, new):
      line = line.replace(f" {account}=", f" {name}=")
    openings = "".join(f"OPEN {name}=0500\n" for name in new)
    changed = context.replace(transfers[right].text, line).replace("OPEN", openings + "OPEN", 1)
    for name, guesses in no_skill_solvers.log_guesses(changed).items():
      hits[name] += share(guesses, right)
  assert hits["least used accounts"] > most_hits(30, 3 / 100)
  assert hits["smallest component"] > most_hits(30, 3 / 100)


@pytest.mark.parametrize("length", [3, 8, 13, 25, 100, 300])
def test_other_lines_use_the_accounts_of_the_anomaly_about_as_often_as_all_others(
  length, tokenizer
):
  mine, theirs = [], []
  for context, right in anomalies(LOGS[0], length, tokenizer, HIDDEN, 40):
    transfers, _ = no_skill_solvers.read_log(context)
    uses = collections.Counter(account for t in transfers for account in t.accounts)
    mine += [uses[account] for account in transfers[right].accounts]
    theirs += [uses[a] for t in transfers for a in t.accounts]  # as often as a line has them
  assert sum(mine) / len(mine) == pytest.approx(sum(theirs) / len(theirs), rel=0.15)


@pytest.mark.parametrize("length", [25, 100])
def test_lines_after_the_anomaly_vary_and_use_its_accounts(length, tokenizer):
  later = []
  for context, right in anomalies(LOGS[1], length, tokenizer, HIDDEN, 60):
    transfers, _ = no_skill_solvers.read_log(context)
    mine = set(transfers[right].accounts)
    later.append(sum(bool(mine & set(t.accounts)) for t in transfers[right + 1 :]))
  assert len(set(later)) > 5 and max(later) > 8


@pytest.mark.parametrize("kind", ["balance", "amount"])
@pytest.mark.parametrize("task", [BankLog, TransactionLog])
def test_lookups_that_ignore_the_asked_name_are_one_of_the_needles_at_best(task, kind, tokenizer):
  hits = trials = 0
  for seed in range(60):
    example = task(kind).at(seed, 100, tokenizer, False)
    transfers, openings = no_skill_solvers.read_log(example.context)
    balances = dict(openings)
    for transfer in transfers:
      balances |= zip(transfer.accounts, map(int, transfer.news))
    needles = min(no_skill_solvers.components([t.accounts for t in transfers]), key=len)
    if kind == "amount":
      guesses = [int(transfers[i].amount) for i in needles]
    else:
      guesses = [balances[a] for a in {a for i in needles for a in transfers[i].accounts}]
    for question in example.questions:
      hits += guesses.count(int(question.references[0])) / len(guesses)
      trials += 1
  assert trials == 360 and hits <= most_hits(trials, 1 / 6)


def changeable(tree):
  """Places of a tree's lines that some operator could change."""
  return {(file, site.line) for sites in tree.sites.values() for file, site in sites}


def check_code(length, tokenizer):
  task = CodeBugs()
  tree = load_tree(task.source)
  candidates = {f"{tree.files[file].path}:{line}" for file, line in changeable(tree)}
  hits, chance = collections.Counter(), 0
  for seed in range(EXAMPLES):
    example = task.at(seed, length, tokenizer, False)
    places = [place for place, _ in no_skill_solvers.read_code(example.context)]
    assert len(places) == length
    right = places.index(example.questions[0].references[0])
    chance += 1 / sum(place in candidates for place in places) / EXAMPLES
    for name, guesses in no_skill_solvers.code_guesses(example.context).items():
      hits[name] += share(guesses, right)
  allowed = most_hits(EXAMPLES, 3 * chance)
  assert not {name: count for name, count in hits.items() if count > allowed}


@pytest.mark.parametrize("length", [100])
def test_bugs_are_hidden_from_solvers_without_skill(length, tokenizer):
  check_code(length, tokenizer)


@pytest.mark.slow
def test_bugs_are_hidden_in_long_code(tokenizer):
  check_code(500, tokenizer)


@pytest.fixture(scope="module")
def mutants():
  """(line, line with the bug) of 300 bugs."""
  tree = load_tree(CodeBugs().source)
  bugs = [draw_bug(tree, seed) for seed in range(300)]
  return [(tree.files[b.file].lines[b.site.line - 1].strip(), b.text.strip()) for b in bugs]


@pytest.mark.parametrize("name", list(no_skill_solvers.ODDITIES))
def test_mutants_have_no_oddity_that_real_lines_lack(name, mutants):
  """A trace may be three times as common in mutants as in real lines of the same kind, or .2 %."""
  has = lambda text: bool(re.search(no_skill_solvers.ODDITIES[name], text))
  tree = load_tree(CodeBugs().source)
  real = [has(tree.files[file].lines[line - 1].strip()) for file, line in changeable(tree)]
  new = sum(has(after) and not has(before) for before, after in mutants)
  assert new <= most_hits(len(mutants), max(3 * sum(real) / len(real), 0.002))


NEEDLES = [
  Needles("multikey"),
  Needles("multikey", depth=0.5, haystack="noise"),
  Needles("single", haystack="needles"),
  Needles("multikey", haystack="needles", values="uuids"),
  Needles("multivalue", answers=2),
  Needles("multivalue", answers=2, haystack="needles"),
  Needles("multiquery", answers=2),
  Needles("tracking"),
  Needles("tracking", depth=0.5, haystack="noise"),
  Needles("kv"),
]


def check_needles(task, length, tokenizer, examples):
  """The guesses are about each question by itself: where it stands may not tell its answer."""
  scores, chance = collections.Counter(), collections.Counter()
  for seed in range(examples):
    example = task.at(seed, length, tokenizer, False)
    wanted = [question.references[0].split(", ") for question in example.questions]
    for name, guess in no_skill_solvers.needle_guesses(example.context, len(wanted[0])).items():
      assert 0 < len(guess) <= len(wanted[0])
      for j, right in enumerate(wanted):
        scores[name, j] += len(set(guess) & set(right)) / len(right)
    for j, question in enumerate(example.questions):
      chance[j] += question.chance / examples
  assert len(scores) >= 50 * task.most_questions
  # Groups that would not fit whole are no candidates: a little better than the chance.
  allowed = {j: most_hits(examples, 1.2 * chance[j]) for j in chance}
  assert not {key: count for key, count in scores.items() if count > allowed[key[1]]}


def needles_id(task):
  return f"{task.kind}-{task.haystack}-{task.depth:g}"


@pytest.mark.parametrize("task", NEEDLES, ids=needles_id)
def test_needles_are_not_found_without_the_question(task, tokenizer):
  check_needles(task, 32, tokenizer, 60)


@pytest.mark.slow
@pytest.mark.parametrize("length", [32, 200])
@pytest.mark.parametrize("task", NEEDLES, ids=needles_id)
def test_needles_are_not_found_without_the_question_in_200_texts(task, length, tokenizer):
  check_needles(task, length, tokenizer, EXAMPLES)


@pytest.mark.parametrize("haystack", ["prose", "noise"])
def test_a_single_needle_is_visible_by_nature_and_its_chance_says_so(haystack, tokenizer):
  for seed in range(20):
    example = Needles("single", haystack=haystack).at(seed, 32, tokenizer, False)
    (question,) = example.questions
    assert question.chance == 1
    assert no_skill_solvers.needle_guesses(example.context, 1)["least place"] == [
      question.references[0]
    ]


@pytest.mark.parametrize("kind", ["multikey", "multivalue", "tracking", "kv"])
def test_no_solver_finds_a_needle_that_is_left_out(kind, tokenizer):
  for seed in range(20):
    example = Needles(kind, absent=True).at(seed, 32, tokenizer, False)
    (question,) = example.questions
    right = question.references[0].split(", ")
    for guess in no_skill_solvers.needle_guesses(example.context, len(right)).values():
      assert not set(guess) & set(right)


def test_the_battery_finds_needles_that_stand_in_the_order_of_the_questions(tokenizer):
  """The solvers can fail a task: here the first question's sentence is moved to the front."""
  hits = 0
  for seed in range(30):
    example = Needles("multikey").at(seed, 32, tokenizer, False)
    head, lines = example.context.split("[CONTEXT]\n")
    right = example.questions[0].references[0]
    lines = sorted(lines.splitlines(), key=lambda line: right not in line)
    changed = "\n".join([f"{head}[CONTEXT]", *lines])
    hits += no_skill_solvers.needle_guesses(changed, 1)["least place"] == [right]
  assert hits > most_hits(30, 1.2 / 4)


WORD_COUNTS = [
  (CommonWords(), 600),
  (CommonWords(words=3, often=6, rarely=4), 300),
  (FrequentWords(), 400),
  (FrequentWords(alpha=1.3), 400),
]


def check_word_counts(task, length, tokenizer, examples):
  scores, chance = collections.Counter(), 0
  for seed in range(examples):
    example = task.at(seed, length, tokenizer, False)
    (question,) = example.questions
    right = set(question.references[0].split(", "))
    for name, guess in no_skill_solvers.word_guesses(example.context, len(right)).items():
      assert len(set(guess)) == len(guess) == len(right)
      scores[name] += len(set(guess) & right) / len(right)
    chance += question.chance / examples
  assert len(scores) > 20
  allowed = most_hits(examples, chance)
  assert not {name: count for name, count in scores.items() if count > allowed}
  assert scores["the first"] > stats.binom.ppf(1e-4, examples, chance)
  return scores


def words_id(pair):
  task, length = pair
  return f"{task.name}-{length}-{'-'.join(map(str, vars(task).values()))}"


@pytest.mark.parametrize("pair", WORD_COUNTS, ids=words_id)
def test_words_are_not_found_without_counting(pair, tokenizer):
  check_word_counts(*pair, tokenizer, 60)


@pytest.mark.slow
@pytest.mark.parametrize("pair", WORD_COUNTS, ids=words_id)
def test_words_are_not_found_without_counting_in_200_texts(pair, tokenizer):
  check_word_counts(*pair, tokenizer, EXAMPLES)


@pytest.mark.parametrize("pair", WORD_COUNTS[:2], ids=words_id)
def test_orders_of_the_different_words_are_no_better_than_drawing_from_them(pair, tokenizer):
  """Only who reads on from a place meets frequent words more often than rare ones."""
  task, length = pair
  scores = check_word_counts(task, length, tokenizer, 60)
  others = -(-(length - task.words * task.often) // task.rarely)
  allowed = most_hits(60, task.words / (task.words + others))
  by_form = {name: count for name, count in scores.items() if name.split()[0] in ("least", "most")}
  assert len(by_form) == 20 and max(by_form.values()) <= allowed


def test_the_battery_finds_common_words_that_stand_in_front(tokenizer):
  """The solvers can fail a task: here a list begins with its common words."""
  task, hits, chance = CommonWords(), 0, 0
  for seed in range(20):
    example = task.at(seed, 900, tokenizer, False)
    (question,) = example.questions
    right = set(question.references[0].split(", "))
    head, lines = example.context.split("[CONTEXT]\n")
    words = sorted(re.findall("[a-z]+", lines), key=lambda word: word not in right)
    guess = no_skill_solvers.word_guesses(f"{head}[CONTEXT]\n{' '.join(words)}", 10)["the first"]
    hits += len(right & set(guess)) / 10
    chance += question.chance / 20
  assert hits > most_hits(20, chance)
