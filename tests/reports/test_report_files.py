"""The files that a build leaves: the same bytes every time, self-contained, with ids of their own; and the commands."""

from __future__ import annotations

import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import synthetic
from conftest import Built
from journals import sealed

from impls.errors import UsageError
from reports import __main__ as command_line
from reports import index
from reports import report as sections
from reports.page import figures, plotting
from reports.page.plotting import envelope

UNDRAWN = figures.undrawn
PNG = b"\x89PNG\r\n\x1a\n"


def pages(folder: Path) -> dict[str, bytes]:
    files = [folder / "report.html", folder / "report.md", *(folder / "figures").iterdir()]
    return {file.name: file.read_bytes() for file in files}


def test_building_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    folder = synthetic.write_run(tmp_path / "run", synthetic.Scenario(blocks=2, pairs=4))
    sections.build(folder)
    first = pages(folder)
    sections.build(folder)
    assert first == pages(folder)


def test_every_picture_of_the_report_lies_in_figures(built: Built) -> None:
    linked = re.findall(r"\]\((figures/[^)]+)\)", built.markdown)
    assert len(linked) >= 12
    for name in linked:
        file = built.folder / name
        ET.fromstring(file.read_text(encoding="utf-8"))
    assert {Path(name).name for name in linked} == {file.name for file in (built.folder / "figures").iterdir()}


def test_pictures_are_png_too_where_asked_and_never_older_than_the_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = synthetic.write_run(tmp_path / "run", synthetic.Scenario(blocks=1, pairs=2))
    assert command_line.main(["build", "--png", str(folder)]) == 0
    capsys.readouterr()
    svgs = sorted((folder / "figures").glob("*.svg"))
    pngs = [file.with_suffix(".png") for file in svgs]
    assert pngs == sorted((folder / "figures").glob("*.png"))
    assert len(pngs) > 5 and all(file.read_bytes().startswith(PNG) for file in pngs)
    pngs[0].write_bytes(b"of an older report")
    pngs[1].unlink()
    sections.build(folder)
    assert pngs[0].read_bytes().startswith(PNG) and not pngs[1].exists()


def test_ids_are_unique_and_every_reference_finds_its_id(built: Built) -> None:
    ids = Counter(re.findall(r'\sid="([^"]+)"', built.html))
    assert [name for name, times in ids.items() if times > 1] == []
    references = set(re.findall(r"url\(#([^)]+)\)", built.html)) | set(re.findall(r'href="#([^"]+)"', built.html))
    assert references <= set(ids)


def test_figures_hold_text_as_text_and_colours_that_follow_the_theme(built: Built) -> None:
    ratio = (built.folder / "figures" / "ratio.svg").read_text(encoding="utf-8")
    assert "time of jittor / time of pytorch" in ratio
    assert "prefers-color-scheme:dark" in ratio and "currentColor" in ratio
    inlined = re.findall(r"<svg.*?</svg>", built.html, flags=re.S)
    assert inlined and all("<style" not in svg and "#1b1f24" not in svg for svg in inlined)


def test_pages_and_figures_stay_small(built: Built) -> None:
    assert len(built.html) < 2_000_000
    assert all(file.stat().st_size < 250_000 for file in (built.folder / "figures").iterdir())


def test_thinning_keeps_every_spike() -> None:
    y = np.zeros(100_000)
    y[[17, 50_123, 99_998]] = [9.0, -7.0, 5.0]
    x, thin = envelope(np.arange(y.size, dtype=float), y, 400)
    assert thin.size <= 500 and {9.0, -7.0, 5.0} <= set(thin)
    assert np.all(np.diff(x) >= 0)


def test_thinning_survives_series_without_a_number() -> None:
    y = np.full(5000, np.nan)
    assert envelope(np.arange(5000.0), y, 400)[1].size <= 400


def test_a_run_folder_that_is_none_is_one_line_and_exit_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["build", str(tmp_path / "none")]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith("python -m reports: error: ") and printed.err.count("\n") == 1


@pytest.mark.parametrize("arguments", [[], ["paint"], ["build"], ["serve", "--port", "many"], ["index", "a", "b"]])
def test_bad_usage_is_one_line_and_exit_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("python -m reports: error: ") and printed.err.count("\n") == 1


def test_a_report_that_cannot_be_written_is_a_usage_fault(tmp_path: Path) -> None:
    folder = synthetic.write_run(tmp_path / "run", synthetic.Scenario(blocks=1, pairs=2))
    (folder / "samples").rmdir()
    (folder / "figures").rmdir()
    (folder / "figures").write_text("not a folder")
    with pytest.raises(UsageError, match="cannot write the report"):
        sections.build(folder)


def test_index_lists_runs_newest_first_and_damaged_ones_too(tmp_path: Path) -> None:
    synthetic.write_run(tmp_path / "older", synthetic.Scenario(blocks=2, pairs=3))
    newer = synthetic.write_run(tmp_path / "newer<b>", synthetic.Scenario(blocks=2, pairs=3))
    journal = newer / "journal.jsonl"
    journal.write_text("\n".join(sealed(journal.read_text().replace("2026-01-01T", "2026-02-01T").splitlines())))
    (newer / "report.html").write_text("")
    for name, content in (("broken", "{"), ("array", "[]"), ("odd", '{"verdicts": 3, "arms": {"a": null}}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(content)
    (tmp_path / "notes").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "older")
    page = index.build(tmp_path).read_text(encoding="utf-8")
    assert page.index(">newer&lt;b&gt;<") < page.index(">older<") < page.index(">broken<")
    assert 'href="newer%3Cb%3E/report.html"' in page and ">notes<" not in page and ">link<" not in page
    assert page.count("cannot be read") == 2 and "run.json is not JSON" in page
    assert "times as fast as jittor in step time [A-faster]: time pytorch / time jittor = 0.3" in page
    assert "tiny, fashion-mnist, cpu, batch 8" in page


def test_index_of_a_missing_folder_is_a_usage_fault(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such results folder"):
        index.build(tmp_path / "none")


def test_index_of_an_empty_folder_says_how_to_start(tmp_path: Path) -> None:
    assert "No run yet" in index.build(tmp_path).read_text(encoding="utf-8")


def test_starting_up_loads_neither_a_framework_nor_the_plotting_library() -> None:
    code = (
        "import sys; from reports.__main__ import main; import reports.page.render, reports.index; "
        "print(sorted({'torch', 'jittor', 'matplotlib', 'scipy', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_figure_that_cannot_be_drawn_is_told_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*anything: object) -> str:
        raise RuntimeError("no font\nat all")

    monkeypatch.setattr(figures, "undrawn", UNDRAWN)
    monkeypatch.setattr(plotting, "svg", fails)
    folder = synthetic.write_run(tmp_path / "run", synthetic.Scenario(blocks=2, pairs=4))
    assert command_line.main(["build", str(folder)]) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines()[-1] == str(folder / "report.html")
    reason = "it cannot be drawn here (RuntimeError: no font at all)"
    assert printed.err.splitlines()[0] == f"figure ratio could not be drawn: {reason}"
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert f"Ratio: n/a, {reason}." in page and page.count(reason) == len(printed.err.splitlines())
    assert list((folder / "figures").iterdir()) == []
