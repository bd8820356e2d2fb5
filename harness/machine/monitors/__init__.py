"""Telemetry from the runner's side: one file per source, one Protocol, a null object where hardware is missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from harness.record.events import MonitorState, Sample


class Monitor(Protocol):
    """What the recorder reads. Every method is called from one thread at a time and never raises for a sick device."""

    def sources(self) -> list[MonitorState]:
        """The state of every source right now; costs nothing, so a recorder may compare it after each sample."""
        ...

    def sample(self) -> list[Sample]:
        """One reading of every available source, stamped with CLOCK_MONOTONIC; unreadable values are None."""
        ...


class NullMonitor:
    """Stands in for a source that this machine does not have: no samples, and the reason why."""

    def __init__(self, source: str, reason: str) -> None:
        self._state = MonitorState(source=source, available=False, reason=reason)

    def sources(self) -> list[MonitorState]:
        """The one unavailable source with its reason."""
        return [self._state]

    def sample(self) -> list[Sample]:
        """Nothing to read."""
        return []

    def energy_mj(self) -> dict[str, int | None]:
        """No device, no counter."""
        return {}

    def set_processes(self, pids: Mapping[str, int]) -> None:
        """No readings to tell apart."""

    def close(self) -> None:
        """Nothing to release."""
