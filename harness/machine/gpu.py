"""The one GPU that a run measures on, by UUID: the same for workers and monitors, whatever order each counts in.

Ranks of one arm are shown all of them, and take one each.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

from harness.machine.monitors.nvml import NoGpu, open_nvml
from harness.record.events import MonitorState
from impls.devices import cuda_capability, cuda_driver_fault
from messages import recorded

VISIBLE = "CUDA_VISIBLE_DEVICES"
GIB = 1 << 30
# Less than any arm takes to start: CUDA and its libraries alone take about half of it.
LEAST_FREE_BYTES = GIB


@dataclass(frozen=True)
class Choice:
    """The GPU of a run.

    Attributes:
        uuid: of the GPU or the MIG instance; None where NVML names none.
        fault: why CUDA has none, as NVML says; None where there is one, or where NVML does not answer.
        words: which it is, for people; empty where there is none.
        all: UUIDs of all that CUDA may use and that answer, in its order.
    """

    uuid: str | None = None
    fault: str | None = None
    words: str = ""
    all: tuple[str, ...] = ()


@cache
def chosen(visible: str | None) -> Choice:
    """The first GPU that CUDA may use and that answers.

    Args:
        visible: the value of CUDA_VISIBLE_DEVICES; None when unset.
    """
    monitor = open_nvml(visible)
    try:
        states = monitor.sources()
    finally:
        monitor.close()
    if isinstance(monitor, NoGpu):
        return Choice(fault=states[0].reason)
    first = measured(states)
    uuids = (str(state.static["uuid"]) for state in states if state.available and state.static.get("uuid"))
    return Choice() if first is None else Choice(str(first.static["uuid"]), None, _words(first, states), tuple(uuids))


def measured(states: list[MonitorState]) -> MonitorState | None:
    """Of the GPUs that CUDA may use, in its order, the one that a run takes: the first that answers."""
    return next((state for state in states if state.available and state.static.get("uuid")), None)


def environment(base: Mapping[str, str]) -> dict[str, str]:
    """What makes a process use that GPU and no other: CUDA counts the fastest first, NVML by bus address.

    Args:
        base: the environment that the process gets otherwise.
    """
    uuid = chosen(base.get(VISIBLE)).uuid
    return {} if uuid is None else {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", VISIBLE: uuid}


def environment_of_ranks(base: Mapping[str, str], abroad: bool) -> dict[str, str]:
    """What makes ranks see all GPUs in one order; on other hosts, whose GPUs nobody knows here, those of their own."""
    uuids = () if abroad else chosen(base.get(VISIBLE)).all
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", **({VISIBLE: ",".join(uuids)} if uuids else {})}


def count() -> int:
    """How many GPUs a run may use here."""
    return len(chosen(os.environ.get(VISIBLE)).all)


def fault() -> str | None:
    """Why nothing can use CUDA here, found without a framework, as it is recorded; None when a GPU has room."""
    visible = os.environ.get(VISIBLE)
    choice = chosen(visible)
    if choice.fault is not None:
        return choice.fault
    with _laid_over(environment(os.environ)):
        return cuda_driver_fault() or _full(choice)


def capability() -> tuple[int, int] | None:
    """Compute capability of the GPU that a run takes, as (major, minor); None where the driver does not tell."""
    with _laid_over(environment(os.environ)):
        return cuda_capability()


def words() -> str:
    """Which GPU a run takes, for people; empty where NVML names none."""
    return chosen(os.environ.get(VISIBLE)).words


def _words(first: MonitorState, states: list[MonitorState]) -> str:
    """Which it is, and that there are others of another kind where there are."""
    name = first.static.get("name") or recorded("a GPU without a name")
    others = [state for state in states if state.available and state.static.get("name") != first.static.get("name")]
    if not others:
        return f"{first.source} ({name})"
    return recorded("{gpu} ({name}), not {others}: the first by bus address, {variable} chooses",
                    gpu=first.source, name=name, variable=VISIBLE,
                    others=", not ".join(f"{state.source} ({state.static.get('name')})" for state in others))


def _full(choice: Choice) -> str | None:
    """That others have taken the GPU's memory; None where there is room, or where it cannot be read."""
    if choice.uuid is None:
        return None
    monitor = open_nvml(choice.uuid)
    try:
        state, sample = next(iter(monitor.sources())), next(iter(monitor.sample()), None)
    finally:
        monitor.close()
    total, used = state.static.get("memory_total_bytes"), sample.values.get("memory_used_bytes") if sample else None
    if not isinstance(total, int) or used is None or total - used >= LEAST_FREE_BYTES:
        return None
    return recorded("{gpu} has only {free} of {total} GiB of memory free: end the programs that hold the rest "
                    "(nvidia-smi lists them), or choose another GPU by {variable}", gpu=choice.words,
                    free=f"{(total - used) / GIB:.2f}", total=f"{total / GIB:.1f}", variable=VISIBLE)


@contextmanager
def _laid_over(variables: Mapping[str, str]) -> Iterator[None]:
    """These variables for as long as the block: the driver reads them once, when it starts."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
