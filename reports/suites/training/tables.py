"""Training as tables: key figures, where the time goes, throughput, epochs."""

from __future__ import annotations

import numpy as np

from harness.record.events import Epoch, Losses
from messages import count, marked, plural, tell, words
from reports.chapters.answer import key_figures as shared
from reports.chapters.answer.key_figures import NO_WINDOWS
from reports.page.blocks import Table, head, table_of
from reports.text import Value, duration, missing, number, percent, signed_percent
from reports.view.run import ArmView, RunView, rate_per_s

NO_FREE = marked("no free-running window was measured")
# How batches come: from all of the data on the device, or by the framework's own loader.
LOADERS = {"resident": marked("resident"), "native": marked("native")}
DATA_PATHS = {"resident": marked("resident data"), "native": marked("native data")}


def key_figures(view: RunView) -> Table:
    """What people quote."""
    return shared.key_figures(
        view,
        [
            (tell("step time, median"), shared.step_time),
            (tell("images/s, stepwise"), lambda v, a: shared.images_per_s(v, a, "stepwise", tell(NO_WINDOWS))),
            (tell("images/s, free-running"), lambda v, a: shared.images_per_s(v, a, "free", tell(NO_FREE))),
            (tell("achieved GFLOP/s"), achieved),
            (tell("share of measured peak"), peak_share),
        ],
        [(tell("energy per image"), energy)],
    )


def flop_rate(view: RunView, arm: ArmView) -> tuple[float, str] | None:
    """Achieved floating-point operations per second, free-running where measured, and which it is."""
    for kind, name in (("free", tell("free-running")), ("stepwise", tell("stepwise"))):
        rate = rate_per_s(arm, kind)
        if rate is not None and view.cost and view.cost.step_flop:
            return rate * view.cost.step_flop, name
    return None


def achieved(view: RunView, arm: ArmView) -> Value:
    """Analytic cost over measured time."""
    found = flop_rate(view, arm)
    if found is None:
        return missing(tell("no window was measured") if view.cost else view.no_cost)
    return Value(number(found[0] / 1e9), found[1])


def peak_share(view: RunView, arm: ArmView) -> Value:
    """Achieved rate over the best matrix-product rate measured in the same run."""
    found, peak = flop_rate(view, arm), view.peak(arm)
    if not peak:
        return missing(tell("no peak was measured in this run"))
    if found is None:
        return missing(tell("no achieved rate"))
    source = tell("of {rate} GFLOP/s, matmul by {arm}", rate=number(peak.flops / 1e9), arm=view.label(peak.arm))
    return Value(percent(found[0] / peak.flops), source)


def energy(view: RunView, arm: ArmView) -> Value:
    """Energy of the device over the arm's windows, per image."""
    return shared.energy(view, arm, lambda reading: max(reading.steps, 0) * (view.batch_size or 0))


def where_time_goes(view: RunView) -> Table:
    """Data loading beside the suspects of every part, and where a loss is scaled, how."""
    scaled = any(part.loss_scale is not None for arm in view.arms for part in arm.of(Losses))
    return shared.suspects(
        view,
        [
            *([(tell("steps left out for overflow"), skipped_steps)] if scaled else []),
            (tell("waiting for data, native loader"), lambda v, a: loader_share(a, "native")),
            (tell("waiting for data, resident data"), lambda v, a: loader_share(a, "resident")),
            (tell("gap between epochs, median"), epoch_gap),
        ],
    )


def data_path(loader: str) -> str:
    """How batches come, in words."""
    return tell(DATA_PATHS[loader])


def skipped_steps(view: RunView, arm: ArmView) -> Value:
    """How many of its steps moved no weight, and what its loss was multiplied by in the end."""
    found = [part for part in arm.of(Losses) if part.loss_scale is not None]
    if not found:
        return missing(tell("its loss is not scaled"))
    left_out, steps = sum(part.skipped or 0 for part in found), sum(len(part.losses) for part in found)
    scales = sorted({part.loss_scale for part in found if part.loss_scale is not None})
    least, most = number(scales[0]), number(scales[-1])
    told = least if least == most else tell("{low} to {high}", low=least, high=most)
    return Value(tell("{skipped} of {steps}", skipped=count(left_out), steps=plural(steps, "step")),
                 tell("loss scale at the end {scale}", scale=told))


