"""Code bugs: mutants of every operator are run, haystacks are held against the files on disk."""

import ast
import importlib.util
import os
import pathlib
import re
import subprocess
import sys
import types

import numpy as np
import pytest
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tttjax.embedded.vocabulary import CHAT_TEMPLATE, build_tokenizer
from tttjax.errors import UserError
from tttjax.tasks.example import Question
from tttjax.tasks.synthetic.code_bugs import OPERATORS, CodeBugs
from tttjax.tasks.synthetic.code_bugs.mutation import find_sites, mutate
from tttjax.tasks.synthetic.code_bugs.syntax import Code
from tttjax.tasks.synthetic.code_bugs.tree import load_tree

_A, _B = np.array([[1.0, -2.0], [3.0, 5.0]]), np.array([[2.0, 7.0], [-1.0, 4.0]])

# Operator: functions named f, each with the arguments that its mutants are called with.
_RUN = {
  "scale_dropped": [
    ("def f(q, k, width):\n  return q @ k / math.sqrt(width)", (_A, _B, 4)),
    ("def f(x, scale):\n  return (x + 1) * scale", (3, 2)),
    ("def f(rate, x):\n  return x - rate * x", (0.1, 5.0)),
  ],
  "term_dropped": [
    ("def f(x, bias):\n  return 2 * x + bias", (3, 4)),
    ("def f(x, mean, w):\n  return (x - mean) * w", (3, 1, 5)),
    ("def f(x, decay):\n  return (1 - decay) * x", (3, 0.5)),
    ("def f(x, decay):\n  return x / (1 - decay)", (3, 0.5)),
  ],
  "sign_flipped": [
    ("def f(x, y):\n  return x * 2 + y", (3, 4)),
    ("def f(x):\n  return -x", (3,)),
    ("def f(x, y):\n  total = x\n  total += y * 2\n  return total", (3, 4)),
    ("def f(x, y):\n  return x - y", (3, 4)),
  ],
  "wrong_operator": [
    ("def f(x, y):\n  return x / y", (3, 4)),
    ("def f(x, y):\n  return x * y", (3, 4)),
    ("def f(x, y):\n  return x // y", (7, 2)),
    ("def f(x, y):\n  return x % y", (7, 4)),
    ("def f(x):\n  return x ** 2", (3,)),
  ],
  "operands_swapped": [
    ("def f(x, y):\n  return x - y", (3, 4)),
    ("def f(x, y):\n  return (x + 1) / abs(y)", (3, 5)),
    ("def f(x, y):\n  return x @ y", (_A, _B)),
    ("def f(x, y):\n  return x ** y", (3, 4)),
    ("def f(x, y):\n  return x[0] - y[0] - 1", (_A, _B)),
  ],
  "wrong_initial_value": [
    ("def f(xs):\n  total = 0\n  for x in xs:\n    total += x\n  return total", ([1, 2],)),
    (
      "def f(xs):\n  seen: bool = False\n  for x in xs:\n    seen = seen or x > 3\n  return seen",
      ([1, 2],),
    ),
    ("def f(x):\n  return np.zeros((2,)) + x", (3,)),
    ("def f(x):\n  return x * np.ones_like(x)", (_A,)),
  ],
  "off_by_one": [
    ("def f(xs):\n  return [xs[i] for i in range(len(xs))]", ([1, 2, 3],)),
    ("def f(xs, n):\n  return xs[:n]", ([1, 2, 3], 2)),
    ("def f(xs):\n  return xs[1:]", ("abc",)),
    ("def f(xs):\n  return xs[-1]", ([1, 2, 3],)),
    ("def f(xs):\n  return xs[0]", ([1, 2],)),
    ("def f(x):\n  return x[:, 0]", (_A,)),
    ("def f(n):\n  return 5 * (n + 1)", (3,)),
    ("def f(n):\n  return list(range(1, n + 1))", (3,)),
  ],
  "wrong_axis": [
    ("def f(x):\n  return np.sum(x, axis=0)", (_A,)),
    ("def f(x):\n  return x.mean(-1)", (_A,)),
    ("def f(x):\n  return np.stack([x, x], axis=-1)", (_A,)),
    ("def f(x):\n  return np.max(x, 1)", (_A,)),
  ],
  "keepdims_flipped": [
    ("def f(x):\n  return x - x.sum(axis=1, keepdims=True)", (_A,)),
    ("def f(x):\n  return np.max(x, 0, keepdims=False)", (_A,)),
  ],
  "wrong_reduction": [
    ("def f(x):\n  return np.sum(x, axis=0)", (_A,)),
    ("def f(x):\n  return x.max()", (_A,)),
    ("def f(x):\n  return all(y > 0 for y in x)", ([1, -1],)),
    ("def f(x):\n  return sum(x)", ([1, 2],)),
    ("def f(x, y):\n  return max(x, y)", (3, 4)),
    ("def f(x, y):\n  return np.maximum(x, y)", (3, 4)),
    ("def f(x):\n  return x.argmax()", (_A,)),
    ("def f(x):\n  return x.cumsum()", (_A,)),
  ],
  "transform_dropped": [
    ("def f(x):\n  return abs(x)", (-3,)),
    ("def f(x, y):\n  return np.exp(x - y) * 2", (3, 1)),
    ("def f(x):\n  return 1 / (math.sqrt(x + 2))", (7,)),
    ("def f(x):\n  self = Layer()\n  return x + self.pre_norm(x)", (_A,)),
  ],
  "transpose_dropped": [
    ("def f(x):\n  return x.T @ x", (_A,)),
    ("def f(x):\n  return np.swapaxes(x, 0, 1)", (_A,)),
    ("def f(x):\n  return x.transpose(1, 0)", (_A,)),
  ],
  "order_swapped": [
    ("def f(x):\n  return np.sqrt(np.mean(x * x, axis=-1))", (_A,)),
    ("def f(x, y):\n  self = Layer()\n  return self.pre_norm(x + y)", (_A, _B)),
    ("def f(x, y):\n  self = Layer()\n  return x + self.pre_norm(y)", (_A, _B)),
    ("def f(x):\n  self = Layer()\n  return np.exp(self.pre_norm(x))", (_A,)),
  ],
  "arguments_swapped": [
    ("def f(x):\n  return np.where(x > 0, x, 0.0)", (_A,)),
    ("def f(x, y):\n  return pow(x, y)", (3, 4)),
    ("def f(x, n):\n  return list(range((x + 1), n))", (2, 5)),
  ],
  "comparison_flipped": [
    ("def f(x, y):\n  return x < y", (3, 4)),
    ("def f(x, y):\n  return 1 if x >= y else 2", (3, 4)),
  ],
  "boundary_shifted": [
    ("def f(x):\n  return len(x) > 2", ([1, 2],)),
    ("def f(step, last):\n  return 1 if step <= last else 2", (3, 3)),
  ],
  "condition_negated": [
    ("def f(x):\n  if x is None:\n    return 1\n  return 2", (None,)),
    ("def f(x):\n  return 1 if not x else 2", (0,)),
    ("def f(xs):\n  return [x for x in xs if x]", ([0, 1],)),
    ("def f(x, xs):\n  return 1 if x not in xs else 2", (0, [1])),
    ("def f(x):\n  return 1 if x == 3 else 2", (3,)),
    ("def f(x):\n  if callable(x):\n    return 1\n  return 2", (3,)),
  ],
  "and_or_swapped": [
    ("def f(x, y):\n  return x and (y or 3)", (1, 0)),
    ("def f(x, y):\n  return x or y", (0, 2)),
  ],
  "loop_exit_swapped": [
    (
      "def f(xs):\n  out = []\n  for x in xs:\n    if x < 0:\n      continue\n"
      "    out.append(x)\n  return out",
      ([1, -1, 2],),
    ),
    (
      "def f(xs):\n  out = []\n  for x in xs:\n    if x < 0:\n      break\n"
      "    out.append(x)\n  return out",
      ([1, -1, 2],),
    ),
  ],
  "accumulation_lost": [
    ("def f(xs):\n  total = 0\n  for x in xs:\n    total += x\n  return total", ([1, 2],)),
    ("def f(xs):\n  p = 1\n  for x in xs:\n    p *= x\n  return p", ([2, 3],)),
  ],
  "wrong_variable": [
    ("def f(mean, std, noise):\n  return mean + std * noise", (1, 2, 5)),
    ("def f(a: int, b: int, c: str):\n  return str(a) + c", (1, 2, "x")),
  ],
}

