"""Jittor on one device with an arm's options: the way in for the harness and the command lines.

Nothing here imports Jittor at module level: `create` first prepares the environment that its import reads.
"""

from __future__ import annotations

import ctypes
import math
import re
import time
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from impls.backend import BackendInfo
from impls.devices import bf16_units, cpu_name
from impls.errors import UnavailableError
from impls.jittor import onednn, runtime
from impls.jittor.setup import kernel_compiler
from impls.ranks import Ranks
from impls.recipe.config import ExperimentConfig
from impls.recipe.isolated import Spec
from impls.recipe.precision import Measured, half
from messages import recorded, tell

if TYPE_CHECKING:
    from impls.jittor.group import Group
    from impls.jittor.isolated import Isolated
    from impls.jittor.ops import Operators
    from impls.jittor.pair import PairBackend
    from impls.jittor.sampler import Sampler
    from impls.jittor.trainer import Trainer

# Shapes whose fastest convolution is remembered; with Jittor's own 100, a sweep over batch sizes would forget them.
ALGORITHMS = 10_000


class Backend:
    """See `impls.backend.Backend`."""

    def __init__(self, options: tuple[str, ...], device: Literal["cpu", "cuda"], threads: int) -> None:
        require_available(options, device)
        self.options = frozenset(options)
        import jittor as jt

        from impls.jittor import swaps

        jt.flags.use_cuda = int(device == "cuda")
        # On CUDA 1 is TF32 in products of float32, but products of float16 would be added up in float16; convolutions
        # follow devices.TF32_SWITCH.
        jt.flags.use_tensorcore = int("tf32" in self.options and half(self.options) is None)
        if device == "cuda":
            jt.cudnn.set_algorithm_cache_size(ALGORITHMS)
        _set_threads(threads)
        self.operators = swaps.chosen(self.options)
        found = measured(self.options, device, self.operators)
        self.info = describe(self.options, device, self.operators.names, found)
        self.group: Group | None = None

    def join(self, ranks: Ranks) -> Group:
        """Meet the other ranks: see `impls.backend.Grouping`."""
        from impls.jittor.group import Group

        self.group = Group(ranks)
        return self.group

    def trainer(self, config: ExperimentConfig, images: NDArray[np.uint8]) -> Trainer:
        """A trainer over `images` (N, H, W, C)."""
        from impls.jittor.trainer import Trainer

        return Trainer(config, images, self.info, self.options, self.operators, self.group)

    def sampler(self, config: ExperimentConfig) -> Sampler:
        """A sampler for the configured network, with fresh weights until `load`."""
        from impls.jittor.sampler import Sampler

        return Sampler(config, self.info, self.options, self.operators)

    def operator(self, spec: Spec, batch: int, training: bool) -> Isolated | None:
        """An operator as this arm's network runs it: see `impls.backend.Isolating`."""
        from impls.jittor.isolated import isolated

        return isolated(spec, batch, training, self.options, self.operators)

    def matmul_flops(self, n: int, repeats: int) -> float:
        """Best measured float32 floating-point operations per second over `repeats` n x n matrix products."""
        import jittor as jt

        a, b = jt.rand(n, n), jt.rand(n, n)
        jt.sync([a, b])
        best_ns = math.inf
        for _ in range(repeats + 1):
            jt.sync_all(True)
            started_ns = time.perf_counter_ns()
            jt.matmul(a, b).sync(True)
            best_ns = min(best_ns, time.perf_counter_ns() - started_ns)
        return 2 * n**3 / (best_ns / 1e9)


def create(options: tuple[str, ...], device: Literal["cpu", "cuda"], threads: int,
           file: str | None = None) -> Backend | PairBackend:
    """The backend of an arm; `options` are those of `impls.registry`, `file` is a pair's.

    Raises:
        UnavailableError: the device or an option cannot be used on this machine.
        UsageError: a setting in the pair's file is wrong.
    """
    plain = Backend(options, device, threads)
    if file is None:
        return plain
    from impls.jittor.pair import PairBackend

    return PairBackend(plain, file)


