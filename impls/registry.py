"""Arms by name: "pytorch", "jittor:norm=onednn", "pytorch:compile+bf16" -> a Backend; others join by entry points.

"pytorch:best" stands for other options, by device and by what is done: `Arm.spelled_out` tells which.

Nothing here imports a framework until `create` is called, so the harness can validate arms without one.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any, Literal

from impls.backend import Backend
from impls.devices import bf16_units
from impls.errors import UsageError
from impls.plugins import offered
from impls.ranks import Launcher
from impls.recipe.precision import HALVES, Precision, coarsest
from messages import marked, recorded, tell

Device = Literal["cpu", "cuda"]
Job = Literal["training", "sampling"]
ENTRY_POINT_GROUP = "ddpm_bench.backends"
BEST = "best"
TRAINING, SAMPLING = marked("training"), marked("sampling")


@dataclass(frozen=True)
class BackendSpec:
    """What is known of a backend without importing its framework.

    Attributes:
        name: the part of an arm before the colon.
        module: module to import in the worker; it has `create(options, device, threads) -> Backend`.
        options: option name -> one line for people.
        choices: name -> value -> one line for people: options given as name=value, which swap one kind of operator for
            another implementation of it.
        decides: options that leave no choice of a name, since they run operators of their own -> those names.
        devices: devices the backend can run on at all.
        cpu_only: options that exist on the CPU alone.
        cuda_only: options that exist on CUDA alone.
        any_threads: options with which the bits of a result on the CPU do not depend on the number of threads.
        compiling: options with which code is compiled while steps run; without them nothing is where there are some.
        formats: options that change the number format of products and convolutions -> that format.
        paired: options that a pair of the user's own models can have; None for a backend that runs the U-Net alone.
            `create` of another one takes a pair's file as `file`.
        file: a pair's file, which is run in place of the U-Net; None for the U-Net.
        needs: options that only change another one -> that other one.
        programs: options that need a program of the machine -> its name.
        best: what the option `best` stands for, the fastest that its own switches make this backend; bfloat16 counts
            only on a device with units for it.
        launchers: what starts several ranks of it, the usual one first; none where it runs in one process only.
        most_ranks: how many it can be at most; None for no such limit.
        prepare_module: module, or None, for a framework that compiles: it may have `prewarm(device, echo)`, which fills
            a cache before the first import; `ailments(device)`, which looks at the machine without the framework and
            gives pairs of what it looked at and a line with a fault and its remedy; `compiled_files()`, which counts
            the cache; `compiling(log)`, which tells how far compiling is by the end of a process's output, None where
            it is not at it.
    """

    name: str
    module: str
    options: Mapping[str, str]
    choices: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    decides: Mapping[str, frozenset[str]] = field(default_factory=dict)
    devices: tuple[Device, ...] = ("cpu", "cuda")
    cpu_only: frozenset[str] = frozenset()
    cuda_only: frozenset[str] = frozenset()
    any_threads: frozenset[str] = frozenset()
    compiling: frozenset[str] = frozenset()
    formats: Mapping[str, Precision] = field(default_factory=dict)
    paired: frozenset[str] | None = None
    file: str | None = None
    needs: Mapping[str, str] = field(default_factory=dict)
    programs: Mapping[str, str] = field(default_factory=dict)
    best: Mapping[tuple[Device, Job], tuple[str, ...]] = field(default_factory=dict)
    launchers: tuple[Launcher, ...] = ()
    most_ranks: int | None = None
    prepare_module: str | None = None

    @property
    def words(self) -> tuple[str, ...]:
        """Every option as it is written behind the colon."""
        swaps = (f"{name}={value}" for name, values in self.choices.items() for value in values)
        return (*self.options, *swaps, *([BEST] if self.best else []))

    def of_pair(self, file: str) -> BackendSpec:
        """The same framework, to run the models of a pair's file: without options that belong to the U-Net."""
        return replace(self, options={name: self.options[name] for name in sorted(self.paired or ())}, choices={},
                       best={}, file=file)

    def prepares(self, what: str) -> Callable[..., Any] | None:
        """A function of the prepare module; None where it has none."""
        return None if self.prepare_module is None else getattr(import_module(self.prepare_module), what, None)