# Operator: lines that it must leave alone, for what it would do there is nothing, or no bug.
_LEFT_ALONE = {
  "scale_dropped": ["y = x * 3", "y = prefix * count", "y = x * other"],
  "term_dropped": [
    "y = (1 - a) / 2",
    "y = (1 - a) ** 2",
    "y = x * 2 + 0",
    "y = a + b",
    "y = prefix + str(a)",
  ],
  "sign_flipped": ["y = a + b", "y = x * 2 + 0", "y = -1", "y = abs(-a)", "y = (-a) ** 2"],
  "wrong_operator": [
    "y = a / 1",
    "y = a * -1",
    "y = 2 ** 2",
    'y = "%s" % a',
    "y = [0] * a",
    "y = 0 / a",
    "y = 1 / a",
    "y = folder / a",
  ],
  "operands_swapped": [
    "y = a - a",
    "y = a + b",
    "y = a * b",
    "y = abs(a - b)",
    "y = jnp.square(a - b)",
    "y = a - b == 0",
    "y = 1 / a",
    'y = "%s" % a',
  ],
  "wrong_initial_value": ["unread = 0", "y = jnp.zeros(0)", "y = 7", "y = os.ones(a)"],
  "off_by_one": ['y = a["key"]', "y = a[i]", "y = a[:]"],
  "wrong_axis": ["y = x.sum(axis=axis)", "y = x.reshape(-1)", "y = f(0)"],
  "keepdims_flipped": ["y = x.sum(keepdims=keep)", "y = f(flag=True)"],
  "wrong_reduction": ["y = max(a, a)", "y = jnp.finfo(a).max", "y = self.sum(a)", "y = os.all(a)"],
  "transform_dropped": [
    "y = abs(a ** 2)",
    "y = abs(len(a))",
    "y = abs(a) ** 2",
    "y = abs(jnp.linalg.norm(a))",
    "y = norm(abs(a))",
    "y = other(a)",
    "a = jnp.sqrt(a)",
  ],
  "transpose_dropped": ["y = self.T", "x = x.T"],
  "order_swapped": [
    "y = jnp.abs(jnp.square(a))",
    "y = jnp.log(jnp.exp(a))",
    "y = jnp.sum(jnp.mean(a))",
    "y = jnp.exp(jnp.exp(a))",
    "y = f(g(a))",
  ],
  "arguments_swapped": [
    "y = f(a, a)",
    "y = jnp.add(a, b)",
    "y = isinstance(a, b)",
    "y = x.transpose(0, 1)",
    'y = getattr(a, "b")',
    "y = jax.vmap(a, b)",
    "y = zip(a, b)",
    "y = jnp.zeros([], jnp.int32)",
    "y = jnp.full(a, b, dtype)",
  ],
  "comparison_flipped": ["y = a < a", "y = a < b < c", "y = a == b"],
  "boundary_shifted": ["y = a < 0.5", "y = len(a) < len(a)"],
  "condition_negated": ["y = a if b else a", "y = a < b", "y = a if b < c else d"],
  "and_or_swapped": ["y = a or a"],
  "loop_exit_swapped": ["while a: break"],
  "accumulation_lost": ["while a < 3: a += 1"],
  "wrong_variable": ["y = isinstance(a, b)", "y = other(c)", "y = [a for c in d]"],
}


