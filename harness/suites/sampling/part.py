"""How fast do the arms sample? Whole batches of several sampler settings in alternating windows; equal images first."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import Self

from harness.part import Asked, Metric, Metrics, Needs, Section, Timed
from harness.record.events import ArmSlot, Finding, SampleAgreement, SamplesDrawn, Trap, Window
from harness.record.findings import NO_DDPM
from harness.suites.sampling.cells import DEFAULT_BATCH, DEFAULT_STEPS, SWEEP, Cell, cell_notes, cells, cheapest
from harness.suites.weights import build_sampler, model_paths, origin
from impls.errors import UsageError
from impls.recipe.flops import forward_flop_per_image
from messages import marked, recorded, shown, tell

if TYPE_CHECKING:
    from harness.bench import Bench
    from harness.blocks.block import Block
    from harness.blocks.warmup import Started
    from harness.judge.verdicts import Question, Ratios
    from harness.options import BenchConfig
    from harness.plan import Comparison, Plan
    from harness.processes.session import Session
    from harness.protocol import life
    from harness.record.run import RecordedRun
    from impls.data.datasets import Dataset
    from impls.recipe.config import ExperimentConfig
    from impls.registry import Device
    from impls.store.weights import Weights

SAMPLING_TIME = Metric(marked("sampling time"), "sample")
SAMPLING_MEAN = Metric(marked("sampling time, geometric mean over cells"), "sample")
CALL_TIME = Metric(marked("network call time"), "stepwise")
# Of the time of a whole batch, which ends on the host: a chain that was waited for cannot be much faster.
LEAST_OF_BATCH = 0.25


@dataclass(frozen=True)
class Sampling(Timed):
    """Blocks of network calls and of whole batches; equal images are the gate.

    Attributes:
        cells: the sampler settings.
        sweep: batch sizes that the cheapest cell is measured at once.
    """

    name: ClassVar[str] = "sampling"
    needs: ClassVar[Needs] = Needs(weights=True)
    takes: ClassVar[frozenset[str]] = frozenset({"model_path", "selfcheck"})
    batch: ClassVar[Section] = "sample"
    pairs: ClassVar[int] = 20
    metrics: ClassVar[Metrics] = Metrics(SAMPLING_TIME, (SAMPLING_MEAN, CALL_TIME), whole=SAMPLING_MEAN.name,
                                         when=marked("{arm} when sampling"))
    beside: ClassVar[tuple[str, ...]] = ("trap",)

    cells: tuple[Cell, ...]
    sweep: tuple[int, ...]

    @classmethod
    def refusal(cls, options: BenchConfig) -> str | None:
        """Weights of several arms, where all must sample from the same."""
        if len(set(model_paths(options).values())) < 2:
            return None
        return tell("--model-path: suite {suite} times arms that sample from the same weights: give one PATH",
                    suite=options.suite)

    @classmethod
    def recipe(cls, given: Mapping[str, Any], device: Device) -> dict[str, dict[str, Any]]:
        """Timed with each framework's own generator, as its users write it, and with batches that fit the device."""
        sized = {} if "batch_size" in given.get("sample", {}) else {"batch_size": DEFAULT_BATCH[device]}
        return {"sample": {"randomness": "native", **sized}}

    @classmethod
    def planned(cls, asked: Asked) -> Self:
        """The cells of `--steps`.

        Raises:
            UsageError: a cell is malformed, out of range, or there twice.
        """
        return cls(cells(asked.options.steps or DEFAULT_STEPS[asked.device], asked.T), SWEEP[asked.device])

    def declared(self, plan: Plan) -> dict[str, Any]:
        """Every cell is compared; the sweep is not."""
        return plan.alternation(self.metrics, [cell.name for cell in self.cells],
                                {"cell": cheapest(self.cells).name, "batch_sizes": list(self.sweep)})

    def described(self, recipe: ExperimentConfig) -> list[str]:
        """The cells and the sweep."""
        return [tell("cells: {cells}, batches of {batch}; sweep of {cell} over batches of {sweep}",
                     cells=", ".join(cell.name for cell in self.cells), batch=recipe.sample.batch_size,
                     cell=cheapest(self.cells).name, sweep=", ".join(map(str, self.sweep)))]

    def notes(self, recipe: ExperimentConfig) -> list[str]:
        """On its chains."""
        return cell_notes(self.cells, recipe.diffusion)

    def batch_sizes(self, recipe: ExperimentConfig) -> dict[Section, int]:
        """Those of a batch in a window; the sweep has others."""
        return {"sample": recipe.sample.batch_size}

    def remarks(self, options: BenchConfig) -> list[Finding]:
        """What the default cells do not cover."""
        if options.steps is not None or any(cell.method == "ddpm" for cell in self.cells):
            return []
        return [NO_DDPM.found(recorded("DDPM is not among the default cells on the CPU: its network calls, one for "
                                       "every diffusion step, take minutes a batch there"))]

    def check(self, given: Weights | None, images: Dataset | None, resumed: RecordedRun | None) -> None:
        """Refuse to go on with other weights.

        Raises:
            UsageError: the file or its content has changed.
        """
        before = resumed.last(SamplesDrawn) if resumed is not None else None
        if resumed is not None and before is not None and before.weights != origin(given):
            raise UsageError(tell("--resume {path}: it sampled from {before}, now there are {now}: start a new run",
                                  path=resumed.path, before=shown(before.weights), now=shown(origin(given))))

    def gate(self, bench: Bench, recorded: RecordedRun) -> None:
        """Have the arms draw, unless every comparison has its result.

        An interruption may have come between the first and the last arm.
        """
        from harness.suites.sampling.agreement import run_agreement

        have = {(result.arm_a, result.arm_b) for result in recorded.of(SampleAgreement)}
        needed = {(c.a, c.b) for c in bench.plan.comparisons if not c.selfcheck}
        if not (recorded.of(SamplesDrawn) and have >= needed):
            run_agreement(bench, self.cells)

    def fair(self, recorded: RecordedRun, pair: Comparison) -> str | None:
        """Only arms that draw the same images may be compared, in a coarser number format those in float32 as well."""
        from harness.judge.fairness import gate_fault

        return gate_fault(recorded, pair, recorded.of(SampleAgreement), marked("images"),
                          marked("images of {a} and {b}"), marked("the images were not compared"))

    def early(self, recorded: RecordedRun, slot: ArmSlot) -> str | None:
        """Where a chain of network calls was over long before a whole batch of the same block."""
        windows = recorded.of(Window)
        found = (too_early(trap, windows) for trap in recorded.of(Trap) if trap.arm == slot)
        return next((why for why in found if why), None)

    def asked(self, recorded: RecordedRun, comparisons: Sequence[Comparison]) -> Mapping[Question, Ratios]:
        """Every cell, their mean in front of them, and the single network calls."""
        from harness.judge.verdicts import Question, block_ratios

        cells = {comparison: [Question(comparison, SAMPLING_TIME.name, SAMPLING_TIME.kind, cell.name)
                              for cell in self.cells] for comparison in comparisons}
        ratios = {question: block_ratios(recorded, question) for of in cells.values() for question in of}
        means = {Question(comparison, SAMPLING_MEAN.name, SAMPLING_MEAN.kind):
                 mean_over_cells([ratios[question] for question in of]) for comparison, of in cells.items()}
        calls = [Question(comparison, CALL_TIME.name, CALL_TIME.kind) for comparison in comparisons]
        return {**means, **ratios, **{question: block_ratios(recorded, question) for question in calls}}

    def build(self, bench: Bench, session: Session) -> life.Built:
        """A sampler with the run's weights.

        Raises:
            WorkerFailedError: it cannot be built.
        """
        return build_sampler(bench, session, bench.experiment)

    def step_flop(self, recipe: ExperimentConfig) -> int:
        """A network call for a batch of images."""
        return forward_flop_per_image(recipe.model) * recipe.sample.batch_size

    def windows(self, block: Block) -> None:
        """Every cell at the main batch size."""
        from harness.suites.sampling.batches import alternate, pairs_of

        for cell in self.cells:
            pairs = pairs_of(cell, block.live, block.bench.plan.device)
            alternate(block, cell, block.bench.experiment.sample.batch_size, pairs, "sample")

    def windows_s(self, device: Device, arms: int) -> float:
        """What the cells may take, whatever the arms."""
        from harness.suites.sampling.batches import CELL_S

        return CELL_S[device] * len(self.cells)

    def once(self, block: Block, arm: Started) -> None:
        """The same chain timed wrongly and rightly."""
        from harness.suites.sampling.batches import spring_trap

        block.beside("trap", arm, partial(spring_trap, block, arm, cheapest(self.cells)))

    def once_together(self, block: Block) -> None:
        """The cheapest cell at other batch sizes."""
        from harness.suites.sampling.batches import SWEEP_PAIRS, alternate

        for images in self.sweep:
            alternate(block, cheapest(self.cells), images, SWEEP_PAIRS, "sweep")

    def has_once(self, recorded: RecordedRun, slot: ArmSlot) -> bool:
        """Whether the trap was sprung."""
        return any(trap.arm == slot for trap in recorded.of(Trap))


