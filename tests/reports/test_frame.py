"""Our frames and our arrangement against matplotlib's own axes and constrained layout, which they stand in for."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest

from reports.page import font
from reports.page.figures import drawing
from reports.page.frame import Graph, extent, measured
from reports.page.plotting import Drawn, legend_above, seconds_axis, sheet, style_context, svg

pytest.importorskip("matplotlib")

from matplotlib.axes import Axes  # noqa: E402
from matplotlib.axis import Axis  # noqa: E402
from matplotlib.backends.backend_svg import FigureCanvasSVG  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.ticker import FixedLocator, MaxNLocator  # noqa: E402

# In points: a third of a letter's width.
CLOSE = 2.0
Lines = list[list[float]]
PATHS = re.compile(r"<path d=\"([^\"]*)\"[^>]*style=\"([^\"]*)\"")
USED = re.compile(r"<use [^>]*x=\"([\d.-]+)\" y=\"([\d.-]+)\" style=\"([^\"]*)\"")
WRITTEN = re.compile(r"<text[^>]*?(?: x=\"([\d.-]+)\" y=\"|translate\([\d.-]+ )([\d.-]+)[^>]*>([^<]*)</text>")


def linear(figure: Figure, axes: list[Axes]) -> None:
    """Numbers, a title, names of both axes, a legend above all."""
    for number, axis in enumerate(axes):
        axis.plot([0, 3, 7], [0.1, 0.25, 0.9], label="one", marker="o")
        axis.plot([0, 7], [0.1, 0.9], label="another", linestyle="--")
        axis.barh([0.5], [3], height=0.1, hatch="//", label="area")
        axis.set_title(f"panel {number}", loc="left")
        axis.set_ylabel("share")
    axes[-1].set_xlabel("step")
    if isinstance(axes[0], Graph):
        legend_above(figure, axes[0], 2)
    else:
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper left", ncols=2, handlelength=2.2,
                      columnspacing=1.4, borderaxespad=0.2)


def logarithmic(figure: Figure, axes: list[Axes]) -> None:
    """Minor ticks without labels."""
    for axis in axes:
        axis.plot([1, 2, 3], [2e6, 3e8, 4e9])
        axis.set_yscale("log")
        seconds_axis(axis, np.array([2e6, 3e8, 4e9]), "step time")
        axis.xaxis.set_major_locator(MaxNLocator(4, integer=True))


def named(figure: Figure, axes: list[Axes]) -> None:
    """Words for ticks, in two lines too, and only one grid."""
    for axis in axes:
        axis.barh([0, 1], [3, 40_000])
        axis.set_yticks([0, 1], ["short", "in two\nlines, long"])
        axis.grid(axis="y", visible=False)
        axis.xaxis.set_major_locator(FixedLocator([0, 20_000, 90_000]))


def annotated(figure: Figure, axes: list[Axes]) -> None:
    """Words that stand out of the graph, and a title that is as long as it is wide."""
    for axis in axes:
        axis.plot([0, 7], [0, 1])
        axis.set_xlim(0, 7)
        axis.annotate("beyond the edge", (7, 0.5), (4, 0), textcoords="offset points", va="center")
        axis.set_title("a long title " * 5)


def powers(figure: Figure, axes: list[Axes]) -> None:
    """An axis that counts in millions."""
    axes[-1].plot([0, 3e7], [0, 1])


CASES = (linear, logarithmic, named, annotated, powers)


def written(text: str) -> list[tuple[str, float, float]]:
    """Every text of a figure and where it stands; of one in several lines matplotlib tells no anchor."""
    return sorted((text, float(x or "nan"), float(y)) for x, y, text in WRITTEN.findall(text))


def lines(text: str) -> tuple[Lines, Lines, Lines]:
    """Both ends of every line of the grids, where on its axis every tick begins, and both ends of every axis."""
    grid: Lines = []
    edges: Lines = []
    ticks: Lines = [[float(x), float(y)] for x, y, style in USED.findall(text) if "var(--muted" in style]
    for path, style in PATHS.findall(text):
        ends = np.array(re.findall(r"-?[\d.]+", path), dtype=np.float64)
        if "stroke: var(--grid" in style:
            grid += ends.reshape(-1, 4).tolist()
        # Only ticks end where they end, without a cap.
        elif "stroke: var(--muted" in style and "linecap" not in style:
            ticks += ends.reshape(-1, 4)[:, :2].tolist()
        elif "stroke: var(--muted" in style and ends.size == 4:
            edges += ends.reshape(-1, 4).tolist()
    return grid, ticks, edges


def by_matplotlib(draw: Callable[[Figure, list[Axes]], None], rows: int, narrow: bool,
                  monkeypatch: pytest.MonkeyPatch) -> str:
    """The same with nothing of ours: its axes, ticks and layout."""
    figure = Figure(figsize=(3.9 if narrow else 8.6, 2.0 * rows), layout="constrained")
    # Its layout asks it how large text is.
    FigureCanvasSVG(figure)
    axes = list(figure.subplots(rows, 1, squeeze=False, sharex=True)[:, 0])
    draw(figure, axes)
    monkeypatch.setattr("reports.page.plotting.arrange", lambda figure: None)
    found = svg(figure, "theirs")
    monkeypatch.undo()
    return found


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("draw", CASES, ids=lambda draw: draw.__name__)
def test_everything_stands_where_matplotlib_would_have_it(
        draw: Callable[[Figure, list[Axes]], None], rows: int, narrow: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    with style_context():
        theirs = by_matplotlib(draw, rows, narrow, monkeypatch)
        figure, axes = sheet(narrow, 2.0 * rows, rows, sharex=True)
        draw(figure, axes)
        ours = svg(figure, "ours")
    words, expected = written(ours), written(theirs)
    assert [text for text, *_ in words] == [text for text, *_ in expected]
    assert np.nanmax(np.abs(np.array([at for _, *at in words]) - [at for _, *at in expected])) < CLOSE
    assert len(words) >= 4
    for found, wanted in zip(lines(ours), lines(theirs), strict=True):
        assert len(found) == len(wanted) >= 2
        apart = np.abs(np.array(found)[:, None] - np.array(wanted)).max(axis=2)
        assert max(apart.min(axis=0).max(), apart.min(axis=1).max()) < CLOSE


def test_a_figure_is_drawn_once_for_each_of_its_forms(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    once = Figure.draw

    def counted(figure: Figure, renderer: object) -> None:
        drawn.append(figure)
        once(figure, renderer)

    def draw(narrow: bool) -> Drawn:
        figure, axes = sheet(narrow, 2.0)
        linear(figure, axes)
        return Drawn(figure, "alt", "caption")

    monkeypatch.setattr(Figure, "draw", counted)
    assert not isinstance(drawing("one", draw, png=True), str)
    assert len(drawn) == 3 and len(set(map(id, drawn))) == 2


@pytest.mark.parametrize("draw", CASES, ids=lambda draw: draw.__name__)
def test_no_tick_is_made_and_no_text_measured_twice(
        draw: Callable[[Figure, list[Axes]], None], monkeypatch: pytest.MonkeyPatch) -> None:
    def made(axis: Axis, major: bool) -> None:
        raise AssertionError(f"a tick of {axis} was made")

    monkeypatch.setattr(Axis, "_get_tick", made)
    made_of, misses = [], []
    with style_context():
        for _ in range(2):
            figure, axes = sheet(False, 4.0, 2, sharex=True)
            draw(figure, axes)
            made_of.append(svg(figure, "one"))
            misses.append((extent.cache_info().misses, measured.cache_info().misses))
    assert made_of[0] == made_of[1] and misses[0] == misses[1]


def test_the_ticks_that_are_drawn_are_those_that_were_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    with style_context():
        figure, (axis,) = sheet(False, 2.0)
        axis.plot([0, 7], [0, 1])
        asked: list[Axis] = []
        once = Axis.get_majorticklocs
        monkeypatch.setattr(Axis, "get_majorticklocs", lambda one: asked.append(one) or once(one))
        svg(figure, "one")
        assert len(asked) == 4


def test_a_key_shows_each_thing_as_it_is_drawn() -> None:
    with style_context():
        figure, (axis,) = sheet(False, 2.0)
        axis.plot([0, 1], [0, 1], color="#123456", marker="s", label="marked")
        axis.plot([0, 1], [1, 0], color="#654321", linestyle=":", label="dotted")
        axis.barh([0], [1], color="#abcdef", alpha=0.5, label="bars")
        alone = svg(figure, "one")
        legend_above(figure, axis, 2)
        text = svg(figure, "one")
    for color in ("#123456", "#654321", "#abcdef"):
        assert text.count(color) > alone.count(color)
    names = {text: (x, y) for text, x, y in written(text)}
    assert names["marked"][0] == names["dotted"][0] < names["bars"][0] and names["marked"][1] == names["bars"][1]
    # Everything of it stands above the graph.
    top = min(min(line[1::2]) for line in lines(text)[0])
    assert max(names[name][1] for name in ("marked", "dotted", "bars")) < top


def test_text_asks_for_fonts_that_every_system_has() -> None:
    with style_context():
        figure, axes = sheet(False, 2.0)
        linear(figure, axes)
        text = svg(figure, "one")
    assert text.count("<text") == text.count(font.LATIN) >= 4
