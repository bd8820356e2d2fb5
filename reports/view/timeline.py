"""What every arm was doing at every moment, from the journal's stamps, and what was going on when load was low."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.record.events import Epoch, Losses, Sample, WarmUp, Window, WorkerStarted
from messages import marked, tell
from reports.text import Floats
from reports.view.run import ArmView, RunView, remembered
from reports.view.windows import Windows

# Phases, and what else a lane says of one: messages, told where they are shown.
STARTING, WARMING = marked("starting"), marked("warm-up")
STEPWISE, FREE = marked("stepwise window"), marked("free window")
EPOCH, PARITY = marked("epoch"), marked("parity check")
BATCH, SWEEP = marked("whole batch"), marked("other batch size")
COLD = marked("cold-start")
IMAGES = marked("{n} images")
LOADERS = {"resident": marked("resident data"), "native": marked("native data")}
PHASES = {"stepwise": STEPWISE, "free": FREE, "sample": BATCH, "sweep": SWEEP}
CPU_KEYS = ("cpu_percent", "utilisation_percent")
LOADER_MIN_NS = 1_000_000
CLOSE_NS = 2_000_000_000
TROUGH_DEPTH = 0.6


@dataclass(frozen=True)
class Lane:
    """The intervals in which one arm was in one phase, in monotonic nanoseconds, those that began first first.

    Attributes:
        what: phase, and more words on it, of every sort of interval.
        sort: which of them each interval is.
        latest_ns: the latest end of it and of all before it.
    """

    what: tuple[tuple[str, str], ...]
    sort: npt.NDArray[np.intp]
    start_ns: Floats
    end_ns: Floats
    latest_ns: Floats

    def within(self, start_ns: float, end_ns: float) -> slice:
        """The stretch that holds all intervals that overlap this one."""
        first = int(np.searchsorted(self.latest_ns, start_ns, "right"))
        return slice(first, int(np.searchsorted(self.start_ns, end_ns, "left")))

    def phases(self, start_ns: float, end_ns: float) -> set[str]:
        """The phases of intervals that overlap this one."""
        some = self.within(start_ns, end_ns)
        return {self.what[sort][0] for sort in np.unique(self.sort[some][self.end_ns[some] > start_ns])}

    def of(self, phase: str) -> tuple[Floats, Floats]:
        """Starts and ends of the intervals of one phase."""
        ours = np.isin(self.sort, [sort for sort, (name, _) in enumerate(self.what) if name == phase])
        return self.start_ns[ours], self.end_ns[ours]


@dataclass(frozen=True)
class Doing:
    """What an arm was doing in an interval, and for how much of it."""

    arm: str
    phase: str
    detail: str
    share: float

    @property
    def words(self) -> str:
        """Who was in which phase."""
        if self.detail:
            return tell("{arm}: {phase} ({detail})", arm=self.arm, phase=tell(self.phase),
                        detail=detail_words(self.detail))  # fmt: skip
        return tell("{arm}: {phase}", arm=self.arm, phase=tell(self.phase))

    @property
    def measured(self) -> str:
        """The same with the share of the interval."""
        return tell("{doing}, {share}", doing=self.words, share=f"{min(self.share, 1) * 100:.0f} %")


@dataclass(frozen=True)
class Trough:
    """A stretch of low load: its mean in per cent, and the phases that overlap it, the longest first."""

    start_ns: int
    end_ns: int
    load_percent: float
    doing: tuple[Doing, ...]


@remembered
def lane(arm: ArmView) -> Lane:
    """All phases of one arm."""
    sorts: dict[tuple[str, str], int] = {}
    sort: list[int] = []
    starts: list[float] = []
    ends: list[float] = []

    def add(phase: str, start_ns: float, end_ns: float, detail: str = "") -> None:
        sort.append(sorts.setdefault((phase, detail), len(sorts)))
        starts.append(start_ns)
        ends.append(end_ns)

    for worker in arm.of(WorkerStarted):
        first_end = worker.first_stamp_ns + worker.first_step_ns
        # Only the first step has a stamp; building, importing and launching came right before it, in this order.
        before = worker.first_stamp_ns - worker.build_ns - worker.import_ns - worker.spawn_ns
        add(STARTING, before, first_end, "" if worker.role == "measure" else worker.role)
        if worker.checks:
            # A check has no end of its own in the journal: its losses are written once it is over.
            written = [part.t_ns for part in arm.of(Losses) if part.randomness != "native" and part.t_ns > first_end]
            if written:
                add(PARITY, first_end, max(written))
    for warm in arm.of(WarmUp):
        # The first step of a warm-up is the end of the start-up.
        if len(warm.start_ns) > 1 and warm.step_ns:
            add(WARMING, warm.start_ns[1], warm.start_ns[-1] + warm.step_ns[-1])
    for epoch in arm.of(Epoch):
        add(EPOCH, epoch.start_ns, epoch.end_ns, LOADERS[epoch.loader])
    for table in arm.tables:
        sort += [sorts.setdefault((PHASES[window.kind], window_detail(window)), len(sorts)) for window in table.lines]
    start_ns = np.concatenate([starts, *(table.start_ns for table in arm.tables)])
    end_ns = np.concatenate([ends, *(table.end_ns for table in arm.tables)])
    order = np.argsort(start_ns, kind="stable")
    latest_ns = np.maximum.accumulate(end_ns[order])
    return Lane(tuple(sorts), np.array(sort, dtype=np.intp)[order], start_ns[order], end_ns[order], latest_ns)


def window_detail(window: Window) -> str:
    """What tells a window from others of its phase: the batch size that it tries, or its cell."""
    if window.kind == "sweep":
        return IMAGES.format(n=window.images) if window.images else ""
    return window.cell or ""


def detail_words(detail: str) -> str:
    """The same, or what is told of other phases, as people read it."""
    images = re.fullmatch(IMAGES.format(n=r"(\d+)"), detail)
    return tell(IMAGES, n=images[1]) if images else tell(detail)


@remembered
def loader_waits(arm: ArmView) -> list[tuple[int, int]]:
    """Waits for a batch of at least 1 ms: (start, end); the wait comes right before its step's enqueueing."""
    return [
        (start - wait, start)
        for epoch in arm.of(Epoch)
        for start, wait in zip(epoch.step_start_ns, epoch.loader_wait_ns, strict=False)
        if wait >= LOADER_MIN_NS
    ]


