"""Words that are to be counted: RULER's aggregation tasks in our own words."""

from tttjax.tasks.synthetic.word_counts.common_words import CommonWords
from tttjax.tasks.synthetic.word_counts.frequent_words import FrequentWords
