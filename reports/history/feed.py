"""`feed.xml`: an Atom feed (RFC 4287) of every change of a verdict from one run to the next."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import pairwise
from xml.etree import ElementTree as ET

from messages import marked, tell
from reports.history.series import Point, Series, word_of

ATOM = "http://www.w3.org/2005/Atom"
FEED = "feed.xml"
# Names of ours are told from those of others by this, for good.
OURS = uuid.uuid5(uuid.NAMESPACE_URL, "urn:ddpm-bench:feed")
# Where there is nothing to date a feed by.
BEGINNING = datetime(1970, 1, 1, tzinfo=timezone.utc)
TITLE = marked("Verdicts that changed")
AUTHOR = "ddpm-bench"
CHANGE = marked("{title}: {before} to {after}")
SUMMARY = marked(
    "{now}, time {a} / time {b} = {ratio} over {blocks}. Before, in {run}: {then}, {earlier}. {setting}; "
    "{machine}."
)


@dataclass(frozen=True)
class Change:
    """A run whose word differs from that of the run before it, in one row."""

    row: Series
    before: Point
    after: Point


def changes(rows: Sequence[Series]) -> list[Change]:
    """All changes, newest first."""
    found = [Change(row, before, after) for row in rows for before, after in pairwise(row.points)
             if before.verdict.word != after.verdict.word]
    return sorted(found, key=lambda one: (one.after.when, one.after.run, one.row.key), reverse=True)


def feed(rows: Sequence[Series], runs: Sequence[str]) -> str:
    """The feed.

    Args:
        rows: all comparisons over time.
        runs: the names of all runs, oldest first: the feed is named after the first, wherever its folder moves.
    """
    ET.register_namespace("", ATOM)
    root = ET.Element(f"{{{ATOM}}}feed")
    found = changes(rows)
    times = [point.when for row in rows for point in row.points]
    _text(root, "id", _urn("feed", *runs[:1]))
    _text(root, "title", tell(TITLE))
    _text(root, "updated", _stamp(max(times, default=BEGINNING)))
    _text(ET.SubElement(root, f"{{{ATOM}}}author"), "name", AUTHOR)
    ET.SubElement(root, f"{{{ATOM}}}link", rel="self", href=FEED)
    ET.SubElement(root, f"{{{ATOM}}}link", rel="alternate", href="index.html")
    for change in found:
        _entry(ET.SubElement(root, f"{{{ATOM}}}entry"), change)
    ET.indent(root)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ET.tostring(root, encoding="unicode")}\n'  # English


def _entry(entry: ET.Element, change: Change) -> None:
    row, before, after = change.row, change.before, change.after
    _text(entry, "id", _urn(row.key, before.run, after.run))
    _text(entry, "title", tell(CHANGE, title=row.title, before=before.verdict.word, after=after.verdict.word))
    _text(entry, "updated", _stamp(after.when))
    # An entry without content must have such a link; the index lists every run.
    ET.SubElement(entry, f"{{{ATOM}}}link", rel="alternate", href=after.link or "index.html")
    _text(entry, "summary", tell(
        SUMMARY, now=word_of(after, row), a=row.a, b=row.b, ratio=after.told, blocks=after.rests_on, run=before.run,
        then=word_of(before, row), earlier=before.told, setting=row.setting, machine=row.machine))


def _text(above: ET.Element, name: str, text: str) -> None:
    ET.SubElement(above, f"{{{ATOM}}}{name}").text = text


def _urn(*names: str) -> str:
    # A folder may have a name that is no Unicode.
    return uuid.uuid5(OURS, "\n".join(names).encode(errors="backslashreplace").decode()).urn


def _stamp(when: datetime) -> str:
    return when.replace(tzinfo=None).isoformat(timespec="seconds") + "Z"
