"""A run in parts: which blocks each has, what their merged journal says, and which parts are not one run."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.blocks.block import Block
from harness.cli import main
from harness.merge import journal
from harness.merge.__main__ import main as merge
from harness.options import BenchConfig, parse
from harness.part import Asked
from harness.plan import make_plans
from harness.record.events import BlockState, EnvironmentRecorded, Finding, ParityResult, Peak, Verdict, Window
from harness.record.run import HOST, machines, read_run
from harness.record.writer import RunWriter
from harness.run.runner import Runner
from reports import terminal
from reports.chapters.answer import verdicts
from reports.suites.registry import whole

SHORT = {"arms": "scripted:slow,scripted", "blocks": 6, "pairs": 2, "epochs": 0, "device": "cpu", "preset": "tiny"}
STARRED = ["cpu_model", "cpu_affinity", "version_torch"]


def machine(**facts):
    told = {"cpu_model": "X", "cpu_affinity": "0-1", "cpu_usable": 2, "version_torch": "2.4", HOST: "aaaa", **facts}
    return EnvironmentRecorded(facts=told, starred=STARRED)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 6), st.integers(6, 40))
def test_the_parts_have_all_blocks_once_and_no_number_in_common(of, blocks):
    plans = [make_plans(Asked(BenchConfig(**{**SHORT, "arms": "pytorch,jittor", "blocks": blocks,
                                             "share": f"{number}/{of}"}), "cpu"))[0] for number in range(of)]
    own = [list(plan.block_numbers[: plan.max_blocks]) for plan in plans]
    assert sorted(number for numbers in own for number in numbers) == list(range(blocks))
    assert own == [list(range(number, blocks, of)) for number in range(of)]
    numbers = [number for plan in plans for number in plan.block_numbers]
    assert len(set(numbers)) == len(numbers)
    for plan in plans:
        assert len(plan.block_numbers) > plan.max_blocks + plan.extra_blocks and plan.min_blocks == plan.max_blocks
        assert not plan.looks.blocks
    assert len({str(plan.part.declared(plan)["block_numbers"]) for plan in plans}) == 1


@pytest.fixture
def measured(lab, monkeypatch):
    """Run a part, or with None all of it; times are a function of arm and block alone."""
    now = {"block": -1}
    run = Block.run

    def noted(block):
        now["block"] = block.number
        return run(block)

    monkeypatch.setattr(Block, "run", noted)

    def took_ns(options, process, step):
        slow = "slow" in options
        # Not of the step: how many of them warm a process up hangs on the blocks before.
        apart = np.random.default_rng([now["block"] + 1, slow]).normal(0, 0.03)
        return 1e8 * (1.3 if slow else 1) * np.exp(apart)

    lab.script(took_ns)

    def measure(share, environment=None, **options):
        now["block"] = -1
        bench, opening = lab.bench(BenchConfig(**{**SHORT, **options, "share": share}))
        bench.writer.finish(Runner(bench, replace(opening, environment=environment or machine())).run())
        bench.writer.close()
        return bench.writer.path

    return measure


def merged(tmp_path, capsys, *parts, name="merged"):
    """Exit code, what was said, and the merged run."""
    code = merge([*map(str, parts), "--out", str(tmp_path / name)])
    return code, capsys.readouterr().err, read_run(tmp_path / name) if code == 0 else None


def windows(run):
    return {(one.kind, one.arm, one.block, one.pair, one.position): (one.steps, one.step_ns, one.end_ns - one.start_ns)
            for one in run.of(Window)}


def report(run):
    """The verdicts as terminal and page say them, but for the folder's name."""
    # How long a start takes is each process's own, and that it was merged is told of a merged run alone.
    told = [line.replace(run.path.name, "RUN") for line in terminal.lines(run) if " [" in line]
    return told, verdicts.cards(whole(run))


def test_two_parts_make_the_run_that_one_process_makes(measured, tmp_path, capsys):
    one = read_run(measured(None))
    parts = [measured(f"{number}/2", machine(cpu_affinity=str(number))) for number in (1, 0)]
    second, first = map(read_run, parts)
    assert {state.block for state in first.of(BlockState)} == {0, 2, 4}
    assert {state.block for state in second.of(BlockState)} == {1, 3, 5}
    # What a run measures once stands in the first part alone, what makes arms comparable in each.
    assert first.of(Peak) and not second.of(Peak) and second.of(ParityResult)
    code, _, run = merged(tmp_path, capsys, *parts)
    assert code == 0 and run.status == "complete" and not run.damage
    assert windows(run) == windows(one) and len(windows(one)) > 30
    dumped = [[verdict.model_dump(exclude={"t_ns"}) for verdict in each.of(Verdict)] for each in (run, one)]
    assert dumped[0] == dumped[1] and dumped[0][0]["blocks"] == 6
    assert report(run) == report(one)
    assert {type(event) for event in run.events} - {Finding} == {type(event) for event in one.events} - {Finding}
    assert run.started.declared == one.started.declared and run.started.bench == {**one.started.bench}
    (told,) = [finding.message for finding in run.of(Finding) if finding.code == "merged"]
    assert told.endswith("host aaaa blocks 0, 1, 2, 3, 4, 5") and len(machines(run.events)) == 1
    stamps = [event.t_ns for event in run.events if event.t_ns and not isinstance(event, Verdict)]
    assert max(stamps) > min(stamps) > 0
    # It is a run like any other.
    assert RunWriter(run.path).run == run


