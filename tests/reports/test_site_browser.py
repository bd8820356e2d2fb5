"""The site of README and docs/ in a browser: its search finds Chinese, too, and its pages fit a phone."""

from __future__ import annotations

import functools
import http.server
import importlib.util
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import chromium
import pytest

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(chromium.executable() is None, reason="no Chromium on this machine: install Debian's chromium"),
    pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="MkDocs is not installed: make docs does"),
]
ROOT = Path(__file__).parents[2]
TITLES = "[...document.querySelectorAll('#mkdocs-search-results h3')].map(e => e.innerText)"
TYPE = """(text => { const box = document.getElementById('mkdocs-search-query'); box.value = text;
  document.getElementById('mkdocs-search-results').innerText = '';
  box.dispatchEvent(new Event('keyup', {bubbles: true})); })"""


class Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("site")
    build = ["-W", "ignore", "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    subprocess.run([sys.executable, *build], check=True, cwd=ROOT, timeout=120)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Silent, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Page]:
    with chromium.page(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


def visit(page: chromium.Page, address: str, width: int) -> None:
    page.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600)
    page.events.clear()
    page.call("Page.navigate", url=address)
    wait(page, "document.readyState === 'complete'")


def wait(page: chromium.Page, expression: str) -> None:
    deadline = time.monotonic() + 20
    while not page.value(expression):
        assert time.monotonic() < deadline, expression
        time.sleep(0.05)


def found(page: chromium.Page, text: str) -> list[str]:
    """What the search lists for a text, asked until its index is there."""
    deadline = time.monotonic() + 20
    while not page.value("document.querySelector('#mkdocs-search-results').innerText.trim()"):
        assert time.monotonic() < deadline, text
        page.value(f"{TYPE}({text!r})")
        time.sleep(0.2)
    titles: list[str] = page.value(TITLES)
    page.value(TYPE + "('')")
    page.value("document.getElementById('mkdocs-search-results').innerText = ''")
    return titles


def test_the_search_finds_what_is_typed_in_either_language(page: chromium.Page, site: str) -> None:
    visit(page, f"{site}/zh/index.html", 1280)
    assert "预热" in found(page, "预热")
    assert "比较" in found(page, "受干扰的区组")
    # All of it, in this order.
    assert found(page, "扰干受") == []
    assert "哪一块 GPU" in found(page, "GPU 显存") and "采样" in found(page, "采")
    assert "Warm-up" in found(page, "warm")


@pytest.mark.parametrize("place", ["gpu.html", "zh/gpu.html"])
def test_pages_fit_a_phone_name_their_language_and_let_colours_be_chosen(
    page: chromium.Page, site: str, place: str
) -> None:
    visit(page, f"{site}/{place}", 390)
    assert [event["params"] for event in page.events if event.get("method") == "Runtime.exceptionThrown"] == []
    assert page.value("document.documentElement.scrollWidth") <= 390
    assert page.value("document.documentElement.lang") == ("zh-CN" if place.startswith("zh") else "en")
    for colours in ("dark", "light"):
        page.value(f"document.querySelector('[data-bs-theme-value={colours}]').click()")
        assert page.value("document.documentElement.dataset.bsTheme") == colours


def test_a_link_to_a_heading_in_chinese_leads_there(page: chromium.Page, site: str) -> None:
    visit(page, f"{site}/zh/index.html", 1280)
    page.value("document.querySelector('a[href^=\"gpu.html#\"]').click()")
    wait(page, "location.pathname.endsWith('gpu.html') && document.readyState === 'complete'")
    assert page.value("document.querySelector(':target').innerText").startswith("哪些已在硬件上证实，哪些没有")
