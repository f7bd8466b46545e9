"""What announces an answer in an output."""

import re

NOUN = r"(?:answer|balance|amount|result|response|verdict)"
FINAL = re.compile(
  rf"(?<![^\W_])final(?:[\W_]{{1,3}}{NOUN})?(?: (?:of|for)(?: \w+){{1,4}})?[^a-z0-9\n:]{{0,6}}:"
  rf"|^[^a-z0-9\n]*final(?:[\W_]{{1,3}}{NOUN})?[^a-z0-9\n]*$"  # a heading
  r"|\\boxed\s*\{",
  re.IGNORECASE | re.MULTILINE,
)
BOX = r"\boxed"
ANSWER = re.compile(r"(?<![^\W_])answer(?:[^a-z0-9\n:]{0,6}:|\s+is\b)", re.IGNORECASE)
