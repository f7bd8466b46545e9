"""JAX's backend and its cache of compiled programs, as the environment asks for them."""

import os

import jax

from tttjax import third_party
from tttjax.errors import UserError

_REASON = 200  # characters of JAX's own


def check() -> None:
  """Starts the backend.

  Raises:
    UserError: JAX has none of the devices that JAX_PLATFORMS names.
  """
  try:
    jax.devices()
  except (RuntimeError, AssertionError) as error:
    wanted = os.environ.get("JAX_PLATFORMS", "")
    reason = " ".join(str(error).split())[:_REASON]
    raise UserError(
      f"JAX_PLATFORMS={wanted}: no such device{f' ({reason})' if reason else ''}; unset it, or"
      " install the accelerator's jax, such as pip install 'jax[cuda13]'"
    ) from None


def use_compilation_cache(wanted: bool = True) -> None:
  """Keeps all compiled programs in the user's cache directory, $TTTJAX_CACHE or ~/.cache/tttjax.

  One that JAX_COMPILATION_CACHE_DIR names stays. Small programs too: a start has dozens of them.

  Args:
    wanted: False compiles everything anew.
  """
  if not wanted:
    jax.config.update("jax_enable_compilation_cache", False)
    return
  if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
    jax.config.update("jax_compilation_cache_dir", str(third_party.cache_folder() / "xla"))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
  jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