@dataclass(frozen=True)
class Arm:
    """One side of a comparison: a backend with its options, in canonical order.

    Attributes:
        backend: the backend's name.
        options: option names, sorted.
        spec: the backend's description.
    """

    backend: str
    options: tuple[str, ...]
    spec: BackendSpec = field(repr=False, compare=False)

    @property
    def name(self) -> str:
        """Canonical text, e.g. "pytorch:bf16+compile"."""
        return self.backend + (":" + "+".join(self.options) if self.options else "")

    @property
    def precision(self) -> Precision:
        """The coarsest number format that its options ask for; what it computes in, its worker proves."""
        return coarsest("float32", *(self.spec.formats[name] for name in self.options if name in self.spec.formats))

    @property
    def compiles(self) -> bool:
        """Whether an option has code compiled while steps run."""
        return not self.spec.compiling.isdisjoint(self.options)

    def device_fault(self, device: Device) -> str | None:
        """Why this arm cannot run on `device` whatever the machine; None when it can."""
        if device not in self.spec.devices:
            return recorded("{arm} runs only on {devices}", arm=self.name, devices=" and ".join(self.spec.devices))
        wrong = (self.spec.cpu_only if device == "cuda" else self.spec.cuda_only).intersection(self.options)
        if wrong:
            if device == "cuda":
                return recorded("{arm}: option {option} exists only on the CPU", arm=self.name,
                                option=repr(min(wrong)))
            return recorded("{arm}: option {option} exists only on CUDA", arm=self.name, option=repr(min(wrong)))
        return None

    def swaps(self, device: Device) -> tuple[Arm, ...]:
        """This arm with one more of its backend's choices each: all that it leaves open and that exist on a device."""
        taken = {option.partition("=")[0] for option in self.options}
        taken.update(name for option in self.options for name in self.spec.decides.get(option, ()))
        found = (self.with_options(f"{name}={value}") for name, values in self.spec.choices.items()
                 if name not in taken for value in values)
        return tuple(arm for arm in found if arm.device_fault(device) is None)

    def with_options(self, *more: str) -> Arm:
        """This arm with further options, which go with those that it has."""
        return replace(self, options=tuple(sorted({*self.options, *more})))

    def spelled_out(self, device: Device, job: Job = "training") -> Arm:
        """What the option `best` stands for there; any other arm itself.

        Raises:
            UsageError: nothing is known of it there, or the machine lacks a program that it needs.
        """
        if BEST not in self.options:
            return self
        found = self.spec.best.get((device, job))
        if found is None:
            raise UsageError(tell("{arm}: not known for {job} on {device}: name the options", arm=self.name,
                                  job=tell(job), device=device))
        units = bf16_units(device)
        arm = replace(self, options=tuple(sorted(
            option for option in found if units or self.spec.formats.get(option) != "bfloat16")))
        for option in arm.options:
            program = self.spec.programs.get(option)
            if program is not None and shutil.which(program) is None:
                raise UsageError(tell("{arm} stands for {options} here, and {option} needs the program {program}: "
                                      "install it, or name other options", arm=self.name,
                                      options="+".join(arm.options), option=option, program=program))
        return arm

    def create(self, device: Device, threads: int) -> Backend:
        """Import the framework and build the backend (in a worker process).

        Raises:
            UnavailableError: the framework, the device or an option cannot be used here.
        """
        if BEST in self.options:
            raise RuntimeError(f"{self.name} stands for other options: it was not written out")
        factory: Callable[..., Backend] = import_module(self.spec.module).create
        more: dict[str, str] = {} if self.spec.file is None else {"file": self.spec.file}
        return factory(options=self.options, device=device, threads=threads, **more)


