"""Figure of the training losses: own and matched randomness, with the perturbation control."""

from __future__ import annotations

from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, ScalarFormatter

from harness.record.events import Losses
from messages import count, marked, plural, tell, words
from reports.page.blocks import Section
from reports.page.data import Data
from reports.page.figures import FigureMaker
from reports.page.plotting import MUTED, SERIES, Drawn, envelope, labelled, sheet
from reports.text import NA, commas, number, semicolons, sentences, tag
from reports.view.run import ArmView, RunView

PANELS = (
    (marked("Own randomness"), marked("own randomness")),
    (marked("Matched randomness"), marked("matched randomness")),
)
RANDOMNESS = marked("native"), marked("matched"), marked("control")


def section(seen: RunView, figures: FigureMaker) -> Section:
    """The loss curves."""
    return Section("losses", tell("Loss curves"), (figures.make("losses", partial(losses, seen)),))


def losses(view: RunView, narrow: bool) -> Drawn | str:
    """Loss curves: the frameworks' own randomness, and matched randomness with the perturbation control."""
    native = [(arm, part) for arm in view.arms for part in arm.of(Losses) if part.randomness == "native"]
    matched = [(arm, part) for arm in view.arms for part in arm.of(Losses) if part.randomness != "native"]
    panels = [(title, what, group) for (title, what), group in zip(PANELS, (native, matched), strict=True) if group]
    if not panels:
        return tell("no training loss was recorded")
    figure, axes = sheet(narrow, 0.8 + 2.0 * len(panels), len(panels))
    messages = []
    data = Data(words("process", "optimisation step", "loss (MSE of eps)"))
    for axis, (title, what, group) in zip(axes, panels, strict=True):
        for arm, part in group:
            draw_loss(axis, arm, part, len(group) > 2 * len(view.arms), data)
        axis.set_title(tell(title))
        axis.set_ylabel(tell("loss (MSE of eps)"))
        axis.set_yscale("log")
        axis.yaxis.set_minor_formatter(NullFormatter())
        axis.yaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5), numticks=8))
        axis.yaxis.set_major_formatter(ScalarFormatter())
        axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axis.legend(*labelled(axis), loc="upper right", fontsize=8)  # English
        last = commas(last_loss(arm, group) for arm in view.arms if any(one is arm for one, _ in group))
        messages.append(tell("{randomness}: {losses}", randomness=tell(what), losses=last))
    axes[-1].set_xlabel(tell("optimisation step"))
    return Drawn(
        figure,
        tell("Training loss, mean of the last tenth of the steps; {losses}.", losses=semicolons(messages)),
        sentences(
            tell("Own randomness: each framework's generator, as users train; one line per process, running mean over "
                 "a twentieth of the steps."),
            tell("Matched: the same {shared}, so the curves must lie on each other; the control starts from weights "
                 "off by 1e-7.", shared=shared(view)),
        ),
        data,
    )


def shared(view: RunView) -> str:
    """What matched steps of two arms have in common."""
    return tell("weights and batches") if view.pair else tell("weights, batches, timesteps and noise")


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
    name = tell("{arm}, {randomness}", arm=arm.label, randomness=tell(part.randomness))
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
        label=tell("{arm}, control", arm=tag(arm.label)) if control else tag(arm.label),
    )


def last_loss(arm: ArmView, group: list[tuple[ArmView, Losses]]) -> str:
    """Mean of the last tenth of an arm's losses, over all its processes."""
    parts = [part.losses for one, part in group if one is arm and part.randomness != "control" and part.losses]
    if not parts:
        return f"{arm.label} {NA}"
    tails = [float(np.mean(losses[-max(1, len(losses) // 10) :])) for losses in parts]
    loss, steps = number(float(np.mean(tails))), plural(max(map(len, parts)), "step")
    if len(parts) > 1:
        return tell("{arm} {loss} after {steps} in {n} processes", arm=arm.label, loss=loss, steps=steps,
                    n=count(len(parts)))  # fmt: skip
    return tell("{arm} {loss} after {steps}", arm=arm.label, loss=loss, steps=steps)
