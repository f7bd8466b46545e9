"""Fetches an outside source that a manifest describes, or lists what there is.

python -m tttjax.third_party [--fetch=NAME]

Files go to $TTTJAX_CACHE, or to ~/.cache/tttjax. The checksum is compared with the manifest's, and
nothing that was fetched is imported or run.
"""

from absl import flags

from tttjax import flags as command_line
from tttjax import third_party

_FETCH = flags.DEFINE_string("fetch", None, "name of the manifest whose source is fetched")


def main():
  if _FETCH.value is not None:
    print(third_party.fetch(third_party.load_manifest(_FETCH.value)))
    return
  for name in third_party.manifest_names():
    manifest = third_party.load_manifest(name)
    folder = third_party.location(manifest)
    state = f"in {folder}" if folder.is_dir() else f"not fetched: {manifest.command}"
    print(
      f"{name}: {manifest.what}\n  {manifest.package} {manifest.version} from "
      f"{manifest.source}, {manifest.licence}\n  {state}"
    )
  for name in third_party.copy_names():
    copied = third_party.load_copy(name)
    files = ", ".join(copied.files)
    print(f"{name}: {copied.what}\n  {files} of {copied.source}, {copied.licence}\n  {copied.how}")


if __name__ == "__main__":
  command_line.run(main)