BUILT_IN: tuple[BackendSpec, ...] = (
    BackendSpec(
        name="pytorch",
        module="impls.pytorch.backend",
        options={
            "channels_last": marked("store feature maps as NHWC"),
            "compile": marked("torch.compile the network"),
            "autotune": marked("have compile try several kernels for each product and convolution, and take the "
                               "fastest"),
            "freeze": marked("have compile fold and reorder the weights ahead of time, where they stay: in sampling"),
            "bf16": marked("autocast the network to bfloat16"),
            "fp16": marked("autocast the network to float16, the loss scaled by GradScaler (CUDA)"),
            "tf32": marked("TF32 matrix products and convolutions (CUDA)"),
        },
        choices={
            "attention": {
                "math": marked("attention's products and softmax one by one"),
                "fused": marked("attention by PyTorch's fused kernels, whatever copies they need"),
            },
        },
        cuda_only=frozenset({"fp16", "tf32"}),
        compiling=frozenset({"compile"}),
        formats={"bf16": HALVES["bf16"], "fp16": HALVES["fp16"], "tf32": "tf32"},
        paired=frozenset({"channels_last", "compile", "tf32"}),
        needs={"autotune": "compile", "freeze": "compile"},
        programs={"compile": "g++"},
        # Each choice is justified in docs/performance.md, or said there not to be measured.
        best={
            ("cpu", "training"): ("bf16",),
            ("cpu", "sampling"): ("bf16", "channels_last", "compile"),
            ("cuda", "training"): ("bf16", "channels_last", "compile"),
            ("cuda", "sampling"): ("bf16", "channels_last", "compile"),
        },
        prepare_module="impls.pytorch.cache",
        launchers=("torchrun", "srun"),
    ),
    BackendSpec(
        name="jittor",
        module="impls.jittor.backend",
        options={
            "amp": marked("convolutions and products of the network in float16, the loss scaled as by GradScaler "
                          "(CUDA)"),
            "tf32": marked("TF32 matrix products and convolutions (CUDA)"),
            "onednn": marked("the network channels-last, and Adam, by C++ operators of our own over oneDNN (CPU)"),
            "bf16": marked("have onednn compute convolutions, linear layers and attention's products in bfloat16 "
                           "(CPUs with units for it)"),
        },
        choices={
            "attention": {"onednn": marked("attention alone by the operator of `onednn` (CPU)")},
            "norm": {"onednn": marked("GroupNorm with its SiLU alone by a C++ operator of our own (CPU)")},
            "optimiser": {"onednn": marked("clipping, Adam and averaged weights alone by the operator of `onednn` "
                                           "(CPU)")},
        },
        decides={"onednn": frozenset({"attention", "norm", "optimiser"})},
        cpu_only=frozenset({"onednn", "bf16", "attention=onednn", "norm=onednn", "optimiser=onednn"}),
        cuda_only=frozenset({"amp", "tf32"}),
        formats={"amp": HALVES["amp"], "bf16": HALVES["bf16"], "tf32": "tf32"},
        needs={"bf16": "onednn"},
        paired=frozenset({"tf32"}),
        launchers=("mpirun", "srun"),
        # Where MPI starts, Jittor 1.3.11 writes beyond an array that grows with the rank's number.
        most_ranks=64,
        prepare_module="impls.jittor.runtime",
    ),
)


def specs(file: str | None = None) -> dict[str, BackendSpec]:
    """Every known backend by name: the built-in ones, then those of the entry-point group `ddpm_bench.backends`.

    An entry point names a `BackendSpec`.

    Args:
        file: a pair's file, for the backends that run its models.

    Raises:
        UsageError: an entry point cannot be loaded, or names something else.
    """
    known = {spec.name: spec for spec in BUILT_IN}
    for spec, where in offered(ENTRY_POINT_GROUP):
        if not isinstance(spec, BackendSpec) or spec.name in known:
            raise UsageError(tell("{where}: expected a BackendSpec with a name of its own", where=where))
        known[spec.name] = spec
    if file is None:
        return known
    return {name: spec.of_pair(file) for name, spec in known.items() if spec.paired is not None}


