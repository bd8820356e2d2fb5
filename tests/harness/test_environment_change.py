"""Going on with a run: other options are refused, another environment unless it is accepted, and then it is said."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from harness.cli import main
from harness.judge.verdicts import judge_run
from harness.machine.facts import capture
from harness.options import BenchConfig, parse
from harness.plan import Comparison
from harness.record.events import (
    ArmEntry,
    BlockState,
    Case,
    EnvironmentRecorded,
    Finding,
    ParityResult,
    RunStarted,
    StepCost,
    Verdict,
    Window,
    WorkerStarted,
)
from harness.record.run import RecordedRun, machines, read_run
from harness.record.summary import summary
from harness.record.writer import RunWriter
from harness.run.resume import check_machine, resumption
from harness.run.runner import Runner
from harness.suites.training import Training
from impls.errors import UsageError
from reports.chapters.answer import verdicts
from reports.chapters.evidence import findings as notes
from reports.chapters.evidence import machine as surroundings
from reports.suites.registry import whole
from reports.terminal import sentence

SHORT = {"arms": "scripted,scripted:slow", "blocks": 6, "pairs": 4, "epochs": 0}
STARRED = ["cpu_model", "cpu_logical", "python"]
HERE = EnvironmentRecorded(facts={"cpu_model": "X", "cpu_logical": 2, "python": "3.11.7", "load1": 0.1},
                           starred=STARRED)
THERE = EnvironmentRecorded(facts={"cpu_model": "Y", "cpu_logical": None, "python": "3.11.7", "load1": 9.0},
                            reasons={"cpu_logical": "not shown"}, starred=STARRED)


def text_of(run):
    """What the report says about the machine, the findings and the verdicts."""
    seen = whole(run)
    return repr((surroundings.environment(seen), notes.notes(seen), verdicts.cards(seen)))


@pytest.fixture
def cut(lab):
    """A run on machine X that was cut off after two of six blocks."""
    bench, opening = lab.bench(BenchConfig(**{"device": "cpu", "preset": "tiny", **SHORT}))
    Runner(bench, replace(opening, environment=HERE)).run()
    bench.writer.close()
    journal = bench.writer.path / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    after = next(i for i, line in enumerate(lines) if b'"type":"block"' in line and b'"block":1,' in line)
    journal.write_bytes(b"".join(lines[: after + 1]))
    return bench.writer.path


def go_on(lab, path, environment, changed, findings=()):
    bench, opening = lab.bench(BenchConfig(**{"device": "cpu", "preset": "tiny", **SHORT}), RunWriter(path, lab.clock))
    resumed = replace(lab.going_on(opening, read_run(path)), environment=environment, changed=changed,
                      findings=findings)
    bench.writer.finish(Runner(bench, resumed).run())
    bench.writer.close()
    return read_run(path)


def test_every_option_that_differs_is_named_in_one_line(cut):
    with pytest.raises(UsageError) as fault:
        resumption(["--resume", str(cut), "--pairs", "5", "--seed", "3", "--arms", "scripted", "--quiet"])
    message = str(fault.value)
    for word in ("--pairs was 4, not 5", "--seed was 0, not 3", "--arms was 'scripted,scripted:slow', not 'scripted'"):
        assert word in message
    assert "--quiet" not in message and "\n" not in message and "leave them out" in message


def test_accepting_another_environment_accepts_no_other_options(cut):
    with pytest.raises(UsageError, match="--pairs was 4, not 5: leave it out"):
        resumption(["--resume", str(cut), "--allow-env-change", "--pairs", "5"])
    assert resumption(["--resume", str(cut), "--allow-env-change"]).options.allow_env_change


def test_the_number_of_threads_is_held_against_the_environment(cut, monkeypatch):
    """Whether it came from the option or from OMP_NUM_THREADS."""
    monkeypatch.setattr("harness.options.usable_cpus", lambda: 2)
    assert resumption(["--resume", str(cut), "--threads", "2"]).options.cpu_threads == 2
    with pytest.raises(UsageError, match="--threads: from 1 to 2"):
        resumption(["--resume", str(cut), "--threads", "3"])
    writer = RunWriter(cut)
    writer.append(capture(threads=1))
    writer.close()
    with pytest.raises(UsageError, match="environment has changed: threads was 1, is 2: start a new run"):
        check_machine(read_run(cut), capture(threads=2))


def test_accepting_another_environment_belongs_to_a_resumed_run(tmp_path, capsys):
    assert main(["--allow-env-change", "--dry-run"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "--allow-env-change: belongs to --resume" in line
    (tmp_path / "options.json").write_text('{"allow_env_change": true}')
    with pytest.raises(UsageError, match="belongs on the command line"):
        parse(["--config", str(tmp_path / "options.json")])


def test_another_environment_is_refused_with_all_its_differences(cut):
    run = read_run(cut)
    assert check_machine(run, HERE) is None
    with pytest.raises(UsageError) as fault:
        check_machine(run, THERE)
    message = str(fault.value)
    assert "cpu_model was 'X', is 'Y'; cpu_logical was 2, is unknown" in message and "--allow-env-change" in message
    assert "python" not in message and "load1" not in message and "\n" not in message


def test_another_version_inside_another_interpreter_is_refused(lab, tmp_path):
    python = tmp_path / "python"
    python.touch(0o700)
    bench, _ = lab.bench(BenchConfig(**{"device": "cpu", "preset": "tiny", **SHORT}))
    for version in ("1.3.9", "1.3.11"):
        python.write_text(f"#!/bin/sh\necho '{{\"python\": \"3.11.7\", \"version_jittor\": \"{version}\"}}'\n")
        now = capture(interpreters={"jittor": str(python)})
        if version == "1.3.9":
            bench.writer.append(now)
            bench.writer.close()
    with pytest.raises(UsageError, match="interpreter_jittor_version_jittor was '1.3.9', is '1.3.11'"):
        check_machine(read_run(bench.writer.path), now)


@pytest.mark.parametrize(("name", "before", "now"), [
    ("threads", 1, 2), ("env_NVIDIA_TF32_OVERRIDE", None, "1"), ("source_sha256", "ab", "cd")])
def test_what_moves_a_step_s_time_must_be_as_before(cut, name, before, now):
    here, there = (capture().model_copy(update={"facts": {**capture().facts, name: value}}) for value in (before, now))
    writer = RunWriter(cut)
    writer.append(here)
    writer.close()
    with pytest.raises(UsageError, match=f"environment has changed: {name} was"):
        check_machine(read_run(cut), there)
    assert machines([here, there])[1:], "accepted, its blocks count as another environment's"


def test_what_changes_without_harm_is_recorded_all_the_same(lab, cut):
    moved = {**HERE.facts, "kernel": "7.0", "load1": 5.0}
    run = go_on(lab, cut, HERE.model_copy(update={"facts": moved}), None)
    assert [one.facts.get("kernel") for one in run.of(EnvironmentRecorded)] == [None, "7.0"]
    assert len(machines(run.events)) == 1 and all(verdict.reason is None for verdict in run.of(Verdict))


def test_a_run_that_went_on_elsewhere_says_so_everywhere(lab, cut):
    changed = check_machine(read_run(cut), THERE, allowed=True)
    assert (changed.code, changed.severity) == ("environment-changed", "warning")
    assert "after 2 finished blocks" in changed.message and "'X', is 'Y'" in changed.message
    run = go_on(lab, cut, THERE, changed)
    assert [f.code for f in run.of(Finding)].count("environment-changed") == 1
    assert [one.blocks for one in machines(run.events)] == [(0, 1), (2, 3, 4, 5)]
    for verdict in run.of(Verdict):
        assert verdict.word == "A-faster", "both environments agree"
        assert verdict.reason == "blocks of different environments: 2 and 4"
        assert verdict.reason in sentence(verdict, run.arms)
    content = summary(run).model_dump()
    assert content["environment"]["facts"]["cpu_model"] == "Y"
    assert [one["facts"]["cpu_model"] for one in content["earlier_environments"]] == ["X"]
    told = text_of(run)
    assert "value, block 0, 1" in told and "value, block 2, 3, 4, 5" in told and "differs" in told
    assert "environment" in told and "2 and 4" in told

    assert check_machine(run, THERE) is None, "the newest environment is the one to match"
    with pytest.raises(UsageError, match="cpu_model was 'Y', is 'X'"):
        check_machine(run, HERE)


def test_the_same_environment_is_recorded_once_and_a_new_finding_is_told(lab, cut):
    busy = Finding(severity="warning", code="high-load", message="the load is 9", advice="wait")
    run = go_on(lab, cut, HERE, None, [busy])
    assert len(run.of(EnvironmentRecorded)) == 1 and summary(run).earlier_environments == []
    assert [f.code for f in run.of(Finding)].count("high-load") == 1
    assert all(verdict.reason is None for verdict in run.of(Verdict))
    assert "value, block" not in text_of(run)


INFO = {"framework": "Scripted", "version": "1", "device": "cpu", "device_name": "x", "device_uuid": None,
        "dtype": "float32", "tf32": False, "threads": 2, "operators": {}, "flags": {}}


def measured(*groups: tuple[EnvironmentRecorded, list[float]]) -> RecordedRun:
    """A run whose arm A takes the given multiples of arm B's time, block by block in each environment."""
    events = [RunStarted(run_id="r", suite="train-speed", started_utc="", command=[], bench={}, experiment={},
                         arms=[ArmEntry(slot=slot, name=slot) for slot in "AB"], config_sha256="", declared={}),
              ParityResult(arm_a="A", arm_b="B", preset="tiny", batch_size=4, parameters_equal=True, forward_max_abs=0,
                           gradient_worst_rel=0, gradient_worst_name="w", adam_max_abs=0, loss_rel_diff=[],
                           control_rel_diff=[], tolerances={}, passed=True)]
    events += [WorkerStarted(arm=slot, block=0, pid=1, spawn_ns=1, import_ns=1, build_ns=1, first_step_ns=1,
                             first_stamp_ns=1, parameter_count=1, info=INFO) for slot in "AB"]
    block = 0
    for environment, ratios in groups:
        events.append(environment)
        for ratio in ratios:
            for slot, ns in (("A", round(1e8 * ratio)), ("B", 100_000_000)):
                events += [Window(kind="stepwise", arm=slot, block=block, pair=pair, position=0, start_ns=0, end_ns=ns,
                                  steps=1, step_ns=[ns]) for pair in range(3)]
                events.append(Case(case_id=f"block-{block}-{slot}", arm=slot, block=block, status="measured"))
            events.append(BlockState(block=block, order_seed=0, dirty=False))
            block += 1
    return RecordedRun(Path("r"), tuple(events))


