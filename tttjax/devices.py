"""JAX's backend and its cache of compiled programs, as the environment asks for them."""

import os

import jax

from tttjax import files
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


def use_compilation_cache() -> None:
  """Compiled programs are kept in $TTTJAX_CACHE, and nowhere without that variable."""
  if directory := os.environ.get("TTTJAX_CACHE"):
    path = files.user_path(directory, "TTTJAX_CACHE") / "xla"
    jax.config.update("jax_compilation_cache_dir", str(path))