def parse_arm(text: str, known: Mapping[str, BackendSpec] | None = None) -> Arm:
    """An `Arm` from "backend" or "backend:option+name=value".

    Args:
        text: the arm.
        known: the backends by name, where they are looked up already.

    Raises:
        UsageError: unknown backend, option or value, an option twice, or options that exclude each other.
    """
    match = re.fullmatch(r"([A-Za-z0-9_-]+)(?::([A-Za-z0-9_+=-]+))?", text.strip())
    if not match:
        raise UsageError(tell("arm {text}: expected backend or backend:option+option, e.g. "
                              "pytorch:channels_last+compile", text=repr(text)))
    known = specs() if known is None else known
    spec = known.get(match[1])
    if spec is None:
        raise UsageError(tell("arm {text}: unknown backend {backend}: choose one of {known}", text=repr(text),
                              backend=repr(match[1]), known=", ".join(known)))
    options = match[2].split("+") if match[2] else []
    fault = next(filter(None, (_unknown(spec, option) for option in options)), None) or _contradiction(spec, options)
    if fault is not None:
        raise UsageError(tell("arm {text}: {fault}", text=repr(text), fault=fault))
    return Arm(spec.name, tuple(sorted(options)), spec)


def _unknown(spec: BackendSpec, option: str) -> str | None:
    """Why a backend has no such option; None where it has."""
    if option in spec.words:
        return None
    name = option.partition("=")[0]
    if name in spec.choices:
        return tell("{name} is one of {choices}, not {option}", name=name,
                    choices=", ".join(f"{name}={value}" for value in spec.choices[name]), option=repr(option))
    return tell("unknown option {option}: {backend} has {options}", option=repr(option), backend=spec.name,
                options=", ".join(spec.words) or tell("none"))


def _contradiction(spec: BackendSpec, options: list[str]) -> str | None:
    """Why options of a backend do not go together; None where they do."""
    if len(set(options)) < len(options):
        return tell("an option is given twice")
    if BEST in options and len(options) > 1:
        return tell("{best} stands for options of its own, by device and machine: leave it or the others out",
                    best=BEST)
    for option in options:
        if (other := spec.needs.get(option)) is not None and other not in options:
            return tell("{option} only changes {other}: add {other}, or leave it out", option=option, other=other)
    halves = {option for option in options if spec.formats.get(option, "tf32") != "tf32"}
    clashes = [sorted(halves)]
    for name in spec.choices:
        chosen = [option for option in options if option.startswith(f"{name}=")]
        clashes += [chosen, *([one, *chosen] for one in options if chosen and name in spec.decides.get(one, ()))]
    clash = next((each for each in clashes if len(each) > 1), None)
    if clash is None:
        return None
    return tell("{options} exclude each other: choose one", options=tell(" and ").join(clash))


def leading_arm(text: str, known: Mapping[str, BackendSpec] | None = None) -> tuple[Arm, str] | None:
    """The arm before an "=" and what stands behind it; None where no arm does.

    The first "=" that ends an arm counts: one of its options may hold another.
    """
    known = specs() if known is None else known
    for sign in re.finditer("=", text):
        with suppress(UsageError):
            return parse_arm(text[: sign.start()], known), text[sign.end() :]
    return None


def parse_arms(text: str, file: str | None = None) -> tuple[Arm, ...]:
    """The comma-separated arms of `--arms`, where given of a pair's file; the same arm may stand twice (A/A).

    Raises:
        UsageError: as `parse_arm`, or no arm at all.
    """
    parts = text.split(",")
    if not any(part.strip() for part in parts):
        raise UsageError(tell("--arms is empty: give at least one, e.g. --arms pytorch,jittor"))
    if not all(part.strip() for part in parts):
        raise UsageError(tell("--arms {text}: a name is missing beside a comma", text=text))
    known = specs(file)
    return tuple(parse_arm(part, known) for part in parts)
