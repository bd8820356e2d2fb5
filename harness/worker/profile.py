"""Steps under an arm's own profiler: sums for the journal, and a trace for whoever wants to look."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable
from pathlib import Path

from harness.protocol import training
from impls.backend import Stepper
from impls.recipe.profile import Kernel, Profile

LONGEST = 20


def profile(stepper: Stepper, command: training.Profile) -> training.ProfileSums:
    """Take the steps and write the trace; an empty answer where the arm has no profiler."""
    offered: Callable[[int], Profile] | None = getattr(stepper, "profile", None)
    if offered is None:
        return training.ProfileSums(tool=None, note="", by_class=[], longest=[])
    found = offered(command.steps)
    write_trace(found, command.arm, Path(command.output))
    by_class: dict[tuple[str, str | None], tuple[int, float]] = {}
    for kernel in found.kernels:
        count, ns = by_class.get(key := (kernel.phase, kernel.operator_class), (0, 0.0))
        by_class[key] = count + kernel.count, ns + kernel.ns
    longest = sorted(found.kernels, key=lambda kernel: -kernel.ns)[:LONGEST]
    return training.ProfileSums(
        tool=found.tool, note=found.note, longest=list(map(_said, longest)),
        by_class=[training.Kernels(name="", phase=phase, operator_class=kind, count=count, ns=ns)
                  for (phase, kind), (count, ns) in by_class.items()])


def write_trace(found: Profile, arm: str, output: Path) -> None:
    """A gzipped trace in the JSON of Chrome's trace viewer and of Perfetto; sums without spans stand beside them."""
    tracks = list(dict.fromkeys(span.track for span in found.spans))
    begin = min((span.start_ns for span in found.spans), default=0.0)
    events: list[dict[str, object]] = [{"ph": "M", "name": "process_name", "pid": 1, "args": {"name": arm}}]
    events += [{"ph": "M", "name": "thread_name", "pid": 1, "tid": number, "args": {"name": track}}
               for number, track in enumerate(tracks)]
    # Microseconds, as the format has it.
    events += [{"ph": "X", "name": span.name, "pid": 1, "tid": tracks.index(span.track),
                "ts": (span.start_ns - begin) / 1e3, "dur": span.duration_ns / 1e3} for span in found.spans]
    more = {"arm": arm, "tool": found.tool, "note": found.note, "kernels": _listed(found.kernels)}
    output.parent.mkdir(exist_ok=True)
    with gzip.open(output, "wt", encoding="utf-8") as file:
        json.dump({"displayTimeUnit": "ms", "traceEvents": events, "otherData": more}, file)


def _listed(kernels: Iterable[Kernel]) -> list[dict[str, object]]:
    return [_said(kernel).model_dump() for kernel in sorted(kernels, key=lambda kernel: -kernel.ns)]


def _said(kernel: Kernel) -> training.Kernels:
    return training.Kernels(name=kernel.name[:200], phase=kernel.phase, operator_class=kernel.operator_class,
                            count=kernel.count, ns=kernel.ns)
