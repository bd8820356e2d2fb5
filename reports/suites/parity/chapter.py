"""The figure of a parity check: how far matched losses drift apart."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from harness.record.events import ParityResult
from reports.chapters.trust import LOSS
from reports.page.plotting import INK, MUTED, SERIES, Drawn, legend_above, sheet
from reports.text import number, plural, tag
from reports.view.run import Floats, RunView


def parity_losses(view: RunView, result: ParityResult, narrow: bool) -> Drawn | str:
    """Relative difference of matched losses per step, beside the perturbation control and the tolerance."""
    steps, found = finite(result.loss_rel_diff)
    control_steps, control = finite(result.control_rel_diff)
    lost = len(result.loss_rel_diff) - found.size
    if not result.loss_rel_diff:
        return result.reason or "no matched steps were run"
    if not found.size:
        return f"none of {plural(lost, 'difference')} of matched losses is a finite number"
    figure, (axis,) = sheet(narrow, 2.5)
    allowed = result.tolerances.get(LOSS)
    floor = smallest(found, control)
    one, other = view.label(result.arm_a), view.label(result.arm_b)
    axis.plot(
        steps,
        np.maximum(found, floor),
        color=SERIES[result.arm_b].color,
        marker=SERIES[result.arm_b].marker,
        markersize=3,
        label=f"{tag(other, 24)} against {tag(one, 24)}",
    )
    if control.size:
        axis.plot(
            control_steps,
            np.maximum(control, floor),
            color=MUTED,
            linestyle=(0, (4, 2)),
            label="control: weights off by 1e-7",
        )
    if allowed is not None and math.isfinite(allowed) and allowed > 0:
        axis.axhline(allowed, color=INK, linewidth=1.1, linestyle=(0, (1, 1)), label=f"tolerance {number(allowed, 2)}")
    axis.set_yscale("log")
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value, 1)))
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axis.set_xlabel("matched step")
    axis.set_ylabel("relative difference")
    legend_above(figure, axis, 1 if narrow else 3)
    allowed_words = f"; allowed: {number(allowed, 2)}" if allowed is not None else ""
    lost_words = f" {plural(lost, 'further step')} left out: no finite number." if lost else ""
    return Drawn(
        figure,
        f"The losses of {other} and {one} differ by at most {number(float(np.max(found)), 2)} relative over "
        f"{plural(found.size, 'matched step')}{allowed_words}.{lost_words}",
        "The same weights, batches, timesteps and noise in both. The control is one arm against itself from weights "
        "off by 1e-7: what rounding alone grows into.",
    )


def finite(differences: list[float]) -> tuple[Floats, Floats]:
    """The steps that have a finite difference, and these differences."""
    values = np.array(differences, dtype=np.float64)
    steps = np.flatnonzero(np.isfinite(values))
    return steps.astype(np.float64), values[steps]


def smallest(*series: Floats) -> float:
    """A floor for a logarithmic axis: exact agreement is drawn there instead of vanishing."""
    positive = np.concatenate([values[values > 0] for values in series])
    return float(positive.min()) / 2 if positive.size else 1e-12
