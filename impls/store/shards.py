"""Images for evaluation, batch by batch in a folder: a killed run goes on, and different settings never mix.

The folder holds `manifest.json` with all that the images depend on, and `shards/000000.npz`, ... Every shard also
carries the manifest's hash, so that one from elsewhere is noticed and drawn again.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from impls.backend import Images
from impls.errors import UsageError
from impls.pictures.images import save_npz
from impls.recipe.config import read_json
from impls.store.files import whole_file
from messages import tell

MANIFEST, SHARDS = "manifest.json", "shards"


@dataclass(frozen=True)
class Shards:
    """The shards of one identity in a folder.

    Attributes:
        folder: where they are.
        identity: hash of everything that the images depend on.
    """

    folder: Path
    identity: str

    def path(self, number: int) -> Path:
        """The file of a shard."""
        return self.folder / SHARDS / f"{number:06d}.npz"

    def load(self, number: int, count: int) -> Images | None:
        """The first `count` images of a shard; None where it is absent, damaged, too short or of another identity."""
        try:
            # numpy would leave a file that it opened itself, and found damaged, open.
            with self.path(number).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                images, identity = arrays["images"], str(arrays["identity"])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None
        fits = isinstance(images, np.ndarray) and images.dtype == np.uint8 and images.ndim == 4 and len(images) >= count
        return images[:count] if fits and identity == self.identity else None

    def save(self, number: int, images: Images) -> None:
        """Write a shard, whole or not at all.

        Raises:
            UsageError: it cannot be written.
        """
        save_npz(self.path(number), images, identity=np.array(self.identity))


def open_shards(folder: Path, settings: Mapping[str, Any]) -> Shards:
    """The shards of `folder`, begun or gone on with.

    Args:
        folder: made where it is missing.
        settings: everything that the images depend on, as JSON data.

    Raises:
        UsageError: the folder holds images of other settings, or cannot be used.
    """
    wanted = json.loads(json.dumps(settings))
    canonical = json.dumps(wanted, sort_keys=True, separators=(",", ":"))
    shards = Shards(folder, hashlib.sha256(canonical.encode()).hexdigest())
    manifest = folder / MANIFEST
    if manifest.exists():
        found = read_json(manifest)
        if found != wanted:
            place, there, here = first_difference(found, wanted)
            raise UsageError(tell("{folder}: holds images of other settings ({place} is {there} there and {here} "
                                  "here): choose another --sample_root or remove it", folder=folder, place=place,
                                  there=there, here=here))
    elif (folder / SHARDS).exists():
        raise UsageError(tell("{folder}: holds shards but no {manifest} that says of what: choose another "
                              "--sample_root or remove it", folder=folder, manifest=MANIFEST))
    else:
        with whole_file(manifest, durable=True) as partial:
            partial.write_text(json.dumps(wanted, indent=2) + "\n", encoding="utf-8")
    return shards


def first_difference(found: Mapping[str, Any], wanted: Mapping[str, Any], at: str = "") -> tuple[str, str, str]:
    """Dotted place of the first entry that differs, with both values as short texts."""
    for key in [*wanted, *(key for key in found if key not in wanted)]:
        there, here = found.get(key), wanted.get(key)
        if there == here:
            continue
        if isinstance(there, dict) and isinstance(here, dict):
            return first_difference(there, here, f"{at}{key}.")
        # What is at its default may be left out.
        there, here = (f"{json.dumps(side[key]):.70}" if key in side else tell("at its default")
                       for side in (found, wanted))
        return f"{at}{key}", there, here
    return at.rstrip("."), "other", "this"
