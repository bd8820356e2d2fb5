"""Batches for training: the whole data set resident on the device, or Jittor's own loader with worker processes."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import jittor as jt
import numpy as np
from jittor import Var
from jittor.dataset import Dataset
from numpy.typing import NDArray

from impls.errors import UnavailableError, UsageError
from impls.recipe import randomness
from impls.recipe.config import ExperimentConfig
from impls.recipe.validation import require_usable
from messages import tell


class ResidentBatches:
    """All images on the device as uint8; a batch is an index, a flip and a scaling there.

    Args:
        config: of the experiment.
        images: uint8 (N, H, W, C).
        share: positions of the whole batch that are wanted here.
    """

    def __init__(self, config: ExperimentConfig, images: NDArray[np.uint8], share: range) -> None:
        self.config, self.count, self.share = config, len(images), share
        self.images = jt.array(np.array(images.transpose(0, 3, 1, 2), order="C"))
        self.order = jt.empty((0,), dtype="int32")

    def batch(self, step: int) -> Var:
        """The share of the images of one step (B, C, H, W), float32 in [-1, 1].

        With matched randomness they depend on (seed, step) alone, otherwise on the calls before.
        """
        size, flip = self.config.train.batch_size, self.config.train.flip
        if self.config.train.randomness == "matched":
            seed, share = self.config.seed, self.share
            whole = randomness.batch_indices(seed, step, size, self.count)
            index = to_device(whole[share.start : share.stop])
            flips = to_device(randomness.flips(seed, step, len(share), share.start)) if flip else None
        else:
            if len(self.order) < size:
                self.order = jt.randperm(self.count)
            index, self.order = self.order[:size], self.order[size:]
            flips = jt.rand(size) < 0.5 if flip else None
        x = self.images[index]
        if flips is not None:
            x = jt.ternary(flips.reshape(-1, 1, 1, 1).broadcast(x.shape), x.flip(3), x)
        return x.float32() / 127.5 - 1

    def close(self) -> None:
        """Nothing to stop; the mirror of `LoadedBatches.close`."""


class FlippedImages(Dataset):
    """What a loader worker does with one image: flip it half of the time, scale it to [-1, 1]."""

    def __init__(self, images: NDArray[np.uint8], flip: bool, batch_size: int, num_workers: int) -> None:
        # The default buffer takes 512 MiB of shared memory per worker.
        super().__init__(batch_size=batch_size, shuffle=True, drop_last=True, num_workers=num_workers,
                         buffer_size=64 << 20)
        self.images, self.flip = images, flip
        self.total_len = len(images)

    def __getitem__(self, index: int) -> NDArray[np.float32]:
        """One image (C, H, W), float32 in [-1, 1]."""
        image = self.images[index]
        if self.flip and np.random.rand() < 0.5:
            image = image[:, ::-1]
        return np.ascontiguousarray(image.transpose(2, 0, 1), dtype=np.float32) / np.float32(127.5) - np.float32(1)


class LoadedBatches:
    """Jittor's Dataset: shuffled, last partial batch dropped, workers kept from epoch to epoch."""

    def __init__(self, config: ExperimentConfig, images: NDArray[np.uint8]) -> None:
        if config.train.randomness == "matched":
            raise UsageError(tell("train.randomness matched needs train.loader resident: a native loader shuffles by "
                                  "itself"))
        self.loader = FlippedImages(images, config.train.flip, config.train.batch_size, config.train.num_workers)
        # Jittor shuffles with a generator of its own that always starts from 1, whatever the global seed.
        self.loader._shuffle_rng = np.random.default_rng(config.seed)
        self.batches: Iterator[Var] = iter(())

    def batch(self, _step: int) -> Var:
        """The next images (B, C, H, W), float32 in [-1, 1]; an epoch's end starts the next one."""
        x = next(self.batches, None)
        if x is None:
            self.batches = iter(self.loader)
            x = next(self.batches)
        return x

    def close(self) -> None:
        """Stop the worker processes."""
        self.batches = iter(())
        self.loader.terminate()
        for worker in getattr(self.loader, "workers", []):
            worker.p.join()


Batches = ResidentBatches | LoadedBatches


def batches(config: ExperimentConfig, images: NDArray[np.uint8], share: range) -> Batches:
    """The source of batches, or of a share of each, that `config.train.loader` names.

    Raises:
        DataError: the images do not fit the network, or are fewer than a batch.
        UsageError: matched randomness is asked of the native loader.
    """
    require_usable(images, config)
    if config.train.loader == "resident":
        return ResidentBatches(config, images, share)
    return LoadedBatches(config, images)


