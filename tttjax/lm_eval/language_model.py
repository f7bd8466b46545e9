"""The model `tttjax` as lm-evaluation-harness calls it; numbers mean what those of `hf` mean."""

from collections import Counter
from collections.abc import Iterator, Sequence
import dataclasses
import functools
import itertools
import sys
from typing import Any

import jax
import jinja2
from lm_eval import utils as harness
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model
from lm_eval.models.utils import (
  Collator,
  handle_stop_sequences,
  has_bos_prefix,
  maybe_truncate,
  normalize_gen_kwargs,
  postprocess_generated_text,
)
import numpy as np
from tqdm import tqdm

from tttjax import spec
from tttjax.decode.sampling_config import SamplingConfig
from tttjax.errors import UserError
from tttjax.lm_eval import model_arguments
from tttjax.lm_eval.adapted_contexts import Adapted, AdaptedContexts
from tttjax.session import Output, Room, Session
from tttjax.strategies import STRATEGIES
from tttjax.strategies.adapting import Adapting
from tttjax.strategies.model_decoding import end_marker
from tttjax.tasks.thinking_format import has_section

# Contexts up to this many tokens are read with their questions, many in one batch, where nothing
# adapts to them.
_SHORT = 128
_SAMPLING = ("temperature", "top_k", "top_p", "min_p")

Ids = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class _Scored:
  """A request for a log-likelihood.

  Attributes:
    context: tokens that are read and adapted to.
    row, targets: the tokens after them, and of each the one that follows.
    number: targets at the end that are the continuation.
    texts: as the harness caches it; None of a part of a text.
  """

  context: Ids
  row: Ids
  targets: Ids
  number: int
  texts: tuple[str, str] | None


@dataclasses.dataclass(frozen=True)
class _Written:
  """A request for a text.

  Attributes:
    context: tokens that are read and adapted to.
    row: those after them.
    until: stop strings.
    sampling: how it is decoded.
    request: as the harness caches it.
  """

  context: Ids
  row: Ids
  until: tuple[str, ...]
  sampling: SamplingConfig
  request: tuple[str, dict]


