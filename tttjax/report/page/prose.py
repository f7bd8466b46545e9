"""The report's fixed words: what each strategy does, and how to read the numbers."""

from collections.abc import Sequence

from tttjax import spec
from tttjax.report.labels import strategy_label
from tttjax.report.page.markup import text

INTRODUCTION = """<p>A language model can read more than it can use. The longer the context, the
more other places compete for the attention that the one place with the answer needs; this is called
<em>score dilution</em>. This page compares ways to spend extra computation on one context before
answering questions about it: writing thoughts, or a few training steps on the context itself
(<em>test-time training</em>). The method is that of Bansal et al., <em>Let's (not) just put things
in Context</em> (ICLR 2026, arXiv 2512.13898). Every question has one right answer, which stands at
known places of a generated context.</p>"""

_FAMILIES = {
  "in_context": "The model reads the context and answers at once. This is what all others are"
  " compared with.",
  "thinking": "The model writes thinking tokens first, as many as the budget allows, then answers.",
  "qttt": "Query-only test-time training: the context is read once and its keys and values are"
  " kept. A few gradient steps of next-token prediction on random spans of it change the"
  " query projections and nothing else; the questions are then answered with them.",
  "qttt_other_context": "A control. The same training, but on a <em>different</em> context of the"
  " same length. What this gains is general adaptation to such texts; only"
  " what qTTT gains beyond it is owed to the context at hand.",
  "qttt_thinking": "qTTT with a part of the budget, then thinking with the rest.",
  "self_consistency": "Several independent samples of shorter thoughts; the most frequent answer"
  " counts. They share one reading of the context.",
  "beam": "Beam search over shorter thoughts; the likeliest beam's answer counts.",
  "full_ttt": "Training steps that change <em>all</em> weights, after which the context has to"
  " be read again each time: the expensive form of test-time training.",
  "log_temperature": "A control without any training. Queries are scaled by log T / log"
  " T<sub>trained</sub> for a context of T tokens: attention gets sharper"
  " beyond the length that the model was trained on, as the length dilutes it,"
  " and blunter below.",
}
_OPTIONS = {
  "spans": "Oracle spans, a control: training is allowed to look at the places with the answers,"
  " which no one knows in practice. It hints at what choosing better spans could gain.",
  "rope": "RoPE off: positions are not encoded at all, and the context is read again that way."
  " Shows what part distance plays.",
  "stretch": "Stretched, a control: the same short context with its positions spread out as if it"
  " were long. Distances grow, the number of competitors does not; if accuracy stays,"
  " it is competition, not distance, that hurts.",
  "span_kv": "Span keys recomputed: the keys and values of the trained span are computed anew in"
  " each step instead of being read from the cache.",
  "question": "Question encoded before: the question is read before the training, with the"
  " unchanged weights, instead of after it.",
}

READING = """<dl>
<dt>accuracy</dt><dd>Share of questions answered exactly, &plusmn; one standard error. Questions
about one context are not independent (an easy context makes all of them easy), so the error is
computed over contexts (clustered); contexts of different seeds are different contexts. The true
value lies within two standard errors about 19 times in 20. An example that failed counts as
wrong.</dd>
<dt>gain</dt><dd>Accuracy minus in-context's, on the same questions, &plusmn; its clustered standard
error.</dd>
<dt>p</dt><dd>How often a difference at least this large would appear if the strategy made no
difference: the signs of the contexts' differences are flipped at random (two-sided sign-flip test).
With C contexts it cannot be below 2<sup>1&minus;C</sup>. Where every context has one question, the
exact McNemar test is in the results file too. Large p does <em>not</em> mean that two strategies
are equal.</dd>
<dt>corrected p (Holm)</dt><dd>Who makes many comparisons finds small p values by luck. The
corrected value allows for that: if those below .05 are called real, the chance that even one of
them is luck stays below 5&nbsp;%.</dd>
<dt>model FLOPs</dt><dd>Exact count of the arithmetic of the matrix products. <em>used</em>: of one
question, which is charged the whole reading (prefill) and training of its context; <em>after
prefill</em>: without the reading; <em>given</em>: what the budget allowed after the prefill, which
is what strategies are matched on; <em>shared</em>: with reading and training divided among the
questions of a context. Thinking may stop before its budget is used up.</dd>
<dt>seconds</dt><dd>Wall clock per context, all of its questions answered in one batch; median over
contexts in which no program was compiled. It depends on the machine and on what else runs there;
empty where nothing was measured: every context compiled something, or ran in the programs of
another length.</dd>
<dt>attention mass, margin, lead</dt><dd>Of the tokens with the answer, while the reference answer
is predicted (of strategies that think: while they write, which is not to be compared): their share
of the attention; the logarithm of their weight against all others' (mass above one half when
positive, at any length); and how far they are ahead of the strongest other token. The lead that
guarantees a given mass grows with the logarithm of the length.</dd>
</dl>"""


def strategies(names: Sequence[str]) -> str:
  """A description of every strategy and option that occurs."""
  families = dict.fromkeys(spec.taken_apart(name)[0] for name in names)
  parts = [
    f"<dt>{text(strategy_label(family))}</dt><dd>{_FAMILIES[family]}</dd>"
    for family in families
    if family in _FAMILIES
  ]
  options = dict.fromkeys(option for name in names for option in spec.taken_apart(name)[1])
  described = [f"<li>{_OPTIONS[option]}</li>" for option in options if option in _OPTIONS]
  more = f"<p>Variants:</p><ul>{''.join(described)}</ul>" if described else ""
  return f"<dl>{''.join(parts)}</dl>{more}"
