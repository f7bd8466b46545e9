"""The drill-down: for some contexts, what every strategy answered, and how its training went."""

from collections.abc import Iterable, Sequence

from tttjax.report.labels import count, strategy_label, task_label
from tttjax.report.page.markup import curve, details, shortened, strip, table, text
from tttjax.report.runs import Row, Run
from tttjax.report.summary import cluster_of
from tttjax.rows import primary

# (contexts per length, questions per context, strategies per context) from most to least; the
# first whose page is small enough is taken.
_LIMITS = ((3, 3, 40), (3, 2, 20), (2, 2, 12), (1, 2, 10), (1, 1, 8))
_MAX_BYTES = 1_600_000


def examples(runs: Sequence[Run], models: dict[str, str], units: dict[str, str]) -> str:
  """HTML of a limited sample: contexts with a failure first, then in order.

  Args:
    runs: all of them.
    models: labels.
    units: of the lengths, by task.
  """
  groups: dict[tuple[str, str, int], dict] = {}
  for run in runs:
    for row in run.rows:
      place = row["task"], row["model"], row["length"]
      contexts = groups.setdefault(place, {})
      contexts.setdefault(cluster_of(row), []).append((run.label, row))
  for limits in _LIMITS:
    page = "".join(
      _length(place, contexts, limits, models, units) for place, contexts in groups.items()
    )
    if len(page) <= _MAX_BYTES:
      return page
  page, kept = "", 0  # the last limits are still too many: whole lengths are left out
  for place, contexts in groups.items():
    part = _length(place, contexts, _LIMITS[-1], models, units)
    if len(page) + len(part) <= _MAX_BYTES:
      page, kept = page + part, kept + 1
  return page + f"<p>{len(groups) - kept} more lengths are left out to keep this page small.</p>"


def _length(place, contexts, limits, models, units) -> str:
  task, model, length = place
  troubled = lambda rows: any(row.get("error") or row.get("fallback") for _, row in rows)
  chosen = sorted(contexts, key=lambda c: (not troubled(contexts[c]), c))[: limits[0]]
  body = "".join(_context(cluster, contexts[cluster], limits) for cluster in chosen)
  title = (
    f"{task_label(task)}, {models[model]}, {length:,} {units[task]}: {len(chosen)} of"
    f" {count(len(contexts), 'context')}"
  )
  return details(text(title), body)


def _context(cluster, labelled: Sequence[tuple[str, Row]], limits) -> str:
  doc = labelled[0][1]["doc"]
  several = len({run for run, _ in labelled}) > 1
  by_strategy: dict[str, list[Row]] = {}
  for run, row in labelled:
    name = strategy_label(row["strategy"]) + (f" [{run}]" if several else "")
    by_strategy.setdefault(name, []).append(row)
  shown = dict(list(by_strategy.items())[: limits[2]])
  questions = sorted({row["question"] for _, row in labelled})[: limits[1]]
  tokens = doc.get("context_tokens")
  evidence = [
    span
    for q in {repr(r["doc"].get("evidence")): r for _, r in labelled}.values()
    for span in q["doc"].get("evidence") or ()
  ]
  parts = [
    f"<h4>Seed {cluster[0]}, context {cluster[1]}{f' ({tokens:,} tokens)' if tokens else ''}</h4>",
    f'<p class="head">{shortened(str(doc.get("context_head", "")), 260)}</p>',
    _training(shown, tokens or 1, evidence),
  ]
  for question in questions:
    answers = [
      (name, row) for name, rows in shown.items() for row in rows if row["question"] == question
    ]
    if answers:
      parts.append(_question(answers))
  if (left_out := len(by_strategy) - len(shown)) > 0:
    parts.append(f"<p>{left_out} more strategies are not shown.</p>")
  return f'<div class="context">{"".join(parts)}</div>'


def _training(by_strategy: dict[str, list[Row]], tokens: int, evidence) -> str:
  """Loss curve and span places of every strategy that trained on this context."""
  rows = []
  for name, own in by_strategy.items():
    adaptation = next((row["adaptation"] for row in own if row.get("adaptation")), None)
    if not adaptation:
      continue
    loss = adaptation.get("loss") or []
    finite = [value for value in loss if value is not None]
    ends = f"{finite[0]:.2f} → {finite[-1]:.2f}" if finite else "not finite"
    span = (own[0].get("budget") or {}).get("span") or 0
    rows.append(
      [
        text(name),
        curve(loss, f"loss over {len(loss)} steps"),
        ends,
        strip(tokens, evidence, adaptation.get("start") or [], span),
      ]
    )
  if not rows:
    return ""
  return table(
    [
      "trained",
      "loss of each step",
      "first → last",
      '<span class="ek">answers</span> and <span class="sk">training spans</span> in the context',
    ],
    rows,
    left=(0, 1, 2, 3),
  )


def _question(answers: Iterable[tuple[str, Row]]) -> str:
  first = answers[0][1]
  rows = []
  for name, row in answers:
    if row.get("error"):
      verdict, said = '<b class="no">failed</b>', f"<code>{text(row['error'][:200])}</code>"
    else:
      right = primary(row) == 1
      verdict = '<b class="yes">right</b>' if right else '<b class="no">wrong</b>'
      said = _said(row)
    if row.get("fallback"):
      said += f" <i>(base weights: {text(str(row['fallback'])[:120])})</i>"
    mass = (row.get("mechanism") or {}).get("mass")
    rows.append([text(name), verdict, said, f"{mass:.3f}" if mass is not None else ""])
  asked = " ".join(str(first["doc"].get("question", "")).split())
  return (
    f'<p class="q"><b>Question</b> {shortened(asked, 420)}<br>'
    f"<b>Answer</b> <code>{shortened(str(first['target']), 200)}</code></p>"
    + table(["strategy", "", "said", "mass"], rows, left=(0, 1, 2))
  )


def _said(row: Row) -> str:
  """The answer, and the whole output where it holds more."""
  answer = str((row.get("filtered_resps") or [""])[0])
  outputs = (row.get("resps") or [[""]])[0]
  whole = str(outputs[0]) if outputs else ""
  shown = f"<code>{shortened(answer, 160)}</code>" if answer.strip() else "<i>nothing</i>"
  if len(whole.strip()) <= len(answer.strip()) + 8:
    return shown
  more = f" (first of {len(outputs)})" if len(outputs) > 1 else ""
  return shown + details(f"whole output{more}", f'<p class="head">{shortened(whole, 450)}</p>')
