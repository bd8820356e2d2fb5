"""Disturbed blocks in whole runs: kept, repeated at the end and no more than a quarter extra, and what they decide."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.machine.counters import Counters
from harness.options import BenchConfig
from harness.protocol import timing
from harness.record.events import BlockState, Finding, Verdict
from harness.record.run import read_run
from harness.record.writer import RunWriter
from harness.run.runner import Runner

SHORT = {"arms": "scripted,scripted:slow", "pairs": 4, "epochs": 0}


def states(run):
    return [(state.block, state.dirty, state.repeats) for state in run.of(BlockState)]


def step_time(run):
    return next(verdict for verdict in run.of(Verdict) if verdict.metric == "step time")


def heat(lab, *dirty):
    """These blocks, in the order of measuring, are disturbed."""
    lab.telemetry.reasons = [["heat"] if number in dirty else [] for number in range(40)]


@pytest.mark.parametrize(("blocks", "extra"), [(6, 1), (8, 2), (11, 2), (12, 3)])
def test_repeats_come_last_and_are_a_quarter_at_most(lab, blocks, extra):
    heat(lab, *range(blocks))
    _, run = lab.run(**{**SHORT, "blocks": blocks})
    found = states(run)
    assert [block for block, _, _ in found] == list(range(blocks + extra))
    assert [repeats for _, _, repeats in found] == [None] * blocks + list(range(extra)), "the first ones, at the end"
    assert extra <= blocks / 4 < extra + 1
    assert step_time(run).blocks == blocks + extra, "the disturbed ones stay"


def test_only_disturbed_blocks_are_repeated_and_a_repeat_is_not(lab):
    heat(lab, 2, 5, 8)
    _, run = lab.run(**{**SHORT, "blocks": 8})
    assert [one for one in states(run) if one[1] or one[2] is not None] == [
        (2, True, None), (5, True, None), (8, True, 2), (9, False, 5)]
    (finding,) = [finding for finding in run.of(Finding) if finding.code == "blocks-disturbed"]
    assert finding.severity == "warning" and "3 of 10 blocks" in finding.message and "2 of all" in finding.message
    assert "block 2: heat" in finding.message


def test_a_clean_run_repeats_nothing(lab):
    _, run = lab.run(**{**SHORT, "blocks": 6})
    assert states(run) == [(number, False, None) for number in range(6)]
    assert not [finding for finding in run.of(Finding) if finding.code == "blocks-disturbed"]


@pytest.mark.parametrize(("slowed", "word", "reason"), [(1.0, "A-faster", None), (0.5, "inconclusive", "machine")])
def test_a_verdict_that_hangs_on_disturbed_blocks_is_withdrawn(lab, slowed, word, reason):
    """The first two of six blocks are disturbed; slow is a tenth slower, and there it may be much faster."""
    started, start = [], lab.sessions.start
    lab.sessions.start = lambda slot, arm, log, *rest: (started.append(log.name), start(slot, arm, log, *rest))[1]

    def step_ns(options, process, step):
        hit = started[process].endswith(("block-0.log", "block-1.log"))
        return 100e6 * ((slowed if hit else 1) * 1.1 if "slow" in options else 1)

    lab.script(step_ns)
    heat(lab, 0, 1)
    _, run = lab.run(**{**SHORT, "blocks": 6})
    verdict = step_time(run)
    assert (verdict.word, verdict.reason, verdict.blocks) == (word, reason, 7)
    if reason:
        for words in ("2 of 7 blocks were disturbed", "without them 'A-faster'"):
            assert words in verdict.next_action


def test_a_resumed_run_counts_the_repeats_it_has(lab):
    heat(lab, *range(8))
    _, whole = lab.run(**{**SHORT, "blocks": 8})
    journal = whole.path / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    cut = next(i for i, line in enumerate(lines) if b'"type":"block"' in line and b'"block":8,' in line)
    journal.write_bytes(b"".join(lines[: cut + 1]))
    config = BenchConfig(**{"device": "cpu", "preset": "tiny", **SHORT, "blocks": 8})
    bench, opening = lab.bench(config, RunWriter(whole.path, lab.clock))
    Runner(bench, lab.going_on(opening, read_run(whole.path))).run()
    run = read_run(whole.path)
    assert [(block, repeats) for block, _, repeats in states(run)][-2:] == [(8, 0), (9, 1)]
    assert len([finding for finding in run.of(Finding) if finding.code == "blocks-disturbed"]) == 1


def test_what_the_kernel_takes_in_the_windows_makes_the_block_dirty_and_is_a_finding(lab):
    """Stolen in the third block alone."""
    seconds = 0.0

    def spy(command):
        nonlocal seconds
        stepwise = isinstance(command, timing.Stepwise) and any("block-2" in name for name in names[-2:])
        seconds += 60.0 if stepwise else 0.0
        now = lab.clock.seconds()
        lab.counters = Counters(monotonic_s=now, raw_s=now, boot_s=now, wall_s=now, processors=2, stolen_s=seconds)

    names, start = [], lab.sessions.start
    lab.sessions.start = lambda slot, arm, log, *rest: (names.append(log.name), start(slot, arm, log, *rest))[1]
    lab.sessions.spy = spy
    now = lab.clock.seconds()
    lab.counters = replace(lab.counters, monotonic_s=now, raw_s=now, boot_s=now, wall_s=now, stolen_s=0.0)
    _, run = lab.run(**{**SHORT, "blocks": 6})
    assert [(block, repeats) for block, dirty, repeats in states(run) if dirty or repeats is not None] == [
        (2, None), (6, 2)]
    (state,) = [state for state in run.of(BlockState) if state.dirty]
    assert "the hypervisor gave" in state.reasons[0]
    assert [finding.code for finding in run.of(Finding) if finding.code == "cpu-stolen"] == ["cpu-stolen"]
