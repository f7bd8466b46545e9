"""Whether a program still listens at an address, as the systems of both machines know it."""

import contextlib
import socket
import threading

_PAUSE_SECONDS = 0.1


def wait_for_end(address: str, seconds: float, over: threading.Event) -> bool:
  """Waits until nobody listens at an address; the system closes a connection of who is gone.

  Args:
    address: host:port.
    seconds: how long nothing may be heard of the other machine.
    over: ends the wait at the latest when a connection ends.

  Returns:
    Whether somebody did listen there, and does no more.
  """
  host, _, port = address.rpartition(":")
  place = host.strip("[]"), int(port)
  did = False
  while not over.wait(_PAUSE_SECONDS):
    try:
      connection = socket.create_connection(place, seconds)
    except OSError:
      return did
    did = True
    with connection, contextlib.suppress(OSError):
      _notice_silence(connection, seconds)
      # A server may hang up on who says nothing, so that it is asked again.
      while connection.recv(4096):
        pass
  return False


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
