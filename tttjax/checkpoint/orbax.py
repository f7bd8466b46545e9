"""Fast weights and optimizer state on disk, with Orbax: save after any step, resume anywhere."""

import pathlib
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec
import orbax.checkpoint as ocp

from tttjax.checkpoint.sums import check_sums, write_sums
from tttjax.checks import check_arrays, check_number, shown
from tttjax.errors import UserError
from tttjax.files import user_path

# What fast weights may hold; the first they must.
_FAST = ("layers/attention/query/delta", "layers/attention/query_scale")


def save_fast(directory, fast: Any, opt_state: Any, step: int) -> None:
  """Saves the state of test-time training after `step` steps; returns when it is on disk.

  Older steps in the directory are deleted once the new one is complete. Arrays may be sharded;
  in a multi-process program every process calls this.

  Args:
    directory: made if absent; `~` is home.
    fast: fast weights, Delta float32 [L, D, H, d].
    opt_state: optimizer state of `fast`.
    step: number of steps taken.

  Raises:
    UserError: `step` is no number of steps, fast or opt_state no fast weights and optimizer state,
      the directory cannot be made, or it already holds this step or a later one.
  """
  directory = user_path(directory, "directory")
  step = check_number("step", step, 0, whole=True, static=True)
  _check_state(fast, opt_state)
  if any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves((fast, opt_state))):
    raise UserError("fast or opt_state is traced: save what a jitted function returned, outside it")
  try:
    directory.mkdir(parents=True, exist_ok=True)  # Orbax would not end where it cannot.
  except OSError as error:
    raise UserError(
      f"{directory}: cannot be made ({error.strerror}); choose another directory"
    ) from None
  with manager_of(directory, keep=1) as manager:
    latest = manager.latest_step()
    if latest is not None and latest >= step:
      raise UserError(
        f"{directory}: already holds step {latest}, so step {step} is not saved;"
        " choose another directory or remove this one"
      )
    write_state(manager, step, _tree(fast, opt_state))


def restore_fast(directory, like: tuple[Any, Any]) -> tuple[Any, Any, int]:
  """Restores the latest state saved by `save_fast`.

  Args:
    directory: the directory given to `save_fast`.
    like: (fast, opt_state) of arrays or jax.ShapeDtypeStruct with the expected structure, shapes
      and dtypes; what is restored gets their shardings, whatever the mesh at saving was. Scalars,
      such as an optimizer's step counts, are replicated on the mesh of the fast weights.

  Returns:
    (fast, opt_state, step): step is the number of steps taken, for `adapt(..., first_step=step)`.

  Raises:
    UserError: nothing is saved there, it is damaged, or it does not fit `like`.
  """
  directory = user_path(directory, "directory")
  if not isinstance(like, (tuple, list)) or len(like) != 2:
    given = f"{type(like).__name__} of {len(like)}" if isinstance(like, (tuple, list)) else ""
    raise UserError(
      f"like must be the pair (fast, opt_state) of what is expected, not {given or shown(like)}"
    )
  _check_state(*like, of="like's ")
  if not directory.is_dir():
    raise UserError(f"{directory}: no such directory; give one that fast weights were saved in")
  with manager_of(directory, keep=1) as manager:
    step = manager.latest_step()
    if step is None:
      raise UserError(
        f"{directory}: holds no saved fast weights; give a directory that they were saved in"
      )
    try:
      state = read_state(manager, step, _target(*like))
    except Exception as error:  # of a damaged file Orbax raises a bare Exception
      reason = (str(error).strip() or type(error).__name__).split("\n")[0]
      raise UserError(
        f"{directory}: step {step} cannot be restored ({reason}); use the model and the optimizer"
        " that it was saved with, or adapt again if the files are damaged"
      ) from error
  return state["fast"], state["opt_state"], step


