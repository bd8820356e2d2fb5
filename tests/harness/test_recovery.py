"""What failed once is measured again by a resumed run, wherever it failed, and nothing else is."""

from __future__ import annotations

from collections import Counter

import pytest

from harness.options import BenchConfig
from harness.protocol import life, sampling, timing, training
from harness.record.events import BlockState, Case, Window
from harness.record.run import read_run
from harness.record.writer import RunWriter
from harness.run.runner import Runner

OPTIONS = {"arms": "scripted,scripted:slow", "blocks": 6, "pairs": 2, "epochs": 0}
SAMPLING = {"suite": "sample-speed", "steps": "5"}


def dies_at(kind, number):
    """A spy that lets the worker die at the n-th command of a kind."""
    seen = Counter()

    def spy(command):
        seen[type(command)] += 1
        if isinstance(command, kind) and seen[kind] == number:
            raise EOFError
    return spy


def resume(lab, config, path):
    bench, opening = lab.bench(config, RunWriter(path))
    before = read_run(path)
    runner = Runner(bench, lab.going_on(opening, before))
    bench.writer.finish(end := runner.run())
    bench.writer.close()
    return end, before, read_run(path)


@pytest.mark.parametrize(("kind", "number", "case_id", "blocks", "options"), [
    (training.Gradients, 1, "parity-A", 6, {}), (training.Gradients, 2, "parity-B", 6, {}),
    (timing.ProveSync, 1, "extras-B", 7, {}), (training.Epochs, 1, "epochs-B", 7, {"epochs": 1}),
    (timing.Free, 1, "block-0-B", 6, {}), (life.Create, 3, "cold-start-B", 6, {"cold_start": True}),
    (sampling.Draw, 1, "samples-A", 6, SAMPLING), (sampling.SpringTrap, 1, "trap-B", 7, SAMPLING)])
def test_what_failed_is_measured_again(lab, kind, number, case_id, blocks, options):
    config = BenchConfig(**{"device": "cpu", "preset": "tiny", **OPTIONS, **options})
    lab.sessions.spy = dies_at(kind, number)
    bench, opening = lab.bench(config)
    runner = Runner(bench, opening)
    bench.writer.finish(runner.run())
    bench.writer.close()
    failed = [case.case_id for case in read_run(bench.writer.path).of(Case) if case.status == "failed"]
    assert case_id in failed
    end, before, after = resume(lab, config, bench.writer.path)
    assert end.status == "complete" and {case.status for case in after.of(Case)} == {"measured"}
    kept = {state.block for state in before.of(BlockState)} - {case.block for case in before.of(Case)
                                                               if case.status == "failed"}
    for kind_of in (Window, BlockState):
        old, new = ([e for e in run.of(kind_of) if e.block in kept] for run in (before, after))
        assert old == new
    assert len(after.of(BlockState)) == blocks
    windows = Counter((w.block, w.arm) for w in after.of(Window) if w.kind == "stepwise")
    assert set(windows.values()) == {2} and len(windows) == 2 * blocks