def loader_share(arm: ArmView, loader: str) -> Value:
    """Share of the epochs that the training loop spent waiting for a batch."""
    epochs = [epoch for epoch in arm.of(Epoch) if epoch.loader == loader and epoch.loader_wait_ns]
    if not epochs:
        return missing(tell("no epoch with {data} was recorded", data=data_path(loader)))
    total_ns = sum(epoch.end_ns - epoch.start_ns for epoch in epochs)
    if total_ns <= 0:
        return missing(tell("no epoch with {data} took any time", data=data_path(loader)))
    waits = np.concatenate([np.asarray(epoch.loader_wait_ns, dtype=float) for epoch in epochs])
    share = float(waits.sum()) / total_ns
    return Value(
        tell("{share} of the epoch", share=percent(share)),
        tell("{mean} per step, worst {worst}", mean=duration(float(waits.mean())),
             worst=duration(float(waits.max()))),
    )


def epoch_gap(view: RunView, arm: ArmView) -> Value:
    """From the last step of one epoch to the first of the next."""
    gaps = [epoch.gap_ns for epoch in arm.of(Epoch) if epoch.gap_ns is not None]
    if not gaps:
        return missing(tell("fewer than two epochs in a row were recorded"))
    return Value(duration(float(np.median(gaps))), tell("{gaps}, worst {worst}", gaps=plural(len(gaps), "gap"),
                                                        worst=duration(max(gaps))))


def throughputs(view: RunView) -> Table:
    """Stepwise against free-running."""

    def row(arm: ArmView) -> tuple[Value, ...]:
        stepwise, free = rate_per_s(arm, "stepwise"), rate_per_s(arm, "free")
        batch = view.batch_size
        return (
            Value(number(stepwise * batch)) if stepwise and batch else missing(tell(NO_WINDOWS)),
            Value(number(free * batch)) if free and batch else missing(tell(NO_FREE)),
            Value(signed_percent(free / stepwise - 1), tell("what waiting for every step costs"))
            if stepwise and free
            else missing(tell(NO_WINDOWS if not stepwise else NO_FREE)),
        )

    return Table(
        tell("Images per second, synchronised after every step and only at the ends of windows"),
        head(*words("arm", "stepwise", "free-running", "overlap gained")),
        shared.arm_rows(view, lambda arm: [row(arm)]),
    )


def epochs(view: RunView) -> Table | None:
    """Whole epochs: seconds and images per second."""
    groups: dict[tuple[str, str], list[Epoch]] = {}
    for arm in view.arms:
        for epoch in arm.of(Epoch):
            groups.setdefault((arm.slot, epoch.loader), []).append(epoch)
    rows = []
    for (slot, loader), found in groups.items():
        times = [epoch.end_ns - epoch.start_ns for epoch in found]
        rate = sum(epoch.images for epoch in found) / sum(times) * 1e9 if sum(times) else None
        images = sorted({epoch.images for epoch in found})
        workers = sorted({epoch.num_workers for epoch in found})
        detail = tell("{workers} loader workers", workers=" / ".join(map(str, workers))) if loader == "native" else None
        rows.append(
            (
                Value(view.label(slot), slot=slot),
                Value(data_path(loader), detail),
                Value(
                    duration(float(np.median(times))),
                    tell("median of {epochs} of {images} images", epochs=plural(len(times), "epoch"),
                         images=" / ".join(count(n) for n in images)),
                ),
                Value(number(rate)),
            )
        )
    return table_of(tell("Whole epochs"), words("arm", "data path", "epoch", "images/s"), rows)