def start_generator(seed: int) -> None:
    """Have the framework's own generator start from a seed.

    Raises:
        UnavailableError: on CUDA, where this build of Jittor keeps its generator somewhere else.
    """
    # What was asked for before must not be drawn from the new seed.
    jt.sync_all()
    # By itself it adds a number of the MPI rank's to the seed, and the weights drawn from it would differ.
    jt.set_global_seed(seed, different_seed_for_mpi=False)
    if jt.flags.use_cuda:
        # A seed alone leaves cuRAND at its place in the sequence.
        set_offset, generator = _curand()
        if set_offset(generator, 0) != 0:
            raise UnavailableError(tell("cuRAND refuses to start its sequence anew: check the CUDA libraries"))


class Generator:
    """A generator of its own beside the one that Jittor draws from, which knows no other: put in its place for a while.

    Args:
        seed: where it starts.
    """

    def __init__(self, seed: int) -> None:
        self.curand = _new_curand(seed) if jt.flags.use_cuda else None
        # Of C++'s minimal standard engine, which consists of nothing else.
        self.state = seed % (2**31 - 1) or 1

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """What is drawn inside comes from this generator, what is drawn after as if nothing had been."""
        # Jittor draws when it must: what was asked for before, before, and what is asked for inside, inside.
        jt.sync_all()
        place: Any = _engine() if self.curand is None else _curand_place()
        kept, place.value = place.value, self.state if self.curand is None else self.curand.value
        try:
            yield
            jt.sync_all()
        finally:
            self.state, place.value = place.value, kept

    def normal(self, shape: tuple[int, ...]) -> Var:
        """Standard normal noise of `shape`."""
        with self.in_use():
            noise = jt.randn(shape)
            jt.sync([noise])
        return noise


def _engine() -> ctypes.c_uint64:
    """The state of the engine that Jittor draws from on the CPU; every new seed makes a new one."""
    try:
        address = ctypes.CDLL(jt.jittor_core.__file__)._ZN6jittor17get_random_engineEv
    except (AttributeError, OSError) as error:
        raise UnavailableError(tell("Jittor's generator cannot be reached ({error}): install jittor==1.3.11.0",
                                    error=error)) from error
    address.restype = ctypes.c_void_p
    return ctypes.c_uint64.from_address(address())


class _OwnCurand(ctypes.c_void_p):
    """A generator of cuRAND, which goes with its last user."""


def _new_curand(seed: int) -> _OwnCurand:
    library, made = _curand_library(), _OwnCurand()
    pseudo_default = 100
    if library.curandCreateGenerator(ctypes.byref(made), pseudo_default) != 0 or (
            library.curandSetPseudoRandomGeneratorSeed(made, ctypes.c_ulonglong(seed)) != 0):
        raise UnavailableError(tell("cuRAND refuses a second generator: check the CUDA libraries"))
    weakref.finalize(made, library.curandDestroyGenerator, ctypes.c_void_p(made.value))
    return made


def _curand() -> tuple[Callable[[ctypes.c_void_p, int], int], ctypes.c_void_p]:
    """The function of cuRAND for the place in a sequence, and the generator that Jittor draws from."""
    set_offset = _curand_library().curandSetGeneratorOffset
    set_offset.argtypes = [ctypes.c_void_p, ctypes.c_ulonglong]
    return set_offset, _curand_place()


def _curand_place() -> ctypes.c_void_p:
    """Where Jittor keeps the generator that it draws from on CUDA."""
    try:
        return ctypes.c_void_p.in_dll(_curand_library(), "_ZN6jittor3genE")
    except ValueError as error:
        raise _no_curand(error) from error


@cache
def _curand_library() -> ctypes.CDLL:
    """Jittor's module of cuRAND, and through it cuRAND."""
    try:
        library = ctypes.CDLL(jt.compile_extern.curand.__file__)
        library.curandSetGeneratorOffset  # noqa: B018
    except (AttributeError, OSError) as error:
        raise _no_curand(error) from error
    return library


def _no_curand(error: Exception) -> UnavailableError:
    return UnavailableError(tell("Jittor's generator on CUDA cannot be reached ({error}): install jittor==1.3.11.0",
                                 error=error))


def to_device(array: NDArray[Any]) -> Var:
    """A variable of the array, which Jittor copies to the device when it runs."""
    return jt.array(np.ascontiguousarray(array))


def to_numpy(tensors: Mapping[str, Var]) -> dict[str, NDArray[np.float32]]:
    """Copies on the host, by name."""
    return {name: tensor.float32().numpy().copy() for name, tensor in tensors.items()}
