"""What every implementation offers to the harness and the command lines: Protocols and the small data they exchange."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from impls.ranks import Ranks
from impls.recipe.config import ExperimentConfig, Method, Spacing
from impls.recipe.isolated import Spec
from impls.recipe.profile import Profile
from impls.recipe.scaling import LossScale
from impls.recipe.trace import Call, Feed, Sink, Twin

Arrays = Mapping[str, NDArray[Any]]
Images = NDArray[np.uint8]
# Called after every step with the number of network calls done and a function that reads the images as they are now.
OnStep = Callable[[int, Callable[[], Images]], None]
# Called with a phase's name when that phase of a step, and all work that it enqueued, is finished.
Mark = Callable[[str], None]


@dataclass(frozen=True)
class BackendInfo:
    """Proof of what runs: filled in by the framework inside the worker, never by the harness.

    Attributes:
        framework: "PyTorch" or "Jittor".
        version: the framework's own version string.
        device: "cpu" or "cuda".
        device_name: the processor's or the GPU's name as the framework sees it.
        device_uuid: the GPU's UUID; None on the CPU.
        dtype: numbers the network computes with: "float32", "bfloat16", "float16".
        tf32: whether matrix products may use TF32.
        threads: CPU threads inside one operator.
        operators: which operators run where there is a choice, e.g. {"attention": "scaled_dot_product_attention"}.
        flags: build and run-time facts worth recording (cuDNN, oneDNN, compiler, memory format, ...).
    """

    framework: str
    version: str
    device: str
    device_name: str
    device_uuid: str | None
    dtype: str
    tf32: bool
    threads: int
    operators: Mapping[str, str] = field(default_factory=dict)
    flags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainerState:
    """Everything a training needs to go on exactly, as float32 numpy arrays keyed by the state-dict names.

    Attributes:
        step: optimisation steps done.
        params: the network's weights.
        ema: the averaged weights; None where the recipe keeps none.
        exp_avg: Adam's first moment per parameter.
        exp_avg_sq: Adam's second moment per parameter.
        loss_scale: how the loss is scaled for gradients in float16; None where it never was.
    """

    step: int
    params: Arrays
    ema: Arrays | None
    exp_avg: Arrays
    exp_avg_sq: Arrays
    loss_scale: LossScale | None = None


@dataclass(frozen=True)
class MemoryReading:
    """Device memory; None where it cannot be read.

    Attributes:
        allocated_bytes: held by live tensors now.
        peak_bytes: the most held by live tensors since the reading before.
        reserved_bytes: taken from the driver by the framework's allocator.
        reason: why a field is None.
    """

    allocated_bytes: int | None = None
    peak_bytes: int | None = None
    reserved_bytes: int | None = None
    reason: str | None = None


class Stepper(Protocol):
    """Work that advances a step at a time: what can be timed."""

    @property
    def info(self) -> BackendInfo:
        """What runs, with the operators and flags in force."""
        ...

    @property
    def parameter_count(self) -> int:
        """Trainable scalars of the network."""
        ...

    def step(self) -> None:
        """Enqueue one step; must not wait for the device."""
        ...

    def synchronize(self) -> None:
        """Return only when all enqueued work is finished."""
        ...

    def pending_work(self) -> int | None:
        """Operations enqueued but not finished as far as the framework can tell; None where it cannot."""
        ...

    def memory(self) -> MemoryReading:
        """Device memory of this process as the framework's allocator reports it."""
        ...

    def close(self) -> None:
        """Release loader workers and device memory."""
        ...


class Phased(Protocol):
    """What a `Stepper` may offer beside: without it an arm is timed as ever, and not explained.

    A trainer's phases are "data", "forward", "backward" and "optimizer", a sampler's "network" and "update".
    """

    def step_in_phases(self, mark: Mark) -> None:
        """One step as `step` does it, but waiting for the device at the end of each of its phases."""
        ...


