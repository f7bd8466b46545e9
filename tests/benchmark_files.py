"""Small data sets in the schemas of benchmarks, made here: every field, and every oddity."""

import json
import pathlib
import zipfile

WORDS = "The river keeper of Lom counted 41 boats, 7 nets and one blue lantern. "
ODD = "Ümläute, 漢字かな, 👩‍🔬, <|im_end|> and </think> are text here.\r\n\n"
ZERO_SCROLLS = {
  "gov_report": "A summary of boats.",
  "summ_screen_fd": "They count boats.",
  "qmsum": "The keeper counted.",
  "squality": "Boats, nets and a lantern.",
  "qasper": "41 boats",
  "narrative_qa": "The keeper of Lom",
  "quality": "(B) nets",
  "musique": "Lom",
  "space_digest": "41%",
  "book_sum_sort": "2, 1, 3",
}


def document(i: int, sentences: int = 60) -> str:
  """A text of its own for each number."""
  return f"Book {i}. {ODD}" + "".join(f"{j}: {WORDS}" for j in range(sentences * (i + 1)))


DOMAINS = ("Single-Document QA", "Code Repository Understanding")


def longbench_v2(path: pathlib.Path, number: int = 3, domains=DOMAINS) -> pathlib.Path:
  """data.json of so many documents in turn of these domains, the first with two questions."""
  rows = [
    {
      "_id": f"66{i:022x}",
      "domain": domains[i % len(domains)],
      "sub_domain": "Literary",
      "difficulty": ("easy", "hard")[i % 2],
      "length": ("short", "medium", "long")[i % 3],
      "question": f"What did the keeper count in book {i}?\nChoose well.",
      "choice_A": "Boats\nand nets",
      "choice_B": "$Q$ and $DOC$",
      "choice_C": "",
      "choice_D": "Lanterns – blue",
      "answer": "ABCD"[i % 4],
      "context": document(i),
    }
    for i in range(number)
  ]
  second = {"_id": "second", "question": "And where?", "answer": "D", "difficulty": "hard"}
  rows.append({**rows[0], **second})
  path.write_text(json.dumps(rows), encoding="utf-8")
  return path


def zero_scrolls_rows(task: str, outputs: bool = True) -> list[dict]:
  """Rows of one task: two documents, one question of the first with two references."""
  rows = []
  for i, (key, pid) in enumerate((("q0", "q0_0"), ("q0", "q0_1"), ("q1", "q1_0"), ("q2", "q2_0"))):
    head, text = f"You are given text for {task}.\n\n", document(max(i - 1, 0) % 2, 30)
    query = f"\n\nQuestion:\nWhat is asked by {key}?\n\nAnswer:\n"
    rows.append(
      {
        "id": key,
        "pid": pid,
        "input": head + text + query,
        "output": (ZERO_SCROLLS[task] if i != 1 else "C: other, 3, 2, 1 39%") if outputs else None,
        "document_start_index": len(head),
        "document_end_index": len(head + text),
        "query_start_index": len(head + text),
        "query_end_index": len(head + text + query),
        "truncation_seperator": "... [The rest is omitted]",
      }
    )
  return rows


def zero_scrolls(folder: pathlib.Path, tasks=tuple(ZERO_SCROLLS), zipped: bool = True):
  """A folder of the tasks: zips, or folders of their files; the test split has no answers."""
  folder.mkdir(parents=True, exist_ok=True)
  for task in tasks:
    for split, outputs in (("validation", True), ("test", False)):
      lines = "".join(json.dumps(row) + "\n" for row in zero_scrolls_rows(task, outputs))
      if zipped:
        with zipfile.ZipFile(folder / f"{task}.zip", "a") as archive:
          archive.writestr(f"{task}/{split}.jsonl", lines)
      else:
        (folder / task).mkdir(exist_ok=True)
        (folder / task / f"{split}.jsonl").write_text(lines, encoding="utf-8")
  return folder


def own(path: pathlib.Path) -> pathlib.Path:
  """Lines of one's own, with a context in a file beside it."""
  (path.parent / "book.txt").write_text(document(0), encoding="utf-8")
  rows = [
    {
      "id": 1,
      "context_file": "book.txt",
      "question": "How many boats?",
      "answers": ["41", "forty"],
    },
    {
      "id": 2,
      "context_file": "book.txt",
      "question": "What is blue?",
      "choices": ["A boat", "The lantern"],
      "answer": "B",
    },
    {"id": "x", "context": document(1), "question": "Who?", "answers": ["The keeper"]}
    | {"metric": "contains", "max_new_tokens": 20},
    {"id": "y", "context": document(1), "question": "Sum up.", "answers": ["Boats."]}
    | {"metric": "rouge"},
  ]
  path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
  return path


def squad(path: pathlib.Path, articles: int = 6, paragraphs: int = 5) -> pathlib.Path:
  """SQuAD's file: of each paragraph a question with two answers, and one that has none."""
  data = [
    {
      "title": f"Book_{i}",
      "paragraphs": [
        {
          "context": f"Book {i}, page {j}.  The keeper\ncounted {100 * i + j} boats. {ODD}{WORDS}",
          "qas": [
            {
              "id": f"{i}-{j}",
              "question": f"How many boats are on page {j} of book {i}? ",
              "answers": [
                {"text": text, "answer_start": 1}
                for text in (f"{100 * i + j} boats", f"{100 * i + j}", f"{100 * i + j}")
              ],
              "is_impossible": False,
            },
            {
              "id": f"{i}-{j}-no",
              "question": "Who sank?",
              "answers": [],
              "plausible_answers": [{"text": "The keeper", "answer_start": 1}],
              "is_impossible": True,
            },
          ],
        }
        for j in range(paragraphs)
      ],
    }
    for i in range(articles)
  ]
  path.write_text(json.dumps({"version": "v2.0", "data": data}), encoding="utf-8")
  return path


def hotpotqa(path: pathlib.Path, number: int = 8) -> pathlib.Path:
  """HotpotQA's file: each question has two golden paragraphs among five, one of them shared."""
  item = lambda i: {
    "_id": f"5a{i:02x}",
    "question": f"Where was the keeper of boat {i} born?",
    "answer": f"Lom {i}",
    "type": "bridge",
    "level": "hard",
    "supporting_facts": [[f"Boat {i}", 0], [f"Keeper {i}", 1], [f"Keeper {i}", 0]],
    "context": [
      ["River", [WORDS, f" {ODD}"]],
      [f"Keeper {i}", [f"Keeper {i} counts. ", f"She was born in Lom {i}."]],
      *([f"Net {i} {j}", [f"Net {i} {j} is old. ", WORDS]] for j in range(2)),
      [f"Boat {i}", [f"Boat {i} belongs to Keeper {i}.", f" {WORDS}"]],
    ],
  }
  path.write_text(json.dumps([item(i) for i in range(number)]), encoding="utf-8")
  return path
