"""The report's findings in words, generated from the numbers."""

from collections.abc import Sequence

from tttjax.report.comparing import Comparison, Decline, decline_statement, statement
from tttjax.report.labels import (
  count,
  p_text,
  plus_minus,
  reference,
  role_of,
  strategy_label,
  task_label,
)
from tttjax.report.page.markup import details, text
from tttjax.report.page.tables import comparisons_table
from tttjax.report.summary import Cell
from tttjax.strategies import Role

_MOST_SENTENCES = 10  # of a task and model; more stand in the table only


def verdict(
  cells: Sequence[Cell],
  compared: Sequence[Comparison],
  declines: Sequence[Decline],
  models: dict[str, str],
  units: dict[str, str],
) -> str:
  """Sentences by task and model, and the table of all comparisons."""
  runs = len({cell.run for cell in cells}) > 1
  tested = sum(1 for c in compared if c.holm_p == c.holm_p)
  groups = list(dict.fromkeys(cell.group for cell in cells))
  parts = []
  for task, model in groups:
    if len(groups) > 1:
      parts.append(f"<h3>{text(task_label(task))}, {text(models[model])}</h3>")
    items = [
      _sentence(decline_statement(d, units[task]), d.run, runs)
      for d in declines
      if (d.task, d.model) == (task, model)
    ][:_MOST_SENTENCES]
    own = [c for c in compared if (c.task, c.model) == (task, model)]
    said = sorted(own, key=lambda c: (bool(c.options), not c.with_reference))
    items += [_sentence(statement(c, tested), c.run, runs) for c in said[:_MOST_SENTENCES]]
    items += _mass_sentences([cell for cell in cells if cell.group == (task, model)], units[task])
    parts.append(
      f"<ul>{''.join(items)}</ul>"
      if items
      else f"<p>Nothing to compare: {text(strategy_label(reference()))} did not run.</p>"
    )
    if len(own) > _MOST_SENTENCES:
      parts.append(f"<p>{len(own) - _MOST_SENTENCES} more comparisons are in the table.</p>")
  if compared:
    parts.append(
      f'<p class="note">{count(tested, "comparison")} made, each over all lengths at once; a'
      ' context with its questions at every length is one unit. "Corrected" p-values (Holm) allow'
      f" for the number of comparisons.{_tuning(cells)}</p>"
    )
    parts.append(details("All comparisons", comparisons_table(compared, models, runs)))
  return "".join(parts)


def _sentence(words: str, run: str, runs: bool) -> str:
  words = words if words.startswith("qTTT") else words[0].upper() + words[1:]
  return f"<li>{text(f'[{run}] ' if runs and run else '')}{text(words)}</li>"


def _mass_sentences(cells: Sequence[Cell], unit: str) -> list[str]:
  """Attention mass of in-context at both ends, and what the methods change at the longest."""
  items = []
  base = [c for c in cells if c.is_reference and "mass" in c.mechanism]
  if base:
    run = base[0].run
    base = [c for c in base if c.run == run]
    short, long = base[0], base[-1]
    if short.length != long.length:
      items.append(
        f"<li>Attention mass on the places with the answer, {text(base[0].label)}:"
        f" {text(plus_minus(short.mechanism['mass']))} at {short.length:,} {text(unit)},"
        f" {text(plus_minus(long.mechanism['mass']))} at {long.length:,}.</li>"
      )
    for cell in cells:
      gain = cell.mechanism_gain.get("mass")
      plain = role_of(cell.family) is Role.METHOD and not cell.options
      if plain and cell.length == long.length and cell.run == run and gain:
        p = f"p = {p_text(gain.p_value)}".replace("= <", "< ")
        items.append(
          f"<li>At {long.length:,} {text(unit)} {text(cell.label)} changes that mass"
          f" by {text(plus_minus(gain.gain, sign='+', places=4))} ({text(p)}, not"
          " corrected).</li>"
        )
  return items


def _tuning(cells: Sequence[Cell]) -> str:
  settings = {
    (c.family, c.budget.steps, c.budget.span, c.budget.learning_rate)
    for c in cells
    if role_of(c.family) is Role.METHOD
  }
  families = [family for family, *_ in settings]
  tuned = [family for family in dict.fromkeys(families) if families.count(family) > 1]
  if not tuned:
    return ""
  names = " and ".join(map(strategy_label, tuned))
  return (
    f" Several settings of {names} ran on the same questions: the best of them is best partly by"
    " luck, so confirm it with another seed."
  )