class Profiling(Protocol):
    """What a `Stepper` may offer beside: without it nobody says what of its step is kernels and what is the host."""

    def profile(self, steps: int) -> Profile:
        """What so many steps launch, under the framework's own profiler; waits for the device.

        The stepper goes on as after `steps` calls of `step`, and no slower than before.
        """
        ...


class Tracing(Protocol):
    """What a `Trainer` may offer beside: without it nobody finds the first layer that differs from another arm's.

    `impls.pytorch.trace` and `impls.jittor.trace` do it for any network.
    """

    def trace(self, twin: Twin, sink: Sink, feed: Feed | None, steps: int) -> Sequence[Call]:
        """One forward and backward pass with every module looked into, or each module fed; see `impls.recipe.trace`.

        The trainer is at step 0 afterwards, with the weights that it had.

        Args:
            twin: the network as it is, in float64, or with everything off by a little.
            sink: takes the arrays.
            feed: what every call is fed with; None for the network as it runs.
            steps: fed only: whole steps behind all else.
        """
        ...


class Trainer(Stepper, Protocol):
    """One training; a step is one optimisation step on the next batch.

    Images are uint8 NHWC outside and float NCHW in [-1, 1] inside. One that scales its loss also has a method
    `loss_scale() -> LossScale | None`, which waits for the device: see `loss_scale_of`.
    """

    def losses(self) -> list[float]:
        """Losses of the steps since the last call, oldest first; waits for the device."""
        ...

    def loader_wait_ns(self) -> list[int]:
        """For every step since the last call, nanoseconds spent waiting for its batch."""
        ...

    def state(self) -> TrainerState:
        """A copy of everything needed to go on exactly; waits for the device."""
        ...

    def load_state(self, state: TrainerState) -> None:
        """Go on from `state`.

        Raises:
            CheckpointError: names or shapes differ from the network's, or values are not finite.
        """
        ...

    def predict(self, x: NDArray[np.float32], t: NDArray[np.int64]) -> NDArray[np.float32]:
        """The network's eps for x (N, C, H, W) at timesteps t (N,), dropout off, no gradient."""
        ...

    def validation_loss(self, images: Images, use_ema: bool) -> float:
        """The mean loss over `images` (N, H, W, C), dropout off, no gradient; waits for the device.

        Timesteps and noise are keyed: see `impls.recipe.validation.held_out_loss`.

        Args:
            images: at least one; not trained on.
            use_ema: with the averaged weights, where the recipe keeps them.
        """
        ...

    def gradients(self) -> tuple[float, dict[str, NDArray[np.float32]]]:
        """Loss and every unclipped gradient for the batch that the next `step()` would use; changes nothing.

        Needs `randomness="matched"` and the resident loader, where that batch is a function of (seed, step).
        """
        ...


def loss_scale_of(trainer: Trainer) -> LossScale | None:
    """How a trainer scales its loss now; None where it does not; waits for the device."""
    told: Callable[[], LossScale | None] | None = getattr(trainer, "loss_scale", None)
    return None if told is None else told()


class Probing(Protocol):
    """What a `Trainer` of another network than the U-Net offers in place of `predict`."""

    def probe(self) -> dict[str, NDArray[np.float32]]:
        """What the network puts out for the first batch, by name: dropout off, no gradient; changes nothing."""
        ...