def require_available(options: tuple[str, ...], device: Literal["cpu", "cuda"]) -> None:
    """Refuse what this machine cannot do, instead of running something else.

    Raises:
        UnavailableError: no CUDA that Jittor can use, `amp` or `tf32` without CUDA, operators of ours with it, or
            `bf16` without units for it.
    """
    for option in ("amp", "tf32"):
        if device == "cpu" and option in options:
            raise UnavailableError(tell("option {option} exists only on CUDA: leave it out or choose --device cuda",
                                        option=option))
    for option in sorted(onednn.OPTIONS.intersection(options)):
        if device == "cuda":
            raise UnavailableError(tell("option {option} exists only on the CPU: leave it out or choose --device cpu",
                                        option=option))
    if onednn.BF16 in options and not bf16_units(device):
        raise UnavailableError(tell("option {option} needs a processor with avx512_bf16 or amx_bf16: leave it out",
                                    option=onednn.BF16))
    runtime.prepare(device, tf32="tf32" in options)
    import jittor as jt

    kernel_compiler.install()
    if device == "cuda" and not jt.has_cuda:
        raise UnavailableError(tell("Jittor cannot use CUDA here: no usable nvcc, driver or GPU; choose --device cpu"))


def measured(options: frozenset[str], device: str, operators: Operators) -> Measured | None:
    """What products and convolutions are computed in; None for float32 on the CPU, where there is no choice.

    Raises:
        UnavailableError: wrong numbers, or another format than the options ask for.
    """
    if device == "cpu" and not half(options):
        return None
    from impls.jittor import precision

    found = precision.measured(options, operators)
    found.require(options)
    return found


def describe(options: frozenset[str], device: str, operators: Mapping[str, str],
             found: Measured | None) -> BackendInfo:
    """What runs in this process, as Jittor reports it and as was measured."""
    import jittor as jt

    cuda = device == "cuda"
    name, gpu_uuid = _gpu_identity() if cuda else (cpu_name(), None)
    flags = {
        "memory_format": (recorded("channels-last inside the network") if onednn.WHOLE in options
                          else recorded("contiguous (NCHW)")),
        "autocast": recorded("{precision}, convolutions and products of the network", precision=half(options)
                             ) if half(options) else recorded("off"),
        "use_tensorcore": str(jt.flags.use_tensorcore),
        "mkldnn": str(bool(jt.compile_extern.use_mkl and jt.compile_extern.mkl_ops)),
        "compiler": " ".join([jt.flags.cc_path, *re.findall(r"-(?:O|march=)\S+", jt.flags.cc_flags)]),
        "cuda": str(jt.flags.nvcc_path) if cuda else recorded("not used"),
        "cudnn": str(jt.cudnn is not None) if cuda else recorded("not used"),
        "products": found.products if found else recorded("not measured"),
        "convolutions": found.convolutions if found else recorded("not measured"),
        "fast_math": str("--use_fast_math" in jt.flags.nvcc_flags) if cuda else recorded("not used"),
    }
    if "amp" in options:
        flags["loss_scale"] = recorded("as torch.amp.GradScaler, of our own")
    return BackendInfo(
        framework="Jittor", version=jt.__version__, device=device, device_name=name, device_uuid=gpu_uuid,
        dtype=found.dtype if found else "float32", tf32=found is not None and found.tf32,
        threads=_openmp().omp_get_max_threads(), operators=dict(operators), flags=flags)


def _openmp() -> ctypes.CDLL:
    """The OpenMP run-time that Jittor's kernels and oneDNN use."""
    return ctypes.CDLL("libgomp.so.1")


def _set_threads(threads: int) -> None:
    """CPU threads inside one operator; Jittor itself has no switch for it."""
    _openmp().omp_set_num_threads(threads)


def _gpu_identity() -> tuple[str, str]:
    """Name and UUID of the first visible GPU, from the driver: Jittor does not tell.

    Raises:
        UnavailableError: the driver does not answer.
    """
    driver = ctypes.CDLL("libcuda.so.1")
    device, name, raw = ctypes.c_int(), ctypes.create_string_buffer(256), (ctypes.c_ubyte * 16)()
    for call, arguments in ((driver.cuInit, (0,)), (driver.cuDeviceGet, (ctypes.byref(device), 0)),
                            (driver.cuDeviceGetName, (name, len(name), device)),
                            (driver.cuDeviceGetUuid_v2, (raw, device))):
        if call(*arguments) != 0:
            raise UnavailableError(tell("the CUDA driver does not name its GPU: check nvidia-smi, or choose --device "
                                        "cpu"))
    return name.value.decode(), f"GPU-{uuid.UUID(bytes=bytes(raw))}"
