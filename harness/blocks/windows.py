"""Measured windows: the arms' single steps in turn, the CPU time of those who wait, and the energy of a window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from harness.blocks.pace import Pace
from harness.blocks.warmup import WARMUP_MIN_STEPS
from harness.protocol import timing
from harness.record.events import ArmSlot, Energy, Window
from messages import recorded

if TYPE_CHECKING:
    from harness.blocks.block import Block
    from harness.plan import Comparison
    from harness.protocol.life import Command

WINDOW_S = 0.1
# libgomp's threads spin for a few milliseconds after their last task; only then is the other arm alone.
HAND_OVER_S = 0.02
# A window whose energy can be told from its device's counter.
METERED_S = 5.0


def alternate_steps(block: Block) -> None:
    """Measure every arm's steps, synchronised one by one, in alternating windows."""
    pace = Pace(block)
    for pair in range(block.bench.plan.pairs):
        block.turn(pair, partial(_stepwise, block))
        pace.look(pair + 1)
        block.bench.progress.advance()


def _stepwise(block: Block, slot: ArmSlot, pair: int, position: int) -> None:
    bench, arm = block.bench, block.live[slot]
    steps = block.part.window_steps or arm.steps_for(WINDOW_S)
    others = {other: started.session.pid for other, started in block.live.items() if other != slot}
    bench.sleep(HAND_OVER_S)
    before = {other: bench.cpu_ns(pid) for other, pid in others.items()}
    times = arm.session.ask(timing.Stepwise(steps=steps), arm.limit_s(steps))
    after = {other: bench.cpu_ns(pid) for other, pid in others.items()}
    # Of the processes that could be read both times.
    used = {other: max(0, end - start) for other, end in after.items()
            if end is not None and (start := before[other]) is not None}
    block.disturbance.waited(used, times.end_ns - times.start_ns[0])
    block.spent.setdefault(slot, {})[pair] = sum(times.step_ns) / steps
    block.append(Window(kind="stepwise", arm=slot, block=block.number, pair=pair, position=position,
                        start_ns=times.start_ns[0], end_ns=times.end_ns, steps=steps, step_ns=times.step_ns,
                        others_cpu_ns=used))


def shifts(comparisons: Sequence[Comparison], spent: Mapping[ArmSlot, Mapping[int, float]]) -> dict[Comparison, str]:
    """Comparisons whose ratio settled on another level during the windows: some arm was not warm, whatever it said.

    The paired ratio is searched, not the times, because noise of the machine cancels in it. It falls where the first
    arm does, and rises where the second one does.

    Args:
        comparisons: whose times.
        spent: nanoseconds of a step in every window, by arm and pair.
    """
    from harness.stats.steady import detect

    found = {}
    for comparison in comparisons:
        a, b = spent.get(comparison.a, {}), spent.get(comparison.b, {})
        ratios = [a[pair] / b[pair] for pair in sorted(a.keys() & b.keys())]
        state = detect(ratios) if len(ratios) >= 2 * WARMUP_MIN_STEPS else None
        if state is not None and state.steady_from:
            found[comparison] = recorded("the ratio of {a} to {b} settled only at pair {pair} of {pairs}",
                                         a=comparison.a, b=comparison.b, pair=state.steady_from, pairs=len(ratios))
    return found


def metered(block: Block, slot: ArmSlot, command: Command[timing.Span], limit_s: float) -> timing.Span:
    """Have an arm measure a window as soon as it is alone, and record what each device used meanwhile.

    Raises:
        WorkerFailedError: the arm cannot go on.
    """
    block.bench.sleep(HAND_OVER_S)
    before = block.bench.telemetry.energy_mj()
    span = block.live[slot].session.ask(command, limit_s)
    after = block.bench.telemetry.energy_mj()
    short = span.end_ns - span.start_ns < METERED_S * 1e9
    doubt = recorded("window under 5 s: unreliable on A100 and H100") if short else None
    for source, start_mj in before.items():
        end_mj = after.get(source)
        used = end_mj - start_mj if start_mj is not None and end_mj is not None else None
        block.append(Energy(
            source=source, arm=slot, block=block.number, start_ns=span.start_ns, end_ns=span.end_ns, steps=span.steps,
            energy_mj=used, reason=recorded("the device's energy counter cannot be read") if used is None else doubt))
    return span
