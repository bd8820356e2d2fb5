"""Which layer is the first that differs between two arms?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import Self

from harness.part import Asked, Needs, Part, Section
from harness.record.events import Alignment, Case
from messages import tell

if TYPE_CHECKING:
    from harness.bench import Bench
    from harness.plan import Plan
    from harness.record.run import RecordedRun
    from impls.recipe.config import ExperimentConfig

DEFAULT_STEPS = 5
# How layers agree does not depend on it, and all that they compute goes through files.
DEFAULT_BATCH = 2


@dataclass(frozen=True)
class Align(Part):
    """Layers traced and compared.

    Attributes:
        steps: whole training steps behind them.
        images: images per step; None for a few.
    """

    name: ClassVar[str] = "align"
    needs: ClassVar[Needs] = Needs(arms=2, images=True)
    takes: ClassVar[frozenset[str]] = frozenset({"pair"})

    steps: int
    images: int | None = None

    @classmethod
    def planned(cls, asked: Asked) -> Self:
        """As many steps and images as the user says."""
        return cls(asked.options.step_count or DEFAULT_STEPS, asked.options.batch_size)

    def declared(self, plan: Plan) -> dict[str, Any]:
        """What is compared."""
        return {"comparisons": [{"a": pair.a, "b": pair.b, "selfcheck": pair.selfcheck,
                                 "precision": plan.precision(pair)} for pair in plan.comparisons],
                "steps": self.steps, "seed": plan.seed, "time_limit_s": plan.time_limit_s}

    def described(self, recipe: ExperimentConfig) -> list[str]:
        """What is looked at."""
        return [tell("align: every layer, forward and backward, as it runs and fed with the reference's inputs; the "
                     "optimiser; {steps} whole steps", steps=self.steps)]

    def batch_sizes(self, recipe: ExperimentConfig) -> dict[Section, int]:
        """A few images, unless the user says so; a pair has its own batches."""
        return {} if recipe.is_pair else {"train": self.images or DEFAULT_BATCH}

    def measure(self, bench: Bench, recorded: RecordedRun) -> None:
        """Trace and compare, unless every pair has its result and its case."""
        from harness.suites.align.run import align

        have = {(line.arm_a, line.arm_b) for line in recorded.of(Alignment)}
        said = {case.case_id for case in recorded.of(Case)}
        pairs = [(pair.a, pair.b) for pair in bench.plan.comparisons if not pair.selfcheck]
        if not all(pair in have and f"align-{pair[1]}" in said for pair in pairs):
            align(bench, self.steps, self.images or DEFAULT_BATCH)