class Layer:
  """A layer that normalises, for snippets that call one."""

  def pre_norm(self, x):
    return x / np.linalg.norm(x)


# What a mutant says where the plain edit would leave a trace that no programmer leaves.
_LEAVES_NO_TRACE = [
  ("term_dropped", "y = b * m + (1 - b) * g", "y = b * m + g"),
  ("term_dropped", "y = x / (1 - b)", "y = x"),
  ("scale_dropped", "y = (1 / scale) * g", "y = g"),
  ("keepdims_flipped", "y = x.sum(axis=1, keepdims=True)", "y = x.sum(axis=1)"),
  ("keepdims_flipped", "y = x.sum(keepdims=True)", "y = x.sum()"),
  ("wrong_axis", "y = x.sum(axis=-1)", "y = x.sum(axis=0)"),
  ("off_by_one", "y = x[-1]", "y = x[0]"),
  ("boundary_shifted", "y = len(x) > 0", "y = len(x) > 1"),
]


def sites_of(name, text):
  return [site for site in find_sites(Code(text)) if site.operator == name]


def outcome(text, arguments):
  """What f(*arguments) of a source returns, as something that can be compared."""
  space = {"Layer": Layer}
  exec(compile(text, "snippet", "exec"), space)
  try:
    value = space["f"](*arguments)
  except Exception as error:
    return type(error).__name__
  return repr(np.asarray(value).tolist()) + str(np.shape(value))


