"""Steps under an arm's profiler: behind all that is measured, in a trace that opens, and said where it fails."""

from __future__ import annotations

import gzip
import json

import pytest
import scripted_backend

from harness.plan import BEFORE_BLOCKS
from harness.protocol import life, timing, training
from harness.record.events import Case, Profiled
from impls.recipe.profile import Kernel, Profile, Span
from reports.page import render
from reports.page.blocks import Prose, Table
from reports.report import report_of
from reports.suites.registry import chapters_of, whole

MS = 1e6


def told(options, steps):
    """Of a step of 100 ms the backward pass has 50, of which 10 are the host's; the slow arm's host takes 100 more."""
    spans = [Span("forward", "phases", 5e9, 25 * MS), Span("conv", "operators", 5e9 + 1 * MS, 20 * MS)]
    kernels = [Kernel("conv", "forward", "convolution", 3 * steps, 20 * MS * steps),
               Kernel("conv_backward", "backward", "convolution", 2 * steps, 30 * MS * steps),
               Kernel("<b>loop</b>", "backward", None, 1 * steps, 10 * MS * steps)]
    return Profile("scripted.profiler", kernels, [] if "slow" in options else spans, "it knows everything")


@pytest.fixture
def why(lab, monkeypatch):
    def run(profile=told, **options):
        monkeypatch.setattr(scripted_backend, "profile", profile)
        return lab.run(suite="why", **{"arms": "scripted:slow,scripted", "blocks": 2, "pairs": 2, "steps": "1",
                                       **options})

    return run


def test_it_is_the_last_thing_that_is_done_to_a_process(why, lab):
    said = []
    lab.sessions.spy = said.append
    end, run = why()
    assert (end.status, end.exit_code) == ("complete", 0)
    places = [place for place, one in enumerate(said) if isinstance(one, training.Profile)]
    assert len(places) == 4
    blocks = [place for place, one in enumerate(said) if isinstance(one, life.Stop)]
    first_end = next(place for place in blocks if place > places[0])
    assert {type(one) for one in said[places[0]:first_end]} == {
        training.Profile, timing.Phased, life.Build, life.BuildSampler, timing.Stepwise}
    # Between the profiles of both arms: the other arm is built anew and warmed up; nothing of it is recorded.
    lines = [line for line in run.events if getattr(line, "block", BEFORE_BLOCKS) == 0]
    assert [type(line).__name__ for line in lines[-5:]] == ["Profiled"] * 4 + ["BlockState"]


def test_sums_and_a_trace_are_kept(why):
    _, run = why()
    found = {line.arm: line for line in run.of(Profiled) if line.of == "step"}
    assert found["B"].phase_ns == {name: float(ns) for name, ns in scripted_backend.PHASES_NS.items()}
    assert [(one.phase, one.operator_class, one.count, one.ns) for one in found["B"].by_class] == [
        ("forward", "convolution", 9, 60 * MS), ("backward", "convolution", 6, 90 * MS), ("backward", None, 3, 30 * MS)]
    assert [one.name for one in found["B"].longest] == ["conv_backward", "conv", "<b>loop</b>"]
    trace = json.loads(gzip.decompress((run.path / "traces" / "B.json.gz").read_bytes()))
    spans = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    assert [(one["name"], one["ts"], one["dur"]) for one in spans] == [("forward", 0, 25e3), ("conv", 1e3, 20e3)]
    sums = json.loads(gzip.decompress((run.path / "traces" / "A.json.gz").read_bytes()))
    assert not [event for event in sums["traceEvents"] if event["ph"] == "X"]
    assert [one["count"] for one in sums["otherData"]["kernels"]] == [6, 9, 3]
    calls = {line.arm: line for line in run.of(Profiled) if line.of == "network call"}
    assert calls["B"].phase_ns == {name: float(ns) for name, ns in scripted_backend.CALL_NS.items()}
    assert calls["B"].trace == "traces/B-calls.json.gz" and (run.path / calls["B"].trace).is_file()


def section(run):
    ((chapter, seen),) = chapters_of(whole(run))
    return next(one for one in chapter.sections(seen, Sketch()) if one and one.anchor == "kernels").blocks


def test_the_page_splits_a_step_and_offers_the_trace(why, tmp_path):
    _, run = why()
    arms, said, phases, longest, of_calls, *_ = section(run)
    assert of_calls.caption.startswith("A network call under") and of_calls.rows[1][-1].text == "B-calls.json.gz"
    assert isinstance(said, Prose) and said.text == (
        "Of the 100 ms that a step of scripted:slow took longer than one of scripted here, the host between them "
        "100 ms and kernels 0 ns; one measurement, without intervals.")
    assert isinstance(arms, Table) and [cell.text for cell in arms.rows[1]] == [
        "scripted", "60.0 ms", "40.0 ms", "6", "6.67 ms", "B.json.gz"]
    rows = {row[0].text: [(cell.text, cell.note) for cell in row[1:]] for row in phases.rows}
    assert rows["backward pass"] == [("40.0 ms + 60.0 ms", "3 launches"), ("40.0 ms + 10.0 ms", "3 launches")]
    assert len(longest.rows) == 6
    page = render.html(report_of(run, Sketch()))
    assert '<a href="traces/B.json.gz" download>B.json.gz</a>' in page and "<b>loop" not in page
    (run.path / "traces" / "B.json.gz").unlink()
    assert section(run)[0].rows[1][-1].note == "the file is not there"


def fail(options, steps):
    raise RuntimeError("CUPTI_ERROR_INSUFFICIENT_PRIVILEGES")


def end_process(options, steps):
    scripted_backend.crash()


@pytest.mark.parametrize(("profile", "reason"), [
    (None, "its trainer has no profile(steps)"), (fail, "RuntimeError: CUPTI_ERROR_INSUFFICIENT_PRIVILEGES"),
    (end_process, "the worker ended by itself with status 3")])
def test_a_profiler_that_fails_or_is_missing_is_said(why, profile, reason):
    end, run = why(profile)
    assert (end.status, end.exit_code) == ("complete", 0)
    assert {(line.arm, line.tool) for line in run.of(Profiled)} == {("A", None), ("B", None)}
    assert [line.reason for line in run.of(Profiled) if reason not in line.reason] == []
    (arms,) = section(run)
    assert [row[1].text for row in arms.rows] == ["n/a", "n/a"] and reason in arms.rows[0][1].note
    assert {case.status for case in run.of(Case) if case.block is not None} == {"measured"}


class Sketch:
    """Draws nothing."""

    def make(self, name, draw):
        return Prose(name)
