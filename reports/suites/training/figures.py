"""Figures of training: throughput, and whole epochs with their gaps."""

from __future__ import annotations

import numpy as np
from matplotlib.patches import Patch

from harness.record.events import Epoch
from messages import count, tell, words
from reports.page.data import Data
from reports.page.key import Key
from reports.page.plotting import INK, MUTED, PAPER, SERIES, Drawn, legend_above, sheet
from reports.suites.training.tables import LOADERS, data_path
from reports.text import commas, duration, number, semicolons, signed_percent, tick, time_unit
from reports.view.run import RunView, rate_per_s


def throughput(view: RunView, narrow: bool) -> Drawn | str:
    """Images per second, stepwise and free-running."""
    batch = view.batch_size
    rates = {arm.slot: (rate_per_s(arm, "stepwise"), rate_per_s(arm, "free")) for arm in view.arms}
    if not batch or not any(one or two for one, two in rates.values()):
        return tell("no window was measured")
    figure, (axis,) = sheet(narrow, 0.95 + 0.42 * len(view.arms))
    data = Data(words("arm", "synchronised", "images per second"))
    messages, most = [], max(v for pair in rates.values() for v in pair if v) * batch
    for y, arm in enumerate(view.arms):
        style, (stepwise, free) = SERIES[arm.slot], rates[arm.slot]
        if stepwise and free:
            axis.plot([stepwise * batch, free * batch], [y, y], color=style.color, linewidth=2)
            messages.append(
                tell("{arm} {stepwise} stepwise, {free} free-running ({gained})", arm=arm.label,
                     stepwise=number(stepwise * batch), free=number(free * batch),
                     gained=signed_percent(free / stepwise - 1))
            )
        for rate, face, when in ((stepwise, PAPER, tell("stepwise")), (free, style.color, tell("free-running"))):
            if rate:
                data.point(axis, rate * batch, y, arm.label, when, number(rate * batch))
                axis.plot(
                    rate * batch,
                    y,
                    style.marker,
                    color=style.color,
                    markerfacecolor=face,
                    markersize=8,
                    markeredgewidth=1.6,
                )
    axis.plot([], [], "o", color=INK, markerfacecolor=PAPER, label=tell("stepwise (open)"))
    axis.plot([], [], "o", color=INK, label=tell("free-running (filled)"))
    axis.set_yticks(range(len(view.arms)), [tick(arm.label, narrow) for arm in view.arms])
    axis.set_ylim(len(view.arms) - 0.5, -0.5)
    axis.set_xlim(0, most * 1.08)
    axis.grid(axis="y", visible=False)
    axis.set_xlabel(tell("images per second"))
    legend_above(figure, axis, 2)
    return Drawn(
        figure,
        tell("Images per second: {rates}.", rates=semicolons(messages) or tell("only one kind of window was measured")),
        tell("Open: synchronised after every step. Filled: synchronised only at the ends of longer windows, as in a "
             "training job. The distance is the work that overlaps between steps."),
        data,
    )


def epoch_tick(arm: str, epoch: Epoch, narrow: bool) -> str:
    """Which epoch of which arm, beside an axis: in several lines on a phone."""
    which = tell("{loader} {epoch}", loader=tell(LOADERS[epoch.loader]), epoch=epoch.epoch)
    return tell("{first}\n{rest}", first=arm, rest=which) if narrow else commas([arm, which])


def epoch_times(view: RunView, narrow: bool) -> Drawn | str:
    """Whole epochs with the gap before each."""
    rows = [(arm, epoch) for arm in view.arms for epoch in arm.of(Epoch)]
    if not rows:
        return tell("no whole epoch was run")
    most = max(epoch.end_ns - epoch.start_ns + (epoch.gap_ns or 0) for _, epoch in rows)
    if most <= 0:
        return tell("no epoch took any time")
    groups = list(dict.fromkeys((arm.slot, epoch.loader) for arm, epoch in rows))
    figure, (axis,) = sheet(narrow, 1.0 + 0.23 * len(rows) + 0.12 * len(groups))
    factor, unit = time_unit(most)
    data = Data(words("arm", "epoch", "data path", "gap before it", "epoch takes"))
    y, ticks, messages = 0.0, [], []
    for slot, loader in groups:
        arm = view.arm(slot)
        if arm is None:
            continue
        style, found = SERIES[slot], [epoch for epoch in arm.of(Epoch) if epoch.loader == loader]
        for epoch in found:
            gap, length = (epoch.gap_ns or 0) / factor, (epoch.end_ns - epoch.start_ns) / factor
            axis.barh(y, gap, height=0.72, color=PAPER, edgecolor=MUTED, linewidth=0.9, hatch="xxxxx")
            axis.barh(
                y,
                length,
                left=gap,
                height=0.72,
                color=style.color,
                alpha=0.8,
                hatch=style.hatch,
                edgecolor=PAPER,
                linewidth=0,
            )
            axis.annotate(
                f"{number(length)} {unit}",
                (gap + length, y),
                (4, 0),
                textcoords="offset points",  # English
                va="center",
                fontsize=8,
            )
            waited = duration(epoch.gap_ns) if epoch.gap_ns is not None else ""
            data.bar(axis, (0, y - 0.36), (gap + length, y + 0.36), arm.label, epoch.epoch, data_path(loader), waited,
                     f"{number(length)} {unit}")  # fmt: skip
            ticks.append((y, epoch_tick(tick(arm.label, narrow), epoch, narrow)))
            y += 1
        y += 0.5
        times = [epoch.end_ns - epoch.start_ns for epoch in found]
        gaps = [epoch.gap_ns for epoch in found if epoch.gap_ns is not None]
        between = tell(", gaps of {time}", time=duration(float(np.median(gaps)))) if gaps else ""
        messages.append(tell("{arm} with {data}: {time} per epoch{gaps}", arm=arm.label, data=data_path(loader),
                             time=duration(float(np.median(times))), gaps=between))
    axis.set_yticks([where for where, _ in ticks], [name for _, name in ticks])
    axis.set_ylim(y - 0.9, -0.6)
    axis.set_xlim(0, most / factor * (1.22 if narrow else 1.1))
    axis.grid(axis="y", visible=False)
    axis.set_xlabel(tell("time from the last step of the epoch before, {unit}", unit=unit))
    kinds = [Patch(facecolor=PAPER, edgecolor=MUTED, hatch="xxxxx"), Patch(facecolor=MUTED)]
    figure.add_artist(Key(kinds, [tell("gap before the epoch"), tell("epoch")], 2))
    images = sorted({epoch.images for _, epoch in rows})
    return Drawn(
        figure,
        tell("{text}.", text=semicolons(messages)),
        tell("Epochs of {images} images. Gap: from the last step before to the first step of the epoch, where loaders "
             "are rebuilt.", images=" / ".join(count(n) for n in images)),
        data,
    )
