"""The index over time in a real browser: nothing fetched, nothing wider than a phone, readable in both themes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import chromium
import pytest
from synthetic import NASTY
from test_history import record
from test_report_browser import CONTRAST, WIDER, complaints

from reports import index

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(chromium.executable() is None, reason="no Chromium on this machine: install Debian's chromium"),
]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Page]:
    with chromium.page(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = tmp_path_factory.mktemp("results")
    for day in range(1, 9):
        ratio = (1.1 if day < 5 else 1.3) + day / 1000
        record(results, day, ratio, "B" if day % 2 else "?", facts={"version_torch": "2.15" if day > 4 else "2.14"})
        record(results, day, 1 + day / 100, "=", f"nasty-{day}", facts={"cpu_model": NASTY + "x" * 80},
               verdict={"arm_a": NASTY, "metric": "m" * 90})  # fmt: skip
    return index.build(results)


@pytest.mark.parametrize(("width", "dark"), [(390, False), (390, True), (768, False), (1280, True)])
def test_the_index_in_the_browser(page: chromium.Page, file: Path, width: int, dark: bool) -> None:
    page.open(file, width, dark)
    assert complaints(page, file) == []
    assert page.value("document.documentElement.scrollWidth") <= width
    assert page.value(WIDER) == [] and page.value(CONTRAST) == []
    assert page.value("document.querySelectorAll('.rows svg').length") == 2
    assert page.value("document.querySelectorAll('.rows .step').length") == 1
