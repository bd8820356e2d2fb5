"""Training steps, or network calls, under PyTorch's profiler: which kernels they launch, in which phase."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable
from statistics import median

from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile, record_function

from impls.backend import Mark
from impls.recipe.profile import Kernel, Profile, Span
from messages import recorded

MARK = "phase:"
# Operators that compute nothing.
IDLE = frozenset(f"aten::{name}" for name in (
    "empty", "empty_like", "empty_strided", "as_strided", "as_strided_", "view", "view_as", "_unsafe_view", "reshape",
    "_reshape_alias", "resize_", "transpose", "t", "permute", "expand", "expand_as", "slice", "select", "narrow",
    "split", "chunk", "unbind", "squeeze", "unsqueeze", "flatten", "unflatten", "detach", "detach_", "alias",
    "lift_fresh", "to", "contiguous", "resolve_conj", "resolve_neg", "result_type", "item", "_local_scalar_dense",
    "_nnpack_available", "broadcast_tensors", "set_", "requires_grad_"))
COMPUTING = ("aten::", "mkldnn::", "onednn::", "quantized::")
# Phases that consist of the network's operators.
NETWORK = ("forward", "backward", "network")
CLASSES = (("convolution", "conv"), ("attention", "bmm|softmax|scaled_dot|flash|efficient_attention"),
           ("norm", "norm|silu"), ("linear", "addmm|::mm|::linear"))


def profiled(step_in_phases: Callable[[Mark], None], steps: int, cuda: bool, compiled: bool) -> Profile:
    """See `impls.backend.Profiling`: steps that are cut into their phases, so that each kernel's phase is known."""
    def mark(name: str) -> None:
        with record_function(MARK + name):
            pass

    devices = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    with profile(activities=devices) as found:
        mark("")
        for _ in range(steps):
            step_in_phases(mark)
    note = (recorded("kernels as CUPTI saw them on the device") if cuda else
            recorded("on the CPU a kernel is an operator that mostly spends its time itself, its dispatch included"))
    if compiled:
        note = recorded("{note}; loops that torch.compile made are not told by name, and on the CPU not at all",
                        note=note)
    return read(found.events() or [], note)


def read(events: Iterable[FunctionEvent], note: str) -> Profile:
    """Kernels and spans of the profiler's events: those of the device where there are any, else those of the host."""
    host: list[FunctionEvent] = []
    device: list[FunctionEvent] = []
    marks: list[tuple[float, str]] = []
    for event in events:
        if event.name.startswith(MARK):
            if event.device_type.name == "CPU":
                marks.append((event.time_range.start, event.name.removeprefix(MARK)))
        elif event.device_type.name == "CPU":
            host.append(event)
        elif not event.is_user_annotation:
            # What the host marks spans its kernels on the device once more: "Optimizer.step#Adam.step".
            device.append(event)
    marks.sort()
    # The device's kernels are named by nobody who knows the operator: those that launched them do. One product serves
    # linear layers and attention.
    launchers: dict[str, set[str | None]] = {}
    for event in host:
        for kernel in event.kernels:
            launchers.setdefault(kernel.name, set()).add(class_of(event.name))
    launched = {name: kinds.pop() for name, kinds in launchers.items() if len(kinds) == 1}
    kernels = [(event, 1e3 * event.time_range.elapsed_us(), launched.get(event.name)) for event in device] or [
        (event, own_ns, class_of(event.name)) for event, own_ns in _host_kernels(host)]
    ends = [at for at, _ in marks]
    sums: dict[tuple[str, str, str | None], tuple[int, float]] = {}
    for event, spent_ns, kind in kernels:
        phase = marks[min(bisect_left(ends, event.time_range.start), len(marks) - 1)][1]
        key = event.name, phase, kind if phase in NETWORK else None
        count, ns = sums.get(key, (0, 0.0))
        sums[key] = count + 1, ns + spent_ns
    spans = [Span(name, "phases", 1e3 * start, 1e3 * (end - start))
             for (start, _), (end, name) in zip(marks, marks[1:], strict=False)]
    for track, of in (("operators", host), ("device", device)):
        spans += [Span(event.name, track, 1e3 * event.time_range.start, 1e3 * event.time_range.elapsed_us())
                  for event in of]
    return Profile("torch.profiler", [Kernel(*key, *found) for key, found in sums.items()], spans, note)


def class_of(name: str) -> str | None:
    """The class of operators that a kernel's name tells; None where it tells none."""
    return next((kind for kind, pattern in CLASSES if re.search(pattern, name)), None)


def _host_kernels(events: Iterable[FunctionEvent]) -> Iterable[tuple[FunctionEvent, float]]:
    """Operators that compute, and what each spends itself: those that by name mostly leave it to others are left out.

    One event cannot tell: a thread that was interrupted makes a caller look like a kernel, or a kernel like a caller.
    """
    computing = [(event, _own_us(event)) for event in events if _computes(event)]
    shares: dict[str, list[float]] = {}
    for event, own_us in computing:
        shares.setdefault(event.name, []).append(own_us / (event.time_range.elapsed_us() or 1.0))
    callers = {name for name, found in shares.items() if median(found) < 0.5}
    return ((event, 1e3 * own_us) for event, own_us in computing if event.name not in callers)


def _own_us(event: FunctionEvent) -> float:
    return float(event.time_range.elapsed_us() - sum(_called_us(child) for child in event.cpu_children))


def _called_us(event: FunctionEvent) -> float:
    """What an operator's nearest descendants that compute take, itself included."""
    if _computes(event):
        return float(event.time_range.elapsed_us())
    return sum(_called_us(child) for child in event.cpu_children)


def _computes(event: FunctionEvent) -> bool:
    """Whether an operator is more than a view, an allocation, or the engine that calls others."""
    return event.name.startswith(COMPUTING) and event.name not in IDLE
