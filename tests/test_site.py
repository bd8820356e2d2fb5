"""README and docs/ as a site: every link and anchor leads somewhere, all pages are in it, and it builds."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCS = sorted(path for path in (ROOT / "docs").rglob("*.md"))
FILES = [ROOT / "README.md", ROOT / "README.zh.md", ROOT / "CHANGELOG.md", ROOT / "impls" / "README.md", *DOCS]
FENCE = re.compile(r"^```.*?^```", re.M | re.S)


def hooks():
    spec = importlib.util.spec_from_file_location("site_pages", ROOT / "docs" / "site_pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def anchors(page: Path) -> set[str]:
    """The addresses of a page's headings, as code hosts and MkDocs make them alike."""
    titles = re.findall(r"^#{1,6} (.+)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.M)
    plain = [re.sub(r"[^\w\s-]", "", re.sub(r"\]\([^)]*\)", "", title)).strip().lower() for title in titles]
    return {re.sub(r"[-\s]+", "-", title) for title in plain}


@pytest.mark.parametrize("page", FILES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_their_anchors_lead_somewhere(page):
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)", text):
        file = page.parent / target if target else page
        assert file.exists(), f"{page.name} -> {target}"
        assert not anchor or anchor in anchors(file), f"{page.name} -> {target}#{anchor}"


def test_every_page_has_its_place_in_the_site():
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").split("\nnav:")[1]
    named = re.findall(r": (\S+\.md)$", nav, re.M)
    expected = [*hooks().OUTSIDE.values(), *(page.relative_to(ROOT / "docs").as_posix() for page in DOCS)]
    assert sorted(named) == sorted(expected)


def test_links_become_those_of_the_site():
    turned, text = hooks().turned, "[a](docs/gpu.md#x) [b](#here) ![c](docs/images/r.png) [d](impls/README.md)"
    assert turned(text, "README.md") == "[a](gpu.md#x) [b](#here) ![c](images/r.png) [d](implementations.md)"
    assert turned("[a](../README.md) [b](gpu.md)", "docs/method.md") == "[a](index.md) [b](gpu.md)"
    assert turned("[a](../docs/gpu.md) [b](https://a.example/docs/x.md)", "impls/README.md") == (
        "[a](gpu.md) [b](https://a.example/docs/x.md)")
    assert turned("[a](docs/zh/gpu.md) [b](docs/images/r.png) [c](README.md)", "README.zh.md") == (
        "[a](gpu.md) [b](../images/r.png) [c](../index.md)")
    assert turned("[a](../gpu.md) [b](../../README.zh.md) [c](method.md#x)", "docs/zh/gpu.md") == (
        "[a](../gpu.md) [b](index.md) [c](method.md#x)")


def test_the_site_builds_strictly_with_a_search_and_asks_no_other_host(tmp_path):
    if importlib.util.find_spec("mkdocs") is None:
        pytest.skip("MkDocs is not installed here: make docs does")
    command = [sys.executable, "-W", "ignore", "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "search" / "search_index.json").read_text(encoding="utf-8"))["docs"]
    assert any("parity" in one["text"] for one in found)
    assert {one["location"].partition("#")[0] for one in found} >= {
        "index.html", "gpu.html", "implementations.html", "zh/index.html", "zh/gpu.html"}
    for page in tmp_path.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert re.findall(r'<(?:script|link|img|iframe)[^>]*(?:src|href)="(?:https?:)?//', text) == []
    # Ours, not that which needs a dictionary.
    assert "nodejieba" not in (tmp_path / "search" / "lunr.zh.js").read_text(encoding="utf-8")
    assert not list(tmp_path.glob("site_*")) and (tmp_path / "examples" / "record.py").exists()