@pytest.mark.parametrize("name", OPERATORS)
def test_every_mutant_computes_something_else(name):
  for snippet, arguments in _RUN[name]:
    text = f"import math\nimport numpy as np\n{snippet}"
    sites = sites_of(name, text)
    assert sites, snippet
    for site in sites:
      mutant = "\n".join(mutate(text.split("\n"), site))
      assert outcome(mutant, arguments) != outcome(text, arguments), mutant


@pytest.mark.parametrize("name", OPERATORS)
def test_operator_leaves_alone_what_would_be_no_bug(name):
  for line in _LEFT_ALONE[name]:
    text = (
      "import os\nimport jax\nimport jax.numpy as jnp\n"
      f"def f(self, a, b, c: int):\n  {line}\n  return y\n"
    )
    assert not sites_of(name, text), line


@pytest.mark.parametrize("entry", OPERATORS.values(), ids=OPERATORS)
def test_documented_example_is_what_the_operator_does(entry):
  body = "      use()\n" if entry.before.endswith(":") else ""
  text = (
    "import math\nimport jax.numpy as jnp\ndef f(mean, std, noise):\n  for _ in x:\n"
    f"    {entry.before}\n{body}    use(total)\n"
  )
  after = {site.apply(f"    {entry.before}").strip() for site in sites_of(entry.name, text)}
  assert entry.after in after and entry.doc and entry.symptom


def test_at_least_ten_operators_each_with_its_own_symptom():
  assert len({entry.symptom for entry in OPERATORS.values()}) == len(OPERATORS) >= 10


def test_difference_that_is_squared_keeps_its_order():
  sites = sites_of("operands_swapped", "def f(a, b):\n  return (a - b) ** 2\n")
  assert [site.text for site in sites] == ["2 ** (a - b)"]


@pytest.mark.parametrize(
  "place",
  [
    "X = a - b",
    "def f(a, b=c - d): pass",
    "def f(x: a[0]): pass",
    "@d(axis=0)\ndef f(): pass",
    'def f():\n  """a - b"""',
    "def f():\n  assert a < b",
    "def f():\n  raise E(a - b)",
    "def f():\n  print(a - b)",
    'def f():\n  return f"{a - b}"',
    'def f():\n  log.info("%d", a - b)',
    "def f():\n  if a < b:\n    raise E()",
    "class A:\n  def __repr__(self):\n    return a - b",
    "class A:\n  x: int = 0",
    "def f():\n  x: a[0] = g()",
    "__all__ = a[0]",
  ],
)
def test_no_bug_is_put_where_it_would_not_change_results(place):
  assert not find_sites(Code(place))


def test_edit_keeps_the_rest_of_the_line_and_positions_count_characters():
  text = "def f(ä, b):\n  return  'é', (ä  - b)  # – why\n"
  (site,) = sites_of("operands_swapped", text)
  assert mutate(text.split("\n"), site)[1] == "  return  'é', (b  - ä)  # – why"