def test_the_host_is_a_factor_that_the_report_shows(measured, tmp_path, capsys):
    one = read_run(measured(None))
    parts = [measured(f"{number}/2", machine(**{HOST: name})) for number, name in enumerate(("aaaa", "bbbb"))]
    code, _, run = merged(tmp_path, capsys, *parts)
    ours, theirs = (each.of(Verdict)[0] for each in (run, one))
    assert code == 0 and ours.ratio == theirs.ratio and ours.block_log_ratios == theirs.block_log_ratios
    # Never more certain than without the factor.
    assert ours.ci_low <= theirs.ci_low and ours.ci_high >= theirs.ci_high
    assert ours.reason == "blocks of different environments: 3 and 3"
    assert [environment.blocks for environment in machines(run.events)] == [(0, 2, 4), (1, 3, 5)]
    (told,) = [finding.message for finding in run.of(Finding) if finding.code == "merged"]
    each = [float(np.exp(np.mean(ours.block_log_ratios[number::2]))) for number in (0, 1)]
    assert f"{each[0]:.4f} on aaaa, {each[1]:.4f} on bbbb" in told


def test_a_part_that_is_missing_or_unfinished_is_named_with_what_mends_it(measured, lab, tmp_path, capsys):
    first, third = measured("0/3"), measured("2/3")
    code, said, _ = merged(tmp_path, capsys, first, third)
    alone = "measure it alone (sbatch --array=1 SCRIPT, or run_bench.py with --share 1/3)"
    assert code == 2 and f"part 1 is missing: {alone}" in said
    second = measured("1/3")
    journal = second / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    after = next(i for i, line in enumerate(lines) if b'"type":"block"' in line)
    journal.write_bytes(b"".join(lines[: after + 1]))
    code, said, _ = merged(tmp_path, capsys, first, second, third)
    how = f"go on with run_bench.py --resume {second}"
    assert code == 2 and f"part 1 ({second}) is unfinished after 1 block: {how}" in said
    bench, opening = lab.bench(BenchConfig(**{**SHORT, "share": "1/3"}), RunWriter(second, lab.clock))
    resumed = replace(lab.going_on(opening, read_run(second)), environment=machine())
    bench.writer.finish(Runner(bench, resumed).run())
    bench.writer.close()
    assert {state.block for state in read_run(second).of(BlockState)} == {1, 4}
    assert merged(tmp_path, capsys, first, second, third)[0] == 0
    assert not list(tmp_path.glob(".*.partial"))


def test_parts_that_are_not_alike_are_refused_by_name(measured, tmp_path, capsys):
    first = measured("0/2")
    for name, part, words in (
            ("a", measured("1/2", machine(version_torch="2.5")), 'version_torch is "2.5", not "2.4"'),
            ("b", measured("1/2", machine(cpu_model="Y", cpu_usable=4)),
             'cpu_model is "Y", not "X"; cpu_usable is 4, not 2'),
            ("c", measured("1/2", pairs=5), "--pairs is 5, not 2"),
            ("d", measured("1/2", arms="scripted,scripted:slow"), "arms is "),
            ("e", measured("1/3"), "they belong to different runs"),
            ("f", first, "part 0 is there twice"),
            ("g", measured(None), "is a whole run and no part of one")):
        code, said, _ = merged(tmp_path, capsys, first, part, name=name)
        assert code == 2 and words in said and said.count("\n") == 1, said
        assert not (tmp_path / name).exists()
    second = measured("1/2")
    (tmp_path / "there").mkdir()
    assert "is there already" in merged(tmp_path, capsys, first, second, name="there")[1]
    (tmp_path / "empty").mkdir()
    assert "holds no run: is that part measured?" in merged(tmp_path, capsys, first, tmp_path / "empty")[1]


def test_of_two_that_merge_into_one_folder_at_once_the_first_to_end_has_it(measured, tmp_path, capsys, monkeypatch):
    parts, copy, done = (measured("0/2"), measured("1/2")), journal._copy, []

    def meanwhile(source, into):
        if not done:
            done.append(source)
            with monkeypatch.context() as other:
                other.setattr(os, "getpid", lambda: 2**22 + 1)
                done.append(merged(tmp_path, capsys, *parts)[0])
        copy(source, into)

    monkeypatch.setattr(journal, "_copy", meanwhile)
    code, said, _ = merged(tmp_path, capsys, *parts)
    assert done[1] == 0 and code == 2 and "is there already" in said
    run = read_run(tmp_path / "merged")
    assert run.status == "complete" and not run.damage and not list(tmp_path.glob(".*.partial"))


@pytest.mark.parametrize(("words", "line"), [
    (["--share", "2/2", "--blocks", "6"], "--share 2/2: expected I/N with I from 0 to N - 1"),
    (["--share", "x", "--blocks", "6"], "--share x: expected I/N"),
    (["--share", "0/2"], "--share: give --blocks N, those of all parts together"),
    (["--share", "0/7", "--blocks", "6"], "--share: 6 blocks cannot be shared by 7"),
    (["--share", "0/2", "--blocks", "6", "--suite", "parity"], "--share: suite parity has more than blocks"),
    (["--sbatch", "f", "--share", "0/2", "--blocks", "6"], "--sbatch: its tasks get --share"),
    (["--sbatch", "f", "--tasks", "0", "--blocks", "6"], "--tasks: must be at least 1, got 0"),
])
def test_what_cannot_be_shared_is_one_line(words, line, capsys):
    assert main([*words, "--dry-run"]) == 2
    assert line in capsys.readouterr().err


def test_a_plan_says_which_part_it_is(capsys):
    assert main(["--share", "1/4", "--blocks", "6", "--device", "cpu", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "part 1 of 4, from 0, of a run of 6 blocks\n2 blocks of 40 pairs" in said
    assert "  block 1: " in said and "  block 5: " in said and "  block 3: " not in said
    assert parse(["--share", "1/4", "--blocks", "6"])[0].part_of == (1, 4)
