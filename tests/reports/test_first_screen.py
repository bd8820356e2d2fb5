"""The first screen: every ratio where the journal says, the three figures, why, and how many findings there are."""

from __future__ import annotations

import html
import json
import math
import re
import statistics
from typing import Any

import pytest
from conftest import Built
from test_report_golden import close, of, plain
from test_report_partial import Sketches
from test_why_chapter import full, recorded

from harness.record.run import read_run
from reports import terminal
from reports.page import render
from reports.page.forest import Forest, Row, on_one_scale
from reports.report import report_of


def lines_of(built: Built) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (built.folder / "journal.jsonl").read_text(encoding="utf-8").splitlines()]


def forests(page: str) -> list[str]:
    return re.findall(r'<div class="forest">.*?</ul>\n<div class="ends">.*?</div>', page, flags=re.S)


def read(forest: str, place: float) -> float:
    """The ratio at a place of a drawn forest, read off between its ticks as a person would."""
    ticks = [(float(x), float(text)) for x, text in re.findall(r'<text x="([\d.]+)%"[^>]*>([\d.]+)</text>', forest)]
    assert len(ticks) >= 2
    (x0, low), (x1, high) = ticks[0], ticks[-1]
    return low * (high / low) ** ((place - x0) / (x1 - x0))


def drawn(forest: str) -> list[tuple[str, str, float, float, float]]:
    """Of every row: label, text, ratio, low and high end, as drawn."""
    found = []
    for row in re.findall(r"<li.*?</li>", forest, flags=re.S):
        label, text = (plain(re.search(rf'<span class="{name}">(.*?)</span>', row, flags=re.S)[1])
                       for name in ("what", "said"))
        low, high = re.search(r'class="span" x1="([\d.]+)%" x2="([\d.]+)%"', row).groups()
        middle = re.search(r'<g class="\w+"><(?:circle cx|rect x)="([\d.]+)%"', row)[1]
        found.append((label, text, *(read(forest, float(at)) for at in (middle, low, high))))
    return found


def test_every_ratio_is_drawn_where_the_journal_has_it(built: Built, sampled: Built) -> None:
    for page in (built, sampled):
        verdicts = [one for one in of(lines_of(page), "verdict") if one["ratio"]]
        rows = [row for forest in forests(page.html) for row in drawn(forest)]
        assert len(rows) == len(verdicts) > 0
        for (_, text, *figures), verdict in zip(sorted(rows, key=lambda row: row[2]),
                                                sorted(verdicts, key=lambda one: -one["ratio"]), strict=True):
            assert verdict["word"] == "A-faster"
            wanted = [1 / verdict[key] for key in ("ratio", "ci_high", "ci_low")]
            # What is drawn has the width of a line; what is written has all digits.
            for got, want in zip(figures, wanted, strict=True):
                assert math.isclose(got, want, rel_tol=0.005)
            assert math.isclose(float(text.split(" ", maxsplit=1)[0]), wanted[0], rel_tol=0.002)
            assert text.endswith("decided")


def test_many_cells_are_one_picture_and_one_sentence(sampled: Built) -> None:
    (forest,) = forests(sampled.html)
    labels = [label for label, *_ in drawn(forest)]
    cells = [f"DDIM {calls}" for calls in ("10", "50", "250", "1\u202f000")]
    assert labels == ["all cells, geometric mean", *cells, "DDPM 1\u202f000"]
    assert sampled.html.count("<article") == 1
    assert "5 further statements in words" in sampled.html and "| DDIM 50 | " in sampled.markdown


