"""Why is one arm slower? Training steps, whole and cut into their phases, in alternating windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from typing_extensions import Self

from harness.part import Asked, Metric, Metrics, Needs
from harness.record.events import Apart, ArmSlot, Event, Phases, Share, Verdict
from harness.stats.looks import Looks
from harness.suites.parity.part import GATE_STEPS, TrainingSteps, gate_of
from impls.errors import UsageError
from messages import marked, tell

if TYPE_CHECKING:
    from harness.bench import Bench
    from harness.blocks.block import Block
    from harness.blocks.warmup import Started
    from harness.plan import Comparison, Plan
    from harness.record.run import RecordedRun
    from impls.recipe.config import ExperimentConfig
    from impls.registry import Device

CUT_PAIRS = 8
# A turn of one arm: a whole window and a cut one.
TURN_S = 0.25


@dataclass(frozen=True)
class Why(TrainingSteps):
    """Blocks of training steps, and of steps that are cut beside them; parity is the gate.

    Attributes:
        thorough: also steps without attention, clipping or averaged weights.
    """

    name: ClassVar[str] = "why"
    needs: ClassVar[Needs] = Needs(arms=2, images=True)
    takes: ClassVar[frozenset[str]] = frozenset({"selfcheck", "thorough", "pair"})
    pairs: ClassVar[int] = 8
    blocks: ClassVar[tuple[int, int]] = (4, 6)
    metrics: ClassVar[Metrics] = Metrics(Metric(marked("step time"), "stepwise"))
    looks: ClassVar[Looks] = Looks((4, 6))
    beside: ClassVar[tuple[str, ...]] = ("waiting", "loader", "sampling", "operators")
    thorough: bool = False

    @classmethod
    def planned(cls, asked: Asked) -> Self:
        """`--steps` are those of a window.

        Raises:
            UsageError: causes are to be left out of arms that are not in memory together.
        """
        if asked.options.thorough and asked.options.schedule == "sequential":
            raise UsageError(tell("--thorough: which arm is slower is seen where both are in memory: leave out "
                                  "--schedule sequential"))
        return cls(gate_of(asked, GATE_STEPS), asked.options.step_count, asked.options.thorough)

    def described(self, recipe: ExperimentConfig) -> list[str]:
        """The gate, what is cut, and what is measured apart."""
        without = [tell("behind these: steps of both arms without attention, clipping, averaged weights")]
        return [*super().described(recipe),
                tell("cut steps beside whole ones: {turns} turns of each arm in a block", turns=CUT_PAIRS),
                tell("behind the windows of each block: steps of the slower arm with one kind of operator swapped"),
                *(without * self.thorough),
                tell("apart, once: steps that are not waited for, the native loader, a sampler, every operator alone, "
                     "and a few steps under each arm's profiler")]

    def windows(self, block: Block) -> None:
        """Whole and cut windows, in turn."""
        for pair in range(CUT_PAIRS):
            block.turn(pair, partial(self._cut, block), tell("cut steps"))

    def windows_s(self, device: Device, arms: int) -> float:
        """One turn after another."""
        return arms * CUT_PAIRS * TURN_S

    def enough(self, recorded: RecordedRun, comparisons: Sequence[Comparison]) -> bool:
        """A gap must also be known well enough to be divided up."""
        from harness.suites.why.shares import steady

        return all(steady(recorded, pair) for pair in comparisons if not pair.selfcheck)

    def after(self, block: Block) -> None:
        """The slower arm of each pair with its operators swapped; `--thorough`: both without something."""
        from harness.suites.why import leftouts, swaps

        swaps.measure(block)
        if self.thorough:
            leftouts.measure(block)

    def after_s(self, block: Block) -> float:
        """All swaps, and what is left out."""
        from harness.suites.why import leftouts, swaps

        return swaps.seconds(block) + (leftouts.seconds(block) if self.thorough else 0.0)

    def once(self, block: Block, arm: Started) -> None:
        """The loader, waiting and sampling, apart from all windows."""
        from harness.suites.why.apart import measure

        measure(block, arm)

    def once_together(self, block: Block) -> None:
        """The operators of the network alone, the arms in turn; then a few steps under each arm's profiler."""
        from harness.suites.why import kernels, operators

        began = block.bench.clock()
        operators.measure(block)
        alone = block.bench.clock()
        # Last of all: nobody knows what a profiler leaves behind.
        kernels.measure(block)
        block.bench.progress.say(tell("apart, all arms: operators alone {alone} s, steps under a profiler {profiled} s",
                                      alone=f"{alone - began:.0f}", profiled=f"{block.bench.clock() - alone:.0f}"))

    def has_once(self, recorded: RecordedRun, slot: ArmSlot) -> bool:
        """Whether all of it was measured of an arm."""
        from harness.suites.why import kernels, operators

        return (any(line.arm == slot for line in recorded.of(Apart)) and operators.done(recorded, slot)
                and kernels.done(recorded, slot))

    def judge(self, recorded: RecordedRun, plan: Plan) -> Sequence[Event]:
        """What every timed part says, the shares of each gap, what starting costs, and a verdict on each guess."""
        return [*(found := super().judge(recorded, plan)), *self.explained(recorded, plan, found)]

    def explained(self, recorded: RecordedRun, plan: Plan, found: Sequence[Event]) -> list[Event]:
        """The shares of each gap and what follows from them.

        Args:
            recorded: what the part recorded.
            plan: of the part.
            found: the verdicts on the gaps.
        """
        from harness.suites.why import apart, isolated
        from harness.suites.why.guesses import guesses
        from harness.suites.why.leftouts import left_out
        from harness.suites.why.shares import shares
        from harness.suites.why.swaps import contested, swapped

        unlike = {(one.arm_a, one.arm_b): one.reason for one in found
                  if isinstance(one, Verdict) and one.word == "not-comparable"}
        told: list[Event] = []
        for pair in plan.comparisons:
            refused = unlike.get((pair.a, pair.b))
            of_pair: list[Share] = shares(recorded, pair, self.name, refused)
            if not pair.selfcheck:
                of_pair += isolated.shares(recorded, pair, self.name, refused)
                of_pair += swapped(recorded, plan, pair, self.name, refused)
                of_pair += left_out(recorded, pair, self.name, refused)
                of_pair = contested([*of_pair, *apart.shares(recorded, pair, self.name, refused)])
                told += shares(recorded, pair, self.name, refused, "network call")  # English
                told += [start] if (start := apart.start_up(recorded, pair, self.name)) else []
            told += of_pair
            if not pair.selfcheck and refused is None:
                told += guesses(recorded, pair, self.name, of_pair)
        return told

    def _cut(self, block: Block, slot: ArmSlot, pair: int, position: int) -> None:
        from harness.blocks.windows import HAND_OVER_S, WINDOW_S
        from harness.protocol.timing import Phased, Stepwise

        arm = block.live[slot]
        steps = self.window_steps or arm.steps_for(WINDOW_S)
        block.bench.sleep(HAND_OVER_S)
        whole: list[int] = []
        cut: dict[str, list[int]] = {}
        # Turn about, so that neither always comes first.
        for which in (0, 1) if pair % 2 else (1, 0):
            if which:
                whole = arm.session.ask(Stepwise(steps=steps), arm.limit_s(steps)).step_ns
            else:
                cut = arm.session.ask(Phased(steps=steps), arm.limit_s(steps)).phase_ns
        block.append(Phases(part=self.name, arm=slot, block=block.number, pair=pair, position=position, whole_ns=whole,
                            phase_ns=cut))


class GatedWhy(Why):
    """The same beside a training, which is its gate and has judged the step time: `--steps` is another part's."""

    # One arm alone has no gap, and the other parts go on without it.
    needs: ClassVar[Needs] = Needs(images=True)

    @classmethod
    def planned(cls, asked: Asked) -> Self:
        """With windows of as many steps as fill their time."""
        return cls(thorough=asked.options.thorough)

    def measure(self, bench: Bench, recorded: RecordedRun) -> None:
        """Nothing where nothing is compared."""
        if _compares(bench.plan):
            super().measure(bench, recorded)

    def judge(self, recorded: RecordedRun, plan: Plan) -> Sequence[Event]:
        """The causes alone, where anything was measured."""
        return self.explained(recorded, plan, super(Why, self).judge(recorded, plan)) if _compares(plan) else []


def _compares(plan: Plan) -> bool:
    """Whether two arms are compared, beside any self-check."""
    return not all(pair.selfcheck for pair in plan.comparisons)
