"""Needles in a haystack: RULER's retrieval tasks in our own words."""

from tttjax.tasks.synthetic.needles.needle_task import Needles
