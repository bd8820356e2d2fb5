"""Our frames and our arrangement against matplotlib's own axes and constrained layout, which they stand in for."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest

from reports.page.figures import drawing
from reports.page.plotting import Drawn, seconds_axis, sheet, style_context, svg

pytest.importorskip("matplotlib")

from matplotlib.axes import Axes  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.ticker import FixedLocator, MaxNLocator  # noqa: E402

# In points: a third of a letter's width.
CLOSE = 2.0
WRITTEN = re.compile(r"<text[^>]*?(?: x=\"([\d.-]+)\" y=\"|translate\([\d.-]+ )([\d.-]+)[^>]*>([^<]*)</text>")


def linear(figure: Figure, axes: list[Axes]) -> None:
    """Numbers, a title, names of both axes, a legend above all."""
    for number, axis in enumerate(axes):
        axis.plot([0, 3, 7], [0.1, 0.25, 0.9], label="one")
        axis.set_title(f"panel {number}", loc="left")
        axis.set_ylabel("share")
    axes[-1].set_xlabel("step")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper left")


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


def powers(figure: Figure, axes: list[Axes]) -> None:
    """An axis that counts in millions."""
    axes[-1].plot([0, 3e7], [0, 1])


CASES = (linear, logarithmic, named, powers)


def written(figure: Figure, prefix: str) -> list[tuple[str, float, float]]:
    """Every text of a figure and where it stands; of one in several lines matplotlib tells no anchor."""
    return sorted((text, float(x or "nan"), float(y)) for x, y, text in WRITTEN.findall(svg(figure, prefix)))


def by_matplotlib(draw: Callable[[Figure, list[Axes]], None], rows: int, narrow: bool,
                  monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float, float]]:
    """The same with nothing of ours: its axes, ticks and layout."""
    figure = Figure(figsize=(3.9 if narrow else 8.6, 2.0 * rows), layout="constrained")
    axes = list(figure.subplots(rows, 1, squeeze=False, sharex=True)[:, 0])
    draw(figure, axes)
    monkeypatch.setattr("reports.page.plotting.arrange", lambda figure: None)
    found = written(figure, "theirs")
    monkeypatch.undo()
    return found


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("draw", CASES, ids=lambda draw: draw.__name__)
def test_everything_written_stands_where_matplotlib_would_have_it(
        draw: Callable[[Figure, list[Axes]], None], rows: int, narrow: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    with style_context():
        theirs = by_matplotlib(draw, rows, narrow, monkeypatch)
        figure, axes = sheet(narrow, 2.0 * rows, rows, sharex=True)
        draw(figure, axes)
        ours = written(figure, "ours")
    assert [text for text, *_ in ours] == [text for text, *_ in theirs]
    assert np.nanmax(np.abs(np.array([at for _, *at in ours]) - [at for _, *at in theirs])) < CLOSE
    assert len(ours) >= 4


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
    assert not isinstance(drawing("one", draw), str)
    assert len(drawn) == 3 and len(set(map(id, drawn))) == 2
