"""Quality runs that lack something or are damaged: the report still builds and says what is not there and why."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
import synthetic
import synthetic_quality
import synthetic_sampling
from synthetic_quality import FEW, Judged
from test_report_partial import KINDS, report_of, words, write

from harness.record.events import Finding
from reports import index
from reports.page import render
from reports.page.blocks import Images, Report, Table

OWN = ("trained", "sampled", "reference", "quality", "quality-difference", "nearest")


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = synthetic_quality.write_quality(tmp_path_factory.mktemp("quality") / "run", Judged(pictures=False))
    return (folder / "journal.jsonl").read_text(encoding="utf-8").splitlines()


def made(folder: Path, **options: Any) -> Report:
    return report_of(synthetic_quality.write_quality(folder / "run", Judged(**{"pictures": False, **options})))


def table(report: Report, anchor: str, start: str) -> Table:
    blocks = next(section for section in report.sections if section.anchor == anchor).blocks
    return next(block for block in blocks if isinstance(block, Table) and block.caption.startswith(start))


@pytest.mark.parametrize("kind", [*OWN, "run", "end", "case", "dataset", "environment"])
def test_a_quality_report_without_one_kind_of_event(kind: str, journal: list[str], tmp_path: Path) -> None:
    report = report_of(write(tmp_path, [line for line in journal if json.loads(line)["type"] != kind]))
    anchors = {section.anchor for section in report.sections}
    assert "quality" in anchors and not {"steps", "throughput", "cold-start", "losses", "trust", "load"} & anchors
    if kind == "sampled":
        assert "the journal does not say how these images were drawn" in words(report)
    if kind == "quality":
        assert "the images were drawn but not evaluated" in words(report)
    if kind == "reference":
        assert "the journal does not say what the images were held against" in words(report)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind in OWN])
def test_a_quality_report_of_one_kind_of_event_alone(kind: str, journal: list[str], tmp_path: Path) -> None:
    report_of(write(tmp_path, [line for line in journal if json.loads(line)["type"] == kind]))


@pytest.mark.parametrize("share", [0.03, 0.2, 0.5, 0.8, 0.97])
def test_a_quality_journal_cut_off_anywhere(share: float, journal: list[str], tmp_path: Path) -> None:
    text = "\n".join(journal)
    assert report_of(write(tmp_path, [text[: int(len(text) * share)]], end="")).status == "unfinished"


def test_a_run_that_failed_before_its_first_image(journal: list[str], tmp_path: Path) -> None:
    report = report_of(write(tmp_path, [line for line in journal if json.loads(line)["type"] not in OWN]))
    assert "Image quality: n/a, no set of images was evaluated in this run." in words(report)
    assert report.verdicts == ()


def test_one_arm_failed(tmp_path: Path) -> None:
    report = made(tmp_path, fail="B", end="failed")
    rows = table(report, "quality", "FD efficientnet-lite0 of every").rows
    assert [row[2].text == "n/a" for row in rows] == [False, True] * 8
    assert {row[2].note for row in rows[1::2]} == {"the training ended with exit code -9 (killed: out of memory?)"}
    assert len(report.verdicts) == 1 and "What was not measured" in words(report)


def test_figures_that_are_missing_have_their_reason(tmp_path: Path) -> None:
    report = made(tmp_path, bare=True, untimed="AB", half=None)
    page = words(report)
    assert "no distance over fewer images was recorded" in page
    assert "no set&#39;s time per image is known (the drawing was interrupted in between)" in page
    further = table(report, "quality", "Further").rows
    assert {(row[2].text, row[2].note) for row in further} == {("n/a", "too few images for subsets of 1000")}
    assert {(row[3].text, row[3].note) for row in further} == {("n/a", "not computed for this set")}
    distances = table(report, "quality", "FD efficientnet-lite0 of every").rows
    assert {row[2].note for row in distances} == {"no interval was recorded"}
    assert {(row[5].text, row[5].note) for row in distances} == {("n/a", "the drawing was interrupted in between")}


@pytest.mark.parametrize("arms", [("jittor",), ("a", "b", "c"), ("pytorch",) * 2])
def test_other_numbers_of_arms(arms: tuple[str, ...], tmp_path: Path) -> None:
    report = made(tmp_path, arms=arms)
    assert len(report.verdicts) == 2 * len(arms) - 1
    assert ("first less second" in words(report)) == (len(arms) > 1)


def test_a_copy_of_an_arm_without_lines_of_its_own_is_left_out(journal: list[str], tmp_path: Path) -> None:
    lines = [json.loads(line) for line in journal]
    for entry in lines[0]["arms"]:
        entry["name"] = "pytorch"
    kept = [json.dumps(line) for line in lines if line.get("arm") != "B" and line["type"] != "quality-difference"]
    report = report_of(write(tmp_path, kept))
    assert len(table(report, "quality", "FD efficientnet-lite0 of every").rows) == 8


def test_a_line_that_was_written_again_counts_once(journal: list[str], tmp_path: Path) -> None:
    again = [line for line in journal if json.loads(line)["type"] in OWN]
    once, twice = report_of(write(tmp_path / "a", journal)), report_of(write(tmp_path / "b", [*journal, *again]))
    told = [one for one in once.sections if one.anchor not in ("reproduce", "environment")]
    assert told == [one for one in twice.sections if one.anchor not in ("reproduce", "environment")]
    assert once.verdicts == twice.verdicts


def test_two_distances_have_their_own_figures(journal: list[str], tmp_path: Path) -> None:
    other = [line.replace('"label":"FD efficientnet-lite0"', '"label":"FD other"') for line in journal
             if json.loads(line)["type"] in ("reference", "quality", "quality-difference")]  # fmt: skip
    report = report_of(write(tmp_path, [*journal, *other]))
    anchors = [section.anchor for section in report.sections]
    assert len(set(anchors)) == len(anchors) and {"quality", "quality-1", "quality-cost-1"} <= set(anchors)
    names = [picture.name for picture in report.pictures]
    assert len(set(names)) == len(names) == 8 and len(report.verdicts) == 6


def test_a_warning_that_is_a_finding_too_is_said_once(tmp_path: Path) -> None:
    report = made(tmp_path, findings=[Finding(severity="warning", code="few-images", message=FEW)])
    assert [note.message for note in report.notes].count(FEW) == 1


ODD: dict[type, tuple[Any, ...]] = {
    int: (0, -1, 1, 10**12, 10**400),
    float: ("NaN", "Infinity", 0.0, -1.0, 1e-320, 1e308),
    str: ("", "\0", "x" * 300, "../../x", "ddim-0", "ddpm-"),
}
KEPT = ("type", "arm", "arm_a", "arm_b", "slot", "metric", "label", "weights_kind")


@pytest.mark.parametrize("seed", range(12))
def test_damaged_values_never_stop_the_report(seed: int, journal: list[str], tmp_path: Path) -> None:
    chance = random.Random(seed)
    rate = (0.02, 0.1, 0.4)[seed % 3]

    def spoil(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: one if key in KEPT else spoil(one) for key, one in value.items()}
        if isinstance(value, list):
            return [spoil(one) for one in value][
                : chance.choice((None, None, 1, 0)) if chance.random() < rate else None
            ]
        return chance.choice(ODD[type(value)]) if type(value) in ODD and chance.random() < rate else value

    lines = [json.loads(line) for line in journal]
    report_of(write(tmp_path, [json.dumps(spoil(line) if line["type"] in OWN else line) for line in lines]))


@pytest.mark.parametrize(
    ("kind", "field", "value", "said"),
    [
        ("sampled", "images", 0, "the recorded time or number of images is not usable"),
        ("sampled", "seconds", 1e-320, "the recorded time or number of images is not usable"),
        ("sampled", "eta", "NaN", "eta"),
        ("nearest", "typical", 1e-320, "no usable distance was recorded"),
        ("nearest", "distances", [], "no usable distance was recorded"),
        ("trained", "loss", "Infinity", "no usable loss was recorded"),
    ],
)
def test_a_damaged_value_is_said_to_be_one(
    kind: str, field: str, value: Any, said: str, journal: list[str], tmp_path: Path
) -> None:
    lines = [json.loads(line) for line in journal]
    changed = [line | {field: value} if line["type"] == kind else line for line in lines]
    assert said in words(report_of(write(tmp_path, [json.dumps(line) for line in changed])))


@pytest.mark.parametrize("value", ["NaN", "Infinity", 1e300])
def test_a_value_that_is_no_number_is_not_shown_as_one(value: Any, journal: list[str], tmp_path: Path) -> None:
    lines = [json.loads(line) for line in journal]
    for line in lines:
        if line["type"] == "quality":
            line["figures"][0]["value"] = value
    report = report_of(write(tmp_path, [json.dumps(line) for line in lines]))
    rows = table(report, "quality", "FD efficientnet-lite0 of every").rows
    assert {(row[2].text, row[2].note) for row in rows} == {("n/a", "the recorded value is not a usable number")}
    assert [card for card in report.verdicts if "of pytorch" in card.sentence] == []


def test_grids_of_one_cell_stand_side_by_side(tmp_path: Path) -> None:
    report = made(tmp_path, pictures=True, cells={"ddim-50": 50})
    blocks = next(section for section in report.sections if section.anchor == "quality-images").blocks
    groups = [block for block in blocks if isinstance(block, Images)]
    assert [[item.label for item in block.items] for block in groups] == [["pytorch", "jittor"]]
    assert all(item.data and item.alt.endswith("seed 7") for block in groups for item in block.items)
    assert groups[0].caption == "DDIM 50, after 6\u202f000 training steps, seed 7"


def test_a_run_of_everything_tells_speed_and_quality(journal: list[str], tmp_path: Path) -> None:
    folder = synthetic.write_run(tmp_path / "all-x", synthetic.Scenario(blocks=3, pairs=3))
    head, *trained, end = (folder / "journal.jsonl").read_text(encoding="utf-8").splitlines()
    drawn = synthetic_sampling.write_sampling(tmp_path / "s", synthetic_sampling.Sampling(blocks=2, pairs=2))
    sampled = [json.loads(line) for line in (drawn / "journal.jsonl").read_text(encoding="utf-8").splitlines()]
    own = ("worker", "warmup", "window", "memory", "block", "trap", "samples", "sample-agreement", "verdict")
    moved = [json.dumps(line | ({"block": line["block"] + 50} if "block" in line else {}))
             for line in sampled if line["type"] in own]  # fmt: skip
    judged = [line for line in journal if json.loads(line)["type"] in OWN]
    head = head.replace('"suite":"train-speed"', '"suite":"all"')
    head = head.replace('"parts":["training"]', '"parts":["training","sampling","quality"]')
    report = report_of(write(folder, [head, *trained, *moved, *judged, end]))
    anchors = [section.anchor for section in report.sections]
    assert len(set(anchors)) == len(anchors)
    assert {"training-steps", "sampling-steps", "sampling-images", "quality", "quality-images", "trust"} <= set(anchors)
    assert report.cards_title == "Verdicts and image quality"
    assert [bool(card.word) for card in report.verdicts] == [True] * 7 + [False] * 3
    page = re.sub(r"<[^>]+>", " ", index.build(folder.parent).read_text(encoding="utf-8"))
    assert "times as fast as jittor in step time" in page and "FD efficientnet-lite0 of pytorch falls from" in page


def test_runs_without_quality_say_nothing_of_it(tmp_path: Path) -> None:
    folder = synthetic.write_run(tmp_path / "run", synthetic.Scenario(blocks=2, pairs=3))
    report = report_of(folder)
    assert report.cards_title == "Verdicts" and "Image quality" not in render.html(report)
