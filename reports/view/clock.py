"""A run that a restart of the machine cut in two: its stamps begin anew, so a time axis can show one part only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise, takewhile

from harness.record.events import Event, MonitorState, Resumed, RunStarted, Window
from messages import marked
from reports.view.run import RunView, view

# Threads stamp their lines before they write them, so that stamps step back a little at any time.
OUT_OF_ORDER_NS = 1_000_000_000


def boots(events: Sequence[Event]) -> list[Sequence[Event]]:
    """The events between restarts of the machine, oldest first: all of them in one where it was not restarted.

    The monotonic clock restarts with the machine, so a resumed run whose stamps lie below earlier ones tells of it.
    One that is resumed so late after a restart that its stamps lie above them looks like a long pause.
    """
    starts = [0]
    for place, event in enumerate(events):
        if not isinstance(event, Resumed):
            continue
        earlier = [before.t_ns for before in events[starts[-1] : place]]
        if 0 < event.t_ns < max(earlier, default=0) - OUT_OF_ORDER_NS:
            # The monitors begin before the line that says that the run goes on.
            starts.append(place - len(list(takewhile(event.t_ns.__ge__, reversed(earlier)))))
    return [events[first:after] for first, after in pairwise([*starts, len(events)])]


def of_one_boot(seen: RunView) -> RunView:
    """The run as far as one time axis can show it: its longest part without a restart, of those with windows.

    The run itself where the machine was not restarted.
    """
    # Only a run that was resumed can have seen a restart.
    parts = boots(seen.run.events) if seen.run.of(Resumed) else [seen.run.events]
    if len(parts) == 1:
        return seen
    number = max(range(len(parts)), key=lambda i: (any(isinstance(e, Window) for e in parts[i]), span_ns(parts[i])))
    heads = [e for part in parts[:number] for e in part if isinstance(e, RunStarted | MonitorState)]
    stamps = [event.t_ns for event in parts[number] if event.t_ns]
    part = view(replace(seen.run, events=(*heads, *parts[number])), seen.unit, seen, seen.alone)
    return replace(
        part,
        t0_ns=min(stamps, default=0),
        origin=seen.origin if number == 0 else marked("the run went on after a restart"),
        restarts=len(parts) - 1,
    )


def span_ns(events: Sequence[Event]) -> int:
    """From the first stamp to the last."""
    stamps = [event.t_ns for event in events if event.t_ns]
    return max(stamps, default=0) - min(stamps, default=0)
