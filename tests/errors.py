"""The check of a user's mistake: one line that names what is wrong."""

import contextlib

import pytest

from tttjax.errors import UserError


@contextlib.contextmanager
def user_error(*words):
  """Expects a UserError whose message is one line that contains all `words`."""
  with pytest.raises(UserError) as error:
    yield error
  message = str(error.value)
  assert "\n" not in message
  for word in words:
    assert str(word) in message, message