# The task.


@pytest.fixture(scope="module")
def tokenizer():
  return build_tokenizer()


def joining_tokenizer():
  """A tokenizer whose pieces span the ends of lines, and which drops spaces."""
  tokenizer = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
  tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
    [
      pre_tokenizers.Split(Regex(r"\n?[^\n ]{1,3}"), behavior="isolated"),
      pre_tokenizers.Split(Regex(" +"), behavior="removed"),
    ]
  )
  return PreTrainedTokenizerFast(
    tokenizer_object=tokenizer, unk_token="?", chat_template=CHAT_TEMPLATE
  )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """A tree of nine files with mutable lines, text beyond ASCII, and files that do not belong."""
  root = tmp_path_factory.mktemp("source")
  for i in range(9):
    lines = ['"""Größe – 大きさ."""', "", "import numpy as np", ""]
    for j in range(8 + 3 * i):
      lines += [
        f"def f{j}(x, scale):",
        f'  """ä{j}"""',
        "  if x.ndim < 2:",
        f"    x = x[None, :{j + 3}]  # – é",
        "  return np.sum(x * scale, axis=-1)",
        "",
      ]
    path = root / ("pack" if i % 2 else "pack/inner") / f"module{i}.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines), encoding="utf-8")
  for name, text in {
    "pack/chat.py": "def f(a, b):\n  return a - b + '<|im_end|>'\n",
    "pack/broken.py": "def f(:\n",
    "pack/test_x.py": "def f(a, b):\n  return a - b\n",
    "tests/y.py": "def f(a):\n  return -a\n",
    ".hidden/z.py": "def f(a):\n  return -a\n",
    "pack/data.txt": "a",
  }.items():
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).write_text(text)
  (root / "pack/bytes.py").write_bytes(b"def f(a):\n  return -a  # \xff\n")
  return root


@pytest.fixture(scope="module")
def task(folder):
  return CodeBugs(source=str(folder))


def parse(context):
  """[(path, number, text)] of the lines of a context, by an independent reading of its form."""
  lines, path = [], None
  for line in context.split("[CONTEXT]\n")[1].splitlines():
    if line.startswith("# "):
      path = line[2:]
    else:
      number, _, text = line.partition(":")
      lines.append((path, int(number), text.removeprefix(" ")))
  return lines


def differences(folder, lines):
  """Lines of a context that are not what their file on disk says."""
  files = {
    path: (pathlib.Path(folder) / path).read_text(encoding="utf-8").split("\n")
    for path, _, _ in lines
  }
  return [
    (path, number, text) for path, number, text in lines if files[path][number - 1].rstrip() != text
  ]


@pytest.mark.parametrize("seed", range(12))
def test_exactly_the_answers_line_differs_from_the_files_and_the_file_parses(
  task, folder, tokenizer, seed
):
  example = task.at(seed, 400, tokenizer, False)
  lines = parse(example.context)
  ((path, number, text),) = differences(folder, lines)
  (question,) = example.questions
  assert len(lines) == 400 and question.references[0] == f"{path}:{number}"
  source = (folder / path).read_text(encoding="utf-8").split("\n")
  mutant = [*source[: number - 1], text, *source[number:]]
  assert ast.dump(ast.parse("\n".join(mutant))) != ast.dump(ast.parse("\n".join(source)))
  assert question.slices["kind"] in OPERATORS


@pytest.mark.parametrize(
  "in_tokens, lengths", [(False, (5, 6, 17, 100, 512)), (True, (700, 1500, 4000, 9000))]
)
def test_same_bug_at_every_length_in_a_haystack_that_grows_around_it(
  task, tokenizer, in_tokens, lengths
):
  for seed in range(6):
    examples = [task.at(seed, n, tokenizer, in_tokens) for n in lengths]
    assert len({(e.questions[0].references[0], e.questions[0].text) for e in examples}) == 1
    for small, large in zip(examples, examples[1:]):
      assert set(parse(small.context)) < set(parse(large.context))


