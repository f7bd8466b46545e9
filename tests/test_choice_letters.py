"""The letter that an output chooses, as a careful reader takes it."""

import pytest

from tttjax.tasks.benchmarks.choice_letters import chosen


@pytest.mark.parametrize(
  "text, letter",
  [
    # It stands alone.
    ("B", "B"),
    (" b", None),
    ("B.", "B"),
    ("B)", "B"),
    ("[B]", "B"),
    ("（Ｂ）", "B"),
    ("`B`", "B"),
    ("_B_ the lantern", "B"),
    ("B the lantern", "B"),
    ("B is the answer.", "B"),
    ("option B is correct", "B"),
    ("C is right", "C"),
    ("答案是B。", "B"),
    ("選択肢Bの東京", "B"),
    ("정답은 B입니다.", "B"),
    ("ответ B", "B"),
    ("AB", None),
    ("B-flat", None),
    ("C'est la (B)", "B"),
    ("C’est la B", "B"),
    ("E", None),
    ("", None),
    # What announces it, and what encloses it.
    ("(A) is red, so the answer is B.", "B"),
    ("The answer is A. (B) is wrong.", "A"),
    ("The answer is A. Wait: the answer is B.", "B"),
    ("Answer: (C)\nBecause (A) says so.", "C"),
    ("\\boxed{B}, not A", "B"),
    ("Final: B", "B"),
    ("B. The answer is clear.", "B"),
    ("C or rather (B)", "B"),
    ("I think (B)", "B"),
    # What is denied.
    ("The answer is not A but B.", "B"),
    ("Not (A) but (B)", "B"),
    ("It isn't A. B", "B"),
    ("(A), not B", "A"),
    ("not A", None),
    # Words.
    ("A", "A"),
    ("A.", "A"),
    ("A) boat", "A"),
    ("A: a boat", "A"),
    ("A cat", None),
    ("It sank. A cat saw it. B", "B"),
    ('"A cat" is it: B', "B"),
    ("- A cat\n- B", "B"),
    ("A lantern is blue: B", "B"),
    ("A is right", "A"),
    ("A because it floats", "A"),
    ("The answer is A because it floats", "A"),
    ("The answer is A given the text", "A"),
    ("The answer is: A given the text", "A"),
    ("Option A fits best", "A"),
    ("I choose A given the text", "A"),
  ],
)
def test_a_letter_among_four(text, letter):
  assert chosen(text, 4) == letter


@pytest.mark.parametrize(
  "text, letter",
  [
    ("I think so", None),
    ("I'm sure: B", "B"),
    ("As far as I know, B", "B"),
    ("I", "I"),
    ("I is right", "I"),
    ("Option I fits", "I"),
    ("The answer is I given the text", "I"),
  ],
)
def test_i_is_a_pronoun_and_may_be_a_choice(text, letter):
  assert chosen(text, 9) == letter
