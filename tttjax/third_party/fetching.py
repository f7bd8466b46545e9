"""Fetches a wheel by its package's name and keeps its Python files, as text, in a local cache.

pip downloads the one file of the manifest (a wheel, so that nothing is built); its checksum is
compared before it is opened. Nothing that was fetched is ever imported or run.
"""

import hashlib
import os
import pathlib
import subprocess
import sys
import tempfile
import zipfile

from tttjax.errors import UserError
from tttjax.third_party.manifest import Manifest

_MAX_FILE_BYTES = 10_000_000  # of one Python file; more is no source code


def cache_folder() -> pathlib.Path:
  """$TTTJAX_CACHE, or ~/.cache/tttjax."""
  return pathlib.Path(os.environ.get("TTTJAX_CACHE") or "~/.cache/tttjax").expanduser()


def location(manifest: Manifest) -> pathlib.Path:
  """Where the files of this very version are kept; the folder exists once it has been fetched."""
  folder = f"{manifest.name}-{manifest.version}-{manifest.sha256[:12]}"
  return cache_folder() / "third_party" / folder


def fetch(manifest: Manifest) -> pathlib.Path:
  """Downloads, checks and unpacks; does nothing where that was done before.

  Returns:
    The folder of the Python files.

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
    _unpack(wheel, manifest.folders, folder / "files")
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


def _unpack(wheel: pathlib.Path, folders: tuple[str, ...], target: pathlib.Path):
  """Copies the Python files of `folders`; a member that would leave `target` is refused."""
  target.mkdir()
  root = target.resolve()
  try:
    with zipfile.ZipFile(wheel) as archive:
      for member in archive.infolist():
        parts = member.filename.split("/")
        if parts[0] not in folders or not member.filename.endswith(".py"):
          continue
        path = (root / member.filename).resolve()
        if not path.is_relative_to(root) or "\\" in member.filename:
          raise UserError(f"{wheel.name}: the member {member.filename!r} leaves the folder")
        if member.file_size > _MAX_FILE_BYTES:
          raise UserError(f"{wheel.name}: {member.filename} has {member.file_size} bytes")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(archive.read(member))  # Contents only: no modes, no links.
  except zipfile.BadZipFile as error:
    raise UserError(f"{wheel.name}: {error}") from None
  if not any(root.rglob("*.py")):
    raise UserError(f"{wheel.name} has no Python files in {', '.join(folders)}")
