"""PyTorch on one device with an arm's options: the way in for the harness and the command lines."""

from __future__ import annotations

import math
import shutil
import time
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from impls.backend import BackendInfo
from impls.devices import cpu_name, require_tf32_switch
from impls.errors import UnavailableError
from impls.pytorch import precision
from impls.pytorch.group import Group
from impls.pytorch.isolated import Isolated, isolated
from impls.pytorch.ops import Operators
from impls.pytorch.sampler import Sampler
from impls.pytorch.swaps import chosen
from impls.pytorch.trainer import Trainer
from impls.ranks import Ranks
from impls.recipe.config import ExperimentConfig
from impls.recipe.isolated import Spec
from impls.recipe.precision import Measured, half
from messages import recorded, tell

if TYPE_CHECKING:
    from impls.pytorch.pair import PairBackend


class Backend:
    """See `impls.backend.Backend`."""

    def __init__(self, options: tuple[str, ...], device: str, threads: int) -> None:
        require_available(options, device)
        self.options = frozenset(options)
        self.device = torch.device("cuda", torch.cuda.current_device()) if device == "cuda" else torch.device("cpu")
        torch.set_num_threads(threads)
        torch.backends.cuda.matmul.allow_tf32 = "tf32" in self.options
        torch.backends.cudnn.allow_tf32 = "tf32" in self.options
        torch.backends.cudnn.benchmark = device == "cuda"
        self.operators = chosen(self.options)
        found = measured(self.options, self.device, self.operators)
        self.info = describe(self.options, self.device, self.operators.names, found)
        self.group: Group | None = None

    def join(self, ranks: Ranks) -> Group:
        """Meet the other ranks: see `impls.backend.Grouping`."""
        self.group = Group(ranks, self.device)
        return self.group

    def trainer(self, config: ExperimentConfig, images: NDArray[np.uint8]) -> Trainer:
        """A trainer over `images` (N, H, W, C)."""
        return Trainer(config, images, self.device, self.info, self.options, self.operators, self.group)

    def sampler(self, config: ExperimentConfig) -> Sampler:
        """A sampler for the configured network, with fresh weights until `load`."""
        return Sampler(config, self.device, self.info, self.options, self.operators)

    def operator(self, spec: Spec, batch: int, training: bool) -> Isolated | None:
        """An operator as this arm's network runs it: see `impls.backend.Isolating`."""
        return isolated(spec, batch, training, self.device, self.options, self.operators)

    def matmul_flops(self, n: int, repeats: int) -> float:
        """Best measured float32 floating-point operations per second over `repeats` n x n matrix products."""
        a, b = torch.rand(n, n, device=self.device), torch.rand(n, n, device=self.device)
        best_ns = math.inf
        for _ in range(repeats + 1):
            self.synchronize()
            started_ns = time.perf_counter_ns()
            torch.mm(a, b)
            self.synchronize()
            best_ns = min(best_ns, time.perf_counter_ns() - started_ns)
        return 2 * n**3 / (best_ns / 1e9)

    def synchronize(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def create(options: tuple[str, ...], device: str, threads: int,
           file: str | None = None) -> Backend | PairBackend:
    """The backend of an arm; `options` are those of `impls.registry`, `file` is a pair's.

    Raises:
        UnavailableError: the device or an option cannot be used on this machine.
        UsageError: a setting in the pair's file is wrong.
    """
    plain = Backend(options, device, threads)
    if file is None:
        return plain
    from impls.pytorch.pair import PairBackend

    return PairBackend(plain, file)


def require_available(options: tuple[str, ...], device: str) -> None:
    """Refuse what this machine cannot do, instead of running something else.

    Raises:
        UnavailableError: no CUDA device, TF32 or float16 without CUDA, or no C++ compiler for `compile`.
    """
    if device == "cuda":
        require_tf32_switch("tf32" in options)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            available = torch.cuda.is_available()
        if not available:
            reason = (tell("this PyTorch was built without CUDA") if torch.version.cuda is None
                      else str(caught[0].message).splitlines()[0] if caught else tell("no usable NVIDIA driver or GPU"))
            raise UnavailableError(tell("PyTorch cannot use CUDA here: {reason}; choose --device cpu", reason=reason))
    for option in ("fp16", "tf32"):
        if device == "cpu" and option in options:
            raise UnavailableError(tell("option {option} exists only on CUDA: leave it out or choose --device cuda",
                                        option=option))
    if "compile" in options and shutil.which("g++") is None:
        raise UnavailableError(tell("option compile needs the C++ compiler g++: install it or leave the option out"))


def _compiler_words(options: frozenset[str]) -> str:
    """How the network is compiled, for the report."""
    if "compile" not in options:
        return "eager"
    text = "torch.compile (inductor)" + (", max-autotune" if "autotune" in options else "")  # English
    return recorded("{compiler}, weights frozen when sampling", compiler=text) if "freeze" in options else text


def measured(options: frozenset[str], device: torch.device, operators: Operators) -> Measured | None:
    """What products and convolutions are computed in; None for float32 on the CPU, where there is no choice.

    Raises:
        UnavailableError: wrong numbers, or another format than the options ask for.
    """
    if device.type == "cpu" and not half(options):
        return None
    found = precision.measured(device, options, operators)
    found.require(options)
    return found


def describe(options: frozenset[str], device: torch.device, operators: Mapping[str, str],
             found: Measured | None) -> BackendInfo:
    """What runs in this process, as PyTorch reports it and as was measured."""
    cuda = device.type == "cuda"
    properties = torch.cuda.get_device_properties(device) if cuda else None
    flags = {
        "memory_format": "channels_last" if "channels_last" in options else recorded("contiguous (NCHW)"),
        "compile": _compiler_words(options),
        "autocast": (recorded("{precision}, network only", precision=half(options)) if half(options)
                     else recorded("off")),
        "mkldnn": str(torch.backends.mkldnn.is_available()),
        "mkl": str(torch.backends.mkl.is_available()),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cuda": str(torch.version.cuda),
        "cudnn": str(torch.backends.cudnn.version()) if cuda else recorded("not used"),
        "cudnn_benchmark": str(torch.backends.cudnn.benchmark) if cuda else recorded("not used"),
        "products": found.products if found else recorded("not measured"),
        "convolutions": found.convolutions if found else recorded("not measured"),
        "git_version": torch.version.git_version,
    }
    if "fp16" in options:
        flags["loss_scale"] = "torch.amp.GradScaler"
    return BackendInfo(
        framework="PyTorch", version=torch.__version__, device=device.type,
        device_name=properties.name if properties else cpu_name(),
        device_uuid=f"GPU-{properties.uuid}" if properties else None,
        dtype=found.dtype if found else "float32", tf32=found is not None and found.tf32,
        threads=torch.get_num_threads(), operators=dict(operators), flags=flags)
