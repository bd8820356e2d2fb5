"""Training as tables: key figures, where the time goes, throughput, epochs."""

from __future__ import annotations

import numpy as np

from harness.record.events import Epoch, Losses
from messages import count, plural
from reports.chapters import key_figures as shared
from reports.chapters.key_figures import NO_WINDOWS
from reports.page.blocks import Table, head, table_of
from reports.text import Value, duration, missing, number, percent, signed_percent
from reports.view.run import ArmView, RunView, rate_per_s

NO_FREE = "no free-running window was measured"


def key_figures(view: RunView) -> Table:
    """What people quote."""
    return shared.key_figures(
        view,
        [
            ("step time, median", shared.step_time),
            ("images/s, stepwise", lambda v, a: shared.images_per_s(v, a, "stepwise", NO_WINDOWS)),
            ("images/s, free-running", lambda v, a: shared.images_per_s(v, a, "free", NO_FREE)),
            ("achieved GFLOP/s", achieved),
            ("share of measured peak", peak_share),
        ],
        [("energy per image", energy)],
    )


def flop_rate(view: RunView, arm: ArmView) -> tuple[float, str] | None:
    """Achieved floating-point operations per second, free-running where measured, and which it is."""
    for kind, name in (("free", "free-running"), ("stepwise", "stepwise")):
        rate = rate_per_s(arm, kind)
        if rate is not None and view.cost and view.cost.step_flop:
            return rate * view.cost.step_flop, name
    return None


def achieved(view: RunView, arm: ArmView) -> Value:
    """Analytic cost over measured time."""
    found = flop_rate(view, arm)
    if found is None:
        return missing("no window was measured" if view.cost else view.no_cost)
    return Value(number(found[0] / 1e9), found[1])


def peak_share(view: RunView, arm: ArmView) -> Value:
    """Achieved rate over the best matrix-product rate measured in the same run."""
    found, peak = flop_rate(view, arm), view.peak(arm)
    if not peak:
        return missing("no peak was measured in this run")
    if found is None:
        return missing("no achieved rate")
    source = f"of {number(peak.flops / 1e9)} GFLOP/s, matmul by {view.label(peak.arm)}"
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
            *([("steps left out for overflow", skipped_steps)] if scaled else []),
            ("waiting for data, native loader", lambda v, a: loader_share(a, "native")),
            ("waiting for data, resident data", lambda v, a: loader_share(a, "resident")),
            ("gap between epochs, median", epoch_gap),
        ],
    )


def skipped_steps(view: RunView, arm: ArmView) -> Value:
    """How many of its steps moved no weight, and what its loss was multiplied by in the end."""
    found = [part for part in arm.of(Losses) if part.loss_scale is not None]
    if not found:
        return missing("its loss is not scaled")
    left_out, steps = sum(part.skipped or 0 for part in found), sum(len(part.losses) for part in found)
    scales = sorted({part.loss_scale for part in found if part.loss_scale is not None})
    told = " to ".join(dict.fromkeys(number(scale) for scale in (scales[0], scales[-1])))
    return Value(f"{count(left_out)} of {plural(steps, 'step')}", f"loss scale at the end {told}")


def loader_share(arm: ArmView, loader: str) -> Value:
    """Share of the epochs that the training loop spent waiting for a batch."""
    epochs = [epoch for epoch in arm.of(Epoch) if epoch.loader == loader and epoch.loader_wait_ns]
    if not epochs:
        return missing(f"no epoch with {loader} data was recorded")
    total_ns = sum(epoch.end_ns - epoch.start_ns for epoch in epochs)
    if total_ns <= 0:
        return missing(f"no epoch with {loader} data took any time")
    waits = np.concatenate([np.asarray(epoch.loader_wait_ns, dtype=float) for epoch in epochs])
    share = float(waits.sum()) / total_ns
    return Value(
        f"{percent(share)} of the epoch",
        f"{duration(float(waits.mean()))} per step, worst {duration(float(waits.max()))}",
    )


def epoch_gap(view: RunView, arm: ArmView) -> Value:
    """From the last step of one epoch to the first of the next."""
    gaps = [epoch.gap_ns for epoch in arm.of(Epoch) if epoch.gap_ns is not None]
    if not gaps:
        return missing("fewer than two epochs in a row were recorded")
    return Value(duration(float(np.median(gaps))), f"{plural(len(gaps), 'gap')}, worst {duration(max(gaps))}")


def throughputs(view: RunView) -> Table:
    """Stepwise against free-running."""

    def row(arm: ArmView) -> tuple[Value, ...]:
        stepwise, free = rate_per_s(arm, "stepwise"), rate_per_s(arm, "free")
        batch = view.batch_size
        return (
            Value(number(stepwise * batch)) if stepwise and batch else missing(NO_WINDOWS),
            Value(number(free * batch)) if free and batch else missing(NO_FREE),
            Value(signed_percent(free / stepwise - 1), "what waiting for every step costs")
            if stepwise and free
            else missing(NO_WINDOWS if not stepwise else NO_FREE),
        )

    return Table(
        "Images per second, synchronised after every step and only at the ends of windows",
        head("arm", "stepwise", "free-running", "overlap gained"),
        shared.arm_rows(view, lambda arm: [row(arm)]),
    )


def epochs(view: RunView) -> Table | None:
    """Whole epochs: seconds and images per second."""
    groups: dict[tuple[str, str], list[Epoch]] = {}
    for arm in view.arms:
        for epoch in arm.of(Epoch):
            groups.setdefault((arm.slot, f"{epoch.loader} data"), []).append(epoch)
    rows = []
    for (slot, loader), found in groups.items():
        times = [epoch.end_ns - epoch.start_ns for epoch in found]
        rate = sum(epoch.images for epoch in found) / sum(times) * 1e9 if sum(times) else None
        images = sorted({epoch.images for epoch in found})
        workers = sorted({epoch.num_workers for epoch in found})
        detail = f"{' / '.join(map(str, workers))} loader workers" if "native" in loader else None
        rows.append(
            (
                Value(view.label(slot), slot=slot),
                Value(loader, detail),
                Value(
                    duration(float(np.median(times))),
                    f"median of {plural(len(times), 'epoch')} of {' / '.join(count(n) for n in images)} images",
                ),
                Value(number(rate)),
            )
        )
    return table_of("Whole epochs", ("arm", "data path", "epoch", "images/s"), rows)
