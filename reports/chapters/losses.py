"""Figure of the training losses: own and matched randomness, with the perturbation control."""

from __future__ import annotations

from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, ScalarFormatter

from harness.record.events import Losses
from messages import count, plural
from reports.page.blocks import Section
from reports.page.data import Data
from reports.page.figures import FigureMaker
from reports.page.plotting import MUTED, SERIES, Drawn, envelope, labelled, sheet
from reports.text import NA, number, tag
from reports.view.run import ArmView, RunView


def section(seen: RunView, figures: FigureMaker) -> Section:
    """The loss curves."""
    return Section("losses", "Loss curves", (figures.make("losses", partial(losses, seen)),))


def losses(view: RunView, narrow: bool) -> Drawn | str:
    """Loss curves: the frameworks' own randomness, and matched randomness with the perturbation control."""
    native = [(arm, part) for arm in view.arms for part in arm.of(Losses) if part.randomness == "native"]
    matched = [(arm, part) for arm in view.arms for part in arm.of(Losses) if part.randomness != "native"]
    panels = [(title, group) for title, group in (("Own randomness", native), ("Matched randomness", matched)) if group]
    if not panels:
        return "no training loss was recorded"
    figure, axes = sheet(narrow, 0.8 + 2.0 * len(panels), len(panels))
    messages = []
    data = Data(("process", "optimisation step", "loss (MSE of eps)"))
    for axis, (title, group) in zip(axes, panels, strict=True):
        for arm, part in group:
            draw_loss(axis, arm, part, len(group) > 2 * len(view.arms), data)
        axis.set_title(title)
        axis.set_ylabel("loss (MSE of eps)")
        axis.set_yscale("log")
        axis.yaxis.set_minor_formatter(NullFormatter())
        axis.yaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5), numticks=8))
        axis.yaxis.set_major_formatter(ScalarFormatter())
        axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axis.legend(*labelled(axis), loc="upper right", fontsize=8)
        messages.append(
            f"{title.lower()}: "
            + ", ".join(last_loss(arm, group) for arm in view.arms if any(one is arm for one, _ in group))
        )
    axes[-1].set_xlabel("optimisation step")
    return Drawn(
        figure,
        "Training loss, mean of the last tenth of the steps; " + "; ".join(messages) + ".",
        "Own randomness: each framework's generator, as users train; one line per process, running mean over a "
        f"twentieth of the steps. Matched: the same {shared(view)}, so the curves must lie on "
        "each other; the control starts from weights off by 1e-7.",
        data,
    )


def shared(view: RunView) -> str:
    """What matched steps of two arms have in common."""
    return "weights and batches" if view.pair else "weights, batches, timesteps and noise"


def draw_loss(axis: Axes, arm: ArmView, part: Losses, many: bool, data: Data) -> None:
    """One series of losses; noisy ones get a running mean."""
    style, values = SERIES[arm.slot], np.array(part.losses, dtype=np.float64)
    values = np.where(np.isfinite(values) & (values > 0), values, np.nan)
    if not values.size:
        return
    x = np.arange(part.first_step, part.first_step + values.size, dtype=np.float64)
    width = max(1, values.size // 20) if part.randomness == "native" else 1
    if width > 1 and not many:
        axis.plot(*envelope(x, values, 400), color=style.color, linewidth=0.5, alpha=0.25)
    if width > 1:
        kernel = np.ones(width)
        known = np.convolve(np.isfinite(values), kernel, "valid")
        smooth = np.convolve(np.nan_to_num(values), kernel, "valid") / np.where(known > 0, known, np.nan)
        x, values = x[width - 1 :], smooth
    control = part.randomness == "control"
    name = f"{arm.label}, {part.randomness}"
    data.line(axis, x, values, name, lambda step, loss: (f"{step:.0f}", number(loss, 4)))
    axis.plot(
        *envelope(x, values, 400),
        color=MUTED if control else style.color,
        linewidth=1.2 if control or many else 1.6,
        alpha=0.6 if many else 1.0,
        linestyle=(0, (1, 1.5)) if control else style.line,
        marker=None if control else style.marker,
        markersize=4,
        markevery=max(1, min(x.size, 400) // 12),
        label=f"{tag(arm.label)}, control" if control else tag(arm.label),
    )


def last_loss(arm: ArmView, group: list[tuple[ArmView, Losses]]) -> str:
    """Mean of the last tenth of an arm's losses, over all its processes."""
    parts = [part.losses for one, part in group if one is arm and part.randomness != "control" and part.losses]
    if not parts:
        return f"{arm.label} {NA}"
    tails = [float(np.mean(losses[-max(1, len(losses) // 10) :])) for losses in parts]
    processes = f" in {count(len(parts))} processes" if len(parts) > 1 else ""
    return f"{arm.label} {number(float(np.mean(tails)))} after {plural(max(map(len, parts)), 'step')}{processes}"
