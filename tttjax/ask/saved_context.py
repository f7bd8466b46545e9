"""An adapted context on disk: fast weights, the context's ids, and if asked for its cache."""

import dataclasses
import hashlib
import pathlib
import tempfile
from typing import Any

from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError
from safetensors.flax import load_file, save_file

from tttjax.ask.conversation import Conversation
from tttjax.ask.streaming_session import StreamingSession
from tttjax.attention.caches import PrefixCache
from tttjax.checkpoint import Checkpoint
from tttjax.errors import UserError
from tttjax.files import read_json, replacing, write_json
from tttjax.session import Adaptation, Cost, ReadContext
from tttjax.sharding import axis_size
from tttjax.strategies.adapting import Adapting
from tttjax.strategies.strategy import Strategy
from tttjax.ttt.hyperparameters import TTTConfig

_CACHE_ARRAYS = "keys", "values", "positions", "lengths"
_STATE, _FAST, _CACHE = "context.json", "fast.safetensors", "cache.safetensors"
_FIELDS = ("model", "tokenizer", "context", "strategy", "ttt", "seed", "loss", "start")


def cache_bytes(conversation: Conversation) -> int:
  """Of the cache of the context that was read."""
  return sum(x.nbytes for x in jax.tree.leaves(_read(conversation).cache))


def check_target(directory: pathlib.Path, strategy: Strategy, steps: int, with_cache: bool) -> None:
  """Raises UserError where nothing could be saved there, before anything is computed.

  Args:
    steps: that the strategy takes where it does not say so itself.
    with_cache: the cache is to be saved too.
  """
  if not isinstance(strategy, Adapting):
    raise UserError(f"--save: {strategy.name} leaves nothing to save; take a strategy that adapts")
  if 0 in (strategy.steps, steps):
    raise UserError("--save: without steps there is nothing to save")
  if with_cache and not strategy.rope:
    raise UserError("--save_cache: a cache without RoPE is not taken up again; leave it out")
  place = f"--save={directory}"
  if (directory / _STATE).exists():
    raise UserError(f"{place}: holds a saved context; remove it, or choose another directory")
  if directory.exists() and not directory.is_dir():
    raise UserError(f"{place}: is a file; give a directory")
  if directory.exists() and any(directory.iterdir()):
    raise UserError(f"{place}: something else is in it; choose another directory")
  parent = next(one for one in (directory, *directory.absolute().parents) if one.exists())
  try:
    with tempfile.TemporaryFile(dir=parent):
      pass
  except OSError as error:
    raise UserError(
      f"{place}: {parent} cannot be written to ({error.strerror}); choose another directory"
    ) from None


def save_context(
  directory: pathlib.Path, conversation: Conversation, strategy: str, with_cache: bool
) -> None:
  """Writes what answers questions without adapting again, and with the cache without reading.

  Raises:
    UserError: no finite weights were found.
  """
  session = conversation.session
  if session.adapted is None or session.adapted[1][0] is None:
    raise UserError(f"--save: {strategy} left nothing to save: no step was finite")
  fast, adaptation, _ = session.adapted[1]
  ids = conversation.context
  flat = traverse_util.flatten_dict(fast, sep="/")
  _write(directory / _FAST, {**flat, "context_ids": jnp.asarray(ids)})
  if with_cache:
    _write(directory / _CACHE, _arrays(_read(conversation).cache))
  else:
    (directory / _CACHE).unlink(missing_ok=True)
  state = {
    **hashes(conversation.checkpoint),
    "context": _hash(ids.tobytes()),
    "strategy": strategy,
    "ttt": dataclasses.asdict(conversation.settings.ttt),
    "seed": conversation.settings.seed,
    "loss": list(adaptation.loss),
    "start": list(adaptation.start),
  }
  write_json(directory / _STATE, state)


def hashes(checkpoint: Checkpoint) -> dict[str, str]:
  """What a saved context belongs to."""
  tokenizer = checkpoint.tokenizer
  text = tokenizer.backend_tokenizer.to_str() + str(tokenizer.chat_template)
  return {"model": checkpoint.fingerprint, "tokenizer": _hash(text.encode("utf-8"))}


