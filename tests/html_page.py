"""A parsed page, for the tests of reports."""

import html.parser

_VOID = {"meta", "img", "br"}
_RAW = {"style", "script"}


class Page(html.parser.HTMLParser):
  """Checks that tags are balanced; keeps them with their attributes, and the visible text."""

  def __init__(self, text):
    super().__init__(convert_charrefs=True)
    self.open, self.tags, self.text, self.raw, self.cells = [], [], "", {}, []
    self.feed(text)
    self.close()
    assert not self.open

  def handle_starttag(self, tag, attrs):
    assert len(dict(attrs)) == len(attrs)
    self.tags.append((tag, dict(attrs)))
    if tag not in _VOID:
      self.open.append(tag)
    if tag in ("td", "th"):
      self.cells.append("")

  def handle_startendtag(self, tag, attrs):
    raise AssertionError(f"<{tag}/>")

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    if self.open and self.open[-1] in _RAW:
      self.raw[self.open[-1]] = data
      return
    self.text += data
    if "td" in self.open or "th" in self.open:
      self.cells[-1] += data

  def named(self, tag):
    """The attributes of every tag of a name, in order."""
    return [attrs for name, attrs in self.tags if name == tag]

  @property
  def links(self):
    return [attrs[name] for _, attrs in self.tags for name in ("src", "href") if name in attrs]


def read(path):
  return Page(path.read_text(encoding="utf-8"))
