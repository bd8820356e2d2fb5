"""What a suite is made of: the interface through which all shared code meets it, without knowing which one it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from typing_extensions import Self

from harness.stats.looks import PLANNED, Looks

if TYPE_CHECKING:
    from harness.bench import Bench
    from harness.blocks.block import Block
    from harness.blocks.turns import Turns
    from harness.blocks.warmup import Started
    from harness.judge.verdicts import Question, Ratios
    from harness.options import BenchConfig
    from harness.plan import BlockPlan, Comparison, Plan
    from harness.processes.session import Session
    from harness.protocol import life
    from harness.record.events import ArmSlot, Event, Finding, PartName
    from harness.record.run import RecordedRun
    from impls.data.datasets import Dataset
    from impls.recipe.config import ExperimentConfig, Spacing
    from impls.registry import Device, Job
    from impls.store.weights import Weights


# Of a recipe: its training, its sampling.
Section = Literal["train", "sample"]


@dataclass(frozen=True)
class Needs:
    """What a part cannot do without.

    Attributes:
        arms: at least so many.
        images: a data set.
        weights: something to sample from; `--steps` then names sampler settings, not a number of steps.
    """

    arms: int = 1
    images: bool = False
    weights: bool = False


@dataclass(frozen=True)
class Asked:
    """What a part plans itself from.

    Attributes:
        options: what the user asked for.
        device: where the arms run.
        T: diffusion steps of the experiment.
        spacing: which of them DDIM visits, where a part does not decide it.
        offset: `steps_offset` of that spacing.
        batch_size: images of an optimisation step; None where that is not settled.
        overrides: what the configuration file says of the experiment.
        recorded: what the run that goes on had declared; empty for a new one.
    """

    options: BenchConfig
    device: Device
    T: int = 1000
    overrides: Mapping[str, Any] = field(default_factory=dict)
    recorded: Mapping[str, Any] = field(default_factory=dict)
    spacing: Spacing = "uniform"
    offset: int = 0
    batch_size: int | None = None


class Part(ABC):
    """One thing that a suite measures. An instance is its own plan: frozen, its settings are its fields.

    Attributes:
        name: in the journal and in the report.
        needs: what it cannot do without.
        takes: options that belong to some suites only, of which it is one.
        batch: the section of the recipe that `--batch-size` means where this is the first part of a suite.
        pairs: alternating windows of each arm in a block, unless the user says so; 0 for a part without blocks.
        blocks: how many are needed, and how many there are at most where no looks are planned, unless the user says so.
    """

    name: ClassVar[PartName]
    needs: ClassVar[Needs] = Needs()
    takes: ClassVar[frozenset[str]] = frozenset()
    batch: ClassVar[Section] = "train"
    pairs: ClassVar[int] = 0
    blocks: ClassVar[tuple[int, int]] = (6, 8)

    @classmethod
    def refusal(cls, options: BenchConfig) -> str | None:
        """Why the options do not go with it, in one line; None where they do."""
        return None

    @classmethod
    def recipe(cls, given: Mapping[str, Any], device: Device) -> dict[str, dict[str, Any]]:
        """What it lays over the recipe, below the command line alone; `given` is what the configuration file says."""
        return {}

    @classmethod
    @abstractmethod
    def planned(cls, asked: Asked) -> Self:
        """Its plan.

        Raises:
            UsageError: an option is malformed or out of range, or they contradict each other.
        """

    @abstractmethod
    def declared(self, plan: Plan) -> dict[str, Any]:
        """What is fixed before the first measurement, for the journal."""

    def recipes(self) -> dict[str, ExperimentConfig]:
        """Recipes of its own, by the name under which the run declares them."""
        return {}

    def described(self, recipe: ExperimentConfig) -> list[str]:
        """Its plan for people, as printed by `--dry-run`."""
        return []

    def notes(self, recipe: ExperimentConfig) -> list[str]:
        """Settings of its plan that are allowed and rarely meant, said before anything runs."""
        return []

    def remarks(self, options: BenchConfig) -> list[Finding]:
        """What is worth knowing before anything runs."""
        return []

    def batch_sizes(self, recipe: ExperimentConfig) -> dict[Section, int]:
        """Images of an optimisation step and of a sampled batch, as far as it takes any: what the run declares.

        Whatever says which batch a part was run with asks here, since some have recipes of their own.
        """
        return {}

    @classmethod
    def takes_images(cls, recipe: ExperimentConfig) -> bool:
        """Whether it needs the data set: a pair brings its own batches."""
        return cls.needs.images and not recipe.is_pair

    def check(self, given: Weights | None, images: Dataset | None, resumed: RecordedRun | None) -> None:
        """Refuse what does not fit, before there is a run folder.

        Args:
            given: weights that all arms sample from; None for random ones.
            images: the data set; None where the run needs none.
            resumed: the run that goes on, or None.

        Raises:
            UsageError: the first fault.
        """
        return

    def ready(self, bench: Bench) -> None:
        """Do first what must not fail after hours.

        Raises:
            UsageError: something the user can mend, found before anything was measured.
        """
        return

    def gate(self, bench: Bench, recorded: RecordedRun) -> None:
        """Find out whether the arms do the same, as far as the journal does not hold it yet."""
        return

    def measure(self, bench: Bench, recorded: RecordedRun) -> None:
        """Measure what the journal does not hold yet."""
        return

    def judge(self, recorded: RecordedRun, plan: Plan) -> Sequence[Event]:
        """What its lines, and those that belong to no part, amount to; pure."""
        return []


@dataclass(frozen=True)
class Metric:
    """What is compared: its name in the verdict, and the kind of windows that it rests on."""

    name: str
    kind: str


@dataclass(frozen=True)
class Metrics:
    """What a timed part is judged by.

    Attributes:
        main: its comparisons share Holm's step-down.
        further: declared as such; each interval describes, at the full alpha.
        whole: name of the one that stands for the whole part, by default the main one's.
        when: what an arm {arm} is called where a self-check speaks of this part.
    """

    main: Metric
    further: tuple[Metric, ...] = ()
    whole: str = ""
    when: str = "{arm}"


class Blocked(Part):
    """A part that measures in blocks of fresh processes; how one follows another is shared.

    Attributes:
        again: which blocks are measured again, as far as there are numbers for them: those that were disturbed, behind
            all others, or those in which something failed, in their stead.
    """

    again: ClassVar[Literal["disturbed", "failed"]] = "disturbed"

    def members(self, slot: ArmSlot) -> Sequence[Any]:
        """What takes turns of an arm; each is left out once it has failed too often."""
        return (slot,)

    @abstractmethod
    def block(self, bench: Bench, plan: BlockPlan) -> Turns[Any]:
        """One of its blocks, to be run."""

    def measure(self, bench: Bench, recorded: RecordedRun) -> None:
        """Measure the blocks that the journal does not hold yet."""
        from harness.blocks.series import Series

        Series(bench, self, recorded).run()

    def once_done(self, recorded: RecordedRun, plan: Plan) -> set[ArmSlot]:
        """The arms of which the journal holds all that is measured once in a run."""
        return set(plan.slots)

    def decided(self, recorded: RecordedRun, plan: Plan, going: Sequence[Comparison]) -> bool:
        """Whether its blocks may end at a planned look; `going` are the comparisons of arms that still run."""
        return False


class Timed(Blocked):
    """A part that alternates windows of the arms in blocks; how it does so is shared.

    Attributes:
        metrics: what it is judged by.
        beside: what `once` measures; the names of its cases begin with it.
        looks: after which its blocks may end; none before those that it needs for more than verdicts.
        window_steps: fixed number of steps in a window; None for as many as fill its time.
    """

    metrics: ClassVar[Metrics]
    beside: ClassVar[tuple[str, ...]] = ()
    looks: ClassVar[Looks] = Looks(PLANNED)
    window_steps: int | None = None

    def declared(self, plan: Plan) -> dict[str, Any]:
        """What is fixed before the first measurement, for the journal."""
        return plan.alternation(self.metrics)

    def block(self, bench: Bench, plan: BlockPlan) -> Turns[Any]:
        """Of the arms, each a process."""
        from harness.blocks.block import Block

        return Block(bench, plan, self)

    def once_done(self, recorded: RecordedRun, plan: Plan) -> set[ArmSlot]:
        """Those that are whole, `beside` included."""
        from harness.blocks.once import once_done

        return once_done(recorded, plan, self)

    def decided(self, recorded: RecordedRun, plan: Plan, going: Sequence[Comparison]) -> bool:
        """Where all verdicts are sure, and there is enough for what else it says."""
        from harness.judge.verdicts import sure

        return sure(recorded, plan.comparisons, self, plan.looks) and self.enough(recorded, going)

    def enough(self, recorded: RecordedRun, comparisons: Sequence[Comparison]) -> bool:
        """Whether blocks that decide these verdicts are also enough for what else the part says of them."""
        return True

    def judge(self, recorded: RecordedRun, plan: Plan) -> Sequence[Event]:
        """Arms that do not wait for their work, every comparison in every metric, and what a self-check says."""
        from harness.judge.selfcheck import selfcheck
        from harness.judge.synchronisation import accusations
        from harness.judge.verdicts import judge_run

        return [*accusations(recorded, self), *(found := judge_run(recorded, plan.comparisons, self)),
                *selfcheck(recorded, found, self)]

    @abstractmethod
    def build(self, bench: Bench, session: Session) -> life.Built:
        """Have a worker build what is measured.

        Raises:
            WorkerFailedError: it cannot.
        """

    @abstractmethod
    def step_flop(self, recipe: ExperimentConfig) -> int | None:
        """Floating-point operations of one step, counted from the network's shape; None where that is not known."""

    def fair(self, recorded: RecordedRun, pair: Comparison) -> str | None:
        """What the gate found against comparing a pair; None where it found nothing."""
        return None

    def early(self, recorded: RecordedRun, slot: ArmSlot) -> str | None:
        """Why the clock of an arm stops before its work, beside the proofs that every part has; None where it waits."""
        return None

    def asked(self, recorded: RecordedRun, comparisons: Sequence[Comparison]) -> Mapping[Question, Ratios]:
        """What is asked, in the order of the verdicts, with what was measured."""
        from harness.judge.verdicts import Question, block_ratios

        asked = [Question(comparison, metric.name, metric.kind)
                 for metric in (self.metrics.main, *self.metrics.further) for comparison in comparisons]
        return {question: block_ratios(recorded, question) for question in asked}

    def windows(self, block: Block) -> None:
        """Measure what it has beside the alternating windows of single steps."""
        return

    def windows_s(self, device: Device, arms: int) -> float:
        """About how long `windows` takes in a block, in seconds, all arms together."""
        return 0.0

    def read(self, block: Block, arm: Started) -> None:
        """Record what an arm holds at the end of its block."""
        return

    def after(self, block: Block) -> None:
        """Measure in every block, when its arms are read, what would disturb its windows or what is read."""
        return

    def after_s(self, block: Block) -> float:
        """About how long `after` takes in a block like this one, in seconds."""
        return 0.0

    def once(self, block: Block, arm: Started) -> None:
        """Measure, in the first block of an arm, what is measured once in a run."""
        return

    def once_together(self, block: Block) -> None:
        """Measure what all arms of `block.fresh` do together, once each has done its own."""
        return

    def has_once(self, recorded: RecordedRun, slot: ArmSlot) -> bool:
        """Whether the journal holds what `once` measures of an arm."""
        return True


@dataclass(frozen=True)
class Suite:
    """One entry of `--suite`.

    Attributes:
        name: as on the command line.
        parts: what is done one after another, each with a plan of its own.
        summary: one line for people.
    """

    name: str
    parts: tuple[type[Part], ...]
    summary: str

    @property
    def job(self) -> Job:
        """What its arms do: those of one that trains, too, are the arms of a training in all its parts."""
        return "sampling" if all(part.needs.weights and not part.needs.images for part in self.parts) else "training"

    def takes(self, option: str) -> bool:
        """Whether one of its parts knows an option that belongs to some suites only."""
        return any(option in part.takes for part in self.parts)
