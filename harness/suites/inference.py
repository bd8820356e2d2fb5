"""How fast do two models of the user's own run forward? Passes without gradients in alternating windows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from typing_extensions import Self

from harness.part import Asked, Metric, Metrics, Needs
from harness.suites.parity.part import GATE_STEPS, TrainingSteps, gate_of
from messages import marked, tell

if TYPE_CHECKING:
    from harness.bench import Bench
    from harness.blocks.block import Block
    from harness.blocks.warmup import Started
    from harness.options import BenchConfig
    from harness.processes.session import Session
    from harness.protocol import life


@dataclass(frozen=True)
class Inference(TrainingSteps):
    """Blocks of forward passes; parity is the gate, training steps included: a model that learns alike is the same."""

    name: ClassVar[str] = "inference"
    needs: ClassVar[Needs] = Needs()
    takes: ClassVar[frozenset[str]] = frozenset({"selfcheck", "pair"})
    pairs: ClassVar[int] = 40
    metrics: ClassVar[Metrics] = Metrics(Metric(marked("time of a forward pass"), "stepwise"))

    @classmethod
    def refusal(cls, options: BenchConfig) -> str | None:
        """The U-Net alone is measured by sampling from it."""
        if options.pair is None:
            return tell("--suite infer-speed: runs models of your own: give --pair FILE.py (python -m harness.pair "
                        "init FILE.py writes one), or choose --suite sample-speed")
        return None

    @classmethod
    def planned(cls, asked: Asked) -> Self:
        """`--steps` are those of a window."""
        return cls(gate_of(asked, GATE_STEPS), asked.options.step_count)

    def build(self, bench: Bench, session: Session) -> life.Built:
        """Forward passes.

        Raises:
            WorkerFailedError: they cannot be built.
        """
        from harness.bench import SLOW_LIMIT_S, plain
        from harness.protocol.life import BuildForwards

        return session.ask(BuildForwards(experiment=plain(bench.experiment)), SLOW_LIMIT_S)

    def read(self, block: Block, arm: Started) -> None:
        """Nothing: a forward pass leaves no loss."""
