"""The code-bug task: one line of real Python source has a logical bug; where is it? (paper, 4)

The haystack is a source tree: lines around the bug, then other files. The bug is one edit of one
line by an operator of mutation.OPERATORS; the question names the kind of fault and nothing of the
line. The same seed has the same bug and depth at every length.
"""

import dataclasses
import math
from typing import ClassVar

import numpy as np

from tttjax.errors import UserError
from tttjax.spec import option
from tttjax.tasks import prompt
from tttjax.tasks.example import Example, Question
from tttjax.tasks.prompt_tokens import encode_context
from tttjax.tasks.synthetic import fitting
from tttjax.tasks.synthetic.code_bugs import place_answers, window
from tttjax.tasks.synthetic.code_bugs.mutation import OPERATORS, Site, mutate
from tttjax.tasks.synthetic.code_bugs.tree import Tree, load_tree

HEADER = (
  "[SYSTEM] Code reviewer\n"
  "[TASK] One line of this code has a logical bug. Each file is headed by its path, each line by "
  "its number in the file. Reply with the answer only, as Final: file:line\n"
  "[CONTEXT]\n"
)
_MIN_LINES, _MIN_TOKENS = 5, 256
_NEAR = 3  # lines
_STREAM = {"bug": 0, "window": 1}  # independent random streams of one seed


@dataclasses.dataclass(frozen=True)
class Bug:
  """A place in a tree and what is wrong there.

  Attributes:
    file: index of the file.
    site: the edit.
    text: the line with the bug.
  """

  file: int
  site: Site
  text: str


def draw_bug(tree: Tree, seed: int) -> Bug:
  """Draws an operator, then one of its sites, each with the same chance.

  An operator's chance goes with the square root of its number of sites: rare kinds of bugs turn up,
  but not always at the same few places.
  """
  rng = np.random.default_rng((seed, _STREAM["bug"]))
  names = list(tree.sites)
  chances = np.sqrt([len(tree.sites[name]) for name in names])
  while True:
    sites = tree.sites[names[rng.choice(len(names), p=chances / chances.sum())]]
    file, site = sites[rng.integers(len(sites))]
    mutant = mutate(list(tree.files[file].lines), site)
    if mutant is not None:
      return Bug(file, site, mutant[site.line - 1])


