"""In-process workers with a clock of their own, and real ones with the scripted backend installed beside them."""

from __future__ import annotations

import io
import itertools
import math
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
FAKE = ROOT / "tests" / "fake_backend"
sys.path.insert(0, str(FAKE))

import scripted_backend  # noqa: E402
import scripted_faults  # noqa: E402
import scripted_site  # noqa: E402
from fake_tools import ARMS, FakeTools  # noqa: E402

from harness import protocol  # noqa: E402
from harness.bench import Bench  # noqa: E402
from harness.ledger import Ledger  # noqa: E402
from harness.machine.counters import Counters  # noqa: E402
from harness.options import BenchConfig, experiment  # noqa: E402
from harness.part import Asked  # noqa: E402
from harness.plan import make_plans  # noqa: E402
from harness.processes.group import Group  # noqa: E402
from harness.processes.janitor import MARK  # noqa: E402
from harness.processes.scratch import Scratch  # noqa: E402
from harness.processes.session import Session  # noqa: E402
from harness.progress import Progress  # noqa: E402
from harness.protocol import life  # noqa: E402
from harness.record.events import DatasetRecorded, EnvironmentRecorded  # noqa: E402
from harness.record.run import RecordedRun, read_run  # noqa: E402
from harness.record.writer import RunWriter  # noqa: E402
from harness.run.resolve import Job, given_pair  # noqa: E402
from harness.run.runner import Runner  # noqa: E402
from harness.run.start import Opening  # noqa: E402
from harness.worker.worker import Worker  # noqa: E402
from impls import registry  # noqa: E402
from impls.ranks import Ranks  # noqa: E402


class ProcessEndedError(BaseException):
    """An in-process worker's `os._exit`."""


@dataclass
class FakeClock:
    """Time that passes only when a step is taken or a sleep is asked for."""

    ns: int = 1_000_000_000

    def __call__(self) -> int:
        return self.ns

    def seconds(self) -> float:
        return self.ns / 1e9

    def sleep(self, seconds: float) -> None:
        self.ns += round(seconds * 1e9)


@dataclass
class FakeHandle:
    pid: int
    status: int | None = None
    killed: bool = False

    def poll(self) -> int | None:
        return self.status

    def wait(self, timeout_s: float) -> int | None:
        return self.status

    def kill(self) -> None:
        self.killed = True


class InProcessChannel:
    """Both ends of a channel: what is sent is obeyed at once, through the same JSON as in real runs."""

    def __init__(self, worker: Worker, handle: FakeHandle, spy: Callable[[protocol.Command], None]) -> None:
        self.worker, self.handle, self.spy = worker, handle, spy
        self.replies: list[bytes] = []

    def send_bytes(self, data: bytes) -> None:
        command = protocol.decode_command(data)
        self.spy(command)
        try:
            self.replies.append(protocol.encode(self.worker.handle(command)))
        except (ProcessEndedError, SystemExit) as end:
            self.handle.status = 0 if isinstance(end, SystemExit) else 3
        if isinstance(command, life.Stop):
            self.handle.status = 0

    def recv_bytes(self, maxlength: int | None = None) -> bytes:
        if not self.replies:
            raise EOFError
        return self.replies.pop(0)

    def poll(self, timeout: float | None = 0.0) -> bool:
        return True

    def close(self) -> None:
        pass


@dataclass
class FakeGroup(Group):
    """Ranks in this process, each of which is given the same time."""

    members: list[Session] = field(default_factory=list)
    time: FakeClock | None = None

    @property
    def hosts(self):
        return ["here"] * len(self.members)

    @property
    def pids(self):
        return [self.pid] * len(self.members)

    def ask_all(self, command, limit_s):
        began, ended, told = self.time.ns, self.time.ns, []
        for member in self.members:
            self.time.ns = began
            told.append(member.ask(command, limit_s))
            ended = max(ended, self.time.ns)
        self.time.ns = ended
        return told


