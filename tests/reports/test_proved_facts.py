"""What each arm proved to run: every value, where a run went on in another environment."""

from __future__ import annotations

from dataclasses import replace

from light_runs import INFO, Light, recorded

from harness.record.events import WorkerStarted
from reports.chapters.evidence.machine import differences
from reports.suites.registry import whole


def row(run, name):
    return next([cell.text for cell in cells] for cells in differences(whole(run)).rows if cells[0].text == name)


def test_an_arm_that_changed_on_the_way_shows_both_values():
    run = recorded(Light(blocks=3))
    events = tuple(
        event.model_copy(update={"info": {**INFO, "threads": 7}})
        if isinstance(event, WorkerStarted) and event.arm == "B" and event.block == 2 else event
        for event in run.events
    )
    assert row(run, "threads") == ["threads", "2", "2"]
    assert row(replace(run, events=events), "threads") == ["threads", "2", "2 and 7"]