@dataclasses.dataclass(frozen=True)
class CodeBugs:
  """Find the one buggy line of a Python source tree.

  Attributes:
    source: name of an installed package, a directory, or a manifest of third_party/ such as `olmo`
      (fetched before). Nothing of it is imported. Another version is another haystack.
  """

  source: str = option("optax", "source {}", "The Python package or directory whose code is shown.")

  name: ClassVar[str] = "code_bugs"
  label: ClassVar[str] = "code bugs"
  description: ClassVar[str] = (
    "Real Python source with a logical bug in one line, asked for its file and line number; the "
    "question names the kind of fault."
  )
  unit: ClassVar[str] = "lines"
  most_questions: ClassVar[int] = 1  # there is one bug
  answer_tokens: ClassVar[int] = 128  # longest answer, with a sentence around it

  def check(self, length: int, in_tokens: bool) -> None:
    """Raises UserError for a source that cannot be used or has not enough lines for `length`."""
    least = _MIN_TOKENS if in_tokens else _MIN_LINES
    if length < least:
      raise UserError(
        f"code_bugs: length={length} {'tokens' if in_tokens else 'lines'} is too "
        f"short: {least} or more"
      )
    tree = load_tree(self.source)
    # No tokenizer has more tokens than bytes, with room for numbers and paths.
    most = _bytes(tree) if in_tokens else tree.num_lines
    if length > most:
      raise UserError(
        f"code_bugs(source={self.source}): length={length} is more than the source has "
        f"({tree.num_lines} lines): shorten it or name a larger source"
      )

  def at(self, seed: int, length: int, tokenizer, in_tokens: bool) -> Example:
    """One haystack with one bug, and the one question about it.

    Args:
      seed: names the bug, its depth and the order of the other files.
      length: most tokens of the context, chat header included, or lines of code; paths do not
        count as lines.
      tokenizer: transformers fast tokenizer.
      in_tokens: how `length` counts.

    Raises:
      UserError: see `check`; or the line with the bug does not fit, or the source is too short.
    """
    self.check(length, in_tokens)
    tree = load_tree(self.source)
    bug = draw_bug(tree, seed)
    center = window.Line(bug.file, bug.site.line - 1)
    arranged = window.arrange(tree.files, center, np.random.default_rng((seed, _STREAM["window"])))
    question = f"{OPERATORS[bug.site.operator].symptom}. Which file:line?"
    rendered = prompt.render(tokenizer, HEADER, prompt.headed(question))
    head, header = rendered.context, rendered.header
    if in_tokens:
      room = length - len(encode_context(tokenizer, head, header)[0])
      num_lines = self._fit(arranged, tree, bug, room, tokenizer)
    else:
      num_lines, length = length, None
    while True:
      lines = arranged.lines(num_lines)
      texts = window.render(tree.files, lines, center, bug.text)
      context = head + "".join(texts)
      _, offsets = encode_context(tokenizer, context, header)
      if length is None or len(offsets) <= length:
        break
      num_lines -= 1  # Only where lines have more tokens together than one by one.
    starts = len(head) + np.cumsum([0] + [len(text) for text in texts])
    where = lines.index(center)
    path = tree.files[bug.file].path
    # Its number and text, without the path that may stand above it and the newline.
    first = starts[where + 1] - len(texts[where][:-1].rpartition("\n")[2]) - 1
    return Example(
      context=context,
      questions=(
        Question(
          text=rendered.text,
          thinking_text=rendered.thinking_text,
          references=(f"{path}:{bug.site.line}",),
          metrics=("acc", "within_3_acc"),
          max_new_tokens=self.answer_tokens,
          evidence=(fitting.token_span(offsets, first, starts[where + 1] - 1),),
          chance=1 / len(lines),  # of any line that is shown
          slices={"kind": bug.site.operator},
          asked=rendered.asked,
        ),
      ),
      num_tokens=len(offsets),
      line_starts=tuple(int(i) for i in np.searchsorted(offsets[:, 1], starts[:-1], side="right")),
      key=f"code_bugs/{self.source}/{length or f'{num_lines}lines'}/{seed}",
      header=header,
    )

  def _fit(self, arranged, tree: Tree, bug: Bug, room: int, tokenizer) -> int:
    """Number of lines that fit into `room` tokens."""
    count = lambda texts: list(
      map(len, tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"])
    )
    num_lines = window.fit(arranged, tree.files, bug.text, room, count)
    if num_lines == 0:
      raise UserError(
        f"code_bugs: {max(room, 0)} tokens for lines of code do not hold the one "
        "with the bug: raise the length"
      )
    if num_lines == tree.num_lines:
      raise UserError(
        f"code_bugs(source={self.source}): the source has fewer tokens than the "
        f"{room} wanted: shorten the length or name a larger source"
      )
    return num_lines

  def extract(self, text: str) -> str | None:
    """The place named in an output as `path:line`, by the path in the tree; None without one.

    A path may be shortened to its last components where they mean one file of the tree only.
    """
    place = place_answers.parse_place(text)
    if place is None:
      return None
    paths = [file.path for file in load_tree(self.source).files]
    return f"{place_answers.resolve(place[0], paths)}:{place[1]}"

  def score(self, text: str, question: Question) -> dict[str, float]:
    """'acc': the file and the line are right; 'within_3_acc': the file, and at most 3 lines off."""
    off = min(
      (_lines_off(self.extract(text), reference) for reference in question.references),
      default=math.inf,
    )
    scores = {"acc": off == 0, "within_3_acc": off <= _NEAR}
    return {name: float(scores[name]) for name in question.metrics}


def _lines_off(found: str | None, reference: str) -> float:
  """Lines between two places `path:line`; infinite between files."""
  if found is None:
    return math.inf
  (path, _, line), (right_path, _, right_line) = (p.rpartition(":") for p in (found, reference))
  return abs(int(line) - int(right_line)) if path == right_path else math.inf


def _bytes(tree: Tree) -> int:
  return sum(len(line.encode()) + 16 for file in tree.files for line in file.lines) + sum(
    len(file.path) for file in tree.files
  )
