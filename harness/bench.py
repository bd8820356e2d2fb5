"""What is at hand while a part of a run is measured, and how a worker is brought up or given up."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.ledger import Ledger
from harness.machine.counters import Counters, load_average, machine_busy_ns, process_cpu_ns, read_counters
from harness.plan import Plan
from harness.processes.ranks import Launch
from harness.processes.session import START_TRIES, Session, WorkerFailedError
from harness.processes.tools import Tools
from harness.processes.workers import LocalSessions
from harness.progress import Progress
from harness.protocol import life
from harness.record.events import ArmSlot
from harness.record.writer import RunWriter
from impls.recipe.config import ExperimentConfig

if TYPE_CHECKING:
    from harness.machine.telemetry import Telemetry

# Starting, building and the first step may compile for minutes; everything later is bounded by what it should take.
SLOW_LIMIT_S = 1800.0
COMMAND_LIMIT_S = 120.0
MAX_FAILURES = 2


class TimeIsUpError(Exception):
    """The user's time limit is over; the message says where that was. What was measured is kept."""


@dataclass
class Bench:
    """What is at hand while one part of a run is measured.

    Attributes:
        plan: what runs.
        experiment: the resolved recipe.
        ledger: what the run has said.
        sessions: where workers come from.
        telemetry: the monitors.
        threads: CPU threads of every worker.
        data_path: uint8 NHWC images as a numpy file; None for a suite that needs none.
        images: how many there are.
        dataset: the name of their data set.
        weights: file of the weights that are sampled from; made of random ones where it does not exist yet.
        weights_from: where they come from, for people.
        tools: starts the tools that train, sample and evaluate; None where a test needs none.
        sleep: waits so many seconds.
        clock: monotonic seconds.
        cpu_ns: CPU time used by a process; None when it cannot be read.
        busy_ns: time that the machine's CPUs were busy; None when it cannot be read.
        counters: what the kernel has taken away so far.
        load: the machine's load average; None when it cannot be read.
        began: when the run began, on `clock`.
        part_began: when this part of it began.
        failures: failed blocks in a row of whatever takes turns in them.
        once_done: arms whose once-a-run measurements are in the journal.
        warm_ups: steps of the warm-up found in each block so far, by arm.
        ranked: backends that have compiled what ranks of theirs need.
        abandoned: what ended an arm's process behind its windows, by arm and name: it is not tried again.
    """

    plan: Plan
    experiment: ExperimentConfig
    ledger: Ledger
    sessions: LocalSessions
    telemetry: Telemetry
    threads: int
    data_path: Path | None = None
    images: int = 0
    dataset: str = ""
    weights: Path | None = None
    weights_from: str = "random"
    tools: Tools | None = None
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    cpu_ns: Callable[[int], int | None] = process_cpu_ns
    busy_ns: Callable[[], int | None] = machine_busy_ns
    counters: Callable[[], Counters] = read_counters
    load: Callable[[], float | None] = load_average
    began: float = 0.0
    part_began: float = 0.0
    failures: Counter[Hashable] = field(default_factory=Counter)
    once_done: set[ArmSlot] = field(default_factory=set)
    warm_ups: dict[ArmSlot, list[int]] = field(default_factory=dict)
    ranked: set[str] = field(default_factory=set)
    abandoned: set[tuple[ArmSlot, str]] = field(default_factory=set)

    @property
    def writer(self) -> RunWriter:
        """The run folder."""
        return self.ledger.writer

    @property
    def progress(self) -> Progress:
        """What the user sees."""
        return self.ledger.progress

    def of_part(self, plan: Plan) -> Bench:
        """The same surroundings for a part of the run that begins now, whose arms start with a clean record."""
        return replace(self, plan=plan, ledger=replace(self.ledger, part=plan.part.name), part_began=self.clock(),
                       failures=Counter(), once_done=set(), warm_ups={}, abandoned=set())

    def check_time(self, where: str) -> None:
        """To be asked wherever work can be left and done again by `--resume`; the limit is one for the whole run.

        Raises:
            TimeIsUpError: it is over.
        """
        limit = self.plan.time_limit_s
        if limit is not None and self.clock() - self.began > limit:
            raise TimeIsUpError(where)

    def given_up(self, member: Hashable) -> bool:
        """Whether what takes turns in blocks, such as an arm, failed so often that later ones do without it."""
        return self.failures[member] >= MAX_FAILURES

    def open(self, slot: ArmSlot, log_name: str, env: Mapping[str, str] | None = None,
             by: Launch | None = None) -> tuple[Session, life.Created]:
        """A worker of `slot` with its framework imported.

        Jittor may end its process with status 0 while it is imported ("please rerun"): then it is started again.

        Args:
            slot: the arm's letter.
            log_name: names its log.
            env: variables of its own.
            by: what starts it as several ranks; None for one process.

        Raises:
            WorkerFailedError: it cannot be brought up.
        """
        arm = self.plan.arm(slot)
        create = life.Create(arm=arm.name, device=self.plan.device, threads=self.threads, file=arm.spec.file)
        for attempt in range(START_TRIES):
            session = self.sessions.start(slot, arm, self.ledger.log(log_name), env, by)
            try:
                if by is not None and arm.backend not in self.ranked and arm.spec.prepares("prewarm") is not None:
                    # What only ranks need is compiled by the first of each host, while the others wait.
                    session.ask(life.Prewarm(arm=arm.name, device=self.plan.device), SLOW_LIMIT_S)
                    self.ranked.add(arm.backend)
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
        data = None if self.data_path is None else str(self.data_path)
        command = life.Build(experiment=plain(experiment), data_path=data, images=images)
        return session.ask(command, SLOW_LIMIT_S)


def plain(experiment: ExperimentConfig) -> dict[str, Any]:
    """The experiment as JSON data."""
    data: dict[str, Any] = experiment.model_dump(mode="json")
    return data
