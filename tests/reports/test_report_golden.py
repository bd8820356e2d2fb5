"""Every number that a report shows is recomputed here from the raw journal lines, without the code under test."""

from __future__ import annotations

import html
import json
import math
import re
import statistics
from pathlib import Path
from typing import Any

import pytest
from conftest import Built
from journals import sealed

Lines = list[dict[str, Any]]
BATCH = 8


@pytest.fixture(scope="module")
def lines(built: Built) -> Lines:
    return [json.loads(line) for line in (built.folder / "journal.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def cells(built: Built) -> dict[str, list[list[str]]]:
    """Row name -> its cells' texts, notes kept apart by ' | '; figures and style left out."""
    page = re.sub(r"<svg.*?</svg>", "", built.html, flags=re.S)
    found: dict[str, list[list[str]]] = {}
    for row in re.findall(r"<tr>(.*?)</tr>", page, flags=re.S):
        texts = [plain(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, flags=re.S)]
        found.setdefault(texts[0], []).append(texts[1:])
    return found


def plain(markup: str) -> str:
    return html.unescape(re.sub(r"<[^>]+>", "", markup.replace("<small>", " | "))).strip()


def of(lines: Lines, kind: str, /, **wanted: Any) -> Lines:
    return [line for line in lines if line["type"] == kind and all(line[key] == value for key, value in wanted.items())]


def steps(lines: Lines, arm: str) -> list[int]:
    return [ns for window in of(lines, "window", arm=arm, kind="stepwise") for ns in window["step_ns"]]


def close(shown: str, expected: float, relative: float = 0.006) -> bool:
    """Whether the first number of a cell is the expected one, to three digits."""
    number = float(re.sub("[^0-9.e-]", "", re.split(r"[ |/]", shown.replace("\u2212", "-").replace("\u202f", ""))[0]))
    return math.isclose(number, expected, rel_tol=relative)


@pytest.mark.parametrize(("column", "arm"), [(0, "A"), (1, "B")])
def test_key_figures(lines: Lines, cells: dict[str, list[list[str]]], column: int, arm: str) -> None:
    def shown(row: str) -> str:
        return cells[row][0][column]

    own = steps(lines, arm)
    free = of(lines, "window", arm=arm, kind="free")
    free_s = sum(window["end_ns"] - window["start_ns"] for window in free) / 1e9
    free_steps = sum(window["steps"] for window in free)
    step_flop = of(lines, "step-cost")[0]["step_flop"]
    peak = of(lines, "peak")[0]["flops"]
    assert close(shown("step time, median"), statistics.median(own) / 1e6)
    assert f"{len(own)} steps" in shown("step time, median")
    assert close(shown("images/s, stepwise"), BATCH * len(own) / (sum(own) / 1e9))
    assert close(shown("images/s, free-running"), BATCH * free_steps / free_s)
    assert close(shown("achieved GFLOP/s"), step_flop * free_steps / free_s / 1e9)
    assert close(shown("share of measured peak"), 100 * step_flop * free_steps / free_s / peak, relative=0.06)
    workers = of(lines, "worker", arm=arm, role="measure")
    starts = [sum(w[key] for key in ("spawn_ns", "import_ns", "build_ns", "first_step_ns")) for w in workers]
    assert close(shown("time to first step"), statistics.median(starts) / 1e9)
    worst_rss = max(m["rss_peak_bytes"] for m in of(lines, "memory", arm=arm))
    assert close(shown("peak host memory"), worst_rss / (2**20 if "MiB" in shown("peak host memory") else 2**30))
    assert shown("energy per image") == "n/a | NVML could not be loaded: no NVIDIA driver"
    assert shown("device memory") == "n/a | no GPU in use"
    assert shown("parameters").replace("\u202f", "") == str(workers[0]["parameter_count"])


def test_the_verdict_sentence_says_what_the_journal_says(lines: Lines, built: Built) -> None:
    verdict = of(lines, "verdict")[0]
    assert verdict["word"] == "A-faster"
    ratio, low, high = 1 / verdict["ratio"], 1 / verdict["ci_high"], 1 / verdict["ci_low"]
    sentence = f"pytorch is {ratio:.2f} times as fast as jittor per training step."
    assert sentence in re.sub(r"<[^>]+>", "", built.html)
    assert sentence in built.markdown
    decimals = min(4, max(2, 1 - math.floor(math.log10((high - low) / 2))))
    interval = f"{ratio:.{decimals}f} [{low:.{decimals}f}, {high:.{decimals}f}]"
    line = (
        f"Time of jittor / time of pytorch: {interval}, 95 % interval over 4 blocks of 12 pairs; declared margin ±1 %."
    )
    assert line in html.unescape(built.html)
    assert f"Ratio of mean times, spikes included: {1 / verdict['mean_ratio']:.3f}." in built.html


def test_the_recorded_verdict_is_shown_as_recorded(lines: Lines, cells: dict[str, list[list[str]]]) -> None:
    verdict = of(lines, "verdict")[0]
    row = cells["step time"][0]
    assert row[0] == "pytorch" and row[1] == "jittor"
    assert row[2].startswith(f"{verdict['ratio']:.4f} [")
    assert row[4] == str(verdict["blocks"]) and row[5] == verdict["word"]


def test_throughput_epochs_and_loader(lines: Lines, cells: dict[str, list[list[str]]]) -> None:
    for column, (name, arm) in enumerate((("pytorch", "A"), ("jittor", "B"))):
        epochs = of(lines, "epoch", arm=arm)
        times = [epoch["end_ns"] - epoch["start_ns"] for epoch in epochs]
        row = next(row for row in cells[name] if "native data" in row[0])
        assert close(row[1], statistics.median(times) / 1e9)
        assert close(row[2], sum(epoch["images"] for epoch in epochs) / sum(times) * 1e9)
        waits = [ns for epoch in epochs for ns in epoch["loader_wait_ns"]]
        assert close(cells["waiting for data, native loader"][0][column], 100 * sum(waits) / sum(times), relative=0.06)
        gaps = [epoch["gap_ns"] for epoch in epochs if epoch["gap_ns"] is not None]
        assert close(cells["gap between epochs, median"][0][column], statistics.median(gaps) / 1e9)


def test_cold_start_and_break_even(lines: Lines, cells: dict[str, list[list[str]]]) -> None:
    cold = of(lines, "worker", arm="B", cache="cold")[0]
    row = next(row for row in cells["jittor"] if row[0].startswith("cold"))
    assert close(row[4], cold["first_step_ns"] / 1e9)
    whole = sum(cold[key] for key in ("spawn_ns", "import_ns", "build_ns", "first_step_ns"))
    assert close(row[5], whole / 1e9)
    # The slower starter is also slower per step here: it never catches up.
    assert cells["pytorch against jittor"][0][3].startswith("at once | pytorch starts sooner")


def test_parity_overhead_and_synchronisation(lines: Lines, cells: dict[str, list[list[str]]]) -> None:
    parity = of(lines, "parity")[0]
    found, allowed, result = cells["forward, largest absolute difference"][0]
    assert close(found, parity["forward_max_abs"], 0.05) and close(allowed, parity["tolerances"]["forward"], 0.05)
    assert result == "pass"
    losses = cells["losses of 50 matched steps, worst relative difference"][0]
    assert close(losses[0], max(parity["loss_rel_diff"]), 0.05) and losses[2] == "pass"
    harness = next(row for row in cells["pytorch"] if row[0] == "harness windows")
    overhead = of(lines, "overhead", arm="A", what="harness")[0]
    ratios = [w / b for b, w in zip(overhead["bare_ns"], overhead["harness_ns"], strict=True)]
    assert close(harness[1].lstrip("+"), 100 * (statistics.median(ratios) - 1), 0.06)
    proof = of(lines, "sync-proof", arm="B")[0]
    row = next(row for row in cells["jittor"] if "against" in row[1])
    assert (
        row[0].replace("\u202f", "") == f"{proof['pending_before']}, {proof['pending_after']}, {proof['pending_base']}"
    )
    assert f"{proof['long_ns'] / proof['short_ns']:.2f} times as long" in row[2]


def test_figures_tell_their_message_with_numbers_from_the_journal(lines: Lines, built: Built) -> None:
    page = html.unescape(built.html)
    middle = f"{statistics.median(steps(lines, 'A')) / 1e6:.0f} ms"
    assert f"pytorch median {middle}" in page
    assert f"median of measured steps {middle}" in page
    parity = of(lines, "parity")[0]
    assert re.search(r"losses of jittor and pytorch differ by at most ([0-9.]+)e", page)
    assert f"{max(parity['loss_rel_diff']):.1e}".split("e")[0] in page


def test_only_the_reference_table_holds_figures_of_its_own(built: Built) -> None:
    section = built.html[built.html.index('id="reference"') : built.html.index('id="reproduce"')]
    assert "Published elsewhere, on other hardware" in section and "142.43 s" in section
    assert "142.43" not in built.html.replace(section, "")


def test_markdown_and_html_hold_the_same_cells(built: Built, cells: dict[str, list[list[str]]]) -> None:
    text = re.sub(r"\\(.)", r"\1", html.unescape(built.markdown))
    for name, rows in cells.items():
        for row in rows:
            for cell in row:
                assert cell.split(" | ")[0] in text, (name, cell)


def test_other_numbers_in_the_journal_are_other_numbers_in_the_report(built: Built, tmp_path: Path) -> None:
    from harness.record.run import read_run
    from reports.suites.training.tables import key_figures
    from reports.view.run import view

    source = (built.folder / "journal.jsonl").read_text(encoding="utf-8")
    faster = source.replace('"flops":131000000000.0', '"flops":262000000000.0')
    (tmp_path / "journal.jsonl").write_text("\n".join(sealed(faster.splitlines())), "utf-8")
    before, after = (key_figures(view(read_run(folder))) for folder in (built.folder, tmp_path))
    changed = [row[0].text for row, other in zip(before.rows, after.rows, strict=True) if row != other]
    assert changed == ["share of measured peak"]
