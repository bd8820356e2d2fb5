"""The one GPU that a run measures on, by UUID: the same for workers and monitors, whatever order each counts in."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from harness.machine.monitors.nvml import open_nvml


@cache
def chosen(visible: str | None) -> str | None:
    """UUID of the first GPU that CUDA may use and that answers; None where NVML names none (a MIG slice, no driver).

    Args:
        visible: the value of CUDA_VISIBLE_DEVICES; None when unset.
    """
    monitor = open_nvml(visible)
    try:
        uuids = [state.static.get("uuid") for state in monitor.sources() if state.available]
    finally:
        monitor.close()
    return next((uuid for uuid in uuids if isinstance(uuid, str)), None)


def environment(base: Mapping[str, str]) -> dict[str, str]:
    """What makes a process use that GPU and no other: CUDA counts the fastest first, NVML by bus address.

    Args:
        base: the environment that the process gets otherwise.
    """
    uuid = chosen(base.get("CUDA_VISIBLE_DEVICES"))
    return {} if uuid is None else {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": uuid}
