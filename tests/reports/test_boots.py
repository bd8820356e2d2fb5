"""A machine that restarts while a run is interrupted starts its clock anew: a time axis shows one part of the run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import synthetic
from test_report_partial import Sketches

from harness.record.events import BlockState, Energy, Event, MonitorState, Resumed, Window
from harness.record.run import RecordedRun
from reports import report as sections
from reports.page.blocks import Picture, Report
from reports.suites.registry import whole
from reports.suites.sampling.tables import energy
from reports.view.clock import boots, of_one_boot
from reports.view.run import view

S = 1_000_000_000
# A synthetic run begins at 5000 s of its clock.
BACK_NS = 4_900 * S


def moved(event: Event, back_ns: int) -> Event:
    """The event as a clock shows it that began anew."""
    changes: dict[str, Any] = {}
    for name in ("t_ns", "start_ns", "end_ns", "first_stamp_ns", "step_start_ns"):
        stamp = getattr(event, name, None)
        if stamp is not None:
            changes[name] = [one - back_ns for one in stamp] if isinstance(stamp, list) else stamp - back_ns
    return event.model_copy(update=changes)


def recorded(resumed_after: Sequence[int], back_ns: int, blocks: int = 4) -> RecordedRun:
    """A run that was interrupted after these blocks, each time with its clock set back before it went on."""
    events = synthetic.Maker(synthetic.Scenario(blocks=blocks, pairs=6)).make()
    found: list[Event] = []
    interruptions = 0
    for event in sorted(events, key=lambda event: event.t_ns):
        found.append(moved(event, interruptions * back_ns))
        if isinstance(event, BlockState) and event.block in resumed_after:
            interruptions += 1
            now = event.t_ns - interruptions * back_ns
            found += [MonitorState(t_ns=now + 1, source="host", available=True),
                      Resumed(t_ns=now + 2, resumed_utc="", discarded_blocks=[])]  # fmt: skip
    return RecordedRun(Path("run"), tuple(found))


def report_of(run: RecordedRun) -> Report:
    return sections.report_of(run, Sketches())


def pictures(report: Report) -> dict[str, Picture]:
    blocks = [block for section in report.sections for block in section.blocks]
    return {block.name: block for block in blocks if isinstance(block, Picture)}


def minutes(timeline: Picture) -> float:
    """How long a timeline says that it is."""
    found = re.match(r"Load and phases over ([0-9.]+) min", timeline.alt)
    assert found
    return float(found[1])


def test_a_run_is_cut_where_its_stamps_step_back() -> None:
    parts = boots(recorded([0, 2], BACK_NS // 2).events)
    assert [[e.block for e in part if isinstance(e, BlockState)] for part in parts] == [[0], [1, 2], [3]]
    # What the monitors say before the line of the resumption is of the new clock.
    assert [type(part[0]) for part in parts[1:]] == [MonitorState] * 2


@pytest.mark.parametrize("back_ns", [0, -3600 * S])
def test_a_resumption_without_a_restart_cuts_nothing(back_ns: int) -> None:
    run = recorded([0, 2], back_ns)
    assert len(boots(run.events)) == 1 and of_one_boot(seen := view(run)) is seen


def test_lines_of_two_threads_out_of_order_are_no_restart() -> None:
    ahead, resumed = MonitorState(t_ns=9 * S, source="host", available=True), Resumed(resumed_utc="",
                                                                                     discarded_blocks=[])  # fmt: skip
    for t_ns in (0, 9 * S - 1000):
        assert len(boots([ahead, resumed.model_copy(update={"t_ns": t_ns})])) == 1
    assert len(boots([ahead, resumed.model_copy(update={"t_ns": S})])) == 2


def test_a_resumption_without_a_restart_leaves_the_report_as_it_was() -> None:
    before, after = report_of(recorded([], 0)), report_of(recorded([0], 0))
    assert pictures(before) == pictures(after) and before.notes == after.notes
    assert "part of the run" not in pictures(after)["timeline-windows"].alt


@pytest.mark.parametrize(
    ("resumed_after", "blocks", "words", "origin"),
    [
        (0, 4, "1 to 3", "the run went on after a restart"),
        (15, 20, "0 to 15", "the start of the run"),
        # The part of fewer blocks is the longer one: epochs and a cold start follow.
        (2, 4, "3", "the run went on after a restart"),
        # The longer part measured epochs and a cold start, but no window.
        (0, 1, "0", "the start of the run"),
    ],
)
def test_one_part_has_the_time_axis(resumed_after: int, blocks: int, words: str, origin: str) -> None:
    run = recorded([resumed_after], BACK_NS, blocks)
    seen = view(run)
    part = of_one_boot(seen)
    stamps = [event.t_ns for event in boots(run.events)[origin != seen.origin]]
    assert part.t0_ns == min(stamps) and part.origin == origin
    assert part.restarted.endswith(f"with block{'s' if ' ' in words else ''} {words}.")
    assert [arm.label for arm in part.arms] == [arm.label for arm in seen.arms]
    assert {s.t_ns for found in part.samples.values() for s in found} <= set(stamps)
    assert 0 < len(part.arms[0].stepwise) < len(seen.arms[0].stepwise) or blocks == 1


def test_the_report_draws_one_part_and_says_so() -> None:
    unbroken, report = pictures(report_of(recorded([], 0))), report_of(recorded([0], BACK_NS))
    drawn = pictures(report)
    said = "The machine was restarted while the run was interrupted (1 restart)"
    for name in ("timeline", "timeline-windows", "memory"):
        assert said in drawn[name].caption and "blocks 1 to 3" in drawn[name].caption
    assert "measured windows of this part of the run" in drawn["timeline-windows"].alt
    long, short = (minutes(found["timeline"]) for found in (unbroken, drawn))
    assert 0.5 * long < short < long
    (note,) = [note for note in report.notes if said in note.message]
    assert note.severity == "info" and "verdicts included, covers the whole run" in note.message
    # What has no time axis is of the whole run.
    untimed = {name: one for name, one in unbroken.items() if name.split("-")[0] not in ("timeline", "memory")}
    assert untimed and all(drawn[name] == one for name, one in untimed.items())


def test_a_batch_of_another_block_is_not_counted_to_an_energy_reading() -> None:
    def window(block: int) -> Window:
        return Window(kind="sample", arm="A", block=block, pair=0, position=0, start_ns=2, end_ns=3, steps=1,
                      step_ns=[], cell="ddim-1", images=4)  # fmt: skip

    reading = Energy(source="gpu:0", arm="A", block=0, start_ns=1, end_ns=4, energy_mj=100, steps=1)
    seen = whole(RecordedRun(Path("run"), (window(0), window(1), reading)))
    assert energy(seen, seen.arms[0]).text == "25.0 mJ"
