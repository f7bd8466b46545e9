"""Fast weights and optimizer state on disk, with Orbax: save after any step, resume anywhere."""

import pathlib
from typing import Any

import jax
import orbax.checkpoint as ocp

from tttjax.errors import UserError


def save_fast(directory, fast: Any, opt_state: Any, step: int) -> None:
  """Saves the state of test-time training after `step` steps; returns when it is on disk.

  Older steps in the directory are deleted once the new one is complete. Arrays may be sharded;
  in a multi-process program every process calls this.

  Args:
    directory: made if absent.
    fast: fast weights, Delta float32 [L, D, H, d].
    opt_state: optimizer state of `fast`.
    step: number of steps taken.

  Raises:
    UserError: the directory already holds this step or a later one.
  """
  with _manager(directory, create=True) as manager:
    latest = manager.latest_step()
    if latest is not None and latest >= step:
      raise UserError(
        f"{directory}: already holds step {latest}, so step {step} is not saved;"
        " choose another directory or remove this one"
      )
    manager.save(step, args=ocp.args.StandardSave(_tree(fast, opt_state)))
    manager.wait_until_finished()


def restore_fast(directory, like: tuple[Any, Any]) -> tuple[Any, Any, int]:
  """Restores the latest state saved by `save_fast`.

  Args:
    directory: the directory given to `save_fast`.
    like: (fast, opt_state) of arrays or jax.ShapeDtypeStruct with the expected structure, shapes
      and dtypes; what is restored gets their shardings, whatever the mesh at saving was.

  Returns:
    (fast, opt_state, step): step is the number of steps taken, for `adapt(..., first_step=step)`.

  Raises:
    UserError: nothing is saved there, or it does not fit `like`.
  """
  if not pathlib.Path(directory).is_dir():
    raise UserError(f"{directory}: no such directory; give one that fast weights were saved in")
  with _manager(directory, create=False) as manager:
    step = manager.latest_step()
    if step is None:
      raise UserError(
        f"{directory}: holds no saved fast weights; give a directory that they were saved in"
      )
    target = jax.tree.map(ocp.utils.to_shape_dtype_struct, _tree(*like))
    try:
      state = manager.restore(step, args=ocp.args.StandardRestore(target))
    except (ValueError, KeyError, TypeError, OSError) as error:
      reason = str(error).strip().split("\n")[0]
      raise UserError(
        f"{directory}: step {step} cannot be restored ({reason}); use the model and"
        " the optimizer that it was saved with"
      ) from error
  return state["fast"], state["opt_state"], step


def _manager(directory, create: bool) -> ocp.CheckpointManager:
  # Orbax wants absolute paths.
  options = ocp.CheckpointManagerOptions(max_to_keep=1, create=create)
  return ocp.CheckpointManager(pathlib.Path(directory).absolute(), options=options)


def _tree(fast: Any, opt_state: Any) -> dict[str, Any]:
  return {"fast": fast, "opt_state": opt_state}