def step_time(run: RecordedRun) -> Verdict:
    return next(v for v in judge_run(run, [Comparison("A", "B")], Training())
                if isinstance(v, Verdict) and v.metric == "step time")


@pytest.mark.parametrize(("before", "after", "word", "reason"), [
    ([1.1, 1.101, 1.102], [1.1, 1.1, 1.101], "B-faster", "blocks of different environments: 3 and 3"),
    ([1.1, 1.101, 1.102], [1.0, 1.0, 1.001], "inconclusive", "environment; blocks of different environments: 3 and 3"),
    ([0.8, 0.801, 0.802], [1.2, 1.2, 1.201], "inconclusive", "environment; blocks of different environments: 3 and 3"),
    ([1.1] * 5, [1.1], "B-faster", "blocks of different environments: 5 and 1"),
])
def test_environments_that_contradict_each_other_take_the_verdict_away(before, after, word, reason):
    verdict = step_time(measured((HERE, before), (THERE, after)))
    assert (verdict.word, verdict.reason, verdict.blocks) == (word, reason, len(before) + len(after))
    assert (verdict.next_action is not None and "new run" in verdict.next_action) == ("environment;" in reason)


def test_coming_back_to_the_first_environment_makes_two_of_three():
    run = measured((HERE, [1.1, 1.1]), (THERE, [1.1, 1.1]), (HERE, [1.1]))
    assert [one.blocks for one in machines(run.events)] == [(0, 1, 4), (2, 3)]
    assert step_time(run).reason == "blocks of different environments: 3 and 2"
    assert step_time(run).ratio == pytest.approx(1.1)
    assert math.isfinite(step_time(run).ci_low)


def test_a_lost_environment_line_is_a_change_once_blocks_are_there(lab, cut):
    journal = cut / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(line for line in lines if b'"type":"environment"' not in line))
    with pytest.raises(UsageError, match="the line that told of it is lost"):
        check_machine(read_run(cut), HERE)
    changed = check_machine(read_run(cut), HERE, allowed=True)
    run = go_on(lab, cut, HERE, changed)
    assert len(run.of(EnvironmentRecorded)) == 1
    assert [f.code for f in run.of(Finding)].count("environment-changed") == 1


def test_a_run_killed_in_its_first_lines_gets_what_every_journal_begins_with(lab, cut):
    journal = cut / "journal.jsonl"
    journal.write_bytes(journal.read_bytes().splitlines(keepends=True)[0])
    assert check_machine(read_run(cut), HERE) is None
    run = go_on(lab, cut, HERE, None)
    assert len(run.of(EnvironmentRecorded)) == 1 and len(run.of(StepCost)) == 1