def test_relative_depth_is_uniform_and_the_same_at_every_length(task, tokenizer):
  depths = []
  for seed in range(40):
    for length in (101, 701):
      example = task.at(seed, length, tokenizer, False)
      places = [f"{path}:{number}" for path, number, _ in parse(example.context)]
      depths.append(places.index(example.questions[0].references[0]) / (length - 1))
  depths = np.array(depths).reshape(40, 2)
  np.testing.assert_allclose(depths[:, 0], depths[:, 1], atol=0.006)
  assert np.histogram(depths[:, 0], 4, (0, 1))[0].min() >= 3


def test_the_bugs_file_comes_before_all_others(task, folder, tokenizer):
  for seed in range(10):
    example = task.at(seed, 5, tokenizer, False)
    path = example.questions[0].references[0].rpartition(":")[0]
    whole = len((folder / path).read_text(encoding="utf-8").split("\n"))
    (depth,) = [
      i
      for i, (_, number, _) in enumerate(parse(example.context))
      if example.questions[0].references[0].endswith(f":{number}")
    ]
    first = int(example.questions[0].references[0].rpartition(":")[2]) - depth
    inside = sum(p == path for p, _, _ in parse(example.context))
    assert inside == len(set(range(first, first + 5)) & set(range(1, whole + 1)))


@pytest.mark.parametrize("build", [build_tokenizer, joining_tokenizer])
def test_length_in_tokens_is_kept_and_one_line_more_would_not_fit(task, build):
  tokenizer = build()
  for seed, length in enumerate((600, 2000, 6000)):
    example = task.at(seed, length, tokenizer, True)
    tokens = len(tokenizer(example.context, add_special_tokens=False)["input_ids"])
    assert tokens == example.num_tokens <= length
    lines = len(parse(example.context))
    more = task.at(seed, lines + 1, tokenizer, False)
    # Where tokens span the ends of lines, lines have fewer together than one by one.
    assert more.num_tokens > (length if build is build_tokenizer else 0.85 * length)


@pytest.mark.parametrize("build", [build_tokenizer, joining_tokenizer])
@pytest.mark.parametrize("in_tokens, length", [(False, 5), (False, 300), (True, 3000)])
def test_evidence_is_every_token_of_the_bugs_line(task, folder, build, in_tokens, length):
  tokenizer = build()
  for seed in range(8):
    example = task.at(seed, length, tokenizer, in_tokens)
    ((path, number, text),) = differences(folder, parse(example.context))
    shown = f"{number}: {text}"
    begin = re.search(rf"\n{re.escape(shown)}\n", example.context).start() + 1
    offsets = tokenizer(example.context, add_special_tokens=False, return_offsets_mapping=True)[
      "offset_mapping"
    ]
    overlap = [i for i, (a, b) in enumerate(offsets) if a < begin + len(shown) and b > begin]
    assert example.questions[0].evidence == ((overlap[0], overlap[-1] + 1),)


def test_line_starts_are_the_tokens_that_open_each_line(task, tokenizer):
  example = task.at(3, 200, tokenizer, False)
  ids = tokenizer(example.context, add_special_tokens=False)["input_ids"]
  ends = [*example.line_starts[1:], example.num_tokens]
  body = example.context.split("[CONTEXT]\n")[1]
  for start, end, line in zip(example.line_starts, ends, re.findall(r"(?:# .*\n)?.*\n", body)):
    assert tokenizer.decode(ids[start:end]) == line
  assert len(example.line_starts) == 200


def test_examples_are_the_same_in_another_process(task, folder, tokenizer):
  mine = task.at(5, 60, tokenizer, False)
  program = (
    "import sys, hashlib\nfrom tttjax.embedded.vocabulary import build_tokenizer\n"
    "from tttjax.tasks.synthetic.code_bugs import CodeBugs\n"
    "e = CodeBugs(sys.argv[1]).at(5, 60, build_tokenizer(), False)\n"
    "print(ascii(e.context))"
  )
  other = subprocess.run(
    [sys.executable, "-c", program, str(folder)], check=True, capture_output=True, text=True
  )
  assert other.stdout.strip() == ascii(mine.context)
  assert len({task.at(s, 60, tokenizer, False).context for s in range(8)}) == 8


