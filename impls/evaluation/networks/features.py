"""Features of images: batch by batch through a network, or from the cache.

They are the same bits as torch-fidelity's own loop gives. Those of real images are kept under everything that they
depend on.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from tqdm import tqdm

from impls.data.array_cache import default_folder
from impls.devices import default_threads
from impls.errors import UnavailableError, UsageError
from impls.evaluation.inputs import Images, Say, rgb, sha256_of
from impls.evaluation.networks import Extracted, FeatureNetwork, FeatureSpec, Floats
from impls.store.files import whole_file
from messages import tell


def open_device(choice: str, threads: int | None = None) -> str:
    """The device of this choice, "cpu" or "cuda", with so many threads, by default one for every core.

    Raises:
        UnavailableError: CUDA was asked for and is not there.
    """
    torch.set_num_threads(default_threads() if threads is None else threads)
    if choice == "cuda" and not torch.cuda.is_available():
        raise UnavailableError(tell("--device cuda: PyTorch finds no CUDA device here: choose --device cpu"))
    if choice == "cpu" or not torch.cuda.is_available():
        return "cpu"
    # Published figures are of float32.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    return "cuda"


def extract(net: FeatureNetwork, images: Images, batch_size: int, device: str, title: str, quiet: bool) -> Extracted:
    """Features of all images (N, H, W, C) with C = 1 or 3, in their order.

    Args:
        net: the network; it is moved to the device.
        images: uint8, perhaps memory-mapped.
        batch_size: images at once; features of other batch sizes may differ in the last bits.
        device: "cpu" or "cuda".
        title: what the progress bar says.
        quiet: no progress bar.

    Raises:
        UsageError: the network gave something else than it promised, or NaN.
    """
    start = time.perf_counter()
    network = net.network.to(device)
    parts: list[tuple[torch.Tensor, ...]] = []
    # A file gets a line now and then, a terminal a moving bar.
    pace = 0.1 if sys.stderr.isatty() else 10.0
    progress = tqdm(total=len(images), desc=title, unit=tell("image"), disable=quiet, mininterval=pace)
    with torch.inference_mode(), progress as bar:
        for first in range(0, len(images), batch_size):
            channels_first = rgb(images[first : first + batch_size]).transpose(0, 3, 1, 2)
            # A copy: the file may be a read-only memory map, which torch warns of.
            batch = torch.from_numpy(np.ascontiguousarray(channels_first)).to(device)
            parts.append(tuple(part.cpu() for part in network(batch)))
            bar.update(len(batch))
    outputs = [np.asarray(torch.cat(column).numpy()) for column in zip(*parts, strict=True)]
    seconds = time.perf_counter() - start
    wanted = 2 if net.spec.inception_score else 1
    if len(outputs) != wanted or outputs[0].shape != (len(images), net.spec.feature_size):
        shapes = [output.shape for output in outputs]
        raise UsageError(tell("--features {name}: the network gave {shapes}, its specification promises {wanted} "
                              "arrays, the first of shape {shape}", name=net.spec.name, shapes=shapes, wanted=wanted,
                              shape=(len(images), net.spec.feature_size)))
    if not all(np.isfinite(output).all() for output in outputs):
        raise UsageError(tell("--features {name}: the network gave NaN or infinity: its weights are of no use",
                              name=net.spec.name))
    return Extracted(outputs[0], outputs[1] if wanted == 2 else None, len(images) / seconds)


def batch_s(net: FeatureNetwork, images: Images, batch_size: int, device: str) -> float:
    """Seconds of a batch, tried with the first images twice, the first time to warm up."""
    extract(net, images[:batch_size], batch_size, device, "", quiet=True)
    return min(batch_size, len(images)) / extract(net, images[:batch_size], batch_size, device, "", True).images_per_s


def check_size(spec: FeatureSpec, dataset: str, count: int) -> None:
    """Make sure that the covariance of the reference's features has full rank.

    Raises:
        UsageError: there are too few images for it.
    """
    if count <= spec.feature_size:
        raise UsageError(
            tell("{count} reference images of {dataset} are too few: {name} has {size} features, and their covariance "
                 "needs {least} images or more: raise --reference_images, or choose another --reference or --features",
                 count=count, dataset=dataset, name=spec.name, size=spec.feature_size, least=spec.feature_size + 1))


def identity(net: FeatureNetwork, images: Images, batch_size: int, device: str) -> dict[str, str | int]:
    """All that features depend on; batch size and device change their last bits."""
    return {"format": "ddpm-bench features 1", "extractor": net.spec.name,  # English
            "weights_sha256": net.weights_sha256,
            "images_sha256": sha256_of(images), "images": len(images), "input_size": net.spec.input_size,
            "feature_size": net.spec.feature_size, "batch_size": batch_size, "device": device}


def cached(
    wanted: dict[str, str | int], compute: Callable[[], Extracted], say: Say, folder: Path | None = None,
    leads: bool = True, agreed: Callable[[bool], bool] = bool,
) -> tuple[Floats, float | None]:
    """Features from the cache, or computed and put there.

    Args:
        wanted: their `identity`.
        compute: makes them.
        say: told when a file is of no use.
        folder: of the cache; by default the user's.
        leads: whether this process has the cache; of several ranks one does.
        agreed: given whether it must be computed here, says whether it must; of several ranks all do as the first.

    Returns:
        The features, and the images per second of computing them, None where the cache had them; without any for a rank
        that has no cache where the first one's had them.
    """
    text = json.dumps(wanted, sort_keys=True)
    key = hashlib.sha256(text.encode()).hexdigest()[:16]
    path = (folder or default_folder() / "features") / f"{wanted['extractor']}-{wanted['images']}-{key}.safetensors"
    found: Floats | None = None
    if leads and path.exists():
        try:
            found = _read(path, text, (int(wanted["images"]), int(wanted["feature_size"])))
        except UsageError as error:
            say(tell("{fault}: computing the features again", fault=error))
    if not agreed(leads and found is None):
        return np.empty((0, int(wanted["feature_size"])), np.float32) if found is None else found, None
    extracted = compute()
    features = np.ascontiguousarray(extracted.features)
    if not leads:
        return features, extracted.images_per_s
    content = save({"features": features}, {"identity": text, "sha256": _digest(features)})
    try:
        # The name has the process's id until it is whole: two that compute at once each write their own.
        with whole_file(path, durable=True) as partial:
            partial.write_bytes(content)
    except UsageError as error:
        say(tell("{fault}: the features are not kept", fault=error))
    return features, extracted.images_per_s


def _read(path: Path, text: str, shape: tuple[int, int]) -> Floats:
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("identity") != text:
                raise UsageError(tell("{path}: these are features of something else", path=path))
            features: Floats = file.get_tensor("features")
    except (OSError, SafetensorError, TypeError, KeyError, AttributeError, ValueError) as error:
        raise UsageError(tell("{path}: damaged", path=path)) from error
    if features.shape != shape or features.dtype != np.float32 or metadata.get("sha256") != _digest(features):
        raise UsageError(tell("{path}: damaged", path=path))
    if not np.isfinite(features).all():
        raise UsageError(tell("{path}: holds NaN or infinity", path=path))
    return features


def _digest(features: Floats) -> str:
    return hashlib.sha256(features.tobytes()).hexdigest()
