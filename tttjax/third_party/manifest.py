"""Manifests: one JSON file of this folder for each outside source."""

from collections.abc import Mapping
import dataclasses
import json
import pathlib
import re

from tttjax.errors import UserError

MANIFESTS = pathlib.Path(__file__).resolve().parent


@dataclasses.dataclass(frozen=True)
class Manifest:
  """What an outside source is and how it is had.

  Attributes:
    name: of the manifest, its file's name without `.json`.
    what: one line for people.
    source: registry that serves it, for people.
    package, version: what pip is asked for.
    file: name of the wheel, a zip file.
    sha256: checksum of that file, hexadecimal.
    licence: SPDX identifier.
    folders: top folders of the wheel whose Python files are kept.
    files: other files of the wheel that are kept: path in it, SHA-256 of the file.
    command: the command that fetches it.
  """

  name: str
  what: str
  source: str
  package: str
  version: str
  file: str
  sha256: str
  licence: str
  folders: tuple[str, ...]
  command: str
  files: Mapping[str, str] = dataclasses.field(default_factory=dict)


def manifest_names(folder: pathlib.Path = MANIFESTS) -> list[str]:
  """Names of all manifests, sorted."""
  return sorted(path.stem for path in folder.glob("*.json"))


def load_manifest(name: str, folder: pathlib.Path = MANIFESTS) -> Manifest:
  """Reads one manifest.

  Raises:
    UserError: no such manifest, or a field is missing, unknown or of a wrong form.
  """
  path = folder / f"{name}.json"
  if name not in manifest_names(folder):
    known = ", ".join(manifest_names(folder)) or "none"
    raise UserError(f"no manifest {name!r} in {folder}: it has {known}")
  try:
    values = json.loads(path.read_text(encoding="utf-8"))
    manifest = Manifest(name=name, **{**values, "folders": tuple(values["folders"])})
  except (ValueError, KeyError, TypeError) as error:
    raise UserError(
      f"{path}: not a manifest ({type(error).__name__}: {error}); "
      "third_party/README.md lists its fields"
    ) from None
  checks = {
    "package": r"[A-Za-z0-9][\w.-]*",
    "version": r"[0-9][\w.+!]*",
    "sha256": r"[0-9a-f]{64}",
    "file": r"[\w.+-]+\.whl",
  }
  for field, form in checks.items():
    if not re.fullmatch(form, getattr(manifest, field)):
      raise UserError(f"{path}: {field}={getattr(manifest, field)!r} has the wrong form")
  for member, digest in manifest.files.items():
    if not re.fullmatch(checks["sha256"], digest):
      raise UserError(f"{path}: files[{member!r}]={digest!r} has the wrong form")
  return manifest
