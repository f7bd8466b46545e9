"""What the harness calls for the task tttjax_longbench_v2: its documents, and their scores."""

from tttjax.errors import UserError
from tttjax.files import user_path
from tttjax.tasks.benchmarks.data_files import HUB
from tttjax.tasks.benchmarks.longbench_v2 import LongBenchV2, read_records


def load(data: str | None = None, hub: str | None = None, **unused) -> dict:
  """The documents, as the split test.

  Args:
    data: the benchmark's data.json, or a file of the same fields as .jsonl or .parquet.
    hub: instead of it the name of a data set on the Hugging Face hub, which is fetched.
    unused: the model's arguments, which the harness hands over too.

  Raises:
    UserError: none or both of the two are given; names file, record and field of what is wrong.
  """
  import datasets  # comes with the harness

  if bool(data) == bool(hub):
    raise UserError(
      "tttjax_longbench_v2: give --metadata data=PATH of the benchmark's data.json, or --metadata"
      " hub=NAME of a data set to fetch"
    )
  path = user_path(f"{HUB}{hub}" if hub else data, "--metadata")
  records = read_records(path).records
  return {"test": datasets.Dataset.from_list([dict(record.values) for record in records])}


def process_results(doc: dict, results: list[str]) -> dict[str, float]:
  """The benchmark's own rule: the first "The correct answer is (X)" counts, nothing else does."""
  right = LongBenchV2().extract(results[0]) == doc["answer"]
  return {"acc": float(right), "answered": float(bool(results[0].strip()))}