def test_question_names_the_kind_of_fault_but_nothing_of_the_line(task, tokenizer):
  for seed in range(20):
    (question,) = task.at(seed, 50, tokenizer, False).questions
    assert OPERATORS[question.slices["kind"]].symptom in question.text
    asked = question.text.partition("<|im_end|>")[0]
    path, _, number = question.references[0].rpartition(":")
    assert path not in asked and not re.search(r"[0-9]", asked)


@pytest.mark.parametrize("name, before, after", _LEAVES_NO_TRACE)
def test_mutant_leaves_no_trace_of_the_edit(name, before, after):
  lines = f"import jax.numpy as jnp\ndef f(b, m, g, x, scale):\n  {before}".split("\n")
  texts = [mutate(lines, site)[-1].strip() for site in sites_of(name, "\n".join(lines))]
  assert after in texts


def test_files_that_do_not_belong_are_left_out(folder):
  names = {file.path for file in load_tree(str(folder)).files}
  assert names == {f"pack/{'' if i % 2 else 'inner/'}module{i}.py" for i in range(9)}


def test_installed_package_is_read_and_not_imported(tokenizer, tmp_path, monkeypatch):
  (tmp_path / "raises_when_imported").mkdir()
  (tmp_path / "raises_when_imported/__init__.py").write_text(
    "raise SystemExit\ndef f(a, b):\n" + "  a = a - b\n" * 20
  )
  monkeypatch.syspath_prepend(tmp_path)
  example = CodeBugs("raises_when_imported").at(0, 10, tokenizer, False)
  assert example.questions[0].references[0].startswith("raises_when_imported/__init__.py:")


def test_default_source_holds_the_longest_haystack_and_most_operators():
  tree = load_tree(CodeBugs().source)
  assert tree.num_lines >= 10_000 and len(tree.sites) >= 15
  assert all(file.path.startswith("optax/") for file in tree.files)


def test_mutants_of_real_source_parse_and_change_one_line():
  tree = load_tree("optax")
  rng = np.random.default_rng(0)
  for name, sites in tree.sites.items():
    for i in rng.permutation(len(sites))[:6]:
      file, site = sites[i]
      lines = list(tree.files[file].lines)
      mutant = mutate(lines, site)
      assert mutant is not None, (name, tree.files[file].path, site)
      assert [a == b for a, b in zip(lines, mutant)].count(False) == 1
      assert len(lines) == len(mutant)


# Scores.


@pytest.mark.parametrize(
  "text, acc, near",
  [
    ("Final: pack/module1.py:12", 1, 1),
    ("pack/module1.py:12", 1, 1),
    ("Final: `pack/module1.py:12`.", 1, 1),
    ("final: **pack/module1.py**, line 12", 1, 1),
    ("**Final:** ./pack/module1.py:12", 1, 1),
    ("pack/module1.py#L12", 1, 1),
    ("Final: module1.py:12", 1, 1),
    ("Final: /home/me/pack/module1.py:12", 1, 1),
    ("Final: pack/module1.py:12\nThat is line 12 of pack/module1.py, module1.py:12.", 1, 1),
    ("pack/module3.py:9 or so. Final: pack/module1.py:12", 1, 1),
    ("Final: pack/module1.py:15", 0, 1),
    ("Final: pack/module1.py:9", 0, 1),
    ("Final: pack/module1.py:16", 0, 0),
    ("Final: pack/module3.py:12", 0, 0),
    ("Final: odule1.py:12", 0, 0),
    ("Final: inner/module1.py:12", 0, 0),
    ("Final: 12", 0, 0),
    ("", 0, 0),
    ("Final:", 0, 0),
    ("Final: pack/module1.py:12, pack/module1.py:13", 0, 0),
    ("Final: pack/module1.py:12 or pack/module3.py:12", 0, 0),
    ("Final: pack/module1.py:12-14", 0, 0),
    ("Final: pack/module1.py:12, 13", 0, 0),
    ("Final: pack/module1.py:12 and 13", 0, 0),
    ("Final: pack/module1.py lines 12", 0, 0),
    ("Final: pack/module1.py:12\nFinal: pack/module3.py:1", 0, 0),
    ("pack/module1.py:12. Final: I do not know", 0, 0),
  ],
)
def test_score(task, text, acc, near):
  question = Question("", "", ("pack/module1.py:12",), ("acc", "within_3_acc"), 128)
  assert task.score(text, question) == {"acc": acc, "within_3_acc": near}


