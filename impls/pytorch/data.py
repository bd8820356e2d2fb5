"""Batches for training: the whole data set resident on the device, or PyTorch's own loader with worker processes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from impls.errors import UsageError
from impls.recipe import randomness
from impls.recipe.config import ExperimentConfig
from impls.recipe.validation import require_usable
from messages import tell


class ResidentBatches:
    """All images on the device as uint8; a batch is an index, a flip and a scaling there.

    Args:
        config: of the experiment.
        images: uint8 (N, H, W, C).
        device: where they are kept.
        share: positions of the whole batch that are wanted here.
    """

    def __init__(self, config: ExperimentConfig, images: NDArray[np.uint8], device: torch.device, share: range) -> None:
        self.config, self.device, self.count, self.share = config, device, len(images), share
        self.images = torch.from_numpy(np.array(images.transpose(0, 3, 1, 2), order="C")).to(device)
        self.order = torch.empty(0, dtype=torch.int64, device=device)

    def batch(self, step: int) -> Tensor:
        """The share of the images of one step (B, C, H, W), float32 in [-1, 1].

        With matched randomness they depend on (seed, step) alone, otherwise on the calls before.
        """
        size, flip = self.config.train.batch_size, self.config.train.flip
        if self.config.train.randomness == "matched":
            seed, share = self.config.seed, self.share
            whole = randomness.batch_indices(seed, step, size, self.count)
            index = to_device(whole[share.start : share.stop], self.device)
            flips = to_device(randomness.flips(seed, step, len(share), share.start), self.device) if flip else None
        else:
            if len(self.order) < size:
                self.order = torch.randperm(self.count, device=self.device)
            index, self.order = self.order[:size], self.order[size:]
            flips = torch.rand(size, device=self.device) < 0.5 if flip else None
        x = self.images[index]
        if flips is not None:
            x = torch.where(flips[:, None, None, None], x.flip(3), x)
        return x.float().div_(127.5).sub_(1)

    def close(self) -> None:
        """Nothing to stop; the mirror of `LoadedBatches.close`."""


class FlippedImages(Dataset[NDArray[np.float32]]):
    """What a loader worker does with one image: flip it half of the time, scale it to [-1, 1]."""

    def __init__(self, images: NDArray[np.uint8], flip: bool) -> None:
        self.images, self.flip = images, flip

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> NDArray[np.float32]:
        """One image (C, H, W), float32 in [-1, 1]."""
        image = self.images[index]
        if self.flip and torch.rand(()).item() < 0.5:
            image = image[:, ::-1]
        return np.ascontiguousarray(image.transpose(2, 0, 1), dtype=np.float32) / np.float32(127.5) - np.float32(1)


class LoadedBatches:
    """PyTorch's DataLoader: shuffled, last partial batch dropped, workers kept from epoch to epoch."""

    def __init__(self, config: ExperimentConfig, images: NDArray[np.uint8], device: torch.device) -> None:
        if config.train.randomness == "matched":
            raise UsageError(tell("train.randomness matched needs train.loader resident: a native loader shuffles by "
                                  "itself"))
        self.device = device
        workers = config.train.num_workers
        self.loader = DataLoader(
            FlippedImages(images, config.train.flip), batch_size=config.train.batch_size, shuffle=True, drop_last=True,
            num_workers=workers, persistent_workers=workers > 0, pin_memory=device.type == "cuda",
            generator=torch.Generator().manual_seed(config.seed))
        self.batches: Iterator[Tensor] = iter(())

    def batch(self, _step: int) -> Tensor:
        """The next images (B, C, H, W), float32 in [-1, 1]; an epoch's end starts the next one."""
        x = next(self.batches, None)
        if x is None:
            self.batches = iter(self.loader)
            x = next(self.batches)
        return x.to(self.device, non_blocking=True)

    def close(self) -> None:
        """Stop the worker processes, which end when their iterator and loader are gone."""
        self.batches = iter(())
        del self.loader


Batches = ResidentBatches | LoadedBatches


def batches(config: ExperimentConfig, images: NDArray[np.uint8], device: torch.device, share: range) -> Batches:
    """The source of batches, or of a share of each, that `config.train.loader` names.

    Raises:
        DataError: the images do not fit the network, or are fewer than a batch.
        UsageError: matched randomness is asked of the native loader.
    """
    require_usable(images, config)
    if config.train.loader == "resident":
        return ResidentBatches(config, images, device, share)
    return LoadedBatches(config, images, device)


def start_generator(seed: int) -> None:
    """Have the framework's own generator start from a seed."""
    torch.manual_seed(seed)


class Generator:
    """A generator of its own beside the one that PyTorch draws from by itself.

    Args:
        seed: where it starts.
        device: where it draws.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self.seed, self.device = seed, device
        self.generator = torch.Generator(device).manual_seed(seed)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """What is drawn inside starts from this seed, what is drawn after is as if nothing had been."""
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(self.seed)
            yield

    def normal(self, shape: tuple[int, ...]) -> Tensor:
        """Standard normal noise of `shape`."""
        return torch.randn(shape, generator=self.generator, device=self.device)


def to_device(array: NDArray[Any], device: torch.device) -> Tensor:
    """A tensor of the array on the device, without making the host wait for the copy."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)


def to_numpy(tensors: Mapping[str, Tensor]) -> dict[str, NDArray[np.float32]]:
    """Copies on the host, by name."""
    return {name: tensor.detach().float().cpu().contiguous().numpy().copy() for name, tensor in tensors.items()}
