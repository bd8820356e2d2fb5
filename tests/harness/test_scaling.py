"""Suite `scaling` with scripted ranks: what it measures, refuses, judges, predicts, resumes and shows."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import scripted_backend

from harness import cli
from harness.machine.disturbance import Disturbance
from harness.options import BenchConfig, parse
from harness.plan import turn_order
from harness.processes.ranks import launch_of, require_room
from harness.record.events import (
    BlockState,
    Case,
    EnvironmentRecorded,
    Estimate,
    Finding,
    GroupStarted,
    Predicted,
    Scaled,
    ScaledWindow,
    ScalingGate,
    Verdict,
)
from harness.record.run import RecordedRun, finished_blocks, unfinished_blocks
from harness.record.writer import RunWriter
from harness.run.runner import Runner
from harness.stats.collective import Network
from harness.suites.scaling import gate
from harness.suites.scaling.cells import Cell, cells, nodes_of, sizes
from harness.suites.scaling.judge import Measured
from harness.suites.scaling.part import MATCHED_STEPS
from impls.errors import UsageError
from impls.registry import parse_arm
from reports import report, terminal
from reports.suites.registry import whole
from reports.suites.scaling import tables
from reports.suites.scaling.chapter import card, prediction

IMAGE_NS, AVERAGING_NS, LATENCY_NS, BYTES_PER_NS = 10_000_000, 5_000_000, 20_000, 0.5


@pytest.fixture
def ranks(lab, monkeypatch):
    """Runs of up to four ranks: an image costs 10 ms, twice as much in the slow arm, averaging 5 ms."""
    for module in ("harness.processes.ranks", "harness.options"):
        monkeypatch.setattr(f"{module}.usable_cpus", lambda: 8)
    lab.script(lambda options, process, step: 8 * IMAGE_NS * (2 if "slow" in options else 1))
    monkeypatch.setattr(scripted_backend, "spend_rank", lambda options, rank, images, averages: lab.clock.sleep(
        (images * IMAGE_NS * (2 if "slow" in options else 1) * (1.5 if "leaky" in options and rank == 1 else 1)
         + averages * AVERAGING_NS) / 1e9))
    monkeypatch.setattr(scripted_backend, "spend_sum", lambda size, floats: lab.clock.sleep(
        2 * (size - 1) * (LATENCY_NS + 4 * floats / (size * BYTES_PER_NS)) / 1e9))

    def run(**options):
        return lab.run(**{"suite": "scaling", "arms": "scripted", "ranks": 4, "batch_size": 8, "pairs": 2, **options})

    return run


def test_sizes_are_powers_of_two_and_the_most():
    assert sizes(1) == (1,) and sizes(2) == (1, 2) and sizes(6) == (1, 2, 4, 6) and sizes(8) == (1, 2, 4, 8)
    assert [cell.name for cell in cells(4)] == ["strong-2", "strong-4", "weak-2", "weak-4"]
    assert [cell.images(8) for cell in cells(4)] == [8, 8, 16, 32]


def test_few_ranks_take_few_hosts_and_divide_among_them():
    assert [nodes_of(size, 12, 4) for size in sizes(12)] == [1, 1, 2, 4, 4]
    assert [nodes_of(size, 15, 5) for size in (8, 15)] == [4, 5]
    assert nodes_of(8, 9, 3) is None


def test_speed_up_communication_and_the_network_are_found_as_they_were_scripted(ranks):
    end, run = ranks()
    assert end.exit_code == 0, run.of(Case)
    found = {(one.mode, one.size): one for one in run.of(Scaled)}
    assert sorted(found) == [("strong", 2), ("strong", 4), ("weak", 2), ("weak", 4)]
    assert found["strong", 4].speedup.value == pytest.approx(80 / 25) and found["strong", 4].blocks == 4
    assert found["strong", 4].efficiency.value == pytest.approx(0.8)
    assert found["strong", 4].exposed.value == pytest.approx(5 / 25)
    assert found["weak", 4].speedup.value == pytest.approx(4 * 80 / 85)
    assert found["weak", 2].images == 16 and found["weak", 2].step_ns == pytest.approx(85e6)
    assert found["strong", 2].straggler == pytest.approx(1)
    (network,) = run.of(Predicted)
    assert network.fitted_at == 4 and network.latency_ns == pytest.approx(LATENCY_NS, rel=1e-3)
    assert network.bandwidth_bytes_per_s == pytest.approx(BYTES_PER_NS * 1e9, rel=1e-3)
    assert (network.fixed_ns, network.divided_ns) == (pytest.approx(0, abs=1), pytest.approx(80e6))
    assert max(point.size for point in network.points) == 8192
    assert max(point.size for point in network.points if point.mode == "strong") == 8
    assert all(gate.passed for gate in run.of(ScalingGate)) and len(run.of(ScalingGate)) == 2
    windows = [one for one in run.of(ScaledWindow) if (one.mode, one.size, one.block) == ("strong", 4, 0)]
    assert [one.averaged for one in windows] == [False, True, True, False] and len(windows[0].rank_ns) == 4


def test_what_stays_of_a_step_and_what_ranks_take_from_one_another_are_in_the_prediction(lab, ranks, monkeypatch):
    fixed_ns, crowded = 30_000_000, 1.25
    lab.script(lambda options, process, step: fixed_ns + 8 * IMAGE_NS)
    monkeypatch.setattr(scripted_backend, "spend_rank", lambda options, rank, images, averages: lab.clock.sleep(
        (crowded * (fixed_ns + images * IMAGE_NS) + averages * AVERAGING_NS) / 1e9))
    _, run = ranks(ranks=4)
    (found,) = run.of(Predicted)
    assert found.fixed_ns == pytest.approx(crowded * fixed_ns)
    assert found.divided_ns == pytest.approx(crowded * 8 * IMAGE_NS)
    network = Network(found.latency_ns, found.bandwidth_bytes_per_s / 1e9)
    points = {(point.mode, point.size): point for point in found.points}
    for size in (2, 4, 8):
        wanted = crowded * (fixed_ns + 8 * IMAGE_NS / size) + network.sum_ns(size, found.gradient_bytes)
        assert points["strong", size].step_ns == pytest.approx(wanted)
        assert points["strong", size].speedup == pytest.approx((fixed_ns + 8 * IMAGE_NS) / wanted)
    assert points["weak", 4].step_ns == pytest.approx(
        crowded * (fixed_ns + 8 * IMAGE_NS) + network.sum_ns(4, found.gradient_bytes))
    # One rank has nobody beside it.
    assert points["strong", 1] == points["weak", 1].model_copy(update={"mode": "strong"})
    assert (points["strong", 1].step_ns, points["strong", 1].speedup) == (fixed_ns + 8 * IMAGE_NS, 1)
    measured = next(one.speedup.value for one in run.of(Scaled) if (one.mode, one.size) == ("strong", 4))
    assert points["strong", 4].speedup == pytest.approx(measured, rel=0.1)
    page = report.build(run.path).with_suffix(".md").read_text()
    assert "| scripted | 4 ranks | 37.5 ms | 100 ms | " in page and "the part of a step that stays" in page


def test_a_prediction_of_an_earlier_version_is_told_as_it_was_made(ranks):
    _, run = ranks(ranks=2)
    before = replace(run, events=tuple(
        one.model_copy(update={"fixed_ns": None, "divided_ns": None}) if isinstance(one, Predicted) else one
        for one in run.events))
    text, network, constants, _ = prediction(whole(before)).blocks
    assert "one rank's time, divided among the ranks" in text.text and "A sum costs a ring" in network.text
    (row,) = constants.rows
    assert [(cell.text, cell.note) for cell in row[2:4]] == [("n/a", "all of it was divided")] * 2


def test_every_size_begins_as_often_as_the_others(ranks):
    _, run = ranks(ranks=2, pairs=4, blocks=2)
    for block in run.of(BlockState):
        turns = [sorted({(one.position, one.size) for one in run.of(ScaledWindow)
                         if (one.block, one.mode, one.pair) == (block.block, "strong", pair)}) for pair in range(4)]
        sizes_in_turn = [[size for _, size in turn] for turn in turns]
        assert sizes_in_turn == [turn_order((1, 2), block.order_seed, pair) for pair in range(4)]


def test_a_block_that_the_time_limit_leaves_no_room_for_does_not_begin_and_is_measured_later(lab, ranks):
    config = BenchConfig(suite="scaling", arms="scripted", ranks=2, batch_size=8, pairs=2, preset="tiny", device="cpu",
                         time_limit=0.3)
    bench, opening = lab.bench(config)
    assert Runner(bench, opening).run().status == "interrupted"
    cut = bench.writer.run
    assert sorted(finished_blocks(cut)) == [0, 1] and not unfinished_blocks(cut)
    assert [one.message for one in cut.of(Finding)] == ["the time limit of 0.3 min ended the run after 2 blocks"]
    bench.writer.close()
    bench, opening = lab.bench(config.model_copy(update={"time_limit": None}), RunWriter(cut.path, lab.clock))
    assert Runner(bench, lab.going_on(opening, cut)).run().status == "complete"
    assert sorted(finished_blocks(bench.writer.run)) == [0, 1, 2, 3]
    assert all(one.blocks == 4 for one in bench.writer.run.of(Scaled))


def test_a_rank_that_is_slower_is_named(ranks):
    _, run = ranks(arms="scripted:leaky", ranks=2)
    found = next(one for one in run.of(Scaled) if one.mode == "strong")
    assert (found.slowest_rank, found.slowest_host) == (1, "here")
    assert found.straggler == pytest.approx(60 / 50)
    assert "rank 1 on here" in report.build(run.path).with_suffix(".md").read_text()


def test_arms_are_compared_at_every_size_and_the_page_says_what_is_predicted(ranks):
    end, run = ranks(arms="scripted:slow,scripted", ranks=2)
    assert end.exit_code == 0
    words = {verdict.cell: (verdict.word, round(verdict.ratio, 2)) for verdict in run.of(Verdict)}
    assert words == {"strong-1": ("B-faster", 2.0), "strong-2": ("B-faster", round(85 / 45, 2)),
                     "weak-2": ("B-faster", round(165 / 85, 2))}
    assert "scaling: scripted, strong, 2 ranks: 1.78 [1.78, 1.78] times one process, efficiency 89%" in "\n".join(
        terminal.lines(run))
    path = report.build(run.path)
    page = path.with_suffix(".md").read_text()
    assert "a prediction, not a measurement" in page and "scripted trains 1.78 times as fast on 2 ranks" in page
    assert "says nothing about a network between hosts" in page and "strong-2" in page
    figures = {file.name for file in (path.parent / "figures").iterdir()}
    assert {"speed-up.svg", "step.svg"} <= figures
    assert "| scripted, predicted | weak | 2 | " in page and "| scripted | strong | 2 | 1.78 | " in page


def test_communication_that_is_not_told_from_none_keeps_its_sign_and_interval(ranks):
    _, run = ranks(ranks=2)
    one = next(one for one in run.of(Scaled) if one.mode == "strong")
    below = one.model_copy(update={"exposed": Estimate(value=-0.021, ci_low=-0.05, ci_high=0.008)})
    (told,) = [fact for fact in card(whole(run), below).facts if "Communication" in fact]
    assert told == "Communication is \N{MINUS SIGN}2.1 % of a step (\N{MINUS SIGN}5.0 % to 0.80 %)."


@pytest.mark.parametrize("at", [0, 1, 9])
def test_a_loss_that_is_no_number_is_not_hidden_by_those_that_are(at):
    part, losses = SimpleNamespace(name="scaling"), [1.0 + 1e-7 * step for step in range(MATCHED_STEPS)]
    found = gate.result(part, "A", 2, 8, [*losses[:at], math.nan, *losses[at + 1:]], losses, [])
    assert not found.passed and found.reason == "losses are no numbers"
    assert (tables.largest(found).text, tables.largest(found).note) == ("n/a", "a loss is no number")
    far = gate.result(part, "A", 2, 8, [*losses[:-1], 2.0], losses, [])
    assert far.reason == "losses differ from one process's by up to 1, over 1e-05"
    few = gate.result(part, "A", 2, 8, losses[:at], losses, [])
    assert few.reason == f"losses are missing: {at} and {MATCHED_STEPS} of {MATCHED_STEPS}"


def test_ranks_that_hold_other_weights_are_not_timed_into_a_speed_up(ranks):
    end, run = ranks(arms="scripted:wrong", ranks=2)
    (gate,) = run.of(ScalingGate)
    assert not gate.passed and "ranks hold different params" in gate.reason
    assert all(one.speedup is None and "do not train as one process" in one.reason for one in run.of(Scaled))
    assert end.exit_code == 0 and "is not known" in report.build(run.path).with_suffix(".md").read_text()
    assert not run.of(Predicted)


def test_a_block_in_which_a_group_failed_is_done_again(lab, ranks, monkeypatch):
    tried = []

    def spend(options, rank, images, averages):
        tried.append(rank)
        lab.clock.sleep(0.05)
        if len(tried) == 400:
            raise RuntimeError("the network is down")

    monkeypatch.setattr(scripted_backend, "spend_rank", spend)
    end, run = ranks(ranks=2)
    failed = [case for case in run.of(Case) if case.status == "failed"]
    assert end.exit_code == 1 and [case.case_id for case in failed] == [f"block-{failed[0].block}-A-2"]
    assert not run.of(Finding) and len(run.of(BlockState)) == 5
    assert {group.size for group in run.of(GroupStarted)} == {1, 2}


def test_a_run_goes_on_without_the_block_that_failed_where_another_stands_in_for_it(lab, ranks, monkeypatch):
    """And measures it again where none does: the second time the network holds."""
    down, last = [True], []

    def spend(options, rank, images, averages):
        lab.clock.sleep(0.05)
        logs = {log.stem.rpartition("-")[2] for log in lab.tmp_path.glob("results/*/logs/*-ranks-block-*")}
        if "1" in logs and down and down.pop():
            raise RuntimeError("the network is down")
        if last and last[0] in logs:
            raise KeyboardInterrupt

    def going_on(status):
        cut = bench.writer.run
        bench.writer.close()
        again, job = lab.bench(config, RunWriter(cut.path, lab.clock))
        assert Runner(again, lab.going_on(job, cut)).run().status == status
        return again

    monkeypatch.setattr(scripted_backend, "spend_rank", spend)
    config = BenchConfig(suite="scaling", arms="scripted", ranks=2, batch_size=8, pairs=2, preset="tiny", device="cpu")
    bench, opening = lab.bench(config)
    assert Runner(bench, opening).run().status == "failed"
    assert sorted(finished_blocks(bench.writer.run)) == [0, 2, 3, 4]
    processes = len(lab.sessions.handles)
    bench = going_on("complete")
    assert len(lab.sessions.handles) == processes
    assert sorted(state.block for state in bench.writer.run.of(BlockState)) == [0, 2, 3, 4]
    assert all(one.blocks == 4 for one in bench.writer.run.of(Scaled))

    down.append(True)
    shutil.rmtree(lab.tmp_path / "results")
    bench, opening = lab.bench(config)
    last.append("2")
    lab.cut_off(bench, opening)
    last.clear()
    assert unfinished_blocks(bench.writer.run) == [1, 2]
    bench = going_on("complete")
    assert sorted(state.block for state in bench.writer.run.of(BlockState)) == [0, 1, 2, 3]
    assert len(bench.writer.run.of(ScaledWindow)) == 4 * 2 * 2 * 3


def test_a_group_that_failed_in_two_blocks_in_a_row_is_left_out_of_all_others(lab, ranks, monkeypatch):
    tried = []

    def spend(options, rank, images, averages):
        lab.clock.sleep(0.05)
        tried.append(rank)
        if tried.count(1) > MATCHED_STEPS:
            raise RuntimeError("the network is down")

    monkeypatch.setattr(scripted_backend, "spend_rank", spend)
    _, run = ranks(ranks=2, blocks=5)
    assert [case.case_id for case in run.of(Case) if case.status == "failed"] == ["block-0-A-2", "block-1-A-2"]
    assert len(run.of(BlockState)) == 7


def test_nothing_is_measured_once_every_group_has_failed_in_two_blocks(lab, ranks, monkeypatch):
    def fail(*args):
        lab.clock.sleep(0.05)
        if bench_is_measuring():
            raise RuntimeError("the network is down")

    def bench_is_measuring():
        return any("ranks-block" in log.name for log in lab.tmp_path.glob("results/*/logs/*"))

    monkeypatch.setattr(scripted_backend, "spend_rank", fail)
    monkeypatch.setattr(scripted_backend, "spend", fail)
    end, run = ranks(ranks=2)
    assert end.exit_code == 1 and [state.block for state in run.of(BlockState)] == [0, 1]
    assert [case.case_id for case in run.of(Case) if case.status == "failed"] == [
        f"block-{block}-A-{size}" for block in (0, 1) for size in (1, 2)]


def test_blocks_of_another_machine_are_told_apart():
    facts = [EnvironmentRecorded(facts={"cpu": name}, starred=["cpu"]) for name in ("one", "other")]
    lines = [ScaledWindow(part="scaling", arm=arm, block=block, mode="strong", size=1, averaged=True, pair=0,
                          position=0, steps=1, images=8, start_ns=1, time_ns=1 + block, rank_ns=[1 + block])
             for block in range(2) for arm in ("A", "B")]
    states = [BlockState(block=block, order_seed=0, dirty=False, reasons=[]) for block in range(2)]
    run = RecordedRun(Path("run"), (*lines, facts[0], states[0], facts[1], states[1]))
    cell = Cell("strong", 1)
    assert Measured(run).ratios(("A", cell, True), ("B", cell, True)).machine == (0, 1)


def test_only_processes_of_this_host_count_as_its_own(ranks, monkeypatch):
    told = []
    begin = Disturbance.begin
    monkeypatch.setattr(Disturbance, "begin", lambda self, pids: (told.append(len(pids)), begin(self, pids)))
    ranks(ranks=2, blocks=2)
    # The scripted group is on a host called "here", its one process on this one.
    assert told == [1, 1, 1, 1]
    monkeypatch.setattr("harness.processes.session.socket.gethostname", lambda: "here")
    ranks(ranks=2, blocks=2)
    assert told[4:] == [3, 3, 3, 3]


def test_blocks_that_were_disturbed_are_told(lab, ranks):
    lab.busy_ns = lambda: 2 * lab.clock.ns
    _, run = ranks(ranks=2)
    assert [one.code for one in run.of(Finding)] == ["blocks-disturbed"]
    assert all(one.dirty for one in run.of(BlockState))


def test_every_suite_takes_what_it_does_anyway():
    for words in (["--launcher", "local"], ["--ranks", "1"], ["--nodes", "1"], ["--launcher", "auto"]):
        parse(["--suite", "train-speed", *words])
    with pytest.raises(UsageError, match="--launcher: suite train-speed runs every arm in one process"):
        parse(["--suite", "train-speed", "--launcher", "torchrun"])


@pytest.mark.parametrize(("words", "said"), [
    ([], "--suite scaling: say up to how many ranks: --ranks "),
    (["--ranks", "1"], "--ranks 1: suite scaling compares one rank with more: choose at least 2"),
    (["--ranks", "9"], "--ranks 9: this process may use 8 processors: choose at most 8 ranks"),
    (["--ranks", "4", "--threads", "3"], "choose at most 2 ranks of 3 threads, or fewer --threads"),
    (["--ranks", "4", "--batch-size", "6"], "--batch-size 6: does not divide among 4 ranks: choose 8 "),
    (["--ranks", "2", "--launcher", "local"], "--launcher local: starts one process an arm"),
    (["--ranks", "2", "--launcher", "mpirun"], "--launcher mpirun: does not fit pytorch: choose torchrun or slurm"),
    (["--ranks", "2", "--nodes", "2"], "--nodes 2: torchrun starts the ranks of its own host alone"),
    (["--ranks", "3", "--nodes", "2"], "--ranks 3: does not divide among --nodes 2: choose 2 or 4"),
    (["--ranks", "2", "--nodes", "4", "--launcher", "slurm"], "does not divide among --nodes 4: choose 4"),
    (["--ranks", "9", "--nodes", "3", "--batch-size", "72", "--launcher", "slurm"],
     "--ranks 9: 8 ranks, which are measured before, do not divide among --nodes 3 as those do"),
    (["--ranks", "2", "--launcher", "slurm"], "ranks of pytorch are started by srun, which is not on PATH"),
    (["--ranks", "2", "--loader", "native"], "--loader native: exists in one process only"),
    (["--ranks", "2", "--epochs", "1"], "--epochs: suite scaling runs none"),
    (["--ranks", "2", "--suite", "train-speed"], "--ranks: suite train-speed runs every arm in one process"),
])
def test_wrong_options_are_refused_in_one_line_before_any_work(words, said, capsys, monkeypatch):
    for module in ("harness.processes.ranks", "harness.options"):
        monkeypatch.setattr(f"{module}.usable_cpus", lambda: 8)
    monkeypatch.setattr("harness.processes.ranks.shutil.which", lambda program: None)
    suite = [] if "--suite" in words else ["--suite", "scaling"]
    assert cli.main([*suite, "--arms", "pytorch", "--device", "cpu", *words]) == 2
    told = capsys.readouterr().err.strip()
    assert said in told and "\n" not in told


def test_jittor_has_64_ranks_at_most_and_mpirun_is_not_for_root(monkeypatch):
    monkeypatch.setattr("harness.processes.ranks.shutil.which", lambda program: program)
    jittor = parse_arm("jittor:onednn")
    with pytest.raises(UsageError, match="--ranks 65: jittor:onednn can have 64 at most"):
        launch_of(jittor, "auto", 65)
    monkeypatch.setattr("harness.processes.ranks.os.geteuid", lambda: 0)
    allowed = ("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM")
    for name in allowed:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UsageError, match="mpirun refuses to run as root"):
        launch_of(jittor, "auto", 2)
    for name in allowed:
        monkeypatch.setenv(name, "1")
    command = launch_of(jittor, "slurm", 4, 2).command("python3", {})
    assert command[0] == "srun" and {"--nodes=2", "--ntasks=4", "--ntasks-per-node=2", "--mpi=pmix"} <= set(command)
    assert command[-3:] == ["python3", "-m", "harness.worker"]
    words = launch_of(jittor, "auto", 4, 2).command("python3", {"OMP_NUM_THREADS": "1"})
    assert "--npernode 2 -x OMP_NUM_THREADS python3" in " ".join(words)


def test_more_ranks_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr("harness.machine.gpu.count", lambda: 2)
    require_room(2, 1, 8, "cuda")
    with pytest.raises(UsageError, match="--ranks 4: one GPU for each, and 2 here: choose at most 2"):
        require_room(4, 1, 1, "cuda")


def test_the_runner_itself_is_no_rank(capsys, monkeypatch):
    for name, value in {"RUN_ID": "x"}.items():
        monkeypatch.setenv(f"TORCHELASTIC_{name}", value)
    for name, value in {"RANK": 1, "WORLD_SIZE": 2, "LOCAL_RANK": 1, "LOCAL_WORLD_SIZE": 2}.items():
        monkeypatch.setenv(name, str(value))
    assert cli.main(["--suite", "parity", "--device", "cpu"]) == 2
    assert "torchrun started 2 of these: start one" in capsys.readouterr().err