def test_the_three_figures_are_those_of_the_journal(built: Built) -> None:
    lines = lines_of(built)
    table = re.search(r'<div class="quoted">(.*?)</div>', built.html, flags=re.S)[1]
    rows = [[plain(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, flags=re.S)]
            for row in re.findall(r"<tr>(.*?)</tr>", table, flags=re.S)]  # fmt: skip
    assert rows[0] == ["arm", "images/s, free-running", "peak host memory", "cold start, to the first step"]
    told = terminal.lines(read_run(built.folder))
    for arm, row in zip("AB", rows[1:], strict=True):
        free = of(lines, "window", arm=arm, kind="free")
        steps, ns = sum(one["steps"] for one in free), sum(one["end_ns"] - one["start_ns"] for one in free)
        assert close(row[1], 8 * steps / ns * 1e9)
        most = max(one["rss_peak_bytes"] for one in of(lines, "memory", arm=arm))
        assert close(row[2], most / 2 ** (20 if "MiB" in row[2] else 30))
        starts = [one for one in of(lines, "worker", arm=arm) if one["role"] in ("measure", "cold-start")]
        cold = [one for one in starts if one["cache"] == "cold"] or [one for one in starts if one["cache"] is None]
        fields = ("spawn_ns", "import_ns", "build_ns", "first_step_ns")
        assert close(row[3], statistics.median(sum(one[key] for key in fields) for one in cold) / 1e9)
        # The terminal and the other page tell the same.
        figures = [f"{name} {cell.split(' | ')[0]}" for name, cell in zip(rows[0][1:], row[1:], strict=True)]
        assert f"{row[0]}: {'; '.join(figures)}" in told
        assert row[3].split(" | ")[0] in built.markdown


def test_findings_are_folded_to_a_count_but_not_where_something_failed(built: Built, nasty: Built) -> None:
    counts = re.findall(r'<span class="badge (?:error|warning|info)">(.*?)</span>', built.html)
    severities = re.findall(r'<li class="(error|warning|info)">', built.html)
    assert sum(int(words.split()[0]) for words in counts) == len(severities) > 1
    assert '<details class="words">\n<summary><h2>Findings' in built.html
    assert '<details class="words" open>\n<summary><h2>Findings' in nasty.html
    assert f"findings: {', '.join(counts)}" in terminal.lines(read_run(built.folder))
    assert f"{', '.join(counts)}." in built.markdown


def test_why_is_one_line_beside_the_verdict() -> None:
    report = report_of(recorded(*full()), Sketches())
    (line,) = re.findall(r'<div class="why"><p>(.*?)</p>', render.html(report), flags=re.S)
    assert plain(line) == "Why: Backward pass: 90 % [85, 95] of what slow takes longer than fast."
    assert [card.word for card in report.main] == ["B-faster"] and report.further == []


def row(ratio: float, low: float | None = None, high: float | None = None) -> Row:
    return Row("x", "", "", "decided", ratio, low, high)


@pytest.mark.parametrize("ratios", [(1.001, 0.999), (2.93,), (0.2, 40.0), (1.0,), (1e-6, 1e6)])
def test_all_forests_of_a_page_have_one_scale_with_1_on_it(ratios: tuple[float, ...]) -> None:
    made = on_one_scale([Forest("a", "", "", (row(ratio, ratio * 0.99, ratio * 1.01),), 0.01) for ratio in ratios])
    scale = made[0].scale
    assert scale is not None and all(one.scale == scale for one in made)
    assert 1.0 in scale.ticks and len(scale.ticks) <= 8
    assert all(0 <= scale.at(tick) <= 100 for tick in scale.ticks)
    places = [scale.at(ratio) for ratio in sorted(ratios)]
    assert places == sorted(places) and all(0 < place < 100 for place in places)
    middle = math.sqrt(scale.low * scale.high)
    assert (scale.at(scale.low), scale.at(middle), scale.at(scale.high)) == (0, 50, 100)
    left, right = (scale.at(edge) - scale.at(1.0) for edge in made[0].band)
    assert math.isclose(-left, right, abs_tol=0.02)


def test_an_endless_interval_hides_no_other_ratio() -> None:
    (made,) = on_one_scale([Forest("a", "", "", (row(1.5, 1e-9, 1e9), row(1.6, 1.5, 1.7)), None)])
    scale = made.scale
    assert scale is not None and scale.at(1.6) - scale.at(1.5) > 1 and 'x1="0.0%"' not in made.track(made.rows[1])


@pytest.mark.parametrize("ratio", [None, 0.0, -1.0, float("nan"), float("inf")])
def test_a_ratio_that_is_none_is_told_and_not_drawn(ratio: float | None) -> None:
    (made,) = on_one_scale([Forest("a", "", "", (Row("<b>", "no ratio", "not compared", "refused", ratio),), 0.01)])
    assert made.scale is None and made.track(made.rows[0]) == "" and made.axis == ""


def test_a_hostile_name_is_escaped_where_a_reader_points(nasty: Built) -> None:
    titles = re.findall(r"<title>(.*?)</title>", nasty.html, flags=re.S)
    assert len(titles) > 20 and all("<" not in title for title in titles)
    assert "alert" in html.unescape(" ".join(titles))