@dataclass
class FakeSessions:
    clock: FakeClock
    folders: Path
    spy: Callable[[protocol.Command], None] = lambda command: None
    handles: list[FakeHandle] = field(default_factory=list)
    env: list[Mapping[str, str] | None] = field(default_factory=list)

    def start(self, slot, arm, log, env=None, by=None):
        log.write_text("hello from the log\n")
        handle = FakeHandle(pid=1000 + len(self.handles))
        self.handles.append(handle)
        self.env.append(env)
        if by is not None:
            places = [Ranks(rank, by.ranks, rank, by.ranks, by.launcher) for rank in range(by.ranks)]
            members = [Session(slot, arm, handle.pid, 5_000_000, log, InProcessChannel(
                Worker(self.clock, ranks=place), handle, self.spy), handle, Progress(quiet=True), self.clock.seconds)
                for place in places]
            return FakeGroup(slot, arm, handle.pid, 5_000_000, log, members[0].channel, handle, Progress(quiet=True),
                             self.clock.seconds, launcher=by.launcher, members=members, time=self.clock)
        channel = InProcessChannel(Worker(self.clock), handle, self.spy)
        return Session(slot, arm, handle.pid, 5_000_000, log, channel, handle, Progress(quiet=True),
                       self.clock.seconds)

    def folder(self, purpose):
        return contextmanager(lambda: (yield Path(tempfile.mkdtemp(dir=self.folders))))()

    def close(self):
        pass


class FakeTelemetry:
    def __init__(self) -> None:
        self.reasons: list[list[str]] = []
        self.watched: list[dict] = []

    def start(self): ...

    def watch(self, pids):
        self.watched.append(dict(pids))

    def pause(self): ...

    def resume(self): ...

    def energy_mj(self):
        return {}

    def mark(self): ...

    def disturbances(self):
        return self.reasons.pop(0) if self.reasons else []

    def findings(self):
        return []


@dataclass
class Lab:
    """One in-process run; `step_ns(options, process, step)` says how long a step takes.

    `late_s` is added to the run's own clock, not to the workers'.
    """

    tmp_path: Path
    clock: FakeClock
    sessions: FakeSessions
    telemetry: FakeTelemetry
    stream: io.StringIO
    cpu: dict[int, int] = field(default_factory=dict)
    load: float | None = None
    busy_ns: Callable[[], int | None] = lambda: None
    tools: object | None = None
    late_s: float = 0.0
    threads: int = 1
    counters: Counters = Counters(monotonic_s=0, raw_s=0, boot_s=0, wall_s=0, processors=2)

    def bench(self, config: BenchConfig, writer: RunWriter | None = None) -> tuple[Bench, Opening]:
        data = self.tmp_path / "images.npy"
        if not data.exists():
            np.save(data, np.zeros((64, 32, 32, 3), np.uint8))
        # Scripted arms compute nothing, so that they run on any device.
        device = "cuda" if config.device == "cuda" else "cpu"
        recipe = experiment(config, {}, device)
        plans = make_plans(Asked(config, device, recipe.diffusion.T))
        plan = plans[0]
        writer = writer or RunWriter.create(self.tmp_path / "results", plan.suite.name, self.clock)
        ledger = Ledger(writer, Progress(stream=self.stream), {slot: arm.name for slot, arm in plan.arms})
        bench = Bench(plan=plan, experiment=recipe, ledger=ledger, sessions=self.sessions, telemetry=self.telemetry,
                      threads=self.threads, data_path=None if config.pair else data, images=0 if config.pair else 64,
                      dataset="digits",
                      weights=self.tmp_path / "weights.safetensors", tools=self.tools, sleep=self.clock.sleep,
                      clock=lambda: self.clock.seconds() + self.late_s,
                      cpu_ns=lambda pid: self.cpu.get(pid, 0), busy_ns=self.busy_ns,
                      counters=lambda: self.counters, load=lambda: self.load)
        images = DatasetRecorded(name="digits", images=64, shape=[32, 32, 3], sha256="0", why="test")
        opening = Opening(Job(config, recipe, plans, "as asked", ["run_bench.py"], pair=given_pair(config)),
                          EnvironmentRecorded(facts={"cpu": "x"}), None if config.pair else images)
        return bench, opening

    @staticmethod
    def going_on(opening: Opening, resumed: RecordedRun) -> Opening:
        """The same job, gone on with."""
        return replace(opening, job=replace(opening.job, resumed=resumed))

    @staticmethod
    def cut_off(bench: Bench, opening: Opening) -> None:
        """A run that ends as by Ctrl-C."""
        runner = Runner(bench, opening)
        with pytest.raises(KeyboardInterrupt):
            runner.run()
        bench.writer.finish(runner.end("interrupted", 130))
        bench.writer.close()

    @staticmethod
    def uneven(ratio: float, step_ms: float = 100):
        """`ratio` between the arms, and processes that differ by 4 %: near 1 no early look can be sure."""
        return lambda options, process, step: (1e6 * step_ms * (ratio if "slow" in options else 1)
                                               * math.exp(np.random.default_rng(process).normal(0, 0.04)))

    def run(self, **options):
        bench, opening = self.bench(BenchConfig(**{"device": "cpu", "preset": "tiny", **options}))
        end = Runner(bench, opening).run()
        bench.writer.finish(end)
        bench.writer.close()
        run = read_run(bench.writer.path)
        assert bench.writer.run == run
        return end, run


