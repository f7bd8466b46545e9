"""Questions about paragraphs among others: RULER's question answering, from the user's files."""

from tttjax.tasks.synthetic.ruler_qa.qa_task import RulerQA
