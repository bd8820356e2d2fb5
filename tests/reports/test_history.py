"""The index over time: rows of runs that belong together, steps and pictures, and the feed of changed verdicts."""

from __future__ import annotations

import json
import os
import re
import xml.etree.ElementTree as ET
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from light_runs import EXPERIMENT, FACTS, STARRED, altered
from synthetic import NASTY

from reports import index
from reports.history.feed import ATOM

A = f"{{{ATOM}}}"
WORDS = {"A": "A-faster", "B": "B-faster", "=": "equivalent", "?": "inconclusive", "x": "not-comparable"}


def record(results: Path, day: int, ratio: float | None, word: str = "B", name: str = "", **changes: Any) -> Path:
    """A run by its summary: started on a day of January, with one verdict."""
    folder = results / (name or f"train-speed-{day:02}")
    folder.mkdir(parents=True)
    (folder / "report.html").write_text("")
    width = changes.get("width", 0.01)
    verdict = {"metric": "step time", "arm_a": "jittor", "arm_b": "pytorch", "ratio": ratio, "blocks": 6,
               "ci_low": ratio and ratio * (1 - width), "ci_high": ratio and ratio * (1 + width),
               "word": WORDS.get(word, word), **changes.get("verdict", {})}
    summary = {
        "run_id": folder.name, "suite": "train-speed", "started_utc": f"2026-01-{day:02}T12:00:00+00:00",
        "status": "complete", "arms": [{"slot": "A", "name": "jittor"}, {"slot": "B", "name": "pytorch"}],
        "config": {"experiment": altered(EXPERIMENT, **changes.get("experiment", {})), "bench": {}},
        "declared": {"parts": ["training"], "margin": 0.01, "device": "cpu"},
        "environment": {"facts": {**FACTS, **changes.get("facts", {})}, "starred": STARRED},
        "dataset": {"name": "digits", "sha256": "ab"}, "verdicts": [verdict], **changes.get("summary", {})}
    (folder / "run.json").write_text(json.dumps(summary))
    return folder


def built(results: Path) -> tuple[str, ET.Element]:
    page = index.build(results).read_text(encoding="utf-8")
    return page, checked((results / "feed.xml").read_text(encoding="utf-8"))


def checked(text: str) -> ET.Element:
    """A feed that has everything RFC 4287 requires."""
    root = ET.fromstring(text)
    assert root.tag == f"{A}feed"
    entries = root.findall(f"{A}entry")
    assert root.findtext(f"{A}author/{A}name")
    ids = [one.findtext(f"{A}id") for one in (root, *entries)]
    assert len(set(ids)) == len(ids)
    for one in (root, *entries):
        # 4.1.1, 4.1.2: exactly one of each.
        assert [len(one.findall(f"{A}{name}")) for name in ("id", "title", "updated")] == [1, 1, 1]
        assert urlsplit(one.findtext(f"{A}id")).scheme == "urn" and one.findtext(f"{A}title")
        stamp = one.findtext(f"{A}updated")
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", stamp) and datetime.fromisoformat(stamp[:-1])
    for one in entries:
        # 4.1.2: an entry without content has an alternate link, and no two alike.
        assert [link.get("href") for link in one.findall(f"{A}link[@rel='alternate']")] != []
        assert one.findtext(f"{A}summary")
    return root


def test_a_step_is_drawn_and_told_with_what_changed(tmp_path):
    for day, ratio in enumerate((1.10, 1.11, 1.095, 1.105, 1.31, 1.30, 1.305), 1):
        record(tmp_path, day, ratio, facts={"version_torch": "2.15.0" if day > 4 else "2.14.1", "load1": day})
    page, feed = built(tmp_path)
    assert "jittor against pytorch in step time" in page and "Over time: Imaginary CPU, 2 processors" in page
    (words,) = re.findall(r"<li>(step of .*?)</li>", page)
    assert "at train-speed-05" in words and "torch (2.14.1 to 2.15.0)" in words
    assert "load1" not in words and "git" not in words
    (svg,) = re.findall(r'<svg viewBox.*?</svg>', page, flags=re.S)
    root = ET.fromstring(svg)
    assert len(root.findall(".//circle")) == 7 and len(root.findall("g[@class='step']")) == 1
    assert len(root.findall("path[@class='level']")) == 2
    titles = [one.text for one in root.iter("title")]
    assert any("2026-01-05 12:00, train-speed-05: 1.310 [1.297, 1.323], 6 blocks, B-faster" in one for one in titles)
    assert words in titles and "first 1.100 [1.089, 1.111], last 1.305" in root.get("aria-label")
    assert feed.findall(f"{A}entry") == []


