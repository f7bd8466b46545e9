"""Questions that are answered in two calls: what was written first becomes part of a new prompt."""

from collections.abc import Sequence
import dataclasses
import itertools

import jax

from tttjax.session import Cost, Output, Phase, Room, Session
from tttjax.strategies.case import Case
from tttjax.tasks import prompt
from tttjax.tasks.example import Example, Question
from tttjax.tasks.prompt_tokens import encode_prompts

_ROUNDED = 64  # tokens of a prompt, so that few programs serve all

Outputs = tuple[tuple[Output, ...], ...]


def concluded(
  session: Session, case: Case, fast, outputs: Outputs, key: jax.Array
) -> tuple[Outputs, Cost]:
  """The outputs, with the answers of a second call where the questions have one.

  It is answered without thinking and without the context, with the same weights as the first.

  Args:
    outputs: of each question of the case.

  Returns:
    (outputs of both calls together, what the second ones cost).
  """
  seconds = [question.second for question in case.example.questions]
  if None in seconds:
    return outputs, Cost()
  number = len(outputs[0])
  messages = [
    second.before + output.answer + second.after
    for second, own in zip(seconds, outputs, strict=True)
    for output in own
  ]
  prompts = _prompts(session.tokenizer, messages)
  shared = _shared(prompts)
  read, reading = session.read(prompts[0][:shared], keep=False)
  rest = [ids[shared:] for ids in prompts]
  width = -(-max(map(len, rest)) // _ROUNDED) * _ROUNDED
  limits = tuple(second.max_new_tokens for second in seconds for _ in range(number))
  sampling = dataclasses.replace(
    case.decoding.answer, max_new_tokens=max(limits), max_answer_tokens=limits
  )
  room = Room(1 << (len(rest) - 1).bit_length(), width)
  written, writing = session.generate(read, fast, rest, sampling, key, room=room)
  joined = iter(map(_joined, itertools.chain(*outputs), (own for (own,) in written)))
  both = tuple(tuple(itertools.islice(joined, number)) for _ in outputs)
  return both, _of_questions(reading + writing, len(outputs), number)


def _joined(first: Output, second: Output) -> Output:
  """Both texts, and the answer and ending of the second."""
  return Output(
    ids=first.ids + second.ids,
    text=f"{first.text}\n\n{second.text}",
    answer=second.answer,
    thinking_tokens=first.thinking_tokens,
    ending=dataclasses.replace(first.ending, answer=second.ending.answer),
    generated=first.generated + second.generated,
  )


def _prompts(tokenizer, messages: Sequence[str]) -> list[tuple[int, ...]]:
  """Token ids of each message under the chat template."""
  made = []
  for message in messages:
    rendered = prompt.render(tokenizer, "", message)
    question = Question(rendered.text, rendered.thinking_text, (), (), 1, asked=rendered.asked)
    example = Example(rendered.context, (question,), 0, (), "", header=rendered.header)
    encoded = encode_prompts(tokenizer, example)
    made.append((*encoded.context.tolist(), *encoded.prompts[0]))
  return made


def _shared(prompts: Sequence[tuple[int, ...]]) -> int:
  """How many first tokens are read once for all: one at least, and a rest of one at least."""
  most = min(map(len, prompts)) - 1
  return max(next((i for i in range(most) if len({p[i] for p in prompts}) > 1), most), 1)


def _of_questions(cost: Cost, questions: int, outputs: int) -> Cost:
  """The cost of all outputs as one phase of generating, by question."""
  each = [cost.flops(i) for i in range(questions * outputs)]
  own = tuple(sum(each[i * outputs : (i + 1) * outputs]) for i in range(questions))
  return Cost((Phase("generate", sum(cost.seconds().values()), cost.compiled, 0, own),))
