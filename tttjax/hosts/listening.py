"""Whether a program still listens at an address, as the systems of both machines know it."""

import contextlib
import socket
import threading

_PAUSE_SECONDS = 0.1


def connect(address: str, seconds: float) -> socket.socket | None:
  """A connection to host:port; None where nobody listens.

  Args:
    seconds: after which it ends where nothing is heard of the other machine.
  """
  host, _, port = address.rpartition(":")
  try:
    connection = socket.create_connection((host.strip("[]"), int(port)), seconds)
  except OSError:
    return None
  _notice_silence(connection, seconds)
  return connection


def wait_for_end(
  connection: socket.socket, address: str, seconds: float, over: threading.Event
) -> bool:
  """Waits until nobody listens any more; the system closes a connection to who is gone.

  Args:
    connection, address, seconds: of `connect`.
    over: ends the wait, at the latest when a connection ends.

  Returns:
    Whether nobody listens; False where the wait was ended.
  """
  while connection is not None:
    with connection, contextlib.suppress(OSError):
      # A server may hang up on who says nothing, so that it is asked again.
      while connection.recv(4096):
        pass
    if over.wait(_PAUSE_SECONDS):
      return False
    connection = connect(address, seconds)
  return True


def _notice_silence(connection: socket.socket, seconds: float) -> None:
  """Waits for the other side end in so many seconds where its machine is gone, and not before."""
  connection.settimeout(None)
  connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
  if hasattr(socket, "TCP_KEEPIDLE"):  # elsewhere they end after hours
    tries = 3
    for option, value in (
      (socket.TCP_KEEPIDLE, seconds / 2),
      (socket.TCP_KEEPINTVL, seconds / 2 / tries),
      (socket.TCP_KEEPCNT, tries),
    ):
      connection.setsockopt(socket.IPPROTO_TCP, option, max(1, int(value)))
