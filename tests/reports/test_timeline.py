"""The arrays behind the timeline against plain loops over the same journal lines."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from harness.record.events import Event, RunEnded, Sample, Verdict, Window
from harness.record.run import RecordedRun
from reports.chapters.measured.load import merged
from reports.view import timeline
from reports.view.run import ArmView, RunView, paired_ratios, rate_per_s


def windows(slot: str, count: int, seed: int) -> list[Window]:
    """Windows of all kinds that may overlap, in any order."""
    dice = random.Random(seed)
    found = []
    for pair in range(count):
        start, steps = dice.randrange(10_000), [dice.randrange(1, 300) for _ in range(3)]
        found.append(Window(kind=dice.choice(["stepwise", "free"]), arm=slot, block=pair % 4, pair=pair, position=0,
                            start_ns=start, end_ns=start + dice.randrange(900), steps=3, step_ns=steps))
    return found


def arm(slot: str, count: int = 200, seed: int = 0) -> ArmView:
    """An arm with such windows alone."""
    return ArmView(slot, slot, slot, {Window: windows(slot, count, seed)})


def seen(*arms: ArmView) -> RunView:
    """A run of these arms."""
    return RunView(RecordedRun(Path("none"), ()), arms, 0)


@pytest.mark.parametrize("seed", range(5))
def test_what_every_arm_did_in_an_interval_is_what_a_loop_over_its_windows_finds(seed: int) -> None:
    one, start, end = arm("A", seed=seed), 2_000 + 700 * seed, 5_000
    shares: dict[str, float] = {}
    phases = set()
    for window in one.of(Window):
        overlap = min(window.end_ns, end) - max(window.start_ns, start)
        if overlap > 0:
            phase = timeline.PHASES[window.kind]
            phases.add(phase)
            shares[phase] = shares.get(phase, 0) + overlap / (end - start)
    assert timeline.lane(one).phases(start, end) == phases
    words = timeline.doing(seen(one), start, end)
    ordered = sorted(shares.items(), key=lambda item: -item[1])
    assert words == tuple(f"A: {phase}, {min(share, 1) * 100:.0f} %" for phase, share in ordered)


@pytest.mark.parametrize("nearer", [0, 40])
def test_bars_that_touch_become_one(nearer: int) -> None:
    dice = random.Random(nearer)
    bars = sorted((at, at + dice.randrange(30)) for at in (dice.randrange(4_000) for _ in range(150)))
    expected: list[tuple[float, float]] = []
    for begin, end in bars:
        if end <= 500 or begin >= 3_000:
            continue
        if expected and begin - expected[-1][1] < nearer:
            expected[-1] = (expected[-1][0], max(min(end, 3_000), expected[-1][1]))
        else:
            expected.append((max(begin, 500), min(end, 3_000)))
    starts, ends = np.array(bars, dtype=np.float64).T
    assert merged(starts, ends, 500, 3_000, nearer) == expected
    assert merged(np.empty(0), np.empty(0), 0, 1, nearer) == []


def test_starts_of_steps_are_those_of_the_windows_and_of_the_steps_before_them() -> None:
    one = arm("A")
    marks = []
    for window in one.of(Window):
        if window.kind == "stepwise":
            marks += [window.start_ns + sum(window.step_ns[:step]) for step in range(len(window.step_ns))]
    assert timeline.step_marks(one).tolist() == sorted(marks)


def test_what_is_asked_of_an_arm_again_is_not_computed_again() -> None:
    """Every picture asks, some several times, and a long run has a million windows."""
    one, other = arm("A"), arm("B", seed=1)
    assert timeline.lane(one) is timeline.lane(one) is not timeline.lane(other)
    assert paired_ratios(one, other, "free") is paired_ratios(one, other, "free")
    assert paired_ratios(one, other, "free") is not paired_ratios(other, one, "free")
    assert rate_per_s(one, "free") != rate_per_s(one, "stepwise")
    assert one.windows("free") is one.windows("free")


def test_lines_of_a_class_come_in_the_order_of_the_journal() -> None:
    sample, end = Sample(t_ns=1, source="host", values={}), RunEnded(t_ns=2, status="complete", exit_code=0, wall_s=1)
    later = Sample(t_ns=3, source="host", values={})
    run = RecordedRun(Path("none"), (sample, end, later))
    assert run.of(Sample) == [sample, later] and run.of(Verdict) == []
    assert run.of(Event) == [sample, end, later] and run.last(RunEnded) is end
