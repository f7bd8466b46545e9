"""Fetches a wheel by its package's name and keeps files of it, as they are, in a local cache.

pip downloads the one file of the manifest (a wheel, so that nothing is built); its checksum is
compared before it is opened. Nothing that was fetched is ever imported or run.
"""

import hashlib
import importlib.metadata
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile

from tttjax.errors import UserError
from tttjax.files import user_path
from tttjax.third_party.manifest import Manifest

_MAX_FILE_BYTES = 10_000_000  # of one Python file; more is no source code


def cache_folder() -> pathlib.Path:
  """$TTTJAX_CACHE, or ~/.cache/tttjax."""
  return user_path(os.environ.get("TTTJAX_CACHE") or "~/.cache/tttjax", "TTTJAX_CACHE")


def location(manifest: Manifest) -> pathlib.Path:
  """Where the files of this very version are kept; the folder exists once it has been fetched."""
  folder = f"{manifest.name}-{manifest.version}-{manifest.sha256[:12]}"
  return cache_folder() / "third_party" / folder


def find_file(manifest: Manifest, member: str) -> pathlib.Path | None:
  """A kept file: of the installed package, which is not imported, else of the cache; or None."""
  folders = [location(manifest)]
  try:
    folders.insert(0, importlib.metadata.distribution(manifest.package).locate_file(""))
  except importlib.metadata.PackageNotFoundError:
    pass
  found = (pathlib.Path(folder) / member for folder in folders)
  return next((path for path in found if path.is_file()), None)


def fetch(manifest: Manifest) -> pathlib.Path:
  """Downloads, checks and unpacks; does nothing where that was done before.

  Returns:
    The folder of the files that are kept.

  Raises:
    UserError: pip fails, or the file is not the one of the manifest.
  """
  target = location(manifest)
  if target.is_dir():
    return target
  target.parent.mkdir(parents=True, exist_ok=True)
  # Beside the target, so that the last step is one rename: a folder with that name is complete.
  with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetch-") as temporary:
    folder = pathlib.Path(temporary)
    wheel = _download(manifest, folder / "download")
    _check(wheel, manifest)
    _unpack(wheel, manifest, folder / "files")
    try:
      (folder / "files").rename(target)
    except OSError:
      if not target.is_dir():  # Otherwise another process was faster with the same files.
        raise
  return target


def _download(manifest: Manifest, folder: pathlib.Path) -> pathlib.Path:
  """The downloaded wheel."""
  command = [
    sys.executable,
    "-m",
    "pip",
    "download",
    "--quiet",
    "--no-deps",
    "--only-binary=:all:",
    "--disable-pip-version-check",
    f"--dest={folder}",
    f"{manifest.package}=={manifest.version}",
  ]
  done = subprocess.run(command, capture_output=True, text=True, check=False)
  if done.returncode:
    reason = (done.stderr.strip() or "no message").splitlines()[-1]
    raise UserError(f"pip could not download {manifest.package}=={manifest.version}: {reason}")
  wheel = folder / manifest.file
  if not wheel.is_file():
    found = ", ".join(sorted(path.name for path in folder.iterdir()))
    raise UserError(
      f"pip downloaded {found} instead of {manifest.file}, the file that "
      f"third_party/{manifest.name}.json names"
    )
  return wheel


def _check(wheel: pathlib.Path, manifest: Manifest):
  with wheel.open("rb") as file:
    digest = hashlib.file_digest(file, "sha256").hexdigest()
  if digest != manifest.sha256:
    raise UserError(
      f"{manifest.file} has SHA-256 {digest}, third_party/{manifest.name}.json says "
      f"{manifest.sha256}: it was not unpacked"
    )


def _unpack(wheel: pathlib.Path, manifest: Manifest, target: pathlib.Path):
  """Copies what the manifest names; a member that would leave `target` is refused."""
  target.mkdir()
  root = target.resolve()
  try:
    with zipfile.ZipFile(wheel) as archive:
      for member in archive.infolist():
        name = member.filename
        source = name.split("/")[0] in manifest.folders and name.endswith(".py")
        if not source and name not in manifest.files:
          continue
        path = (root / name).resolve()
        if not path.is_relative_to(root) or "\\" in name:
          raise UserError(f"{wheel.name}: the member {name!r} leaves the folder")
        if source and member.file_size > _MAX_FILE_BYTES:
          raise UserError(f"{wheel.name}: {name} has {member.file_size} bytes")
        path.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(member) as packed, path.open("wb") as file:
          shutil.copyfileobj(packed, file)  # Contents only: no modes, no links.
  except zipfile.BadZipFile as error:
    raise UserError(f"{wheel.name}: {error}") from None
  if manifest.folders and not any(root.rglob("*.py")):
    raise UserError(f"{wheel.name} has no Python files in {', '.join(manifest.folders)}")
  for member in manifest.files:
    if not (root / member).is_file():
      raise UserError(f"{wheel.name} has no file {member}")
