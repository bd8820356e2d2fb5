"""The page of a comparison in a real browser: nothing fetched, nothing wider than a phone, readable in both themes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import chromium
import pytest
from light_runs import FACTS, Light, write
from synthetic import NASTY
from test_report_browser import CONTRAST, OVERLAPS, WIDER, complaints

from reports.compare import write as compare_files
from reports.compare.runs import compare

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(chromium.executable() is None, reason="no Chromium on this machine: install Debian's chromium"),
]
ARMS = {"plain": ("pytorch", "jittor:onednn"), "nasty": (NASTY, "pytorch:channels_last+compile+bf16+" + "x" * 60)}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Page]:
    with chromium.page(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.fixture(scope="module", params=ARMS)
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, names = tmp_path_factory.mktemp("compared"), ARMS[request.param]
    before = Light(seed=1, pairs=2, arms=((names[0], 100.0), (names[1], 150.0)))
    after = Light(seed=2, pairs=2, arms=((names[0], 103.0), (names[1], 140.0)), dirty=(1,),
                  facts={**FACTS, "cpu_model": NASTY, "version_torch": "3.0"})  # fmt: skip
    paths = [write(folder / "a", before), write(folder / "b", after)]
    return compare_files.write(compare(paths, allow_env_change=True), folder / "out", ["python", *map(str, paths)])


@pytest.mark.parametrize(("width", "dark"), [(390, False), (768, True), (1280, False), (1280, True)])
def test_a_comparison_in_the_browser(page: chromium.Page, file: Path, width: int, dark: bool) -> None:
    page.open(file, width, dark)
    assert complaints(page, file) == []
    assert page.value("document.documentElement.scrollWidth") <= width
    assert page.value(WIDER) == [] and page.value(CONTRAST) == [] and page.value(OVERLAPS) == []
    assert page.value("document.scripts.length") == 0
