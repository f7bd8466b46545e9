"""The loop over lengths, contexts and strategies; a unit of work is one strategy on one context."""

import dataclasses
import hashlib
import json
import pathlib
from typing import Any

import jax
import tqdm

from tttjax.checkpoint import from_pretrained, load_tokenizer
from tttjax.decode.config import SamplingConfig
from tttjax.errors import UserError
from tttjax.evaluation.config import Plan, budgets
from tttjax.evaluation.records import Row, Samples
from tttjax.strategies import STRATEGIES
from tttjax.strategies.base import Budget, Case, Result
from tttjax.strategies.engine import Engine

_HEAD_CHARACTERS = 200
# Matched thinking budgets differ by a few tokens; one output size serves a program's contexts.
_SIZE_MULTIPLE = 64
# Contexts of different config seeds are different as long as there are fewer per length.
_SEED_STRIDE = 100_003


def load_engine(plan: Plan) -> Engine:
  """Loads model and tokenizer of the plan's checkpoint, onto its mesh where it has one."""
  model, params = from_pretrained(plan.checkpoint, plan.mesh)
  return Engine(model, params, load_tokenizer(plan.checkpoint))


def run(plan: Plan, engine: Engine, samples: Samples, progress: 'Progress') -> None:
  """Makes every row of the plan that `samples` does not hold yet.

  Contexts of a length are finished before the next length starts. The random
  key of a context depends on seed, length and index alone: neither on the
  strategy nor on what a resumed run has left to do.
  """
  config = plan.config
  root = jax.random.key(config.seed)
  cases = {length: _cases(plan, engine, length) for length in config.lengths}
  programs: dict[int, list[Case]] = {}
  for length in config.lengths:
    programs.setdefault(plan.capacity(length), []).extend(cases[length])
  sampling = {
      capacity: _Sampling(plan, engine, members) for capacity, members in programs.items()}
  for length in config.lengths:
    for context, case in enumerate(cases[length]):
      key = jax.random.fold_in(jax.random.fold_in(root, length), context)
      for strategy in config.strategies:
        missing = [
            question for question in range(case.num_questions)
            if (strategy, length, context, question) not in samples.rows]
        progress.start(strategy, length, context)
        if missing:
          budget = sampling[case.capacity].budget(case)
          result = STRATEGIES[strategy](engine, case, budget, key)
          for question in missing:
            samples.append(_row(plan, strategy, length, context, question, case, budget, result))
        progress.finish(strategy, length, context, samples)


def _cases(plan: Plan, engine: Engine, length: int) -> list[Case]:
  """The contexts of a length, each with another one of the same length for controls.

  Seeds are those of (seed, index): the same haystacks grow with the length.
  """
  config = plan.config
  count = max(config.contexts, 2)  # a single context needs another one too
  cases = []
  for index in range(count):
    example = plan.task.make_example(
        config.seed * _SEED_STRIDE + index, length, engine.tokenizer, config.questions,
        config.task.kind)
    case = engine.case(example, plan.capacity(length), config.questions)
    if config.ttt.span + 1 > case.num_tokens:
      raise UserError(
          f'config.ttt.span={config.ttt.span} does not fit a context of {case.num_tokens} tokens;'
          ' lower it')
    cases.append(case)
  return [
      dataclasses.replace(case, other=cases[(index + 1) % count])
      for index, case in enumerate(cases[: config.contexts])]


