"""Outside sources that a run may need, named by the manifests of this folder."""

from tttjax.third_party.copies import Copy, copy_names, load_copy
from tttjax.third_party.fetching import cache_folder, fetch, find_file, location
from tttjax.third_party.manifest import Manifest, load_manifest, manifest_names
