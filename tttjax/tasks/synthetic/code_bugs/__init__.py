"""Code-bug localization: one mutated line in a haystack of real Python source (paper, 4)."""

from tttjax.tasks.synthetic.code_bugs.mutation import OPERATORS
from tttjax.tasks.synthetic.code_bugs.task import CodeBugs
