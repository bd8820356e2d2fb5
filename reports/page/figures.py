"""Every figure of a report by name: drawn twice (desktop and phone), inlined, and written to figures/."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

from harness.record.events import ParityResult, Verdict
from harness.record.writer import write_atomically
from reports.chapters import load as figures_run
from reports.chapters import ratio as figures_compare
from reports.chapters import steps as figures_steps
from reports.page.blocks import Picture, Prose
from reports.page.plotting import Drawn, alone, style_context, svg, write_png
from reports.suites.parity import chapter as figures_parity
from reports.suites.sampling import figures as figures_sampling
from reports.suites.training import losses as figures_losses
from reports.view.clock import of_one_boot
from reports.view.run import ArmView, RunView

Draw = Callable[[RunView, bool], "Drawn | str"]


@dataclass(frozen=True)
class FigureMaker:
    """Draws figures of one run, or half of one; with a folder also writes them there as SVG and PNG."""

    view: RunView
    folder: Path | None = None
    prefix: str = ""

    @cached_property
    def on_one_clock(self) -> FigureMaker:
        """Draws what has a time axis: all of it between two restarts of the machine."""
        return replace(self, view=of_one_boot(self.view))

    def make(self, name: str, draw: Draw) -> Picture | Prose:
        """One figure, or a sentence that says why it cannot be drawn."""
        name = f"{self.prefix}{name}"
        with style_context():
            wide = draw(self.view, False)
            if isinstance(wide, str):
                return Prose(f"{name.replace('-', ' ').capitalize()}: n/a, {wide}.", small=True)
            inline = {"wide": svg(wide.figure, f"{name}-w")}
            if self.folder is not None:
                write_atomically(self.folder / f"{name}.svg", alone(inline["wide"]))
                write_png(wide.figure, self.folder / f"{name}.png")
            phone = draw(self.view, True)
            if isinstance(phone, Drawn):
                inline["narrow"] = svg(phone.figure, f"{name}-n")
        return Picture(name, wide.alt, wide.caption, inline)

    def forest(self, verdict: Verdict, number: int) -> Picture | Prose:
        """Ratio per block of one verdict; `number` tells several apart."""
        suffix = f"-{number}" if number else ""
        return self.make(f"ratio{suffix}", lambda view, narrow: figures_compare.ratio_forest(view, verdict, narrow))

    def cells(self, verdicts: Sequence[Verdict], number: int) -> Picture | Prose:
        """Ratio per cell of one pair of arms."""
        suffix = f"-{number}" if number else ""
        return self.make(f"cells{suffix}", lambda view, narrow: figures_sampling.forest(view, verdicts, narrow))

    def boundary(self, arm: ArmView) -> Picture | Prose:
        """A closer look at the first boundary between two epochs of one arm."""
        return self.make(
            f"timeline-epochs-{arm.slot.lower()}", lambda view, narrow: figures_run.epochs_close(view, arm, narrow)
        )

    def parity(self, result: ParityResult, number: int) -> Picture | Prose:
        """Differences of matched losses of one parity check."""
        suffix = f"-{number}" if number else ""
        return self.make(f"parity{suffix}", lambda view, narrow: figures_parity.parity_losses(view, result, narrow))


def makers(maker: FigureMaker) -> dict[str, Callable[[], Picture | Prose]]:
    """Name -> a function that draws that figure; those of single verdicts are methods of `FigureMaker`."""
    drawings: dict[str, Draw] = {
        "step-times": figures_steps.step_times,
        "distribution": figures_steps.distribution,
        "epochs": figures_steps.epoch_times,
        "losses": figures_losses.losses,
        "cold-start": figures_compare.cold_start,
        "throughput": figures_compare.throughput,
        "over-calls": figures_sampling.over_calls,
        "batch-sizes": figures_sampling.sweep,
    }
    timed: dict[str, Draw] = {
        "timeline": figures_run.timeline,
        "timeline-windows": figures_run.windows_close,
        "memory": figures_run.memory,
    }
    return {
        **{name: partial(maker.make, name, draw) for name, draw in drawings.items()},
        **{name: partial(maker.on_one_clock.make, name, draw) for name, draw in timed.items()},
    }
