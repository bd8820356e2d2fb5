"""Features of images: batch by batch through a network, the same bits as torch-fidelity's own loop gives."""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from impls.devices import default_threads
from impls.errors import UnavailableError, UsageError
from impls.evaluation.inputs import Images
from impls.evaluation.networks import Extracted, FeatureNetwork


def open_device(choice: str) -> str:
    """The device of this choice, "cpu" or "cuda", with every core at its disposal.

    Raises:
        UnavailableError: CUDA was asked for and is not there.
    """
    torch.set_num_threads(default_threads())
    if choice == "cuda" and not torch.cuda.is_available():
        raise UnavailableError("--device cuda: PyTorch finds no CUDA device here: choose --device cpu")
    if choice == "cpu" or not torch.cuda.is_available():
        return "cpu"
    # Published figures are of float32.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    return "cuda"


def extract(net: FeatureNetwork, images: Images, batch_size: int, device: str, title: str, quiet: bool) -> Extracted:
    """Features of all images (N, H, W, 3), in their order.

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
    progress = tqdm(total=len(images), desc=title, unit="image", disable=quiet, mininterval=pace)
    with torch.inference_mode(), progress as bar:
        for first in range(0, len(images), batch_size):
            batch = _tensor(images[first : first + batch_size]).to(device)
            parts.append(tuple(part.cpu() for part in network(batch)))
            bar.update(len(batch))
    outputs = [np.asarray(torch.cat(column).numpy()) for column in zip(*parts, strict=True)]
    seconds = time.perf_counter() - start
    wanted = 2 if net.spec.inception_score else 1
    if len(outputs) != wanted or outputs[0].shape != (len(images), net.spec.feature_size):
        shapes = [output.shape for output in outputs]
        raise UsageError(f"--features {net.spec.name}: the network gave {shapes}, its specification promises {wanted} "
                         f"arrays, the first of shape {(len(images), net.spec.feature_size)}")
    if not all(np.isfinite(output).all() for output in outputs):
        raise UsageError(f"--features {net.spec.name}: the network gave NaN or infinity: its weights are of no use")
    return Extracted(outputs[0], outputs[1] if wanted == 2 else None, len(images) / seconds)


def _tensor(images: Any) -> torch.Tensor:
    # A copy: the file may be a read-only memory map, which torch warns of.
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
