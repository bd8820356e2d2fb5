"""Every number of a sampling report is recomputed here from the raw journal lines, without the code under test."""

from __future__ import annotations

import html
import json
import re
import statistics
from typing import Any

import numpy as np
import pytest
from conftest import Built
from scipy import stats
from test_report_golden import close, of, plain

Lines = list[dict[str, Any]]
Cells = dict[str, list[list[str]]]
DDIM = ("ddim-10", "ddim-50", "ddim-250", "ddim-1000")


@pytest.fixture(scope="module")
def lines(sampled: Built) -> Lines:
    return [json.loads(line) for line in (sampled.folder / "journal.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def rows(sampled: Built) -> list[list[str]]:
    page = re.sub(r"<svg.*?</svg>", "", sampled.html, flags=re.S)
    return [
        [plain(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, flags=re.S)]
        for row in re.findall(r"<tr>(.*?)</tr>", page, flags=re.S)
    ]


def batches(lines: Lines, arm: str, cell: str, kind: str = "sample") -> Lines:
    return of(lines, "window", arm=arm, kind=kind, cell=cell)


def seconds(windows: Lines) -> list[float]:
    return [(window["end_ns"] - window["start_ns"]) / 1e9 for window in windows]


def unit(shown: str) -> float:
    return 1e-3 if " ms" in shown.split("|", maxsplit=1)[0] else 1.0


@pytest.mark.parametrize(("name", "arm"), [("pytorch", "A"), ("jittor", "B")])
@pytest.mark.parametrize("cell", [*DDIM, "ddpm-1000"])
def test_whole_batches(lines: Lines, rows: list[list[str]], cell: str, name: str, arm: str) -> None:
    row = next(row for row in rows if row[0].startswith(f"{cell} |") and row[1] == name)
    windows = batches(lines, arm, cell)
    times, calls = seconds(windows), int(cell.split("-")[1])
    assert f"{cell.split('-', maxsplit=1)[0].upper()} with" in row[0] and f"{len(windows)} batches" in row[2]
    assert close(row[2], statistics.median(times) / unit(row[2]))
    assert close(row[3], sum(window["images"] for window in windows) / sum(times))
    assert close(row[4], statistics.median(times) / calls / 1e-3)
    flop = of(lines, "step-cost")[0]["forward_flop_per_image"] * 4 * calls * len(windows)
    assert close(row[5], flop / sum(times) / 1e9)
    assert close(row[6], 100 * flop / sum(times) / of(lines, "peak")[0]["flops"], relative=0.06)


@pytest.mark.parametrize(("name", "arm"), [("pytorch", "A"), ("jittor", "B")])
def test_the_line_over_network_calls(lines: Lines, rows: list[list[str]], name: str, arm: str) -> None:
    fits = []
    for block in range(5):
        x = np.array([int(cell.split("-")[1]) for cell in DDIM], dtype=float)
        y = np.array([
            statistics.median(seconds([w for w in batches(lines, arm, cell) if w["block"] == block])) for cell in DDIM
        ])  # fmt: skip
        design = np.stack([np.ones(4), x], axis=1) / y[:, None]
        fits.append(np.linalg.lstsq(design, np.ones(4), rcond=None)[0])
    row = next(row for row in rows if row[0] == name and "batches of 10, 50, 250" in row[-1])
    for shown, values in zip(row[1:3], np.array(fits).T, strict=True):
        assert close(shown, values.mean() * 1e3)
        low, high = stats.t.interval(0.95, 4, values.mean(), stats.sem(values))
        ends = re.findall(r"[\d.]+", shown.split("|")[1])
        assert close(ends[0], low * 1e3) and close(ends[1], high * 1e3)
    assert row[3].startswith("5 blocks")


def test_verdicts_in_words(lines: Lines, sampled: Built) -> None:
    page = re.sub(r"<[^>]+>", "", sampled.html)
    found = of(lines, "verdict")
    assert [one["cell"] for one in found] == [*DDIM, "ddpm-1000", None]
    headlines = re.findall(r"(pytorch|jittor) is ([\d.]+) times as fast as (?:pytorch|jittor) (per [^.]*)\.", page)
    assert [words for _, _, words in headlines] == [
        "per batch of 4 images, geometric mean over 5 cells",
        *(f"per batch of 4 images, DDIM with {n} network calls" for n in ("10", "50", "250", "1\u202f000")),
        "per batch of 4 images, DDPM with 1\u202f000 network calls",
    ]
    for (name, shown, _), verdict in zip(headlines, [found[-1], *found[:-1]], strict=True):
        assert verdict["word"] == "A-faster" and name == "pytorch"
        assert abs(float(shown) - 1 / verdict["ratio"]) < 0.011
    assert "over 5 blocks of 4 pairs per cell" in page and "99 % interval (Holm, several comparisons)" in page


def test_the_sweep_of_batch_sizes(lines: Lines, rows: list[list[str]], sampled: Built) -> None:
    assert "description without verdict" in sampled.html and "Batch size (description, no verdict)" in sampled.html
    for images in (1, 2, 4, 8):
        name = f"{images} image{'s' if images > 1 else ''}"
        row = next(row for row in rows if row[0] == name)
        for shown, arm in zip(row[1:], "AB", strict=True):
            windows = [w for w in batches(lines, arm, "ddim-10", "sweep") if w["images"] == images]
            assert close(shown, images * len(windows) / sum(seconds(windows)))


def test_the_clock_that_does_not_wait(lines: Lines, rows: list[list[str]], sampled: Built) -> None:
    trap = of(lines, "trap", arm="B")[0]
    row = next(row for row in rows if row[0] == "jittor" and "timed 1 time" in row[1])
    assert close(row[2], trap["unsynchronised_ns"] / 1e6) and close(row[3], trap["synchronised_ns"] / 1e6)
    assert close(row[4], trap["synchronised_ns"] / trap["unsynchronised_ns"])
    assert "public comparison of the two frameworks timed its sampling so" in re.sub(r"\s+", " ", sampled.html)


def test_agreement(rows: list[list[str]]) -> None:
    row = next(row for row in rows if row[0] == "values that differ by one level or less")
    assert row[1:] == ["99.98 %", "at least 99.9 %", "pass"]
    assert next(row for row in rows if row[0] == "largest difference")[1] == "2 levels | of 255"


def test_only_sampling_is_told(sampled: Built, rows: list[list[str]]) -> None:
    page = html.unescape(re.sub(r"<style.*?</style>|<svg.*?</svg>", "", sampled.html, flags=re.S))
    anchors = set(re.findall(r'<section class="part" id="([^"]+)"', sampled.html))
    assert {"over-calls", "batch-sizes", "trap", "agreement", "images", "ratio", "key-figures"} <= anchors
    assert not {"throughput", "epochs", "losses", "parity"} & anchors
    assert not re.search(r"training step|free-running|[Ee]poch|optimisation|first step\b|step time", page)
    assert next(row for row in rows if row[0] == "time to first network call")


def test_published_times_come_with_their_time_per_network_call(rows: list[list[str]]) -> None:
    published = [row for row in rows if row[0].startswith("published: ")]
    assert [row[0] for row in published] == [
        "published: sampling 128 images, 50 DDIM steps", "published: sampling 128 images, 250 DDIM steps",
        "published: sampling 128 images, 1000 DDIM steps", "published: sampling 128 images, DDPM",
    ]  # fmt: skip
    assert published[0][1:] == ["5.48 s | 110 ms per network call", "4.64 s | 92.8 ms per network call"]


def test_markdown_and_html_hold_the_same_sampling_cells(sampled: Built, rows: list[list[str]]) -> None:
    text = re.sub(r"\\(.)", r"\1", html.unescape(sampled.markdown))
    for row in rows:
        for cell in row:
            assert cell.split(" | ")[0] in text, row


def test_training_reports_call_a_step_a_step(built: Built) -> None:
    page = re.sub(r"<style.*?</style>", "", built.html, flags=re.S)
    reference = page[page.index('id="reference"') : page.index('id="reproduce"')]
    assert "network call" not in page.replace(reference, "")


def test_sentences_of_a_caption_have_a_space_between_them(sampled: Built) -> None:
    assert "Diamond: all cells together. The grey band is" in sampled.markdown
    assert not re.search(r"[a-z]\.(?=[A-Z][a-z]+ )", re.sub(r"\]\([^)]*\)|`[^`]*`", "", sampled.markdown))
