"""What a figure tells in numbers: where a reader points, in the table below it, and on one scale."""

from __future__ import annotations

import json
import re
import statistics
import xml.etree.ElementTree as ET
from pathlib import Path

import matplotlib.colors as mcolors
import numpy as np
import pytest
import synthetic
from conftest import Built
from test_report_golden import of
from test_report_partial import Sketches

from harness.record.events import Verdict
from harness.record.run import RecordedRun, read_run
from reports.chapters.measured import ratio
from reports.page.data import MOST_ROWS, MOST_TARGETS, Data
from reports.page.plotting import SERIES, sheet, style_context, svg
from reports.suites.registry import whole

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("which", ["built", "sampled", "judged"])
def test_every_figure_tells_its_data(which: str, request: pytest.FixtureRequest) -> None:
    page: Built = request.getfixturevalue(which)
    figures = re.findall(r"<figure>\s*<div class=\"wide\".*?</figure>", page.html, flags=re.S)
    assert len(figures) >= 4
    for figure in figures:
        assert '<details class="data">' in figure, figure[:200]
        wide = re.search(r'<div class="wide".*?</svg>', figure, flags=re.S)
        assert wide and wide[0].count("<title>") > 0
        assert figure.count("<tr>") > 1
    assert page.markdown.count("<details><summary>Data of this figure") == len(figures)
    for file in (page.folder / "figures").glob("*.svg"):
        assert ET.fromstring(file.read_text(encoding="utf-8")).findall(f".//{SVG}title"), file


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_a_reader_points_at_what_is_drawn(scale: str) -> None:
    x, y = [1.0, 10.0, 90.0], [3.0, 2.0, 50.0]
    with style_context():
        figure, (above, axis) = sheet(False, 4.0, 2)
        above.plot([0, 1], [0, 1])
        axis.set_xscale(scale)
        axis.set_yscale(scale)
        axis.plot(x, y, "o")
        data = Data(("x", "y, ms"))
        for across, up in zip(x, y, strict=True):
            data.point(axis, across, up, across, up)
        data.point(axis, 1e6, 1e6, "outside", "")
        root = ET.fromstring(svg(figure, "test", data))
    dots = [(float(use.get("x", "nan")), float(use.get("y", "nan"))) for use in root.iter(f"{SVG}use")]
    targets = {circle.findtext(f"{SVG}title"): (float(circle.get("cx", "nan")), float(circle.get("cy", "nan")))
               for circle in root.iter(f"{SVG}circle")}  # fmt: skip
    assert list(targets) == [f"x: {across}\ny, ms: {up}" for across, up in zip(x, y, strict=True)]
    for target in targets.values():
        assert min(np.hypot(dot[0] - target[0], dot[1] - target[1]) for dot in dots) < 0.2


def test_a_long_line_is_thinned_and_says_so() -> None:
    with style_context():
        figure, (axis,) = sheet(False, 2.0)
        x = np.arange(1000.0)
        axis.plot(x, x)
        data = Data(("line", "x"))
        for line in range(9):
            data.line(axis, x, np.where(x == 0, np.nan, x), str(line), lambda at, _: (f"{at:.0f}",))
        table, drawn = data.table, svg(figure, "test", data)
    assert 100 < len(table.rows) <= MOST_ROWS
    assert table.caption == f"Data of this figure: {len(table.rows)} of 8\u202f991 rows, evenly"
    assert 0 < drawn.count("<title>") <= MOST_TARGETS
    assert {row[0].text for row in table.rows} == set(map(str, range(9)))


def test_the_ratio_by_block_is_that_of_the_journal(built: Built) -> None:
    lines = [json.loads(line) for line in (built.folder / "journal.jsonl").read_text(encoding="utf-8").splitlines()]
    figure = built.html[built.html.index("all blocks; block medians") :]
    rows = re.findall(r"<tr><th[^>]*>block (\d+).*?</th><td[^>]*>([\d.]+)</td>", figure[: figure.index("</details>")])
    assert len(rows) == 4
    for block, shown in rows:
        times = [{w["pair"]: sum(w["step_ns"]) / w["steps"]
                  for w in of(lines, "window", arm=arm, kind="stepwise", block=int(block))} for arm in "AB"]
        ratio = statistics.median(times[1][pair] / times[0][pair] for pair in times[0])
        assert abs(float(shown) / ratio - 1) < 1e-3


def test_ratios_of_the_same_arms_stand_on_one_axis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = read_run(synthetic.write_run(tmp_path / "run", synthetic.Scenario(blocks=3, pairs=3)))
    first = run.of(Verdict)[0]
    assert first.ratio and first.ci_low and first.ci_high
    other = first.model_copy(update={"metric": "step time, free-running", "kind": "free", "ratio": first.ratio / 3,
                                     "ci_low": first.ci_low / 3, "ci_high": first.ci_high / 3})
    with style_context():
        limits: list[tuple[float, float]] = []
        monkeypatch.setattr(ratio, "frame_ratio", lambda axis, low, high, margin: limits.append((low, high)) or "")
        two = RecordedRun(run.path, tuple(one for one in run.events if not isinstance(one, Verdict)) + (first, other))
        ratio.section(whole(two), Sketches())
    assert len(limits) == 2 and limits[0] == limits[1]
    low, high = limits[0]
    assert low < 1 / first.ratio < 3 / first.ratio <= high


def test_an_interval_that_is_not_known_is_not_told_as_a_narrow_one() -> None:
    scenario = synthetic.Scenario(blocks=3, pairs=3)
    events = [one.model_copy(update={"ci_low": None, "ci_high": None}) if isinstance(one, Verdict) else one
              for one in synthetic.Maker(scenario).make() if one.type != "window"]
    run = RecordedRun(Path("run"), tuple(events))
    (verdict,) = run.of(Verdict)
    with style_context():
        drawn = ratio.ratio_forest(whole(run), verdict, ratio.ends_of(whole(run), verdict), False)
    assert not isinstance(drawn, str) and drawn.data is not None
    rows = [[value.text for value in row] for row in drawn.data.table.rows]
    # Without windows there are no pairs either, of which a block's middle half would be told.
    assert len(rows) == 4 and all(row[1] and row[2:] == ["", "", ""] for row in rows)


# Viénot, Brettel, Mollon 1999: what is left of linear RGB without red or green cones.
SEEN = {"red": np.array([[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]]),
        "green": np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]])}  # fmt: skip


def lab(color: str, blind: str) -> np.ndarray:
    rgb = np.array(mcolors.to_rgb(color))
    linear = SEEN[blind] @ np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ linear.clip(0, 1)
    f = np.cbrt(xyz / np.array([0.9505, 1.0, 1.089]))
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("blind", SEEN)
def test_the_first_arms_are_told_apart_without_red_or_green(blind: str) -> None:
    colors = [lab(SERIES[slot].color, blind) for slot in "ABCD"]
    apart = [float(np.linalg.norm(one - other)) for place, one in enumerate(colors) for other in colors[:place]]
    assert min(apart) > 15
    looks = [(style.marker, str(style.line), style.hatch) for style in SERIES.values()]
    assert all(len(set(column)) == len(looks) for column in zip(*looks, strict=True))