@dataclasses.dataclass(frozen=True)
class Saved:
  """A context that was saved, checked against the model.

  Attributes:
    ids: int32 [T].
    fast: fast weights.
    cache: None where it was not saved.
    strategy: that adapted, a spec.
    ttt: that it trained with.
    adaptation: how it went.
  """

  ids: np.ndarray
  fast: dict[str, Any]
  cache: PrefixCache | None
  strategy: str
  ttt: TTTConfig
  adaptation: Adaptation

  def put_into(self, session: StreamingSession, capacity: int) -> None:
    """Lets the session answer with it."""
    session.adapted = None, (self.fast, self.adaptation, Cost())
    if self.cache is not None:
      cache = self.cache.dealt(axis_size(session.model.mesh, "context"))
      session.keep(ReadContext(session.model, cache, self.ids[None]), capacity)


def load_context(directory: pathlib.Path, checkpoint: Checkpoint, ids: np.ndarray | None) -> Saved:
  """Reads a saved context.

  Args:
    directory: given to `save_context`.
    checkpoint: of the model that is to answer.
    ids: of the context that was given too; None where none was.

  Raises:
    UserError: there is none, it is damaged, or model, tokenizer or context are others.
  """
  try:
    state = read_json(directory / _STATE)
  except UserError as error:
    raise UserError(f"--load: {error}") from None
  if missing := [name for name in _FIELDS if name not in state]:
    raise UserError(f"{directory / _STATE}: has no field {missing[0]!r}; save the context again")
  for name, value in hashes(checkpoint).items():
    if state[name] != value:
      raise UserError(
        f"--load={directory}: was saved with another {name} (hash {str(state[name])[:16]}, here"
        f" {value[:16]}); give the same --model, or adapt again"
      )
  if ids is not None and state["context"] != _hash(ids.tobytes()):
    raise UserError(
      f"--load={directory}: was saved for another context; leave --context out, or adapt again"
    )
  flat = _tensors(directory / _FAST)
  own = np.asarray(flat.pop("context_ids", np.zeros(0)), np.int32)
  if _hash(own.tobytes()) != state["context"]:
    raise UserError(f"{directory / _FAST}: does not fit {_STATE}; save the context again")
  cache = None
  if (directory / _CACHE).exists():
    arrays = _tensors(directory / _CACHE)
    if set(arrays) != set(_CACHE_ARRAYS):
      raise UserError(f"{directory / _CACHE}: is no cache; save the context again")
    cache = PrefixCache(**arrays)
  try:
    ttt = TTTConfig(**state["ttt"])
  except (TypeError, UserError) as error:
    raise UserError(f"{directory / _STATE}: field 'ttt': {error}; save the context again") from None
  return Saved(
    own,
    traverse_util.unflatten_dict(flat, sep="/"),
    cache,
    state["strategy"],
    ttt,
    Adaptation(tuple(state["loss"]), tuple(state["start"])),
  )


def _arrays(cache: PrefixCache) -> dict[str, jax.Array]:
  """In the order of the slots, for any mesh."""
  return {name: getattr(cache.dealt(1), name) for name in _CACHE_ARRAYS}


def _read(conversation: Conversation) -> ReadContext:
  """The context as the session keeps it."""
  tokens = conversation.context[None]
  return conversation.session.read(tokens, conversation.capacity)[0]


def _write(path: pathlib.Path, tensors: dict[str, jax.Array]) -> None:
  with replacing(path) as temporary:
    save_file(tensors, temporary)
    temporary.chmod(0o644)  # the library's files are private


def _tensors(path: pathlib.Path) -> dict[str, jax.Array]:
  try:
    return load_file(path)
  except (SafetensorError, OSError) as error:
    raise UserError(f"{path}: cannot be read ({error}); save the context again") from None


def _hash(data: bytes) -> str:
  return hashlib.sha256(data).hexdigest()