def test_shortened_path_counts_only_where_it_means_one_file(tmp_path):
  for name in ("a/x.py", "b/x.py", "b/y.py"):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("def f(a, b):\n  return a - b\n")
  task = CodeBugs(str(tmp_path))
  score = lambda text, answer: task.score(text, Question("", "", (answer,), ("acc",), 128))["acc"]
  assert score("x.py:2", "a/x.py:2") == 0
  assert score("y.py:2", "b/y.py:2") == 1
  assert task.extract("Y.py line 2") == task.extract("Final: b/y.py:2") == "b/y.py:2"
  assert task.extract("x.py:2") == "x.py:2" and task.extract("none") is None


# Bad input.


@pytest.mark.parametrize(
  "source, message",
  [
    ("no_such_package_at_all", "no installed package, directory or manifest"),
    ("./nowhere", "no such directory"),
    ("", "name an installed package"),
    ("jax.numpy", "no installed package"),
    ("__main__", "no installed package"),
    ("~nobody-at-all/x", "source=~nobody-at-all/x: no such user"),
    ("/" + 300 * "a", "no such directory"),
    (300 * "a", "no installed package"),
    ("olmo", "python -m tttjax.third_party --fetch=olmo"),
  ],
)
def test_source_that_is_not_there(monkeypatch, tmp_path, source, message):
  monkeypatch.setenv("TTTJAX_CACHE", str(tmp_path))
  with pytest.raises(UserError, match=re.escape(message)):
    CodeBugs(source).check(100, False)


def test_a_pipe_beside_the_sources_is_left_out(tmp_path):
  (tmp_path / "a.py").write_text("def f(a, b):\n  return a - b\n")
  os.mkfifo(tmp_path / "b.py")
  assert [file.path for file in load_tree(str(tmp_path)).files] == ["a.py"]


def test_tree_without_python_or_without_places_for_a_bug(tmp_path):
  with pytest.raises(UserError, match="no Python files"):
    CodeBugs(str(tmp_path)).check(100, False)
  other = tmp_path / "constants"
  other.mkdir()
  (other / "a.py").write_text("X = 1\n" * 200)
  with pytest.raises(UserError, match="can be given a bug"):
    CodeBugs(str(other)).check(100, False)


@pytest.mark.parametrize(
  "length, in_tokens, message",
  [
    (4, False, "5 or more"),
    (100, True, "256 or more"),
    (10**6, False, "more than the source has"),
    (10**8, True, "more than the source has"),
  ],
)
def test_length_that_holds_no_example(task, length, in_tokens, message):
  with pytest.raises(UserError, match=message):
    task.check(length, in_tokens)


def test_tokens_that_do_not_hold_the_line_or_that_the_source_does_not_have(
  task, tokenizer, tmp_path
):
  (tmp_path / "long.py").write_text(f"def f(a, b):\n  return a - b  # {'é' * 300}\n")
  with pytest.raises(UserError, match="raise the length"):
    CodeBugs(str(tmp_path)).at(0, 300, tokenizer, True)
  whole = task.at(0, load_tree(task.source).num_lines, tokenizer, False)
  with pytest.raises(UserError, match="fewer tokens"):
    task.at(0, whole.num_tokens + 100, tokenizer, True)


def test_package_of_one_file_is_no_tree(monkeypatch):
  spec = types.SimpleNamespace(submodule_search_locations=None)
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
  with pytest.raises(UserError, match="no installed package"):
    CodeBugs("single").check(100, False)
