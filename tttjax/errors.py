"""The one exception type for a user's mistake."""


class UserError(ValueError):
  """Bad input: the message names the file or field, what is wrong with it and the remedy.

  `tttjax.main` prints the message without a traceback and exits with code 2.
  """