def test_only_what_belongs_together_is_one_row(tmp_path):
    record(tmp_path, 1, 1.1)
    record(tmp_path, 2, 1.2, experiment={"train__lr": 0.5, "seed": 3}, facts={"python": "3.12.1"})
    record(tmp_path, 3, 1.3, experiment={"train__batch_size": 16})
    record(tmp_path, 4, 1.4, facts={"cpu_model": "Other CPU"})
    record(tmp_path, 5, 1.5, summary={"dataset": {"name": "cifar10", "sha256": "cd"}})
    record(tmp_path, 6, 1.6, verdict={"arm_a": "jittor:onednn"})
    record(tmp_path, 7, 1.7, verdict={"metric": "step time (self-check)"})
    record(tmp_path, 8, 1.8, summary={"started_utc": "2026-01-08T12:00:00"})
    page, _ = built(tmp_path)
    assert page.count("<article>") == 1 and page.count("<circle") == 2
    assert page.index("train-speed-02</small>") < page.index("train-speed-01</small>")


def test_of_cells_none_is_drawn_where_one_covers_all(tmp_path):
    for day in (1, 2):
        whole = {"metric": "batch time", "arm_a": "a", "arm_b": "b", "ratio": 1.2, "blocks": 4, "word": "B-faster"}
        record(tmp_path, day, 1.0, summary={"verdicts": [whole, {**whole, "cell": "ddim-10"}]})
    assert built(tmp_path)[0].count("<article>") == 1


def test_every_change_of_a_verdict_is_an_entry_newest_first(tmp_path):
    for day, word in enumerate("BB?=x=", 1):
        record(tmp_path, day, None if word == "x" else 1.0 + day / 100, word)
    page, feed = built(tmp_path)
    titles = [one.findtext(f"{A}title") for one in feed.findall(f"{A}entry")]
    head = "jittor against pytorch in step time: "
    assert titles == [head + one for one in ("not-comparable to equivalent", "equivalent to not-comparable",
                                             "inconclusive to equivalent", "B-faster to inconclusive")]
    newest = feed.find(f"{A}entry")
    assert newest.findtext(f"{A}updated") == feed.findtext(f"{A}updated") == "2026-01-06T12:00:00Z"
    assert newest.find(f"{A}link").get("href") == "train-speed-06/report.html"
    assert "jittor and pytorch take the same time, within" in newest.findtext(f"{A}summary")
    assert 'type="application/atom+xml"' in page and page.count('class="run open"') == 1
    assert page.count("<circle") == 5


@pytest.mark.parametrize("word", [None, "from-a-later-version", "inconclusive"])
def test_only_what_decided_something_is_filled(tmp_path, word):
    for day in (1, 2, 3):
        record(tmp_path, day, 1.1, "B" if day < 3 else word)
    page, _ = built(tmp_path)
    assert page.count('class="run open"') == 1 and page.count('class="run"') == 2


def test_an_interval_that_is_cut_off_has_an_arrow(tmp_path):
    for day, (ratio, width) in enumerate([(1.5, 0.01), (1.52, 0.9), (1.51, 0.01)], 1):
        record(tmp_path, day, ratio, width=width)
    page, _ = built(tmp_path)
    bars = re.findall(r'<g class="run[^"]*"><title>[^<]*</title><path d="([^"]*)"', page)
    assert [bar.count("L") for bar in bars] == [0, 4, 0]


def test_a_folder_whose_name_is_no_unicode_is_listed_like_any_other(tmp_path):
    odd = record(tmp_path, 1, 1.1, name=os.fsdecode(b"run-\xff"))
    record(tmp_path, 2, 1.2, "?")
    page, feed = built(tmp_path)
    assert 'href="run-%FF/report.html"' in page and page.count("<circle") == 2
    assert len(feed.findall(f"{A}entry")) == 1 and odd.is_dir()


def test_building_twice_gives_the_same_bytes(tmp_path):
    for day, word in enumerate("B=", 1):
        record(tmp_path, day, 1.1, word)
    first = built(tmp_path)[0], (tmp_path / "feed.xml").read_bytes()
    assert first == (built(tmp_path)[0], (tmp_path / "feed.xml").read_bytes())


def test_a_folder_without_runs_has_a_feed_without_entries(tmp_path):
    page, feed = built(tmp_path)
    assert feed.findall(f"{A}entry") == [] and "Over time" not in page


@pytest.mark.parametrize("verdict", [
    {"ratio": 1e300, "ci_low": -1.0, "ci_high": 0.0}, {"ratio": -1.0}, {"ratio": 0.0, "ci_low": "a"},
    {"ratio": 1.2, "ci_low": 5.0, "ci_high": 0.1}, {"word": NASTY, "metric": NASTY, "blocks": None},
    {"arm_a": NASTY, "arm_b": "\x00\x1b[31mred\ufffe\ud800", "word": None}, {"arm_a": 3, "word": "\u202e"}])
def test_what_strangers_write_is_text_and_nothing_else(tmp_path, verdict):
    for day, word in enumerate("B=B=B", 1):
        record(tmp_path, day, 1.1 + day, word, verdict=verdict if day % 2 else {},
               facts={"cpu_model": NASTY}, summary={"dataset": 3} if day == 5 else {})
    page, _ = built(tmp_path)
    assert "<script>" not in page
    for svg in re.findall(r"<svg viewBox.*?</svg>", page, flags=re.S):
        ET.fromstring(svg)
