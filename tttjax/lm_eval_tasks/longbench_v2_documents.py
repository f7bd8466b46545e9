"""What the harness calls for the task tttjax_longbench_v2: its documents, and their scores."""

from tttjax.errors import UserError
from tttjax.tasks.benchmarks.longbench_v2 import LongBenchV2

_FIELDS = ("context", "question", "choice_A", "choice_B", "choice_C", "choice_D", "answer")
_BUILDERS = {"json": "json", "jsonl": "json", "parquet": "parquet"}


def load(data: str | None = None, hub: str | None = None, **unused) -> dict:
  """The documents, as the split test.

  Args:
    data: the benchmark's data.json, or a file of the same fields as .jsonl or .parquet.
    hub: instead of it the name of a data set on the Hugging Face hub, which is fetched.
    unused: the model's arguments, which the harness hands over too.

  Raises:
    UserError: none or both of the two are given, another kind of file, or a field is missing.
  """
  import datasets  # comes with the harness

  if bool(data) == bool(hub):
    raise UserError(
      "tttjax_longbench_v2: give --metadata data=PATH of the benchmark's data.json, or --metadata"
      " hub=NAME of a data set to fetch"
    )
  if hub:
    documents = datasets.load_dataset(hub, split="train")
  else:
    suffix = str(data).rpartition(".")[2]
    if suffix not in _BUILDERS:
      raise UserError(f"{data}: give a file that ends in .{', .'.join(_BUILDERS)}")
    documents = datasets.load_dataset(_BUILDERS[suffix], data_files=str(data), split="train")
  for field in _FIELDS:
    if field not in documents.column_names:
      raise UserError(f"{data or hub}: has no field {field}; give LongBench-v2's own data")
  return {"test": documents}


def process_results(doc: dict, results: list[str]) -> dict[str, float]:
  """The benchmark's own rule: the first "The correct answer is (X)" counts, nothing else does."""
  letter = LongBenchV2().extract(results[0])
  return {"acc": float(letter == doc["answer"]), "answered": float(letter is not None)}