def manager_of(directory: pathlib.Path, keep: int) -> ocp.CheckpointManager:
  """Orbax's manager of the newest `keep` states in a directory that exists."""
  return ocp.CheckpointManager(
    directory.absolute(),  # Orbax wants absolute paths.
    options=ocp.CheckpointManagerOptions(max_to_keep=keep, create=False),
    item_handlers=ocp.StandardCheckpointHandler(),
  )


def write_state(manager: ocp.CheckpointManager, step: int, tree: Any) -> None:
  """Saves a tree of arrays and the checksums of its files; returns when it is on disk."""
  manager.save(step, args=ocp.args.StandardSave(tree))
  manager.wait_until_finished()
  if jax.process_index() == 0:
    write_sums(_directory_of(manager, step))


def read_state(manager: ocp.CheckpointManager, step: int, target: Any) -> Any:
  """What `write_state` saved, as `target` has it.

  Raises:
    UserError: a file, a name, a shape or a dtype is another one. Found before anything is read:
      reads that Orbax has begun go on after its own errors, and print their own while the program
      ends.
    Exception: whatever else Orbax finds.
  """
  check_sums(_directory_of(manager, step))
  try:
    stored = {leaf.name: leaf for leaf in jax.tree.leaves(manager.item_metadata(step).tree)}
  except Exception as error:  # of many types, and about Orbax's own parts
    raise UserError("the description of what was saved is missing or damaged") from error
  leaves = jax.tree_util.tree_leaves_with_path(target)
  wanted = {jax.tree_util.keystr(p, simple=True, separator="."): leaf for p, leaf in leaves}
  for name, leaf in wanted.items():
    if name not in stored:
      raise UserError(f"{name} is expected but was not saved")
    shape, dtype = tuple(stored[name].shape), stored[name].dtype
    if shape != leaf.shape:
      raise UserError(f"{name} has shape {shape}, not {leaf.shape}")
    if dtype is not None and dtype != leaf.dtype:
      raise UserError(f"{name} has dtype {dtype}, not {leaf.dtype}")
  for name in stored:
    if name not in wanted:
      raise UserError(f"{name} was saved but is not expected")
  return manager.restore(step, args=ocp.args.StandardRestore(target))


def _directory_of(manager: ocp.CheckpointManager, step: int) -> pathlib.Path:
  return pathlib.Path(manager.directory) / str(step)


def _check_state(fast: Any, opt_state: Any, of: str = "") -> None:
  """Raises UserError unless these are fast weights and an optimizer's state, as far as one sees.

  Orbax saves other things too, and of some it does not end.
  """
  remedy = "give what init_fast or adapt returned"
  check_arrays(f"{of}fast", fast, remedy)
  leaves = jax.tree_util.tree_leaves_with_path(fast)
  names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves]
  for name in names:
    if name not in _FAST:
      raise UserError(f"{of}fast holds {name or 'one array'}, which is no fast weight; {remedy}")
  if _FAST[0] not in names:
    raise UserError(f"{of}fast holds no {_FAST[0]}; {remedy}")
  check_arrays(f"{of}opt_state", opt_state, "give what init_optimizer(fast) or adapt returned")


def _target(fast: Any, opt_state: Any) -> dict[str, Any]:
  """Shape, dtype and sharding of everything that is to be restored."""
  target = jax.tree.map(ocp.utils.to_shape_dtype_struct, _tree(fast, opt_state))
  shardings = [x.sharding for x in jax.tree.leaves(target["fast"])]
  mesh = next((s.mesh for s in shardings if isinstance(s, NamedSharding)), None)
  if mesh is None:
    return target
  # A scalar that was made without the mesh sits on one device: a program would refuse the two.
  whole = NamedSharding(mesh, PartitionSpec())
  place = lambda x: x if x.ndim else jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=whole)
  return jax.tree.map(place, target)


def _tree(fast: Any, opt_state: Any) -> dict[str, Any]:
  return {"fast": fast, "opt_state": opt_state}
