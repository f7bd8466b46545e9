"""The haystack: numbered lines around one line, then of other files, as many as are wanted."""

import dataclasses
from typing import NamedTuple

import numpy as np

from tttjax.tasks.synthetic.code_bugs.tree import File


class Line(NamedTuple):
  """A line of the haystack: index of its file and its 0-based number there."""

  file: int
  number: int


@dataclasses.dataclass(frozen=True)
class Window:
  """All lines of a tree, arranged around one of them; independent of the haystack's length.

  Attributes:
    center: the line that every haystack shows.
    before, after: the lines in front of it and behind it, the nearest first.
    depth: relative position of `center` in a haystack, 0 to 1.
  """

  center: Line
  before: tuple[Line, ...]
  after: tuple[Line, ...]
  depth: float

  def sides(self, length: int) -> tuple[int, int]:
    """Lines before and after the center of a haystack of `length` lines; both grow with it.

    Where one side has too few lines the other gives more.
    """
    before = round(self.depth * (length - 1))
    before = min(max(before, length - 1 - len(self.after)), len(self.before))
    return before, length - 1 - before

  def lines(self, length: int) -> list[Line]:
    """The lines of a haystack in the order of the prompt."""
    before, after = self.sides(length)
    return [*reversed(self.before[:before]), self.center, *self.after[:after]]


def arrange(files: tuple[File, ...], center: Line, rng) -> Window:
  """Draws the depth and the order of the other files.

  The center's own file comes first on both sides; each further file goes whole to the side that
  has the fewer lines for its share, so both sides last equally long.
  """
  depth = float(rng.random())
  before = [Line(center.file, i) for i in range(center.number - 1, -1, -1)]
  after = [Line(center.file, i) for i in range(center.number + 1, len(files[center.file].lines))]
  for file in rng.permutation(len(files)):
    if file == center.file:
      continue
    numbers = range(len(files[file].lines))
    if len(before) * (1 - depth) < len(after) * depth:
      before.extend(Line(int(file), i) for i in reversed(numbers))
    else:
      after.extend(Line(int(file), i) for i in numbers)
  return Window(center, tuple(before), tuple(after), depth)


def render(files: tuple[File, ...], lines: list[Line], center: Line, text: str) -> list[str]:
  """Texts of a haystack's lines, each with its newline.

  A line is its number in the file and its text; the first one of a file is headed by the path.

  Args:
    files: the files of the tree.
    lines: lines in order, those of one file together.
    center: the line with the bug.
    text: what `center` says.

  Returns:
    One text per line; that of a file's first line starts with the line of its path.
  """
  texts = []
  for i, line in enumerate(lines):
    shown = text if line == center else files[line.file].lines[line.number]
    head = i == 0 or lines[i - 1].file != line.file
    path = f"# {files[line.file].path}\n" if head else ""
    texts.append(path + f"{line.number + 1}: {shown}".rstrip() + "\n")
  return texts


def fit(window: Window, files: tuple[File, ...], text: str, room: int, count) -> int:
  """The most lines of a haystack that fit, if texts have as many tokens together as one by one.

  Args:
    window: lines in their order.
    files: the files of the tree.
    text: what the center says.
    room: tokens that the lines may have.
    count: function from a list of texts to the list of their numbers of tokens.

  Returns:
    Number of lines, 0 where not even the center fits.
  """
  total = 1 + len(window.before) + len(window.after)
  length, sizes = max(8, room // 32), {}
  while True:
    length = min(length, total)
    before, after = window.sides(length)
    # Outwards from the center, a file is headed once, at the line of it that is nearest.
    sides = [window.before[:before], [window.center, *window.after[:after]]]
    costs = []
    for side in sides:
      texts = render(files, side, window.center, text)
      if side is sides[0] and side and side[0].file == window.center.file:
        texts[0] = texts[0].partition("\n")[2]
      new = [item for item in texts if item not in sizes]
      sizes.update(zip(new, count(new) if new else []))
      costs.append(np.cumsum([0] + [sizes[item] for item in texts]))
    size = lambda n: int(costs[0][window.sides(n)[0]] + costs[1][window.sides(n)[1] + 1])
    if size(length) > room or length == total:
      return _last(size, room, length)
    length *= 2


def _last(size, room: int, longest: int) -> int:
  """The largest n in 0 .. longest with size(n) <= room; size grows with n."""
  low, high = 0, longest
  while low < high:
    middle = (low + high + 1) // 2
    low, high = (middle, high) if size(middle) <= room else (low, middle - 1)
  return low
