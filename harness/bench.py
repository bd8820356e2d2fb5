"""What every part of a run shares, and how a worker is brought up or given up."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.machine.counters import Counters, machine_busy_ns, process_cpu_ns, read_counters
from harness.plan import Plan
from harness.processes.scratch import Neighbour
from harness.processes.session import START_TRIES, Session, Sessions, WorkerFailedError, log_tail
from harness.processes.tools import Tools
from harness.progress import Progress
from harness.protocol import life
from harness.record.events import ArmSlot, Case, Finding
from harness.record.findings import OTHER_RUN
from harness.record.writer import RunWriter
from harness.suites.parity.numbers import random_state
from impls.errors import UsageError
from impls.recipe.config import ExperimentConfig
from impls.store.checkpoint import save_arrays

if TYPE_CHECKING:
    from harness.machine.telemetry import Telemetry

# Starting, building and the first step may compile for minutes; everything later is bounded by what it should take.
SLOW_LIMIT_S = 1800.0
COMMAND_LIMIT_S = 120.0
MAX_FAILURES = 2
# libgomp's threads spin for a few milliseconds after their last task; only then is the other arm alone.
HAND_OVER_S = 0.02


@dataclass
class Bench:
    """One run's surroundings.

    Attributes:
        plan: what runs.
        experiment: the resolved recipe.
        data_path: uint8 NHWC images as a numpy file; None for a suite that needs none.
        images: how many there are.
        threads: CPU threads of every worker.
        writer: the run folder.
        sessions: where workers come from.
        progress: what the user sees.
        telemetry: the monitors.
        window_steps: fixed number of steps in a window, or None for the 0.1 s rule.
        epochs: whole epochs to run with the native loader; None for the default.
        weights: file of the weights that are sampled from; made of random ones where it does not exist yet.
        weights_from: where they come from, for people.
        tools: starts the tools that train, sample and evaluate; None where a test needs none.
        sleep: waits so many seconds.
        clock: monotonic seconds.
        cpu_ns: CPU time used by a process; None when it cannot be read.
        busy_ns: time that the machine's CPUs were busy; None when it cannot be read.
        counters: what the kernel has taken away so far.
        neighbours: other runs that are measuring now.
        failures: failed blocks in a row of each arm.
        measured_cases: cases that are in the journal; shared by the parts of a run.
        found: codes of findings that are reported once.
        met: other runs that are in the journal.
        failed_before: cases that had failed when the run was interrupted.
        extras_done: arms whose once-a-run measurements are in the journal.
        longest_warm_up: steps of the longest warm-up found so far, by arm.
    """

    plan: Plan
    experiment: ExperimentConfig
    data_path: Path | None
    images: int
    threads: int
    writer: RunWriter
    sessions: Sessions
    progress: Progress
    telemetry: Telemetry
    window_steps: int | None = None
    epochs: int | None = None
    weights: Path | None = None
    weights_from: str = "random"
    tools: Tools | None = None
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    cpu_ns: Callable[[int], int | None] = process_cpu_ns
    busy_ns: Callable[[], int | None] = machine_busy_ns
    counters: Callable[[], Counters] = read_counters
    neighbours: Callable[[], Sequence[Neighbour]] = tuple
    failures: Counter[ArmSlot] = field(default_factory=Counter)
    extras_done: set[ArmSlot] = field(default_factory=set)
    longest_warm_up: dict[ArmSlot, int] = field(default_factory=dict)
    measured_cases: set[str] = field(default_factory=set)
    found: set[str] = field(default_factory=set)
    met: set[Neighbour] = field(default_factory=set)
    failed_before: set[str] = field(default_factory=set)

    def log(self, name: str) -> Path:
        """A log file of this run."""
        return self.writer.path / "logs" / f"{name}.log"

    def find(self, finding: Finding) -> None:
        """Record a finding and show it."""
        self.writer.append(finding)
        self.progress.say(f"{finding.severity}: {finding.message}")

    def find_once(self, finding: Finding) -> None:
        """Record a finding unless one of its code is known already."""
        if finding.code not in self.found:
            self.found.add(finding.code)
            self.find(finding)

    @property
    def anything_measured(self) -> bool:
        """Whether the run folder is worth keeping."""
        return bool(self.measured_cases)

    def of_part(self, plan: Plan, experiment: ExperimentConfig | None = None) -> Bench:
        """The same surroundings for another part of the run, whose arms start with a clean record."""
        return replace(self, plan=plan, experiment=experiment or self.experiment, failures=Counter(), extras_done=set(),
                       longest_warm_up={})

    def look_around(self, block: int | None = None) -> None:
        """Record other runs on this machine, each of them once."""
        for other in self.neighbours():
            if other not in self.met:
                self.met.add(other)
                self.find(OTHER_RUN.found(f"another ddpm-bench run (pid {other.pid}, {other.run}) is measuring on this "
                                          "machine", block=block))

    def given_up(self, slot: ArmSlot) -> bool:
        """Whether an arm failed so often that later blocks do without it."""
        return self.failures[slot] >= MAX_FAILURES

    def open(self, slot: ArmSlot, log_name: str,
             env: Mapping[str, str] | None = None) -> tuple[Session, life.Created]:
        """A worker of `slot` with its framework imported.

        Jittor may end its process with status 0 while it is imported ("please rerun"): then it is started again.

        Raises:
            WorkerFailedError: it cannot be brought up.
        """
        arm = self.plan.arm(slot)
        create = life.Create(arm=arm.name, device=self.plan.device, threads=self.threads)
        for attempt in range(START_TRIES):
            session = self.sessions.start(slot, arm, self.log(log_name), env)
            try:
                return session, session.ask(create, SLOW_LIMIT_S)
            except WorkerFailedError as error:
                session.kill()
                if error.status != 0 or attempt == START_TRIES - 1:
                    raise
            except BaseException:
                session.kill()
                raise
        raise AssertionError("the loop returns or raises")

    def build(self, session: Session, experiment: ExperimentConfig, images: int | None = None) -> life.Built:
        """Have a worker build a trainer."""
        command = life.Build(experiment=plain(experiment), data_path=str(self.data_path), images=images)
        return session.ask(command, SLOW_LIMIT_S)

    def build_sampler(self, session: Session, experiment: ExperimentConfig) -> life.Built:
        """Have a worker build a sampler with the run's weights; without any, the first one tells what they look like.

        Raises:
            WorkerFailedError: it cannot.
        """
        if self.weights is None:
            raise RuntimeError("a sampling suite without a place for its weights")
        bare = plain(experiment)
        if not self.weights.exists():
            built = session.ask(life.BuildSampler(experiment=bare), SLOW_LIMIT_S)
            made = random_state(built.shapes, experiment.seed, experiment.model.image_channels)
            save_arrays(self.weights, made.params)
        return session.ask(life.BuildSampler(experiment=bare, weights=str(self.weights)), SLOW_LIMIT_S)

    def measured(self, case: Case) -> None:
        """Record a case that was measured: from now on a run folder is worth keeping."""
        self.measured_cases.add(case.case_id)
        self.writer.append(case)

    def recovered(self, case_id: str, slot: ArmSlot, log_name: str) -> None:
        """Record that what failed before the interruption now works; nothing where it had not failed."""
        if case_id in self.failed_before:
            self.failed_before.remove(case_id)
            self.measured(Case(case_id=case_id, arm=slot, block=None, status="measured", log=f"logs/{log_name}.log"))

    def fail(self, case_id: str, slot: ArmSlot, block: int | None, error: WorkerFailedError, log_name: str) -> None:
        """Record that an arm could not go on with a case.

        Raises:
            UsageError: the user can mend it and nothing has been measured yet, so the run need not begin.
        """
        name = self.plan.arm(slot).name
        if error.cause == "usage" and not self.anything_measured:
            raise UsageError(error.message if name in error.message else f"{name}: {error.message}") from error
        log = self.log(log_name)
        tail = log_tail(log)
        if error.detail:
            tail = [*tail, *error.detail.splitlines()][-40:]
        self.writer.append(Case(case_id=case_id, arm=slot, block=block, status="failed", reason=error.message,
                                log=f"logs/{log.name}", log_tail=tail))
        self.progress.say(f"FAILED {name} in {case_id}: {error.message} (log: {log})")


def plain(experiment: ExperimentConfig) -> dict[str, Any]:
    """The experiment as JSON data."""
    data: dict[str, Any] = experiment.model_dump(mode="json")
    return data
