"""Do the arms compute the same? A suite of its own, and the gate of those that time training steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import Self

from harness.part import Asked, Metric, Metrics, Needs, Part, Section, Timed
from harness.record.events import Case, Losses, ParityResult
from impls.recipe.flops import training_step_flop
from messages import marked, tell

if TYPE_CHECKING:
    from harness.bench import Bench
    from harness.blocks.block import Block
    from harness.blocks.warmup import Started
    from harness.plan import Comparison, Plan
    from harness.processes.session import Session
    from harness.protocol import life
    from harness.record.run import RecordedRun
    from impls.recipe.config import ExperimentConfig

DEFAULT_STEPS = 50
# Where the check is the gate of a timed part: as many as fill so long, of a step of the first arm.
GATE_STEPS = 20
GATE_S = 10.0
DEFAULT_BATCH = 4
STEP_TIME = Metrics(Metric(marked("step time"), "stepwise"), (Metric(marked("free-running step time"), "free"),))


@dataclass(frozen=True)
class Parity(Part):
    """The parity check and nothing behind it.

    Attributes:
        steps: matched optimisation steps.
        images: images per step; None for a few, because agreement does not depend on it.
        within_s: how long an arm's steps may take before there are fewer of them; None for all.
    """

    name: ClassVar[str] = "parity"
    needs: ClassVar[Needs] = Needs(arms=2, images=True)
    takes: ClassVar[frozenset[str]] = frozenset({"pair"})

    steps: int
    images: int | None = None
    within_s: float | None = None

    @classmethod
    def planned(cls, asked: Asked) -> Self:
        """As many steps and images as the user says."""
        return cls(asked.options.step_count or DEFAULT_STEPS, asked.options.batch_size)

    def declared(self, plan: Plan) -> dict[str, Any]:
        """As the training does whose gate it is, so that both say what equal arms would be compared in."""
        return plan.alternation(STEP_TIME)

    def described(self, recipe: ExperimentConfig) -> list[str]:
        """How many steps."""
        if not self.within_s:
            return [tell("parity: {steps} matched steps and a control", steps=self.steps)]
        return [tell("parity: {steps} matched steps, fewer where they take over {limit} s, and a control",
                     steps=self.steps, limit=f"{self.within_s:.0f}")]

    def batch_sizes(self, recipe: ExperimentConfig) -> dict[Section, int]:
        """A few images, unless the user says so: its agreement does not depend on them; a pair has its own batches."""
        return {} if recipe.is_pair else {"train": self.images or DEFAULT_BATCH}

    def gate(self, bench: Bench, recorded: RecordedRun) -> None:
        """Run the check, unless every comparison has its result and its case.

        An interruption may have come between the two.
        """
        from harness.suites.parity.check import run_parity

        have = {(result.arm_a, result.arm_b) for result in recorded.of(ParityResult)}
        said = {case.case_id for case in recorded.of(Case)}
        pairs = [(c.a, c.b) for c in bench.plan.comparisons if not c.selfcheck]
        if not all(pair in have and f"parity-{pair[1]}" in said for pair in pairs):
            run_parity(bench, self.steps, self.images or DEFAULT_BATCH, self.within_s)


def fair(recorded: RecordedRun, pair: Comparison) -> str | None:
    """Why the times of two arms must not be compared, by the result of their check; None where they may."""
    from harness.judge.fairness import gate_fault

    return gate_fault(recorded, pair, recorded.of(ParityResult), marked("parity"), marked("parity of {a} and {b}"),
                      marked("the check did not run to its end"))


@dataclass(frozen=True)
class TrainingSteps(Timed):
    """Timed optimisation steps behind the parity check.

    Attributes:
        parity: the gate; None when there is nothing to compare.
        window_steps: fixed number of steps in a window; None for as many as fill its time.
    """

    needs: ClassVar[Needs] = Needs(images=True)

    parity: Parity | None = None
    window_steps: int | None = None

    def described(self, recipe: ExperimentConfig) -> list[str]:
        """The gate."""
        return self.parity.described(recipe) if self.parity else []

    def batch_sizes(self, recipe: ExperimentConfig) -> dict[Section, int]:
        """Those of a step; the batches of a pair count for themselves."""
        return {} if recipe.is_pair else {"train": recipe.train.batch_size}

    def gate(self, bench: Bench, recorded: RecordedRun) -> None:
        """The parity check, where there is anything to compare."""
        if self.parity:
            self.parity.gate(bench, recorded)

    def fair(self, recorded: RecordedRun, pair: Comparison) -> str | None:
        """Only arms that compute the same may be compared."""
        return fair(recorded, pair)

    def build(self, bench: Bench, session: Session) -> life.Built:
        """A trainer.

        Raises:
            WorkerFailedError: it cannot be built.
        """
        return bench.build(session, bench.experiment)

    def step_flop(self, recipe: ExperimentConfig) -> int | None:
        """Forward and backward pass of a batch; nobody has counted those of a pair."""
        return None if recipe.is_pair else training_step_flop(recipe.model, recipe.train.batch_size)

    def read(self, block: Block, arm: Started) -> None:
        """The losses of all its steps."""
        from harness.bench import COMMAND_LIMIT_S
        from harness.protocol.training import ReadLosses

        told = arm.session.ask(ReadLosses(), COMMAND_LIMIT_S)
        block.append(Losses(arm=arm.session.slot, block=block.number, randomness="native", first_step=0,
                            losses=told.losses, loss_scale=told.loss_scale, skipped=told.skipped))


def gate_of(asked: Asked, steps: int, within_s: float | None = GATE_S) -> Parity | None:
    """The gate of a training; None where there is nothing to compare."""
    return Parity(steps, within_s=within_s) if len(asked.options.compared) > 1 else None