@register_model("tttjax")
class TTTJaxLM(TemplateLM):
  """A checkpoint that adapts to each context at test time before it scores or writes.

  Requests with one context share its prefill and its adaptation.
  """

  def __init__(self, pretrained: str | None = None, **arguments):
    """See docs/lm_eval.md; raises UserError where an argument is wrong."""
    super().__init__()
    self.arguments = model_arguments.parsed(pretrained, **arguments)
    own = self.arguments
    self.session = Session.open(own.checkpoint, own.mesh, own.dtype)
    self.tokenizer = self.session.tokenizer
    self._contexts = AdaptedContexts(self.session, own.strategy, own.ttt, jax.random.key(own.seed))
    adapts = isinstance(own.strategy, Adapting) and own.ttt.steps > 0
    self._shortest = own.ttt.span if adapts else _SHORT

  @property
  def eot_token_id(self) -> int:
    return self.tokenizer.eos_token_id

  @property
  def prefix_token_id(self) -> int:
    own = self.arguments.prefix_token_id, self.tokenizer.bos_token_id
    return next((token for token in own if token is not None), self.eot_token_id)

  @property
  def max_length(self) -> int:
    return self.arguments.max_length

  @property
  def max_gen_toks(self) -> int:
    return self.arguments.max_gen_toks

  @property
  def batch_size(self) -> int:
    return self.arguments.rows

  @property
  def tokenizer_name(self) -> str:
    return str(self.tokenizer.name_or_path or self.arguments.checkpoint.path).replace("/", "__")

  def get_model_info(self) -> dict[str, Any]:
    """What the harness's results say about the model."""
    own = self.arguments
    info = {
      "model_num_parameters": sum(leaf.size for leaf in jax.tree.leaves(self.session.params)),
      "model_dtype": str(np.dtype(self.session.model.dtype)),
      "model_sha": own.checkpoint.fingerprint,
      "tttjax_strategy": spec.canonical(own.strategy, STRATEGIES),
    }
    if isinstance(own.strategy, Adapting):
      info["tttjax_ttt"] = dataclasses.asdict(own.ttt)
    return info

  def apply_chat_template(
    self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
  ) -> str:
    """The conversation as one text; without its system message where the template takes none."""
    render = functools.partial(
      self.tokenizer.apply_chat_template,
      tokenize=False,
      add_generation_prompt=add_generation_prompt,
      continue_final_message=not add_generation_prompt,
      **self.arguments.template,
    )
    if not self.tokenizer.chat_template:
      raise UserError(
        "the checkpoint has no chat template; leave --apply_chat_template out, or add one to its"
        " tokenizer_config.json"
      )
    try:
      return render(chat_history)
    except jinja2.exceptions.TemplateError:
      return render([message for message in chat_history if message["role"] != "system"])

  def tok_encode(self, string: str, add_special_tokens: bool | None = None, **unused) -> list[int]:
    return self._encoded(string, add_special_tokens)[0]

  def _encoded(self, text: str, special: bool | None = None) -> tuple[list[int], list[int]]:
    """(ids, where each of them ends in the text, in characters)."""
    if special is None:
      special = self.arguments.add_bos_token
      if has_bos_prefix(text, self.tokenizer.decode([self.prefix_token_id])):
        special = False
    given = {} if special is None else {"add_special_tokens": special}
    encoded = self.tokenizer(text, return_offsets_mapping=True, verbose=False, **given)
    return encoded["input_ids"], [end for _, end in encoded["offset_mapping"]]

  def _context_tokens(self, text: str, dropped: int, most: int) -> int:
    """Tokens of a request that are its context.

    Args:
      dropped: tokens cut off at its start.
      most: that leave something to predict from.
    """
    _, ends = self._encoded(text)
    number = min(self.arguments.split.tokens(text, ends) - dropped, most)
    return number if number > self._shortest else 0

  def loglikelihood(self, requests, disable_tqdm: bool = False) -> list[tuple[float, bool]]:
    if self.arguments.thinks:
      raise UserError(
        "enable_thinking and thinking_budget are for tasks that write: a log-likelihood has no"
        " thoughts; leave them out"
      )
    return super().loglikelihood(requests, disable_tqdm=disable_tqdm)

  def _loglikelihood_tokens(
    self, requests, disable_tqdm: bool = False, **unused
  ) -> list[tuple[float, bool]]:
    items = [self._scored(*request) for request in requests]
    results = []

    def compute(adapted: Adapted, batch: Sequence[_Scored], key: jax.Array) -> None:
      rows, targets = [item.row for item in batch], [item.targets for item in batch]
      scored, _ = self.session.score_targets(
        adapted.read, adapted.fast, rows, targets, self._room(len(batch))
      )
      for item, (logprobs, likeliest) in zip(batch, scored, strict=True):
        own = slice(len(item.row) - item.number, None)
        answer = float(logprobs[own].sum(dtype=np.float64)), bool(likeliest[own].all())
        results.append(answer)
        if item.texts is not None:
          self.cache_hook.add_partial("loglikelihood", item.texts, answer)

    order = Collator(items, sort_fn=_sorted_by)
    self._by_context(order, len(items), compute, "log-likelihoods", disable_tqdm)
    return order.get_original(results)

  def _scored(self, texts, context: Sequence[int], continuation: Sequence[int]) -> _Scored:
    context = list(context) or [self.prefix_token_id]
    if len(continuation) > self.max_length:
      raise UserError(
        f"max_length={self.max_length} is less than the {len(continuation)} tokens of a"
        " continuation; raise it"
      )
    whole = [*context, *continuation]
    kept = whole[-(self.max_length + 1) :]
    cut = 0
    if texts is not None and texts[0]:
      # The harness moves spaces at the context's end into the continuation.
      dropped, most = len(whole) - len(kept), len(kept) - len(continuation) - 1
      cut = self._context_tokens(texts[0].rstrip(), dropped, most)
    row, targets = tuple(kept[cut:-1]), tuple(kept[cut + 1 :])
    return _Scored(tuple(kept[:cut]), row, targets, len(continuation), texts)

  def loglikelihood_rolling(self, requests, disable_tqdm: bool = False) -> list[float]:
    windows, numbers = [], []
    for (text,) in (request.args for request in requests):
      parts = harness.get_rolling_token_windows(
        token_list=self.tok_encode(text),
        prefix_token=self.prefix_token_id,
        max_seq_len=self.max_length,
        context_len=1,
      )
      own = [(None, *harness.make_disjoint_window(part)) for part in parts]
      windows.extend(own)
      numbers.append(len(own))
    scores = iter(self._loglikelihood_tokens(windows, disable_tqdm=disable_tqdm))
    totals = [sum(score for score, _ in itertools.islice(scores, number)) for number in numbers]
    for request, total in zip(requests, totals, strict=True):
      self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
    return totals

  def generate_until(self, requests, disable_tqdm: bool = False) -> list[str]:
    items = [self._written(*request.args) for request in requests]
    results = []

    def compute(adapted: Adapted, batch: Sequence[_Written], key: jax.Array) -> None:
      until, sampling = batch[0].until, batch[0].sampling
      outputs, _ = self.session.generate(
        adapted.read,
        adapted.fast,
        [item.row for item in batch],
        sampling,
        key,
        room=self._room(len(batch)),
        stop_texts=tuple(filter(None, until)),
      )
      for item, (output,) in zip(batch, outputs, strict=True):
        text = self._answer(output, list(until))
        results.append(text)
        self.cache_hook.add_partial("generate_until", item.request, text)

    order = Collator(
      items, sort_fn=_sorted_by, group_by="gen_kwargs", group_fn=lambda item: item.request[1]
    )
    self._by_context(order, len(items), compute, "texts", disable_tqdm)
    return order.get_original(results)

  def _written(self, text: str, generation: dict) -> _Written:
    given = normalize_gen_kwargs(generation, self.max_gen_toks)
    eos = self.tokenizer.decode([self.eot_token_id], skip_special_tokens=False)
    until = tuple(handle_stop_sequences(given.pop("until"), eos=eos))
    answer = given.pop("max_gen_toks")
    sampling = self._sampling(given, until, answer)
    prompt = text + self._opening(text)
    ids, _ = self._encoded(prompt)
    if sampling.max_new_tokens >= self.max_length:
      raise UserError(
        f"max_length={self.max_length} leaves no room for a prompt before"
        f" {sampling.max_new_tokens} new tokens; lower max_gen_toks or thinking_budget"
      )
    kept, _ = maybe_truncate(ids, sampling.max_new_tokens, self.max_length, side="left")
    cut = self._context_tokens(prompt, len(ids) - len(kept), len(kept) - 1)
    kept = kept or [self.prefix_token_id]
    return _Written(tuple(kept[:cut]), tuple(kept[cut:]), until, sampling, (text, generation))

  def _sampling(self, given: dict, until: Sequence[str], answer: int) -> SamplingConfig:
    """Decoding by the harness's generation arguments, with thoughts first where they have room."""
    samples = given.pop("do_sample", False)
    chosen = {name: given.pop(name) for name in _SAMPLING if name in given}
    if not samples:
      chosen = {}
    if given.pop("num_beams", 1) != 1:
      raise UserError("generation_kwargs: num_beams must be 1 here; leave it out")
    for name in given:
      raise UserError(
        f"generation_kwargs: {name} is not implemented here; leave it out, there are until,"
        f" max_gen_toks, do_sample, {', '.join(_SAMPLING)}"
      )
    added = self.tokenizer.get_added_vocab()
    stops = (*self.session.stop_ids, *(added[text] for text in until if text in added))
    chosen |= {"stop_ids": tuple(dict.fromkeys(stops)), "max_new_tokens": answer}
    budget = self.arguments.thinking_budget
    if budget is not None:
      forced = self.session.encode(self.arguments.format.forced_stop)
      chosen |= {
        "thinking_budget": budget,
        "end_think": end_marker(self.arguments.checkpoint, self.arguments.format.end),
        "forced_stop_ids": forced,
        "max_answer_tokens": answer,
        "max_new_tokens": budget + len(forced) + answer,
      }
    try:
      return SamplingConfig(**chosen)
    except UserError as error:
      text = str(error).replace("SamplingConfig.", "")
      raise UserError(f"generation_kwargs: {text}") from None

  def _opening(self, text: str) -> str:
    """What a prompt lacks for a thought with a budget to begin."""
    if self.arguments.thinking_budget is None:
      return ""
    if not has_section(self.tokenizer):
      return self.arguments.format.opener
    return "" if text.rstrip().endswith("<think>") else "<think>\n"

  def _answer(self, output: Output, until: list[str]) -> str:
    """What counts of an output: without thoughts, up to the first stop string."""
    end = self.arguments.think_end
    if self.arguments.thinking_budget is not None:
      return postprocess_generated_text(output.answer, until, None)
    if isinstance(end, int) and end in output.ids:
      last = len(output.ids) - output.ids[::-1].index(end)
      text = self.tokenizer.decode(output.ids[last:], skip_special_tokens=True).lstrip()
      return postprocess_generated_text(text, until, None)
    text = output.text.lstrip() if isinstance(end, int) else output.text
    return postprocess_generated_text(text, until, end if isinstance(end, str) else None)

  def _room(self, rows: int) -> Room:
    """A power of two of rows, so that few programs serve all batches."""
    return Room(prompts=min(1 << (rows - 1).bit_length(), self.batch_size))

  def _by_context(self, order: Collator, number: int, compute, what: str, quiet: bool) -> None:
    """Calls `compute` for batches of requests with one context, which is made ready once."""
    missed: Counter[str] = Counter()
    with tqdm(total=number, disable=quiet, desc=f"tttjax: {what}") as bar:
      for context, requests in _contexts(order):
        for begin in range(0, len(requests), self.batch_size):
          batch = requests[begin : begin + self.batch_size]
          key = jax.random.fold_in(self._contexts.key(context), begin + 1)
          compute(self._contexts.of(context), batch, key)  # no name keeps it beside the next one
          bar.update(len(batch))
        if reason := self._contexts.of(context).reason:
          missed[reason] += len(requests)
    for reason, count in missed.items():
      text = f"tttjax: {count} of {number} requests are answered without adaptation: {reason}"
      print(text, file=sys.stderr)


def _sorted_by(item: _Scored | _Written):
  """Long contexts first, requests with one context together."""
  return -len(item.context), item.context, -len(item.row)


def _contexts(order: Collator) -> Iterator[tuple[Ids, list]]:
  """Every context with its requests; requests of other generation arguments stand apart."""
  for chunk in order.get_batched(n=0):
    for context, group in itertools.groupby(chunk, key=lambda item: item.context):
      yield context, list(group)
