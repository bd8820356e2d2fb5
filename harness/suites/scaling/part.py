"""What do more ranks bring? Steps of 1, 2, 4, ... ranks in turn, the batch shared or grown, averaging on and off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from typing_extensions import Self

from harness.part import Asked, Blocked, Metric, Metrics, Needs, Section
from harness.processes.ranks import Choice, launch_of, require_room
from harness.record.events import ArmSlot, Case, Event, ScalingGate
from harness.suites.parity.part import GATE_STEPS, Parity, gate_of
from harness.suites.scaling.cells import Team, cells, nodes_of, sizes
from impls.devices import usable_cpus
from impls.errors import UsageError
from impls.recipe.config import ExperimentConfig
from messages import marked, tell

if TYPE_CHECKING:
    from harness.bench import Bench
    from harness.options import BenchConfig
    from harness.plan import BlockPlan, Plan
    from harness.processes.ranks import Launch
    from harness.record.run import RecordedRun
    from harness.suites.scaling.block import RanksBlock
    from impls.registry import Arm, Device

SCALED_TIME = Metric(marked("step time"), "scaled")
TOLERANCE = 1e-5
MATCHED_STEPS = 10


@dataclass(frozen=True)
class Scaling(Blocked):
    """Blocks of groups of ranks, a size each; equal losses and weights are the gate.

    Attributes:
        most: ranks at most.
        launcher: as it was asked for.
        nodes: hosts that the most ranks are spread over.
        parity: whether the arms compute the same; None where there is one.
    """

    name: ClassVar[str] = "scaling"
    needs: ClassVar[Needs] = Needs(images=True)
    takes: ClassVar[frozenset[str]] = frozenset({"ranks", "launcher", "nodes"})
    pairs: ClassVar[int] = 10
    blocks: ClassVar[tuple[int, int]] = (4, 4)
    # A block without one of its teams has no speed-up of that; one that was disturbed says so.
    again: ClassVar[Literal["disturbed", "failed"]] = "failed"

    most: int
    launcher: Choice
    nodes: int
    parity: Parity | None

    @classmethod
    def recipe(cls, given: Mapping[str, Any], device: Device) -> dict[str, dict[str, Any]]:
        """Keyed streams: a framework's own generator does not tell the images of ranks apart."""
        return {"train": {"randomness": "matched"}}

    @classmethod
    def planned(cls, asked: Asked) -> Self:
        """As many ranks as the user says.

        Raises:
            UsageError: they do not fit the machine, the launcher, an arm or the batch.
        """
        options = asked.options
        if options.ranks is None:
            raise UsageError(tell("--suite scaling: say up to how many ranks: --ranks {ranks}",
                                  ranks=max(2, usable_cpus())))
        if options.ranks < 2:
            raise UsageError(tell("--ranks {ranks}: suite scaling compares one rank with more: choose at least 2",
                                  ranks=options.ranks))
        if options.loader != "resident":
            raise UsageError(tell("--loader {loader}: exists in one process only: leave it out",
                                  loader=options.loader))
        for size in sizes(options.ranks)[1:-1]:
            if nodes_of(size, options.ranks, options.nodes) is None:
                raise UsageError(tell("--ranks {ranks}: {size} ranks, which are measured before, do not divide among "
                                      "--nodes {nodes} as those do: choose a power of two of both",
                                      ranks=options.ranks, size=size, nodes=options.nodes))
        for arm in options.compared:
            launch_of(arm, options.launcher, options.ranks, options.nodes)
        require_room(options.ranks, options.nodes, options.cpu_threads, asked.device)
        for size in sizes(options.ranks):
            if asked.batch_size is not None and asked.batch_size % size:
                whole = _common(sizes(options.ranks))
                raise UsageError(tell("--batch-size {batch}: does not divide among {size} ranks: choose {fitting} (it "
                                      "is that of all ranks together)", batch=asked.batch_size, size=size,
                                      fitting=-(-asked.batch_size // whole) * whole))
        return cls(options.ranks, options.launcher, options.nodes, gate_of(asked, GATE_STEPS))

    def launch(self, arm: Arm, size: int) -> Launch | None:
        """How so many ranks of an arm are started; None for one, which no launcher stands before.

        Few ranks take as few hosts as have to be.
        """
        if size == 1:
            return None
        return launch_of(arm, self.launcher, size, nodes_of(size, self.most, self.nodes) or self.nodes)

    def declared(self, plan: Plan) -> dict[str, Any]:
        """What is fixed before the first measurement, for the journal."""
        told = plan.alternation(Metrics(SCALED_TIME), [cell.name for cell in cells(self.most)])
        return {**told, "sizes": list(sizes(self.most)), "launcher": self.launcher, "nodes": self.nodes,
                "gate": {"steps": MATCHED_STEPS, "tolerance": TOLERANCE},
                "blocks": {"least": plan.min_blocks, "most": plan.min_blocks, "repeats": plan.extra_blocks}}

    def described(self, recipe: ExperimentConfig) -> list[str]:
        """Sizes, batches, the gate."""
        batch = recipe.train.batch_size
        ranks = tell(", ").join(map(str, sizes(self.most)))
        gate = self.parity.described(recipe) if self.parity else []
        return [tell("ranks: {ranks}, by launcher {launcher} on {nodes} nodes", ranks=ranks, launcher=self.launcher,
                     nodes=self.nodes) if self.nodes > 1 else
                tell("ranks: {ranks}, by launcher {launcher}", ranks=ranks, launcher=self.launcher),
                tell("strong: {batch} images of all ranks together; weak: {batch} of each; gradients averaged and not",
                     batch=batch),
                *gate, tell("gate of every size: {steps} steps whose losses are one process's within {tolerance}",
                            steps=MATCHED_STEPS, tolerance=f"{TOLERANCE:g}")]

    def batch_sizes(self, recipe: ExperimentConfig) -> dict[Section, int]:
        """Those of one rank, and of all together where the batch is shared."""
        return {"train": recipe.train.batch_size}

    def ready(self, bench: Bench) -> None:
        """Refuse a data set that is smaller than the largest batch.

        Raises:
            UsageError: it is.
        """
        each = bench.experiment.train.batch_size
        if each * self.most > bench.images:
            raise UsageError(tell("--ranks {ranks}: with {each} images of each a step takes {all}, the data set has "
                                  "{images}: choose fewer ranks or a smaller --batch-size", ranks=self.most, each=each,
                                  all=each * self.most, images=bench.images))

    def gate(self, bench: Bench, recorded: RecordedRun) -> None:
        """Whether the arms compute the same, then whether each does at every size."""
        from harness.suites.scaling.gate import run_gate

        if self.parity:
            self.parity.gate(bench, recorded)
        have = {(line.arm, line.size) for line in recorded.of(ScalingGate)}
        said = {case.case_id for case in recorded.of(Case)}
        for slot, _ in bench.plan.arms:
            if not all((slot, size) in have for size in sizes(self.most)[1:]) or f"gate-{slot}" not in said:
                run_gate(bench, self, slot)

    def members(self, slot: ArmSlot) -> Sequence[Team]:
        """A team of every size."""
        return [Team(slot, size) for size in sizes(self.most)]

    def block(self, bench: Bench, plan: BlockPlan) -> RanksBlock:
        """Of teams of all sizes."""
        from harness.suites.scaling.block import RanksBlock

        return RanksBlock(bench, plan, self)

    def judge(self, recorded: RecordedRun, plan: Plan) -> Sequence[Event]:
        """Speed-up and what it is made of, the arms against each other at every size, and the prediction."""
        from harness.suites.scaling.judge import judged

        return judged(recorded, plan, self)

    @classmethod
    def refusal(cls, options: BenchConfig) -> str | None:
        """Epochs, which this suite has none of."""
        return None if options.epochs is None else tell("--epochs: suite scaling runs none: leave it out")


def _common(numbers: Sequence[int]) -> int:
    """The least number that all of them divide."""
    from math import lcm

    return lcm(*numbers)
