"""RULER's thirteen tasks in our own words: in-context, matched thinking, qTTT and its control.

python -m tttjax.main --config=configs/ruler.py --config.models=DIR
python -m tttjax.main --config=configs/ruler.py:prose=TEXT --config.models=DIR
python -m tttjax.main --config=configs/ruler.py:prose=TEXT,squad=FILE,hotpotqa=FILE ...
python -m tttjax.main --config=configs/ruler.py --config.smoke=True

The first asks the eleven tasks that need no download, at 4,096 to 16,384 tokens: what Python ships
has prose for no more. TEXT, a text file or a folder, has sentences for 131,072 (RULER's are the
essays of Paul Graham). FILEs are dev-v2.0.json of SQuAD 2.0 and hotpot_dev_distractor_v1.json of
HotpotQA; either may be left out. A path must not have a comma.

  niah_single_1      needles(kind=single, haystack=noise)
  niah_single_2      needles(kind=single)
  niah_single_3      needles(kind=single, values=uuids)
  niah_multikey_1    needles
  niah_multikey_2    needles(haystack=needles)
  niah_multikey_3    needles(kind=kv)
  niah_multivalue    needles(kind=multivalue, needles=1)
  niah_multiquery    needles(kind=multiquery, needles=1)
  vt                 needles(kind=tracking, needles=1, answers=5, haystack=noise)
  cwe                common_words
  fwe                frequent_words
  qa_1               ruler_qa(source=FILE)
  qa_2               ruler_qa(dataset=hotpotqa, source=FILE)

Tables have the mean over the tasks by length, RULER's headline. The scores are RULER's; texts,
words and prompts are not: needles stand in sentences of our own, words to be counted are made up,
and vt and cwe have no worked example in front. Lengths are those of the context alone: question,
answer and thought come on top, so a model of 131,072 positions ends below that (--config.lengths).
RULER asks 500 contexts a length: --config.contexts=500.

In smoke size eight minutes on two busy cores, half of it compilation and figures. The embedded
model knows none of these tasks: expect nothing right.

What Qwen3 scores on RULER itself (Qwen3 Technical Report, arXiv 2505.09388, Table 23; YaRN with
factor 4, thoughts of at most 8,192 tokens), in percent:

                        4K    8K   16K   32K   64K  128K  mean
  4B, no thinking     95.1  93.6  91.0  87.8  77.8  66.0  85.2
  4B, thinking        92.7  88.7  86.5  83.2  83.0  67.2  83.5
  8B, no thinking     96.3  96.0  91.8  91.2  82.1  77.4  89.1
  8B, thinking        94.7  94.4  86.1  80.8  78.3  72.0  84.4
  14B, no thinking    98.0  97.8  96.4  96.1  94.0  85.1  94.6
  14B, thinking       95.4  93.6  89.8  91.9  90.6  79.0  90.1
  32B, no thinking    98.4  96.0  96.2  94.4  91.8  85.6  93.7
  32B, thinking       94.7  93.7  91.6  92.5  90.0  83.5  91.0
"""

from tttjax.errors import UserError
from tttjax.experiment import default_config

_LENGTHS = (4096, 8192, 16384, 32768, 65536, 131072)
_SHIPPED = 16384  # as long as the prose that Python ships
_SOURCES = ("prose", "squad", "hotpotqa")


def get_config(sources: str = ""):
  paths = _paths(sources)
  prose = f'source="{paths["prose"]}"' if "prose" in paths else ""
  needles = lambda *options: f"needles({', '.join(filter(None, options))})"
  config = default_config()
  config.workdir = "runs/ruler"
  config.tasks = (
    needles("kind=single", "haystack=noise"),
    needles("kind=single", prose),
    needles("kind=single", "values=uuids", prose),
    needles("kind=multikey", prose),
    needles("kind=multikey", "haystack=needles"),
    needles("kind=kv"),
    needles("kind=multivalue", "needles=1", prose),
    needles("kind=multiquery", "needles=1", prose),
    needles("kind=tracking", "needles=1", "answers=5", "haystack=noise"),
    "common_words",
    "frequent_words",
    *(
      f'ruler_qa(dataset={dataset}, source="{paths[dataset]}")'
      for dataset in ("squad", "hotpotqa")
      if dataset in paths
    ),
  )
  config.lengths = tuple(n for n in _LENGTHS if prose or n <= _SHIPPED)
  config.contexts = (100,)
  config.questions = 1
  config.strategies = ("in_context", "thinking", "qttt", "qttt_other_context")
  config.ttt.span = 128
  config.ttt.learning_rate = 1e-5
  return config


def _paths(sources: str) -> dict[str, str]:
  """{'prose': path, ...} of 'prose=PATH,squad=PATH,hotpotqa=PATH'."""
  paths: dict[str, str] = {}
  for item in filter(None, sources.split(",")):
    name, _, path = item.partition("=")
    if name not in _SOURCES or not path or name in paths:
      raise UserError(f"source {item!r}: give each of {', '.join(_SOURCES)} once, as squad=PATH")
    paths[name] = path
  return paths
