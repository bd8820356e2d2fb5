"""The pages in a real browser: nothing fetched, nothing logged, nothing wider than a phone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chromium
import pytest
from conftest import Built

from reports import index

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(chromium.executable() is None, reason="no Chromium on this machine: install Debian's chromium"),
]
WIDER = """[...document.querySelectorAll('main *, header *, nav *')].filter(e => {
  if (e.closest('.scroll') || e.closest('pre') || e.closest('svg')) return false;
  const box = e.getBoundingClientRect(); return box.width > 0 && box.right > window.innerWidth + 1;
}).map(e => e.outerHTML.slice(0, 200))"""
# What moves sideways inside the page: a table, a tree, text to copy.
SIDEWAYS = """[...document.querySelectorAll('.scroll, pre, .tree, table, .forest, details')]
  .filter(e => e.getBoundingClientRect().width && e.scrollWidth > e.clientWidth + 1)
  .map(e => [e.scrollWidth, e.clientWidth, e.outerHTML.slice(0, 200)])"""
CONTRAST = """(() => {
  const light = c => { const [r, g, b] = c.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255)
    .map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b; };
  const back = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
    if (!c.startsWith('rgba(0, 0, 0, 0')) return c; } return 'rgb(255,255,255)'; };
  return [...document.querySelectorAll('p, li, td, th, small, h1, h2, h3, figcaption, a, code, span')]
    .filter(e => e.innerText && e.offsetParent).map(e => {
      const [a, b] = [light(getComputedStyle(e).color), light(back(e))];
      return [(Math.max(a, b) + .05) / (Math.min(a, b) + .05), e.outerHTML.slice(0, 120)]; })
    .filter(([ratio]) => ratio < 4.5);
})()"""
UNFOLD = "document.querySelectorAll('details').forEach(e => { e.open = true; })"
OVERLAPS = """[...document.querySelectorAll('figure svg')].filter(s => s.getBoundingClientRect().width).flatMap(s => {
  const f = s.getBoundingClientRect();
  return [...s.querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect()])
    .filter(([, b]) => b.left < f.left - 6 || b.right > f.right + 6).map(([t]) => t); })"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Page]:
    with chromium.page(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


def complaints(page: chromium.Page, file: Path) -> list[Any]:
    """Console messages, exceptions, log entries, and requests for anything but the page itself and data."""
    found: list[Any] = []
    for event in page.events:
        method, params = event.get("method"), event.get("params", {})
        if method in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
            found.append(params)
        if method == "Network.requestWillBeSent" and params["request"]["url"] != file.resolve().as_uri():
            found += [] if params["request"]["url"].startswith("data:") else [params["request"]["url"]]
    return found


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 768, 1280])
@pytest.mark.parametrize(("which", "least"), [("built", 12), ("sampled", 8), ("judged", 4)])
def test_a_report_in_the_browser(
    page: chromium.Page, request: pytest.FixtureRequest, which: str, least: int, width: int, dark: bool
) -> None:
    built: Built = request.getfixturevalue(which)
    file = built.folder / "report.html"
    page.open(file, width, dark)
    assert complaints(page, file) == []
    assert page.value("document.documentElement.scrollWidth") <= width
    assert page.value(WIDER) == []
    assert page.value(SIDEWAYS) == []
    page.value(UNFOLD)
    assert page.value(WIDER) == [] and page.value(SIDEWAYS) == []
    assert page.value(CONTRAST) == []
    assert page.value(OVERLAPS) == []
    shown = page.value(
        "[...document.querySelectorAll('figure svg')].filter(s => s.getBoundingClientRect().width).length"
    )
    assert shown == page.value("document.querySelectorAll('figure:not(.images figure)').length") >= least
    small = page.value(
        "Math.min(...[...document.querySelectorAll('figure svg text')].map(t => t.getBoundingClientRect().height)"
        ".filter(h => h))"
    )
    assert small > 9, "text in a figure is too small to read"


def test_sampled_images_are_shown_side_by_side_and_still_for_who_asks(page: chromium.Page, sampled: Built) -> None:
    file = sampled.folder / "report.html"
    tops = "[...document.images].map(i => Math.round(i.getBoundingClientRect().top))"
    page.open(file, 1280)
    assert page.value("[...document.images].map(i => i.naturalWidth)") == [138] * 4
    first, second, third, fourth = page.value(tops)
    assert first == second < third == fourth
    page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-reduced-motion", "value": "reduce"}])
    assert page.value("[...document.images].map(i => i.offsetParent !== null)") == [True, True, False, False]
    assert page.value("[...document.querySelectorAll('.still')].every(e => e.offsetParent)")


@pytest.mark.parametrize("which", ["nasty", "nasty_sampled", "nasty_judged"])
def test_a_hostile_report_in_the_browser(page: chromium.Page, request: pytest.FixtureRequest, which: str) -> None:
    file = request.getfixturevalue(which).folder / "report.html"
    page.open(file, 390)
    assert complaints(page, file) == []
    page.value(UNFOLD)
    assert page.value("document.documentElement.scrollWidth") <= 390
    assert page.value(SIDEWAYS) == []
    assert page.value("document.scripts.length") == 0


def test_the_index_in_the_browser(page: chromium.Page, built: Built) -> None:
    file = index.build(built.folder.parent)
    for width in (390, 1280):
        page.open(file, width)
        assert complaints(page, file) == []
        assert page.value("document.documentElement.scrollWidth") <= width
        assert page.value(CONTRAST) == []
        assert page.value("document.querySelector('.runs a').innerText") == built.folder.name