@pytest.fixture
def lab(tmp_path, monkeypatch):
    clock = FakeClock()
    monkeypatch.setattr(registry, "BUILT_IN", (*registry.BUILT_IN, scripted_backend.SPEC, *scripted_faults.SPECS))
    monkeypatch.setattr(scripted_backend, "process_numbers", itertools.count())
    # Collecting this process's garbage thirty times would cost seconds and prove nothing.
    monkeypatch.setattr("harness.worker.worker.gc", SimpleNamespace(collect=int, freeze=int, unfreeze=int))

    def crash():
        raise ProcessEndedError

    monkeypatch.setattr(scripted_backend, "crash", crash)
    made = Lab(tmp_path, clock, FakeSessions(clock, tmp_path), FakeTelemetry(), io.StringIO())

    def script(step_ns: Callable[[frozenset[str], int, int], float]) -> None:
        monkeypatch.setattr(scripted_backend, "spend",
                            lambda options, process, step: clock.sleep(step_ns(options, process, step) / 1e9))

    made.script = script
    phases_ns = scripted_backend.PHASES_NS | scripted_backend.CALL_NS
    # The backend's own would stop the clock of this process, which goes on after the test.
    monkeypatch.setattr(scripted_backend, "spend_phase", lambda options, process, step, phase: clock.sleep(
        phases_ns[phase] * (2 if "slow" in options else 1) / 1e9))
    script(lambda options, process, step: 100e6 * (1.1 if "slow" in options else 1.0))
    return made


@pytest.fixture
def quality(lab):
    """One quality run of two arms, two cells and two milestones, with tools that do no work."""
    lab.tools = FakeTools()

    def run(**options):
        return lab.run(**{"suite": "quality", "arms": ARMS, "num_images": 6, "steps": "10,50", "train_steps": "2,4",
                          **options})

    return run


@pytest.fixture
def scratch():
    with Scratch() as made:
        yield made
    assert not made.path.exists()


@pytest.fixture
def real_env(tmp_path):
    """Environment of a real run in which the scripted backend is installed as an outside package."""
    # Without the mark of a scratch folder that the test has open: monkeypatch would put it back after it is closed.
    env = {name: value for name, value in os.environ.items() if name != MARK}
    scripted_site.install(env, tmp_path)
    return env
