"""A backend without a framework: how long a step takes comes from the test, what it computes is three small arrays."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable

import numpy as np
import scripted_faults
import scripted_pair

from impls.backend import BackendInfo, MemoryReading, TrainerState
from impls.errors import UnavailableError
from impls.recipe.scaling import LossScale
from impls.recipe.trace import Call
from impls.registry import BackendSpec

SHAPES = {"conv.weight": (4, 3, 3, 3), "norm.weight": (4,), "norm.bias": (4,)}

SPEC = BackendSpec(
    name="scripted", module="scripted_backend",
    options={
        "slow": "every step takes twice as long", "crash": "the process ends at a step", "raise": "a step raises",
        "oom": "a step runs out of memory", "lost": "the GPU is gone at a step",
        "full": "the disk is full while a step compiles", "unusable": "cannot be created",
        "wrong": "computes something else",
        "warped": "computes what no rounding explains",
        "half": "says it computes in bfloat16", "tf32": "says it computes in TF32",
        "scaled": "says it computes in float16, and that it scales its loss and left two steps out",
        "eager": "does not wait for its work", "leaky": "leaves work pending",
        "quit": "the process ends with status 0 while it is created", "uncut": "has no phases",
        **{name: f"a step does as its name says: {name}" for name in scripted_faults.FAULTS},
    },
    formats={"half": "bfloat16", "tf32": "tf32", "scaled": "float16"}, paired=frozenset({"slow", "wrong"}),
    launchers=("torchrun", "mpirun", "srun"))


class OwnTime:
    """Time of a process of its own: it passes only by steps, so that no load on the machine can change a result."""

    def __init__(self) -> None:
        self.ns = time.perf_counter_ns()

    def __call__(self) -> int:
        return self.ns


def scripted_spend(options: frozenset[str], process: int, step: int) -> None:
    """A step takes 0.1 s of this process's own time, twice as much for "slow"."""
    if not isinstance(time.perf_counter_ns, OwnTime):
        time.perf_counter_ns = OwnTime()
    time.perf_counter_ns.ns += 200_000_000 if "slow" in options else 100_000_000
    if wait := float(os.environ.get("SCRIPTED_WAIT_S", "0")):
        time.sleep(wait)


# Of a sampler's step, which takes as long as a trainer's.
CALL_NS = {"network": 90_000_000, "update": 10_000_000}
PHASES_NS = {"data": 5_000_000, "forward": 25_000_000, "backward": 50_000_000, "optimizer": 20_000_000}


def scripted_spend_phase(options: frozenset[str], process: int, step: int, phase: str) -> None:
    """A phase of a step: together they take as long as `scripted_spend`."""
    if not isinstance(time.perf_counter_ns, OwnTime):
        time.perf_counter_ns = OwnTime()
    time.perf_counter_ns.ns += (PHASES_NS | CALL_NS)[phase] * (2 if "slow" in options else 1)


# A test in this process replaces these.
spend_phase: Callable[[frozenset[str], int, int, str], None] = scripted_spend_phase
spend: Callable[[frozenset[str], int, int], None] = scripted_spend
enqueue: Callable[[frozenset[str], int, int], None] = lambda options, process, step: None  # noqa: E731
spend_batch: Callable[[frozenset[str], int, int], None] = lambda options, process, step: None  # noqa: E731
spend_wait: Callable[[frozenset[str], int, int], None] = lambda options, process, step: None  # noqa: E731
# A test sets it: told the options and how many steps. Without it there is no profiler.
profile: Callable[[frozenset[str], int], object] | None = None
crash: Callable[[], None] = lambda: os._exit(3)  # noqa: E731
CRASH_AT = int(os.environ.get("SCRIPTED_CRASH_AT", "30"))

# A test sets it: how long a step of a rank takes, told the options, the rank, its images and whether it averages.
spend_rank: Callable[[frozenset[str], int, int, bool], None] | None = None
# The same of a sum, told how many ranks there are and how many floats.
spend_sum: Callable[[int, int], None] = lambda size, floats: None  # noqa: E731

process_numbers = itertools.count()


class ScriptedGroup:
    """Ranks that never speak to each other: each computes what all would."""

    def __init__(self, ranks):
        self.ranks, self.averages = ranks, True

    def total(self, numbers):
        return numbers * self.ranks.size

    def average(self, on):
        self.averages = on

    def all_reducer(self, floats):
        return lambda: spend_sum(self.ranks.size, floats)

    def close(self):
        pass


