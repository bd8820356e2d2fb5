"""What a report costs as its run grows; `python tests/reports/test_report_growth.py [STEPS]` prints it."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import synthetic

from harness.record.run import read_run


class Long(synthetic.Maker):
    """Samples of telemetry that say nothing of who computed: looking that up takes as long as all steps together."""

    def spend(self, slot: str, ns: int, cores: float) -> None:
        self.now += ns


def run_of(folder: Path, blocks: int, pairs: int) -> Path:
    """A run of two arms with so many steps of each in every block."""
    scenario = synthetic.Scenario(blocks=blocks, pairs=pairs, step_ms=(10, 20), findings=synthetic.FINDINGS)
    return synthetic.write_events(folder, Long(scenario).make)


def loads_s(run: Path) -> float:
    """CPU time of `json.loads` alone on the lines of a journal."""
    lines = (run / "journal.jsonl").read_bytes().splitlines()
    begun = time.process_time()
    for line in lines:
        json.loads(line)
    return time.process_time() - begun


def reading_s(run: Path) -> float:
    """CPU time of reading it as a report does."""
    begun = time.process_time()
    read_run(run)
    return time.process_time() - begun


def report_s(run: Path) -> float:
    """CPU time of `python -m reports build`."""
    def spent() -> float:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return children.ru_utime + children.ru_stime

    begun = spent()
    subprocess.run([sys.executable, "-m", "reports", "build", str(run)], check=True, cwd=Path(__file__).parents[2],
                   stdout=subprocess.DEVNULL)
    return spent() - begun


def test_reading_a_journal_takes_at_most_four_times_what_json_takes(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", 2, 2000)
    read_run(run)
    # In turns, and the best of many: what else the machine does can only lengthen either.
    turns = [(reading_s(run), loads_s(run)) for _ in range(8)]
    reading, loads = map(min, zip(*turns, strict=True))
    assert reading < 4 * loads


def main(steps: int) -> None:
    """Print what an ordinary run, one of so many steps, and runs of up to 200 blocks cost."""
    with tempfile.TemporaryDirectory() as folder:
        ordinary = report_s(run_of(Path(folder) / "ordinary", 8, 40))
        print(f"report of 8 blocks of 40 pairs: {ordinary:.2f} s of CPU time", flush=True)
        long = run_of(Path(folder) / "long", 8, steps // 16)
        loads, reading, report = loads_s(long), reading_s(long), report_s(long)
        page = (long / "report.html").stat().st_size / 1e6
        print(f"report of {steps} steps: {report:.2f} s, of which reading {reading:.2f}: "
              f"{(report - reading) / ordinary:.2f} times the ordinary one beside it", flush=True)
        print(f"reading takes {reading / loads:.2f} times json.loads ({loads:.2f} s); the page has {page:.2f} MB")
        counts = (8, 56, 104, 152, 200)
        costs = [report_s(run_of(Path(folder) / f"blocks-{blocks}", blocks, 40)) for blocks in counts]
        halves = [np.polyfit(counts[part], costs[part], 1)[0] * 1e3 for part in (slice(3), slice(2, 5))]
        print(f"blocks: {', '.join(f'{blocks} {cost:.2f} s' for blocks, cost in zip(counts, costs, strict=True))}; "
              f"one more costs {halves[0]:.1f} ms up to {counts[2]}, {halves[1]:.1f} ms from there")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
