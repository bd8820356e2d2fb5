"""What a quality report shows is recomputed here from the raw journal lines, without the code under test."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import pytest
import synthetic_quality
from conftest import Built
from synthetic_quality import FEW, Judged
from test_report_golden import close, of, plain
from test_report_partial import Sketches

from harness.record.run import read_run
from reports import index
from reports import report as sections
from reports.page.blocks import Prose, Report
from reports.page.plotting import Drawn, style_context
from reports.suites.quality import figures as figures_quality
from reports.suites.quality import trends as figures_quality_trends
from reports.view.run import view

Lines = list[dict[str, Any]]
Rows = list[list[str]]
LABEL = "FD efficientnet-lite0"
ANCHORS = {"quality", "quality-cost", "quality-images", "quality-earlier", "quality-copies", "quality-training",
           "quality-protocol", "environment", "reproduce"}  # fmt: skip


@pytest.fixture(scope="module")
def lines(judged: Built) -> Lines:
    return [json.loads(line) for line in (judged.folder / "journal.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def rows(judged: Built) -> Rows:
    page = re.sub(r"<svg.*?</svg>", "", judged.html, flags=re.S)
    return [
        [plain(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, flags=re.S)]
        for row in re.findall(r"<tr>(.*?)</tr>", page, flags=re.S)
    ]


def report(folder: Path, **options: Any) -> Report:
    run = read_run(synthetic_quality.write_quality(folder / "run", Judged(**options)))
    return sections.report_of(run, Sketches())


def drawing(folder: Path, draw: figures_quality.Draw, **options: Any) -> Drawn | str:
    scenario = Judged(pictures=False, **options)
    seen = view(read_run(synthetic_quality.write_quality(folder / "run", scenario)))
    with style_context():
        return draw(seen, scenario.label, False)


def shows(cell: str, value: float, low: float, high: float) -> bool:
    first, _, interval = cell.replace("\u2212", "-").partition(" | ")
    ends = [float(end) for end in re.findall(r"-?[\d.]+", interval)[:2]]
    return close(first, value) and close(str(ends[0]), low) and close(str(ends[1]), high)


@pytest.mark.parametrize(("name", "arm"), [("pytorch", "A"), ("jittor", "B")])
@pytest.mark.parametrize("cell", ["ddim-10", "ddim-20", "ddim-50", "ddpm-1000"])
@pytest.mark.parametrize("steps", [2000, 6000])
def test_every_set_has_a_row_with_intervals(
    lines: Lines, rows: Rows, cell: str, name: str, arm: str, steps: int
) -> None:
    method, calls = cell.split("-")
    words = f"{method.upper()} {int(calls):,} | {steps:,} training steps".replace(",", "\u202f")
    first, second = (row for row in rows if row[:2] == [words, name] and row[2] != "pytorch")
    line = of(lines, "quality", arm=arm, cell=cell, train_steps=steps)[0]
    known = {one["metric"]: (one["value"], one["ci_low"], one["ci_high"]) for one in line["figures"]}
    for shown, metric in zip([*first[2:4], *second[2:]], ("fd", "fd-extrapolated", "kid", "is", "precision", "recall"),
                             strict=True):  # fmt: skip
        assert shows(shown, *known[metric]), (metric, shown)
    assert first[4] == "1\u202f000 | warning 1"
    drawn = of(lines, "sampled", arm=arm, cell=cell, train_steps=steps)[0]
    unit = 1 if first[5].split(" ")[1] == "s" else 1e-3
    assert close(first[5], drawn["seconds"] / drawn["images"] / unit) and "batches of 50" in first[5]


def test_differences_say_whether_they_can_be_told_apart(rows: Rows) -> None:
    found = [row for row in rows if row[1:3] == ["jittor", "pytorch"]]
    assert len(found) == 8
    assert {row[3] for row in found} == {"0.8 | [\u22121.1, 2.7]: holds 0: cannot be told apart"}
    assert {row[4] for row in found} == {"each arm's own"}


def test_headlines_claim_what_the_intervals_carry(judged: Built) -> None:
    page = html.unescape(re.sub(r"<[^>]+>", "", judged.html))
    assert f"{LABEL} of pytorch falls from 63.0 (DDIM 10) to 52.6 (DDIM 50)." in page
    assert f"jittor and pytorch differ by 0.8 [\u22121.1, 2.7] in {LABEL} at DDIM 50 and cannot be told apart" in page
    assert "not the luck of a training" in page and "recorded verdict" not in page and "faster" not in page
    assert "Over training, DDIM 50: falls from 72.6 (after 2\u202f000 training steps) to 52.6" in page


@pytest.mark.parametrize(
    ("options", "said", "not_said"),
    [
        ({"gap": 4.5}, "FD efficientnet-lite0 of pytorch is lower than that of jittor by 4.5 [2.6, 6.4] at DDIM 50",
         "told apart:"),
        ({"gap": -4.5}, "FD efficientnet-lite0 of jittor is lower than that of pytorch by 4.5 [2.6, 6.4] at DDIM 50",
         "told apart:"),
        ({"half": None}, "no interval was recorded, so no difference is claimed", "is lower"),
        ({"half": None}, "without intervals, no change is claimed", "falls"),
        ({"half": 9.0}, "of pytorch cannot be told apart between DDIM 10 and DDIM 50", "falls"),
        ({"cells": {"ddim-50": 50}}, "of jittor is 53.4 [51.5, 55.3] (DDIM 50)", "falls from 5"),
    ],
)  # fmt: skip
def test_other_headlines(options: dict[str, Any], said: str, not_said: str, tmp_path: Path) -> None:
    told = ". ".join(card.sentence for card in report(tmp_path, **options).verdicts)
    assert said in told and not_said not in told


@pytest.mark.parametrize(("matched", "said"), [(True, "The same weights in both arms"), (False, "own weights")])
def test_matched_weights_are_said_to_be(matched: bool, said: str, tmp_path: Path) -> None:
    assert any(said in fact for fact in report(tmp_path, matched=matched).verdicts[-1].facts)


@pytest.mark.parametrize(
    ("label", "dataset", "images", "why"),
    [
        ("FID", "cifar10", 10_000, None),
        ("FID", "cifar10", 1000, None),
        ("FID", "cifar10", 199, "these sets are too small to stand beside them"),
        ("FID", "fashion-mnist", 50_000, "they are FIDs on cifar10, and these images were held against fashion-mnist"),
        (LABEL, "cifar10", 50_000, "a distance over another network cannot be compared with an FID"),
        ("FID inception", "cifar10", 50_000, "this distance is FID inception"),
        ("fid", "cifar10", 50_000, "this distance is fid"),
    ],
)
def test_published_curves_are_drawn_for_fid_on_cifar10_alone(
    label: str, dataset: str, images: int, why: str | None, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"label": label, "dataset": dataset, "images": images, "trainings": (None,),
                               "cells": {"ddim-50": 50}}  # fmt: skip
    drawn = drawing(tmp_path / "a", figures_quality.over_calls, **options)
    assert isinstance(drawn, Drawn)
    curves = {line.get_label(): list(line.get_ydata()) for line in drawn.figure.axes[0].lines}
    published = {name: y for name, y in curves.items() if str(name).startswith("published: ")}
    prose = [block.text for one in report(tmp_path / "b", **options).sections for block in one.blocks
             if isinstance(block, Prose) and "Published curves" in block.text]  # fmt: skip
    if why:
        assert not published and len(prose) == 1 and why in prose[0]
        return
    assert prose == [] and "published elsewhere" in drawn.caption
    large = [[13.36, 6.84, 4.67, 4.16, 4.04], [3.17]]
    small = [[76.43, 69.97, 67.66], [80.18, 72.93, 71.81], [70.17], [74.27]]
    assert list(published.values()) == (large if images >= 10_000 else small)
    assert all(re.search("50.?000 images$" if images >= 10_000 else ", 1.?000 images$", name) for name in published)


def test_the_name_of_the_distance_is_the_recorded_one(judged: Built) -> None:
    page = html.unescape(re.sub(r"<[^>]+>", "", judged.html))
    assert not re.search(r"\bFID\b(?!'s:|, not|s\b|\.)", page), re.findall(r".{30}\bFID\b.{30}", page)
    assert "not an FID, not comparable with published FIDs" in page


def test_distance_over_calls_shows_the_longest_training(tmp_path: Path) -> None:
    drawn = drawing(tmp_path, figures_quality.over_calls)
    assert isinstance(drawn, Drawn)
    series = {line.get_label(): line for line in drawn.figure.axes[0].lines}
    assert list(series["pytorch"].get_ydata()) == pytest.approx([63.0, 56.5, 52.6])
    assert list(series["jittor, DDPM"].get_ydata()) == pytest.approx([54.93])
    assert drawn.figure.axes[0].get_xscale() == "log" and drawn.figure.axes[0].get_ylabel() == LABEL
    bars = [tuple(line.get_ydata()) for line in drawn.figure.axes[0].lines if line.get_marker() == "_"]
    assert any(bar == pytest.approx((61.1, 64.9)) for bar in bars) and len(bars) == 8


def test_distance_against_seconds_leaves_out_what_has_no_time(tmp_path: Path) -> None:
    drawn = drawing(tmp_path, figures_quality.against_seconds, untimed="B")
    assert isinstance(drawn, Drawn)
    series = {line.get_label(): line for line in drawn.figure.axes[0].lines}
    assert list(series["pytorch"].get_xdata()) == pytest.approx([0.02, 0.04, 0.1]) and "jittor" not in series
    assert "Time n/a for 4 sets: jittor DDIM 10" in drawn.caption
    assert "(the drawing was interrupted in between)" in drawn.caption


def test_distance_over_training_needs_two_lengths(tmp_path: Path) -> None:
    drawn = drawing(tmp_path / "a", figures_quality_trends.over_training, cells={"ddim-50": 50})
    assert isinstance(drawn, Drawn)
    line = next(line for line in drawn.figure.axes[0].lines if line.get_label() == "pytorch")
    assert list(line.get_ydata()) == pytest.approx([72.6, 52.6])
    assert "pytorch DDIM 50 72.6 [70.7, 74.5] after 2\u202f000, 52.6 [50.7, 54.5] after 6\u202f000" in drawn.alt
    one = drawing(tmp_path / "b", figures_quality_trends.over_training, trainings=(6000,))
    assert one == "no cell was evaluated after more than one length of training"


def test_the_extrapolation_is_drawn_as_recorded(tmp_path: Path) -> None:
    drawn = drawing(tmp_path, figures_quality_trends.over_images, cells={"ddim-50": 50}, arms=("pytorch",))
    assert isinstance(drawn, Drawn)
    axis = drawn.figure.axes[0]
    rungs = next(line for line in axis.lines if len(line.get_xdata()) == 4)
    assert list(rungs.get_xdata()) == pytest.approx([1 / 125, 1 / 250, 1 / 500, 1 / 1000])
    pairs = [line for line in axis.lines if len(line.get_xdata()) == 2]
    trend = next(line for line in pairs if line.get_xdata()[0] != line.get_xdata()[1])
    assert trend.get_xdata()[0] == 0 and trend.get_ydata()[0] == pytest.approx(40.6)
    assert trend.get_ydata()[1] == pytest.approx(40.6 + 12 * 8, rel=0.01)
    assert "to 40.6 [37.6, 43.6] without end" in drawn.alt


def test_trainings_copies_and_protocol(lines: Lines, rows: Rows, judged: Built) -> None:
    row = next(row for row in rows if row[0].startswith("6\u202f000 steps") and row[1] == "jittor")
    assert close(row[2], 0.04) and row[3] == "n/a | interrupted in between"
    copies = next(row for row in rows if "in features of efficientnet-lite0" in row[0])
    assert [copies[2].split(" ")[0], copies[3], copies[4].split(" ")[0], copies[5]] == ["11.3", "13.3", "9.70", "1.2"]
    known = of(lines, "reference")[0]
    for fact in (known["weights_sha256"], known["images_sha256"], known["split"], "1\u202f280 features",
                 "224 pixels a side", "jackknife over 20 groups of images", "EMA weights"):  # fmt: skip
        assert fact in judged.html, fact


def test_only_what_was_recorded_is_told(judged: Built) -> None:
    assert set(re.findall(r'<section class="part" id="([^"]+)"', judged.html)) == {*ANCHORS, "findings"}
    assert not re.search(r"[Ww]arm-up|free-running|network call time", re.sub(r"<style.*?</style>", "", judged.html,
                                                                              flags=re.S))  # fmt: skip
    assert "This run gave no verdict" not in judged.html and "holds no verdict" not in judged.html


def test_warnings_are_findings_once_and_stand_beside_the_numbers(judged: Built) -> None:
    notes = re.findall(r"<li class=\"warning\">(.*?)</li>", judged.html, flags=re.S)
    assert sum(FEW in note for note in notes) == 1 and "16 of 16 sets of images" in " ".join(notes)
    assert f"Warning 1: {FEW}" in judged.html


def test_markdown_and_html_hold_the_same_quality_cells(judged: Built, rows: Rows) -> None:
    text = re.sub(r"\\(.)", r"\1", html.unescape(judged.markdown))
    for row in rows:
        for cell in row:
            assert cell.split(" | ")[0] in text, row
    for name in ("calls", "seconds", "training", "images"):
        assert f"](figures/distance-over-{name}.svg)" in judged.markdown
    assert "falls from 63.0 (DDIM 10) to 52.6 (DDIM 50)" in text and "Recorded verdict" not in text


def test_the_index_tells_what_a_quality_run_found(judged: Built) -> None:
    page = html.unescape(index.build(judged.folder.parent).read_text(encoding="utf-8"))
    assert f"{LABEL} of pytorch falls from 63.0 (DDIM 10) to 52.6 (DDIM 50)" in page
    assert "cannot be told apart" in page and "no verdict" not in page


def test_the_index_names_no_batch_that_no_step_of_a_quality_run_used(judged: Built) -> None:
    started = read_run(judged.folder).started
    assert started and started.experiment["train"]["batch_size"] == 16
    page = html.unescape(index.build(judged.folder.parent).read_text(encoding="utf-8"))
    assert "<td>tiny, fashion-mnist" in page and "batch 16" not in page