class ScriptedTrainer:
    def __init__(self, config, images, options, process, info, group=None):
        self.config, self.options, self.process, self.group = config, options, process, group
        rng = np.random.default_rng(config.seed)
        self.params = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}
        if group is not None and group.ranks.rank and "wrong" in options:
            self.params["norm.bias"] += 1
        self.steps, self.unread, self.waits, self.enqueued = 0, [], [], []
        self.images = images
        self.info = info
        self.parameter_count = sum(value.size for value in self.params.values())
        self.closed = False
        if "uncut" in options:
            self.step_in_phases = None
        if "tf32" in options:
            self.trace = None
        if profile is not None:
            self.profile = lambda steps: profile(options, steps)

    def step(self):
        if "eager" in self.options:
            # Asking for a step takes a twentieth of it; the rest is done when somebody reads a loss.
            enqueue(self.options, self.process, self.steps)
            self.enqueued.append(self.steps)
        elif self.group is not None and spend_rank is not None:
            ranks, batch = self.group.ranks, self.config.train.batch_size
            spend_rank(self.options, ranks.rank, batch // ranks.size, self.group.averages)
        else:
            spend(self.options, self.process, self.steps)
        if self.config.train.loader == "native":
            spend_batch(self.options, self.process, self.steps)
        self._advance()

    def step_in_phases(self, mark):
        for phase in PHASES_NS:
            spend_phase(self.options, self.process, self.steps, phase)
            mark(phase)
        self._advance()

    def _advance(self):
        if self.steps == CRASH_AT:
            self._fault()
        self.unread.append(self._loss())
        self.params = {name: value - np.float32(1e-4) * np.sign(self._gradient(name)) for name, value in
                       self.params.items()}
        self.steps += 1
        self.waits.append(1000)

    def _fault(self):
        if "crash" in self.options:
            print("about to crash", flush=True)
            crash()
        if "raise" in self.options:
            raise RuntimeError("the step went wrong")
        if "oom" in self.options:
            raise MemoryError("no room for the step")
        if "lost" in self.options:
            raise RuntimeError("CUDA error: unspecified launch failure\nSearch for `cudaErrorLaunchFailure' there")
        if "full" in self.options:
            raise RuntimeError("Run cmd failed: g++ a.cc\n/usr/bin/ld: final link failed: No space left on device\nx")
        for name in self.options & scripted_faults.FAULTS.keys():
            print(f"about to {name}", flush=True)
            scripted_faults.FAULTS[name]()

    def _loss(self):
        return float(np.mean([np.mean(np.square(value)) for value in self.params.values()]))

    def _gradient(self, name):
        return (2 * self.params[name] / self.params[name].size).astype(np.float32)

    def losses(self):
        for step in self.enqueued:
            spend(self.options, self.process, step)
        self.enqueued = []
        unread, self.unread = self.unread, []
        return unread

    def synchronize(self):
        spend_wait(self.options, self.process, self.steps)

    def pending_work(self):
        return self.steps if "leaky" in self.options else 0

    def loader_wait_ns(self):
        waits, self.waits = self.waits, []
        return waits

    def memory(self):
        return MemoryReading(reason="a scripted backend has no device")

    def state(self):
        zeros = {name: np.zeros_like(value) for name, value in self.params.items()}
        return TrainerState(self.steps, dict(self.params), None, zeros, zeros)

    def load_state(self, state):
        self.params, self.steps = dict(state.params), state.step

    def loss_scale(self):
        return LossScale(scale=16384.0, skipped=2) if "scaled" in self.options else None

    def predict(self, x, t):
        more = 0.01 * ("wrong" in self.options) + 9 * ("warped" in self.options)
        factor = self.params["conv.weight"].mean() * (1 + more)
        return (x * np.float32(factor)).astype(np.float32)

    def gradients(self):
        return self._loss(), {name: self._gradient(name) for name in self.params}

    def trace(self, twin, sink, feed, steps):
        """Two modules, of which the second computes something else in arm "wrong"; none in arm "uncut"."""
        calls = [] if "uncut" in self.options else [
            Call(0, "", "Net", 0, None), Call(1, "one", "Double", 0, 0), Call(2, "two", "Triple", 0, 0)]
        off = {"plain": 1.0, "double": 1 + 1e-8, "perturbed": 1 + 1e-7}[twin]
        factors = [6 * (1 + 0.01 * ("wrong" in self.options)), 2.0, 3 * (1 + 0.01 * ("wrong" in self.options))]
        x = np.linspace(1, 2, 6)
        for call, factor, at in zip(calls, factors, (x, x, 2 * x), strict=False):
            if feed is None:
                sink(f"run {call.number}", {"input 0": at * off})
                sink(f"out {call.number}", {"output 0": at * factor * off})
                sink(f"back {call.number}", {"gradient of output 0": np.ones(6)})
            else:
                sink(f"fed {call.number}", {"output 0": feed.of(call.name, call.nth)["input 0"] * factor * off})
        if feed is None:
            sink("loss", {"loss": np.array(1.0 + 0.1 * ("wrong" in self.options))})
        return calls

    def close(self):
        self.closed = True


class ScriptedSampler:
    """Draws flat images: every network call takes one step's time, the rest of a batch none."""

    def __init__(self, config, options, process, info):
        self.config, self.options, self.process = config, options, process
        self.info, self.calls, self.params, self.enqueued = info, 0, {}, []
        self.shapes = SHAPES
        self.parameter_count = sum(int(np.prod(shape)) for shape in SHAPES.values())
        if profile is not None:
            self.profile = lambda steps: profile(options, steps)

    def load(self, params):
        self.params = dict(params)

    def sample(self, n, seed, method="ddpm", steps=None, eta=0.0, on_step=None, *, spacing="uniform", first=0):
        for step in self.enqueued:
            spend(self.options, self.process, step)
        self.enqueued = []
        for done in range(1, (steps or self.config.diffusion.T) + 1):
            spend(self.options, self.process, self.calls)
            self._called()
            if on_step is not None:
                on_step(done, lambda: self._images(n, seed))
        return self._images(n, seed)

    def _images(self, n, seed):
        size = self.config.model.image_size
        bias = float(np.sum(self.params.get("norm.bias", 0)))
        level = seed + round(1000 * bias) + (7 if "wrong" in self.options else 0)
        return np.full((n, size, size, self.config.model.image_channels), level % 256, np.uint8)

    def step(self):
        if "eager" in self.options:
            enqueue(self.options, self.process, self.calls)
            self.enqueued.append(self.calls)
        else:
            spend(self.options, self.process, self.calls)
        self._called()

    def step_in_phases(self, mark):
        for phase in CALL_NS:
            spend_phase(self.options, self.process, self.calls, phase)
            mark(phase)
        self._called()

    def _called(self):
        if self.calls == CRASH_AT and "crash" in self.options:
            crash()
        self.calls += 1

    def enqueue(self, n, seed, steps):
        for _ in range(steps):
            self.step()

    def synchronize(self):
        pass

    def pending_work(self):
        return 0

    def memory(self):
        return MemoryReading(reason="a scripted backend has no device")

    def close(self):
        pass


# A test sets it: told the options, the process, the operator and how often it runs. Without it none runs alone.
run_operator: Callable[[frozenset[str], int, object, int], None] | None = None
# Kinds of operators that arm "slow" has not, or cannot run.
LACKING: set[str] = set()
FAILING: set[str] = set()


class ScriptedOperator:
    def __init__(self, options, process, spec):
        self.options, self.process, self.spec = options, process, spec

    def run(self, times):
        run_operator(self.options, self.process, self.spec, times)


class ScriptedBackend:
    def __init__(self, options, device, threads):
        self.options, self.process = options, next(process_numbers)
        if run_operator is not None and "uncut" not in options:
            self.operator = self._operator
        self.info = info(options, device, threads)
        self.group = None

    def join(self, ranks):
        self.group = ScriptedGroup(ranks)
        return self.group

    def trainer(self, config, images):
        return ScriptedTrainer(config, images, self.options, self.process, self.info, self.group)

    def forwards(self, config):
        return self.trainer(config, None)

    def sampler(self, config):
        return ScriptedSampler(config, self.options, self.process, self.info)

    def _operator(self, spec, batch, training):
        if "slow" in self.options and spec.kind in LACKING:
            return None
        if "slow" in self.options and spec.kind in FAILING:
            raise RuntimeError("no kernel for upsample")
        return ScriptedOperator(self.options, self.process, spec)

    def matmul_flops(self, n, repeats):
        return 1e9


def info(options, device, threads):
    return BackendInfo(framework="Scripted", version="1", device=device, device_name="none", device_uuid=None,
                       dtype="bfloat16" if "half" in options else "float16" if "scaled" in options else "float32",
                       tf32="tf32" in options, threads=threads)


def create(options, device, threads, file=None):
    if "unusable" in options:
        raise UnavailableError("scripted: this backend was told to be unusable")
    if "quit" in options:
        raise SystemExit(0)
    plain = ScriptedBackend(frozenset(options), device, threads)
    return plain if file is None else scripted_pair.ScriptedPairBackend(plain, ScriptedTrainer, file)