class _Sampling:
  """Budgets of the contexts of one program: matched one by one, with the same static sizes."""

  def __init__(self, plan: Plan, engine: Engine, cases: list[Case]):
    self._plan = plan
    self._stop_ids = _stop_ids(plan.checkpoint, engine.tokenizer)
    self._forced = engine.encode(plan.config.thinking.forced_stop)
    end = engine.encode('</think>')
    if 'thinking' in plan.config.strategies and len(end) != 1:
      raise UserError(
          "config.strategies: 'thinking' needs a tokenizer with the token </think>, which that of"
          f' {plan.checkpoint} lacks; leave it out')
    self._end = end[0]
    self._by_case = {
        case.example.key: budgets(plan, case.num_tokens, max(map(len, case.prompts)))
        for case in cases}
    most = max(thinking for _, thinking in self._by_case.values())
    most = -(-most // _SIZE_MULTIPLE) * _SIZE_MULTIPLE + len(self._forced)
    self._room = most + plan.config.sampling.max_new_tokens

  def budget(self, case: Case) -> Budget:
    config = self._plan.config
    steps, thinking = self._by_case[case.example.key]
    answer = config.sampling.max_new_tokens
    return Budget(
        ttt=self._plan.ttt(steps),
        answer=SamplingConfig(**config.sampling, stop_ids=self._stop_ids),
        thinking=SamplingConfig(
            max_new_tokens=self._room,
            temperature=config.thinking.temperature,
            top_k=config.thinking.top_k,
            top_p=config.thinking.top_p,
            stop_ids=self._stop_ids,
            # The inserted tokens are charged too, so they are part of M.
            thinking_budget=max(thinking - len(self._forced), 0),
            end_think_id=self._end,
            forced_stop_ids=self._forced,
            max_answer_tokens=answer,
        ),
        mechanism=config.mechanism,
    )


def _stop_ids(checkpoint: pathlib.Path, tokenizer) -> tuple[int, ...]:
  """The ids that end an answer: generation_config.json's and the tokenizer's."""
  ids = set()
  path = checkpoint / 'generation_config.json'
  if path.is_file():
    try:
      eos = json.loads(path.read_text(encoding='utf-8')).get('eos_token_id')
    except ValueError as error:
      raise UserError(f'{path}: not JSON ({error}); restore or delete it') from None
    ids.update(eos if isinstance(eos, list) else [eos])
  ids.add(tokenizer.eos_token_id)
  return tuple(sorted(ids - {None}))


def _sha256(text: str) -> str:
  return hashlib.sha256(text.encode('utf-8')).hexdigest()


def _row(
    plan: Plan, strategy: str, length: int, context: int, question: int,
    case: Case, budget: Budget, result: Result) -> Row:
  """One prediction: lm-evaluation-harness's fields of a sample, then this project's."""
  asked, prediction = case.example.questions[question], result.predictions[question]
  sampling = budget.thinking if prediction.thinking_tokens else budget.answer
  correct = bool(plan.task.score_answer(prediction.answer, asked))
  doc: dict[str, Any] = {
      'key': case.example.key,
      'context_sha256': _sha256(case.example.context),
      'context_head': case.example.context[:_HEAD_CHARACTERS],
      'context_tokens': case.num_tokens,
      'question': asked.text,
      'evidence': list(asked.evidence),
  }
  return {
      'doc_id': context * plan.config.questions + question,
      'doc': doc,
      'target': asked.answer,
      'arguments': [[asked.text, {
          'max_gen_toks': sampling.max_new_tokens, 'temperature': sampling.temperature,
          'top_k': sampling.top_k, 'top_p': sampling.top_p}]],
      'resps': [[prediction.text]],
      'filtered_resps': [prediction.answer],
      'filter': 'none',
      'metrics': ['acc'],
      'doc_hash': _sha256(json.dumps(doc, sort_keys=True)),
      'target_hash': _sha256(asked.answer),
      'acc': float(correct),
      'strategy': strategy,
      'length': length,
      'context': context,
      'question': question,
      'tokens': prediction.tokens,
      'thinking_tokens': prediction.thinking_tokens,
      'budget': {
          'steps': budget.ttt.steps, 'span': budget.ttt.span,
          'thinking_tokens':
              budget.thinking.thinking_budget + len(budget.thinking.forced_stop_ids)},
      'flops': result.cost.flops(question),
      'amortised_flops': result.cost.amortised_flops(question, case.num_questions),
      # Of all questions of the context together: they are answered in one batch.
      'seconds': {name: round(value, 4) for name, value in result.cost.seconds().items()},
      'compiled': result.cost.compiled,
      'evidence_mass': result.evidence_mass[question] if result.evidence_mass else None,
  }


class Progress:
  """A bar on a terminal; elsewhere one line per finished cell."""

  def __init__(self, plan: Plan, stream):
    config = plan.config
    self._config, self._stream = config, stream
    units = config.contexts * len(config.strategies)
    self._bar = tqdm.tqdm(
        # Work grows with the length, so the remaining time is estimated from tokens.
        total=units * sum(config.lengths), file=stream, disable=not stream.isatty(),
        bar_format='{desc:<34.34} {percentage:3.0f}%|{bar}| {elapsed} spent, {remaining} left')

  def start(self, strategy: str, length: int, context: int) -> None:
    self._bar.set_description_str(
        f'{strategy} @ {length}, {context + 1}/{self._config.contexts}')

  def finish(self, strategy: str, length: int, context: int, samples: Samples) -> None:
    self._bar.update(length)
    if not self._bar.disable or context + 1 < self._config.contexts:
      return
    cell = [
        row['acc'] for row in samples.rows.values()
        if (row['strategy'], row['length']) == (strategy, length)]
    print(
        f'{strategy} @ {length}: {sum(cell):.0f} of {len(cell)} right',
        file=self._stream, flush=True)

  def close(self) -> None:
    self._bar.close()