@remembered
def step_marks(arm: ArmView) -> Floats:
    """Starts of all steps that have a stamp of their own or follow from a window's durations, in order."""
    marks: list[float] = [stamp for epoch in arm.of(Epoch) for stamp in epoch.step_start_ns]
    marks += [stamp for warm in arm.of(WarmUp) for stamp in warm.start_ns]
    return np.sort(np.concatenate([marks, *(table.step_start_ns for table in arm.tables)]))


def series(samples: Sequence[Sample], keys: Iterable[str]) -> tuple[Floats, Floats, str | None]:
    """Stamps, values and name of the first of `keys` that the samples carry; unreadable values are NaN."""
    for key in keys:
        if any(sample.values.get(key) is not None for sample in samples):
            stamps = np.array([sample.t_ns for sample in samples], dtype=np.float64)
            raw = [sample.values.get(key) for sample in samples]
            return stamps, np.array([np.nan if v is None else v for v in raw], dtype=np.float64), key
    return np.empty(0), np.empty(0), None


def with_gaps(stamps: Floats, values: Floats) -> tuple[Floats, Floats]:
    """The series with a NaN wherever samples are missing for long, so that a line ends where its process ended."""
    if len(stamps) < 3:
        return stamps, values
    steps = np.diff(stamps)
    holes = np.flatnonzero(steps > 4 * float(np.median(steps)))
    return np.insert(stamps, holes + 1, stamps[holes] + 1), np.insert(values, holes + 1, np.nan)


@remembered
def troughs(view: RunView) -> list[Trough]:
    """Stretches in which the host's CPU load stayed under 60 % of its median, those that lost most first."""
    stamps, load, _ = series(view.samples.get("host", []), CPU_KEYS)
    if np.isfinite(load).sum() < 5:
        return []
    usual = float(np.nanmedian(load))
    low = load < TROUGH_DEPTH * usual
    edges = np.flatnonzero(np.diff(np.concatenate([[0], low.astype(int), [0]])))
    found = []
    for first, after in zip(edges[::2], edges[1::2], strict=True):
        # A sample tells of the time since the one before it.
        start, end = int(stamps[max(first - 1, 0)]), int(stamps[after - 1])
        if end > start:
            found.append(Trough(start, end, float(np.mean(load[first:after])), done(view, start, end)))
    return sorted(found, key=lambda t: -(usual - t.load_percent) * (t.end_ns - t.start_ns))


def doing(view: RunView, start_ns: int, end_ns: int) -> tuple[str, ...]:
    """Who was in which phase during an interval, with the share of the interval, the largest first."""
    return tuple(one.measured for one in done(view, start_ns, end_ns))


def done(view: RunView, start_ns: int, end_ns: int) -> tuple[Doing, ...]:
    """The same, not yet in words."""
    found = []
    for arm in view.arms:
        held = lane(arm)
        some = held.within(start_ns, end_ns)
        overlaps = np.minimum(held.end_ns[some], end_ns) - np.maximum(held.start_ns[some], start_ns)
        sums = np.bincount(held.sort[some], np.maximum(overlaps, 0), len(held.what))
        for (phase, detail), overlap in zip(held.what, sums, strict=True):
            found.append(Doing(arm.label, phase, detail, float(overlap) / (end_ns - start_ns)))
    return tuple(one for one in sorted(found, key=lambda one: -one.share) if one.share >= 0.02)[:3]


def alternation(view: RunView) -> tuple[int, int] | None:
    """The first seconds of measured windows: long enough for five windows of every arm."""
    tables = alternating(view)
    starts = np.concatenate([np.empty(0), *(table.start_ns for table in tables)])
    first = np.argsort(starts, kind="stable")[: 5 * len(view.arms)]
    if not first.size:
        return None
    ends = np.concatenate([np.empty(0), *(table.end_ns for table in tables)])
    begin, end = int(starts[first[0]]), int(ends[first[-1]])
    margin = (end - begin) // 30
    return begin - margin, end + margin


def alternating(view: RunView) -> list[Windows]:
    """The windows on which the verdicts rest, arm by arm."""
    return [arm.table(view.unit.windows if arm.windows(view.unit.windows) else "stepwise") for arm in view.arms]


def epoch_boundary(arm: ArmView) -> tuple[int, int] | None:
    """Around the first boundary between two epochs of an arm: a good part of each, and the gap whole."""
    epochs = sorted(arm.of(Epoch), key=lambda epoch: epoch.start_ns)
    for one, two in zip(epochs, epochs[1:], strict=False):
        if one.loader == two.loader:
            around = max(CLOSE_NS, 2 * (two.start_ns - one.end_ns))
            return max(one.start_ns, one.end_ns - around), min(two.end_ns, two.start_ns + around)
    return None