class Sampler(Stepper, Protocol):
    """Draws images from a trained network; a step is one network call of an endless DDIM chain.

    Those chains have the configured batch size, number of steps (50 where none is configured), eta and spacing.
    """

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shapes of the weights by state-dict name."""
        ...

    def load(self, params: Arrays) -> None:
        """Use these weights, by state-dict name.

        Raises:
            CheckpointError: names or shapes differ from the network's, or values are not finite.
        """
        ...

    def sample(self, n: int, seed: int, method: Method = "ddpm", steps: int | None = None, eta: float = 0.0,
               on_step: OnStep | None = None, *, spacing: Spacing = "uniform", first: int = 0) -> Images:
        """Images number `first` to `first + n - 1` of a seed: uint8 (n, H, W, C); waits for the device.

        With matched randomness (`SampleConfig.randomness`) image i is a function of (weights, seed, i) and the
        settings alone, whatever the batch size and the framework, up to the rounding of float32.

        Args:
            n: images drawn at once.
            seed: seed of the noise.
            method: "ddpm" visits all T timesteps with the configured variance; "ddim" visits `steps` of them.
            steps: timesteps that DDIM visits, 1..T; None means T, the only choice of DDPM.
            eta: DDIM's noise level, at least 0.
            on_step: called after every network call.
            spacing: which timesteps DDIM visits.
            first: number of the first image.

        Raises:
            UsageError: a number is outside its range, or DDPM is given other steps than T.
        """
        ...

    def enqueue(self, n: int, seed: int, steps: int) -> None:
        """Ask for a DDIM chain as `sample` does, but launch and wait for nothing: what careless timing measures."""
        ...


class Backend(Protocol):
    """One framework on one device with its options chosen; importing the framework happens in `create`, not before."""

    @property
    def info(self) -> BackendInfo:
        """What this process really runs."""
        ...

    def trainer(self, config: ExperimentConfig, images: NDArray[np.uint8]) -> Trainer:
        """A trainer over `images` (N, H, W, C); `images` may be a read-only memory map."""
        ...

    def sampler(self, config: ExperimentConfig) -> Sampler:
        """A sampler for the configured network, with fresh weights until `load`."""
        ...

    def matmul_flops(self, n: int, repeats: int) -> float:
        """Best measured float32 floating-point operations per second over `repeats` n x n matrix products."""
        ...


# What a `Backend` may offer as `forwards(config)`: forward passes without gradients of a model of the user's own. A
# stepper, or a trainer, of such a model says as `images_per_step` how many images a step of it takes.
Forwarding = Callable[[ExperimentConfig], Stepper]


class Group(Protocol):
    """The processes that train one network together; what its trainers do with each other is the framework's affair."""

    ranks: Ranks

    def total(self, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        """The sum over all ranks, element by element: a few numbers on the host, after which all ranks are here.

        Every rank must call it equally often, with as many numbers, in the same order among its steps.
        """
        ...

    def average(self, on: bool) -> None:
        """Whether gradients are averaged from the next step on: without, each rank trains for itself, to be timed."""
        ...

    def all_reducer(self, floats: int) -> Callable[[], None]:
        """A function that sums so many float32 numbers over all ranks where these compute, and waits for it.

        Every rank must call it equally often.
        """
        ...

    def close(self) -> None:
        """Leave the others; nothing of the group may be used afterwards."""
        ...


class Grouping(Protocol):
    """What a `Backend` may offer beside: without it an arm trains and samples in one process."""

    def join(self, ranks: Ranks) -> Group:
        """Meet the other ranks, each of which calls it once; trainers made afterwards train one network together.

        The batch of such a trainer's configuration is that of all ranks: a rank computes its `Ranks.share`. Losses are
        those of the whole batch, and to be asked for after the same steps on all ranks, since they speak of them then.

        Raises:
            UnavailableError: they cannot meet here.
        """
        ...


class Isolated(Protocol):
    """One operator alone, with inputs of its own."""

    def run(self, times: int) -> None:
        """Run it so many times and wait for all that it computes: outputs and, in training, gradients."""
        ...


class Isolating(Protocol):
    """What a `Backend` may offer beside: without it the operators of an arm are not timed apart."""

    def operator(self, spec: Spec, batch: int, training: bool) -> Isolated | None:
        """An operator as this arm's network runs it, in its layout, on random numbers.

        Args:
            spec: kind and shapes.
            batch: images.
            training: with its backward pass: the gradient of every input that needs one and of the weights.

        Returns:
            None where this arm has no such operator of its own, e.g. because it runs as a piece of another.
        """
        ...
