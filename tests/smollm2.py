"""The file of the model smollm2, where it is."""

import pathlib

import pytest

from tttjax import third_party


def find() -> pathlib.Path | None:
  manifest = third_party.load_manifest("smollm2")
  (member,) = manifest.files
  return third_party.find_file(manifest, member)


def skip_without() -> pathlib.Path:
  """The file; skips the test where it is absent."""
  path = find()
  if path is None:
    command = third_party.load_manifest("smollm2").command
    pytest.skip(f"needs the 98 MB of SmolLM2: {command}")
  return path
