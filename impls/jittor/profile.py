"""Training steps, or network calls, under Jittor's profiler: which kernels they launch, in which phase."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jittor as jt

from impls.backend import Mark
from impls.recipe.profile import Kernel, Profile, Span
from messages import recorded

# A product of batches is a generated loop over four dimensions, that of attention alone.
BATCHED = (r"^«opkey0:broadcast_to«[^«]*«DIM=4«BCAST=\w+«opkey1:broadcast_to«[^«]*«DIM=4«BCAST=\w+«opkey2:binary«"
           r".*?OP:multiply«opkey3:reduce«.*?OP:add«DIM=4")
# Phases that consist of the network's operators.
NETWORK = ("forward", "backward", "network")
# On the CPU one kernel, mkl_matmul, multiplies for linear layers and for attention: its name does not tell which.
CLASSES = (("convolution", "conv"), ("attention", f"batched_matmul|softmax|{BATCHED}"), ("linear", "^cublas_matmul"))


def profiled(step_in_phases: Callable[[Mark], None], steps: int, cuda: bool) -> Profile:
    """See `impls.backend.Profiling`: steps that are cut into their phases, each with sums of its own."""
    rows: list[tuple[str, Sequence[Any]]] = []
    spans: list[Span] = []
    for _ in range(steps):
        sums = _Sums(rows, spans)
        try:
            step_in_phases(sums.mark)
        finally:
            sums.end()
    note = (recorded("Jittor's profiler tells sums, not when a kernel ran: the spans are those of phases, and it waits "
                     "after every operator, so that a step takes longer than without it") if cuda else
            recorded("Jittor's profiler tells sums, not when a kernel ran: the spans are those of phases"))
    return read(rows, spans, note)


class _Sums:
    """Jittor's profiler, switched off and on again at the end of each phase."""

    def __init__(self, rows: list[tuple[str, Sequence[Any]]], spans: list[Span]) -> None:
        self.rows, self.spans = rows, spans
        self.begin()

    def begin(self) -> None:
        """On."""
        self.scope = jt.profile_scope()
        self.report: list[Sequence[Any]] = self.scope.__enter__()
        self.started = time.perf_counter_ns()

    def mark(self, name: str) -> None:
        """The end of a phase."""
        self.spans.append(Span(name, "phases", self.started, time.perf_counter_ns() - self.started))
        self.end()
        # Its first row is the table's head.
        self.rows += [(name, row) for row in self.report[1:]]
        self.begin()

    def end(self) -> None:
        """Off: it must not slow down what is done later."""
        self.scope.__exit__(None, None, None)


def read(rows: Iterable[tuple[str, Sequence[Any]]], spans: Sequence[Span], note: str) -> Profile:
    """Kernels of the profiler's rows: name, file, launches, nanoseconds."""
    sums: dict[tuple[str, str, str | None], tuple[int, float]] = {}
    for phase, row in rows:
        key = _name_of(row[0]), phase, class_of(row[0]) if phase in NETWORK else None
        count, ns = sums.get(key, (0, 0.0))
        sums[key] = count + int(row[2]), ns + float(row[3])
    return Profile("jt.profile_scope", [Kernel(*key, *found) for key, found in sums.items()], spans, note)


def class_of(name: str) -> str | None:
    """The class of operators that a kernel's name tells; None where it tells none."""
    return next((kind for kind, pattern in CLASSES if re.search(pattern, name)), None)


def _name_of(key: str) -> str:
    """The operators of a kernel, of those fused into one loop all."""
    fused = re.findall(r"opkey\d+:(\w+)([^»]*?)(?=«opkey|«JIT|$)", key)
    return " ".join(_operation(name, rest) for name, rest in fused) if fused else key.split("«", maxsplit=1)[0]


def _operation(name: str, rest: str) -> str:
    """What one operator of a loop does: a "binary" says it further on."""
    found = re.search(r"«OP:(\w+)", rest)
    return f"{name}.{found.group(1)}" if found and name == "reduce" else found.group(1) if found else name
