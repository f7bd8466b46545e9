"""One self-contained HTML page about a run."""

import base64
import html
import pathlib
from typing import Any, Sequence

from tttjax.evaluation.figures import label_of
from tttjax.evaluation.records import replacing
from tttjax.evaluation.summary import Cell, p_text, plus_minus, thought

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
  color: #222; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.2rem; }
table { border-collapse: collapse; font-size: 0.86rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.25rem 0.7rem; text-align: right; border-bottom: 1px solid #ddd; }
th { vertical-align: bottom; } td.name, th.name { text-align: left; }
tr.first td { border-top: 2px solid #888; }
.scroll { overflow-x: auto; } img { max-width: 100%; height: auto; }
dt { font-weight: 600; } dd { margin: 0 0 0.6rem 1.2rem; } code { background: #f2f2f2; }
"""

_STRATEGIES = {
    'in_context': 'The model reads the context and answers at once.',
    'thinking': 'The model writes thinking tokens first, as many as the budget allows, then'
                ' answers.',
    'qttt': 'Query-only test-time training: the context is read once and its keys and values are'
            ' kept. A few gradient steps on random spans of it change the query projections, and'
            ' nothing else; then the questions are answered with them.',
    'qttt_other_context': 'The control: the same steps on a <em>different</em> context of the same'
                          ' length. What this gains is general adaptation to such texts; only what'
                          ' qTTT gains beyond it is owed to the context at hand.',
}

_READING = """
<p>A language model can read more than it can use: the longer the context, the more other places
compete for the attention that the one place with the answer needs (<em>score dilution</em>).
Each run asks questions whose answer stands at one known place of a synthetic transaction log, and
compares ways to spend extra compute before answering. The method is that of Bansal et al.,
<em>Let's (not) just put things in Context</em> (ICLR 2026, arXiv 2512.13898).</p>
<dl>
<dt>accuracy</dt><dd>Share of questions answered exactly, &plusmn; one standard error. Questions
about one context are not independent, so the error is clustered by context.</dd>
<dt>gain, p</dt><dd>Difference from in-context on the same questions, &plusmn; its clustered
standard error; p is the two-sided sign-flip test over contexts. With C contexts it cannot be below
2<sup>1&minus;C</sup>. No correction is made for the number of cells.</dd>
<dt>model FLOPs</dt><dd>Exact count of the matrix products that one question needs, prefill
included. Every question is charged its context's whole adaptation; this is what is matched between
thinking and qTTT. <em>Amortised</em>: prefill and adaptation shared by the context's questions.
Thinking may stop before its budget is used up, and then costs less than qTTT.</dd>
<dt>seconds</dt><dd>Wall clock per context, all of its questions answered in one batch, median over
contexts, compilation excluded. It depends on the machine and what else runs there.</dd>
<dt>attention mass</dt><dd>Share of the attention that falls on the place with the answer while the
answer is predicted, mean over layers and heads.</dd>
</dl>
"""


def write(
    path: pathlib.Path, settings: dict[str, Any], stamp: str, cells: Sequence[Cell],
    figures: Sequence[pathlib.Path]) -> None:
  """Writes the page, atomically.

  Args:
    path: file to write.
    settings: dotted config field to value.
    stamp: time of the run's start.
    cells: in the order of the table.
    figures: PNG files to embed.
  """
  images = '\n'.join(
      f'<p><img alt="{html.escape(figure.stem)}" src="data:image/png;base64,'
      f'{base64.b64encode(figure.read_bytes()).decode("ascii")}"></p>' for figure in figures)
  used = list(dict.fromkeys(cell.strategy for cell in cells))
  described = ''.join(
      f'<dt>{html.escape(label_of(name))}</dt><dd>{_STRATEGIES.get(name, "")}</dd>'
      for name in used)
  fields = ''.join(
      f'<tr><td class="name"><code>{html.escape(name)}</code></td>'
      f'<td class="name">{html.escape(str(value))}</td></tr>' for name, value in settings.items())
  questions = sum(cell.accuracy.n for cell in cells)
  page = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>tttjax report</title>
<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>
<h1>Test-time training of long contexts</h1>
<p>{html.escape(settings['task.name'])} / {html.escape(settings['task.kind'])}, model
<code>{html.escape(settings['model'])}</code>, {settings['contexts']} contexts per length, started
{html.escape(stamp)}, {questions} predictions.</p>
<h2>What was compared</h2><dl>{described}</dl>
<h2>Result</h2>{images}<div class="scroll">{_table(cells)}</div>
<h2>How to read it</h2>{_READING}
<h2>Configuration</h2><div class="scroll"><table>{fields}</table></div>
</body></html>
"""
  with replacing(path) as temporary:
    temporary.write_text(page, encoding='utf-8')


def _table(cells: Sequence[Cell]) -> str:
  head = ('length', 'strategy', 'accuracy', 'gain over in-context', 'p', 'model FLOPs',
          'amortised FLOPs', 'thinking tokens', 'seconds', 'attention mass')
  rows = [_html_row('th', head, '')]
  previous = None
  for cell in cells:
    gain = cell.gain
    values = (
        f'{cell.length:,}', label_of(cell.strategy), plus_minus(cell.accuracy),
        plus_minus(gain.gain, sign='+') if gain else '', p_text(gain.p_value) if gain else '',
        f'{cell.flops:.2e}', f'{cell.amortised_flops:.2e}', thought(cell),
        f'{cell.total_seconds:.2f}' + (' (with compilation)' if cell.compiling else ''),
        plus_minus(cell.mass) if cell.mass else '')
    rows.append(_html_row('td', values, ' class="first"' if cell.length != previous else ''))
    previous = cell.length
  return f'<table>{"".join(rows)}</table>'


def _html_row(tag: str, values: Sequence[str], attributes: str) -> str:
  shown = (html.escape(value).replace('+-', '&plusmn;') for value in values)
  cells = ''.join(
      f'<{tag} class="name">{value}</{tag}>' if i == 1 else f'<{tag}>{value}</{tag}>'
      for i, value in enumerate(shown))
  return f'<tr{attributes}>{cells}</tr>'
