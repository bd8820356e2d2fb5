"""Whether something else ran while a block was measured: the waiting arm, or other programs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from harness.machine.counters import DIRTY, Counters, read_counters, taken
from harness.record.events import ArmSlot, BlockState, Finding
from harness.record.findings import BLOCKS_DISTURBED
from impls.devices import usable_cpus
from messages import recorded

MOST_WAITING_SHARE = 0.02
# Of all CPUs: a desktop's background noise stays well below, and alternation spreads what there is over both arms.
MOST_FOREIGN_SHARE = 0.20


class Disturbance:
    """Gathers what speaks against one block.

    Args:
        names: arm names by slot.
        cpu_ns: CPU time used by a process.
        busy_ns: time that the CPUs of this machine were busy, all of them added up.
        counters: what the kernel took away.
    """

    def __init__(self, names: Mapping[ArmSlot, str], cpu_ns: Callable[[int], int | None],
                 busy_ns: Callable[[], int | None], clock: Callable[[], int] = time.monotonic_ns,
                 counters: Callable[[], Counters] = read_counters) -> None:
        self._names, self._cpu_ns, self._busy_ns, self._clock = names, cpu_ns, busy_ns, clock
        self._waiting: Counter[ArmSlot] = Counter()
        self._waited: Counter[ArmSlot] = Counter()
        self._foreign_ns = self._wall_ns = 0
        self._counters = counters
        self._taken: list[str] = []

    def begin(self, pids: Sequence[int]) -> None:
        """The measured windows begin; `pids` are the measured processes."""
        self._pids = pids
        self._before = (self._counters(), self._busy_ns(), self._own_ns(), self._clock())

    def end(self) -> None:
        """The measured windows are over."""
        counted, _, _, _ = self._before
        found = taken(counted, self._counters())
        self._taken += [finding.message for finding in found if finding.code in DIRTY]
        foreign_ns, wall_ns = self._since()
        self._foreign_ns += foreign_ns
        self._wall_ns += wall_ns

    def others_share(self) -> float | None:
        """The share of the CPUs that other programs have used since the windows began; None where it is unknown."""
        foreign_ns, wall_ns = self._since()
        return foreign_ns / (wall_ns * usable_cpus()) if wall_ns else None

    def waited(self, used_ns: Mapping[ArmSlot, int], window_ns: int) -> None:
        """CPU time that the waiting arms used during a window of another."""
        for slot, used in used_ns.items():
            self._waiting[slot] += used
            self._waited[slot] += window_ns

    def reasons(self) -> list[str]:
        """One sentence per disturbance; none for a clean block."""
        found = []
        for slot, window_ns in self._waited.items():
            share = self._waiting[slot] / window_ns if window_ns else 0.0
            if share > MOST_WAITING_SHARE:
                found.append(recorded("{arm} used {share} of a CPU while it should have waited (at most {most})",
                                      arm=self._names[slot], share=f"{share:.1%}", most=f"{MOST_WAITING_SHARE:.0%}"))
        available = self._wall_ns * usable_cpus()
        share = self._foreign_ns / available if available else 0.0
        if share > MOST_FOREIGN_SHARE:
            found.append(recorded("other programs used {share} of the CPUs during the windows (at most {most})",
                                  share=f"{share:.0%}", most=f"{MOST_FOREIGN_SHARE:.0%}"))
        return [*found, *self._taken]

    def _since(self) -> tuple[int, int]:
        """CPU time of other programs since the windows began, and how long that is; (0, 0) where it cannot be read."""
        busy, (_, busy_before, own_before, began) = self._busy_ns(), self._before
        if busy is None or busy_before is None:
            return 0, 0
        return max(0, busy - busy_before - (self._own_ns() - own_before)), self._clock() - began

    def _own_ns(self) -> int:
        """CPU time of the measured processes and of this one; a process that has gone counts as idle."""
        return time.process_time_ns() + sum(self._cpu_ns(pid) or 0 for pid in self._pids)


def disturbed_blocks(states: Sequence[BlockState]) -> list[Finding]:
    """One finding for all disturbed blocks of a run, so that a reader need not look for them."""
    dirty = [state for state in states if state.dirty]
    if not dirty:
        return []
    repeats = sum(state.repeats is not None for state in states)
    return [BLOCKS_DISTURBED.found(recorded(
        "{disturbed} of {all} blocks were disturbed ({repeats} of all are repeats), such as block {block}: {reasons}",
        disturbed=len(dirty), all=len(states), repeats=repeats, block=dirty[0].block,
        reasons="; ".join(dirty[0].reasons)))]