def too_early(trap: Trap, windows: Sequence[Window]) -> str | None:
    """Why a chain of network calls was not waited for, told by whole batches of the same block; None when it was."""
    batches = [window.end_ns - window.start_ns for window in windows
               if window.kind == SAMPLING_TIME.kind and (window.arm, window.block) == (trap.arm, trap.block)
               and (window.cell, window.images) == (trap.cell, trap.images)]
    typical_ns = statistics.median(batches) if batches else 0
    if trap.synchronised_ns >= LEAST_OF_BATCH * typical_ns:
        return None
    return recorded("the chain of {cell} took {chain} ms with its synchronisation, a whole batch {batch} ms",
                    cell=trap.cell, chain=f"{trap.synchronised_ns / 1e6:.3g}", batch=f"{typical_ns / 1e6:.3g}")


def mean_over_cells(cells: Sequence[Ratios]) -> Ratios:
    """One ratio per block, the geometric mean over cells, of the blocks in which every cell was measured."""
    from harness.judge.verdicts import Ratios
    from harness.stats.compare import BlockRatio

    by_block = [dict(zip(cell.blocks, zip(cell.ratios, cell.dirty, cell.machine, strict=True), strict=True))
                for cell in cells]
    blocks = sorted(set.intersection(*(set(found) for found in by_block))) if by_block else []
    ratios = []
    for block in blocks:
        found = [cell[block][0] for cell in by_block]
        ratios.append(BlockRatio(statistics.fmean(ratio.median_log_ratio for ratio in found),
                                 statistics.fmean(ratio.mean_log_ratio for ratio in found),
                                 sum(ratio.pairs for ratio in found)))
    return Ratios(tuple(blocks), tuple(ratios), tuple(by_block[0][block][1] for block in blocks),
                  tuple(by_block[0][block][2] for block in blocks))
