"""Energy of a window, from the devices' counters before and after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from harness.bench import Bench
from harness.protocol import timing
from harness.record.events import ArmSlot, Energy

MIN_WINDOW_S = 5.0


@contextmanager
def metered(bench: Bench, slot: ArmSlot, block: int, steps: int) -> Iterator[Callable[[timing.Span], None]]:
    """Record what each device used between entering and leaving; the block hands over the window that was measured."""
    before = bench.telemetry.energy_mj()
    spans: list[timing.Span] = []
    yield spans.append
    after = bench.telemetry.energy_mj()
    for span in spans:
        short = span.end_ns - span.start_ns < MIN_WINDOW_S * 1e9
        for source, start_mj in before.items():
            end_mj = after.get(source)
            used = end_mj - start_mj if start_mj is not None and end_mj is not None else None
            doubt = "window under 5 s: unreliable on A100 and H100" if short else None
            bench.writer.append(Energy(
                source=source, arm=slot, block=block, start_ns=span.start_ns, end_ns=span.end_ns, steps=steps,
                energy_mj=used, reason="the device's energy counter cannot be read" if used is None else doubt))
