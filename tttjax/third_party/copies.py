"""Manifests of files that the user copies: one JSON file of the folder `copies` for each source."""

from collections.abc import Mapping
import dataclasses
import json
import pathlib

COPIES = pathlib.Path(__file__).resolve().parent / "copies"


@dataclasses.dataclass(frozen=True)
class Copy:
  """Files of an outside source that cannot be fetched by a package's name.

  Attributes:
    what: one line for people.
    source, version: where they come from.
    licence: SPDX identifier.
    files: SHA-256 by name.
    how: how to get them, in words.
  """

  what: str
  source: str
  version: str
  licence: str
  files: Mapping[str, str]
  how: str


def copy_names() -> list[str]:
  """Names of all such manifests, sorted."""
  return sorted(path.stem for path in COPIES.glob("*.json"))


def load_copy(name: str) -> Copy:
  """The manifest of a name."""
  return Copy(**json.loads((COPIES / f"{name}.json").read_text(encoding="utf-8")))
