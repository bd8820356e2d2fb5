"""The real images that sets are held against, and their features, cached under everything they depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from impls.data.array_cache import default_folder
from impls.data.datasets import NAMES, prepare
from impls.errors import UsageError
from impls.evaluation.inputs import Images, read_images, sha256_of
from impls.evaluation.networks import Extracted, FeatureNetwork, FeatureSpec, Floats
from impls.store.files import whole_file

# What a CPU computes in about a minute; CUDA takes all.
CPU_IMAGES = 5000
Say = Callable[[str], None]


@dataclass(frozen=True)
class Reference:
    """Real images.

    Attributes:
        dataset: name of the data set, or of the file.
        all_images: every image there is, uint8 (N, H, W, 3), perhaps memory-mapped.
    """

    dataset: str
    all_images: Images

    def count(self, asked: int | None, device: str) -> int:
        """How many images are used.

        Raises:
            UsageError: more were asked for than there are.
        """
        there = len(self.all_images)
        if asked is None:
            return there if device == "cuda" else min(there, CPU_IMAGES)
        if asked > there:
            raise UsageError(f"--reference_images {asked}: {self.dataset} has {there} images")
        return asked

    def split(self, count: int) -> str:
        """Which images are used, for people."""
        there = len(self.all_images)
        used = f"all {there:,}" if count == there else f"the first {count:,} of {there:,}"
        return f"{used} training images, without flips" if self.dataset in NAMES else f"{used} images of the file"


def open_reference(name: str, data_root: Path | None, say: Say) -> Reference:
    """The training split of a data set, or the images of a file.

    Raises:
        UsageError: neither a data set nor a usable file.
    """
    if name in NAMES:
        dataset = prepare(name, data_root, echo=say)
        return Reference(dataset.name, dataset.open())
    if not Path(name).exists():
        raise UsageError(f"--reference {name}: neither a file nor one of {', '.join(NAMES)}")
    return Reference(Path(name).name, read_images(Path(name)))


def check_size(spec: FeatureSpec, dataset: str, count: int) -> None:
    """Make sure that the covariance of the reference's features has full rank.

    Raises:
        UsageError: there are too few images for it.
    """
    if count <= spec.feature_size:
        raise UsageError(
            f"{count} reference images of {dataset} are too few: {spec.name} has {spec.feature_size} features, and "
            f"their covariance needs {spec.feature_size + 1} images or more: raise --reference_images, or choose "
            "another --reference or --features")


def identity(net: FeatureNetwork, images: Images, batch_size: int, device: str) -> dict[str, str | int]:
    """All that features depend on; batch size and device change their last bits."""
    return {"format": "ddpm-bench features 1", "extractor": net.spec.name, "weights_sha256": net.weights_sha256,
            "images_sha256": sha256_of(images), "images": len(images), "input_size": net.spec.input_size,
            "feature_size": net.spec.feature_size, "batch_size": batch_size, "device": device}


def cached_features(
    wanted: dict[str, str | int], compute: Callable[[], Extracted], say: Say, folder: Path | None = None
) -> tuple[Floats, float | None]:
    """Features from the cache, or computed and put there.

    Args:
        wanted: their `identity`.
        compute: makes them.
        say: told when a file is of no use.
        folder: of the cache; by default the user's.

    Returns:
        The features, and the images per second of computing them, None where the cache had them.
    """
    text = json.dumps(wanted, sort_keys=True)
    key = hashlib.sha256(text.encode()).hexdigest()[:16]
    path = (folder or default_folder() / "features") / f"{wanted['extractor']}-{wanted['images']}-{key}.safetensors"
    if path.exists():
        try:
            return _read(path, text, (int(wanted["images"]), int(wanted["feature_size"]))), None
        except UsageError as error:
            say(f"{error}: computing the features again")
    extracted = compute()
    features = np.ascontiguousarray(extracted.features)
    content = save({"features": features}, {"identity": text, "sha256": _digest(features)})
    try:
        # The name has the process's id until it is whole: two that compute at once each write their own.
        with whole_file(path, durable=True) as partial:
            partial.write_bytes(content)
    except UsageError as error:
        say(f"{error}: the features are not kept")
    return features, extracted.images_per_s


def _read(path: Path, text: str, shape: tuple[int, int]) -> Floats:
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("identity") != text:
                raise UsageError(f"{path}: these are features of something else")
            features: Floats = file.get_tensor("features")
    except (OSError, SafetensorError, TypeError, KeyError, AttributeError, ValueError) as error:
        raise UsageError(f"{path}: damaged") from error
    if features.shape != shape or features.dtype != np.float32 or metadata.get("sha256") != _digest(features):
        raise UsageError(f"{path}: damaged")
    if not np.isfinite(features).all():
        raise UsageError(f"{path}: holds NaN or infinity")
    return features


def _digest(features: Floats) -> str:
    return hashlib.sha256(features.tobytes()).hexdigest()
