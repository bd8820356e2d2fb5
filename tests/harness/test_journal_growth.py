"""What recording a block costs as the journal grows; `python tests/harness/test_journal_growth.py` prints the slope."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np

from harness.record.events import BlockState, Sample, Window
from harness.record.writer import RunWriter


def costs_ms(blocks: int) -> tuple[list[float], list[float]]:
    """CPU time of every block's lines, and of the summary that is written after it."""
    lines, summaries = [], []
    with tempfile.TemporaryDirectory() as folder:
        writer = RunWriter.create(Path(folder), "train-speed")
        for block in range(blocks):
            begun = time.process_time()
            for pair in range(40):
                for position, arm in enumerate(("A", "B")):
                    writer.append(Window(kind="stepwise", arm=arm, block=block, pair=pair, position=position,
                                         start_ns=1, end_ns=2, steps=1, step_ns=[1]))
                writer.append(Sample(source="host", values={"cpu_percent": 1.0}))
            writer.append(BlockState(block=block, order_seed=0, dirty=False))
            written = time.process_time()
            writer.summarise()
            lines.append((written - begun) * 1e3)
            summaries.append((time.process_time() - written) * 1e3)
        writer.close()
    return lines, summaries


def test_a_late_block_costs_what_an_early_one_does() -> None:
    for costs in costs_ms(80):
        assert np.median(costs[60:]) < 4 * np.median(costs[:20])


if __name__ == "__main__":
    for name, costs in zip(("lines", "summary"), costs_ms(200), strict=True):
        slope = np.polyfit(range(200), costs, 1)[0]
        print(f"{name}: {np.median(costs):.2f} ms a block, {slope:+.4f} ms more with every block before it")
