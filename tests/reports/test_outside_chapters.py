"""A part that another package measured is shown: by that package's chapter, or as far as it is like other parts."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import pytest
from light_runs import Light, recorded
from test_report_partial import Sketches

from harness.record.events import BlockState, RunStarted, Verdict, Window
from harness.record.run import RecordedRun
from impls.errors import UsageError
from reports import report as sections
from reports.chapters.chapter import Chapter, Timed
from reports.page.blocks import Prose, Section
from reports.suites import registry
from reports.view.words import Unit

VERDICT = Verdict(part="outside", kind="stepwise", metric="leap time", arm_a="A", arm_b="B", ratio=0.5, ci_low=0.49,
                  ci_high=0.51, blocks=3, word="A-faster", block_log_ratios=[-0.7, -0.69, -0.7])  # fmt: skip


def run_of(*parts: str) -> RecordedRun:
    """Blocks of one part; the last of several parts has these numbers plus 50."""
    run = recorded(Light(blocks=3))
    declared = {"parts": list(parts), "by_part": {part: {"block_numbers": [50 * n, 50 * n + 49]}
                                                  for n, part in enumerate(parts)}}
    found = []
    for event in run.events:
        if isinstance(event, RunStarted):
            found.append(event.model_copy(update={"declared": {**event.declared, **declared}, "suite": "leaps"}))
            continue
        found.append(event)
        if len(parts) > 1 and isinstance(event, Window | BlockState):
            found.append(event.model_copy(update={"block": event.block + 50}))
    return RecordedRun(run.path, (*found, VERDICT))


@dataclass(frozen=True)
class Leaps(Timed):
    """A chapter from outside."""

    part: str = "outside"
    unit: Unit = Unit("leap", "leaps", "leap time", "leap", per={"stepwise": "per leap"})

    def sections(self, seen, figures):
        yield from super().sections(seen, figures)
        yield Section("far", "How far", (Prose("Very far."),))


def offer(monkeypatch: pytest.MonkeyPatch, *chapters: object) -> None:
    point = SimpleNamespace(name="leaps", value="leaps.suite", load=lambda: SimpleNamespace(CHAPTERS=chapters))
    monkeypatch.setattr("impls.plugins.entry_points", lambda group: [point] if group == "ddpm_bench.suites" else [])


def test_a_part_without_a_chapter_is_told_as_far_as_it_is_like_others(monkeypatch):
    offer(monkeypatch)
    report = sections.report_of(run_of("outside"), Sketches())
    anchors = [section.anchor for section in report.sections]
    assert anchors[:5] == ["key-figures", "ratio", "steps", "load", "memory"] and "reproduce" in anchors
    assert not {"throughput", "losses", "parity", "over-calls", "quality", "reference"} & set(anchors)
    (note,) = [note for note in report.notes if "No chapter on outside is installed" in note.message]
    assert note.advice and "the suite leaps (entry points ddpm_bench.suites)" in note.advice
    assert report.verdicts[0].sentence == "pytorch is 2.00 times as fast as jittor in leap time"


def test_a_package_offers_its_chapter_beside_its_parts(monkeypatch):
    offer(monkeypatch, Leaps())
    report = sections.report_of(run_of("outside"), Sketches())
    assert "far" in [section.anchor for section in report.sections]
    assert report.verdicts[0].sentence.endswith("per leap")
    assert not [note for note in report.notes if "No chapter" in note.message]


def test_two_timed_parts_are_told_one_after_another_and_share_what_all_runs_have(monkeypatch):
    offer(monkeypatch, Leaps())
    report = sections.report_of(run_of("training", "outside"), Sketches())
    anchors = [section.anchor for section in report.sections]
    assert len(set(anchors)) == len(anchors)
    assert {"training-steps", "training-losses", "outside-steps", "outside-far", "timeline", "memory"} <= set(anchors)
    assert [card.sentence.endswith("per leap") for card in report.verdicts] == [True]
    titles = {section.anchor: section.title for section in report.sections}
    assert titles["outside-steps"] == "Outside: leaps and warm-up"


def test_our_own_chapters_cannot_be_replaced(monkeypatch):
    offer(monkeypatch, Leaps("training"))
    assert registry.chapter_of("training") is registry.CHAPTERS[0]


def test_a_part_that_times_nothing_has_no_times_told(monkeypatch):
    offer(monkeypatch, Chapter("outside"))
    report = sections.report_of(run_of("outside"), Sketches())
    assert not {"steps", "trust", "reference"} & {section.anchor for section in report.sections}


def test_an_entry_point_that_offers_something_else_is_refused_in_one_line(monkeypatch):
    offer(monkeypatch, "leaps")
    with pytest.raises(UsageError, match=r"entry point 'leaps' \(leaps.suite\).*: its CHAPTERS are no Chapter objects"):
        registry.chapter_of("outside")
