"""Two pairs in one run on a GPU: strict float32 and TF32, each judged for itself, the first a gate before the other."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from test_recovery import dies_at, resume

from harness import cli
from harness.options import AUTO, BenchConfig, parse
from harness.progress import Progress
from harness.protocol import training
from harness.record.events import Case, ParityResult, Quality, SampleAgreement, Verdict, WarmUp, Window, WorkerStarted
from harness.record.run import read_run
from harness.record.summary import summary
from harness.run import resolve as resolving
from harness.run.resolve import default_arms, resolve
from harness.run.runner import Runner
from harness.suites.parity.tolerances import TOLERANCES
from reports import index, terminal
from reports.chapters.measured.starts import break_even
from reports.export.rows import tables
from reports.report import title_names
from reports.suites.parity import gate
from reports.suites.registry import chapters_of, whole

ARMS = "scripted,scripted:slow,scripted:tf32,scripted:slow+tf32"
PAIRS = {("A", "B"): "float32", ("C", "D"): "tf32"}
GPU = {"device": "cuda", "blocks": 6, "pairs": 2, "epochs": 0}


def four(lab, arms=ARMS, **options):
    return lab.run(**{**GPU, "arms": arms, **options})


def words(run, metric="step time"):
    return {(one.arm_a, one.arm_b): (one.word, one.reason) for one in run.of(Verdict) if one.metric == metric}


def test_each_pair_has_its_parity_its_verdicts_and_its_words(lab):
    end, run = four(lab)
    assert end.status == "complete"
    parity = {(one.arm_a, one.arm_b): one for one in run.of(ParityResult)}
    assert {pair: one.precision for pair, one in parity.items()} == PAIRS
    assert all(one.passed and one.tolerances == TOLERANCES[one.precision].of("tiny") and one.control_rel_diff
               for one in parity.values())
    found = run.of(Verdict)
    assert [(one.metric, one.arm_a, one.arm_b, one.precision, one.word) for one in found] == [
        (metric, *pair, precision, "A-faster")
        for metric in ("step time", "free-running step time") for pair, precision in PAIRS.items()]
    lines = terminal.lines(run)
    assert lines[0].startswith(
        "scripted is 1.10 times as fast as scripted:slow in step time, strict float32 [A-faster]")
    assert lines[1].startswith(
        "scripted:tf32 is 1.10 times as fast as scripted:slow+tf32 in step time, TF32 [A-faster]")
    listed = index.verdict_lines(summary(run).verdicts)
    assert len(listed) == 4 and [line.partition(" [")[0] for line in listed] == [
        line.partition(" [")[0] for line in lines[:4]]
    assert [row.precision for row in tables(run)["verdicts"]] == ["float32", "tf32"] * 2
    ((chapter, seen),) = chapters_of(whole(run))
    assert title_names(seen) == "scripted against scripted:slow, scripted:tf32 against scripted:slow+tf32"
    headlines = ["".join(part.text for part in card.headline) for card in chapter.cards(seen)]
    assert [text.rpartition(", ")[2] for text in headlines] == ["strict float32", "TF32"] * 2
    facts = [" ".join(card.facts) for card in chapter.cards(seen)]
    assert ["What is compared is TF32" in text for text in facts] == [False, True, False, False]
    captions = [gate.parity(seen, one).caption for one in run.of(ParityResult)]
    assert ["tolerances of TF32: passed" in caption for caption in captions] == [False, True]
    assert [row[0].text for row in break_even(seen).rows] == [
        "scripted against scripted:slow", "scripted:tf32 against scripted:slow+tf32"]
    assert all(seen.peak(arm).arm in pair for pair in PAIRS for arm in seen.arms if arm.slot in pair)


def test_only_the_arms_that_are_compared_are_in_memory_together(lab):
    _, run = four(lab)
    for block in range(6):
        spans = {slot: [(w.start_ns, w.end_ns) for w in run.of(Window) if (w.block, w.arm) == (block, slot)]
                 + [(w.start_ns[0], w.start_ns[-1]) for w in run.of(WarmUp) if (w.block, w.arm) == (block, slot)]
                 for slot in "ABCD"}
        reach = [(min(s for slot in pair for s, _ in spans[slot]), max(e for slot in pair for _, e in spans[slot]))
                 for pair in PAIRS]
        assert all(one[1] <= other[0] for one, other in pairwise(sorted(reach)))
    assert max(map(len, lab.telemetry.watched)) == 2


def test_where_the_strict_pair_disagrees_nothing_may_be_compared(lab):
    _, run = four(lab, "scripted,scripted:wrong,scripted:tf32,scripted:slow+tf32")
    assert [one.passed for one in run.of(ParityResult)] == [False, True]
    found = words(run)
    assert {word for word, _ in found.values()} == {"not-comparable"}
    assert found["A", "B"][1].startswith("parity: forward differs")
    assert found["C", "D"][1].startswith("parity of scripted and scripted:wrong: forward differs")


def test_where_the_coarser_pair_disagrees_only_that_pair_may_not_be_compared(lab):
    _, run = four(lab, "scripted,scripted:slow,scripted:tf32,scripted:tf32+warped")
    assert [one.passed for one in run.of(ParityResult)] == [True, False]
    found = words(run)
    assert found["A", "B"] == ("A-faster", None)
    assert found["C", "D"][0] == "not-comparable" and "allowed in TF32" in found["C", "D"][1]


@pytest.mark.parametrize(("number", "failed", "skipped", "without"), [
    (1, "parity-A", "parity-B", {("A", "B"), ("C", "D")}), (3, "parity-C", "parity-D", {("C", "D")})])
def test_a_first_arm_that_fails_in_parity_is_measured_again(lab, number, failed, skipped, without):
    config = BenchConfig(preset="tiny", arms=ARMS, **GPU)
    lab.sessions.spy = dies_at(training.Gradients, number)
    bench, opening = lab.bench(config)
    bench.writer.finish(Runner(bench, opening).run())
    bench.writer.close()
    run = read_run(bench.writer.path)
    status = {case.case_id: case.status for case in run.of(Case)}
    assert (status[failed], status[skipped]) == ("failed", "skipped")
    assert {pair for pair, (word, _) in words(run).items() if word == "not-comparable"} == without
    end, _, after = resume(lab, config, bench.writer.path)
    assert end.status == "complete" and {word for word, _ in words(after).values()} == {"A-faster"}


def test_every_suite_measures_and_judges_both_pairs(lab):
    _, run = four(lab, suite="sample-speed", steps="5")
    assert {(one.arm_a, one.arm_b): (one.precision, one.passed) for one in run.of(SampleAgreement)} == {
        pair: (precision, True) for pair, precision in PAIRS.items()}
    assert words(run, "sampling time") == {pair: ("A-faster", None) for pair in PAIRS}
    line = index.verdict_lines(summary(run).verdicts)[-1]
    assert line.startswith("sampling time, TF32 by cell, time scripted:tf32 / time scripted:slow+tf32: ddim-5: ")
    end, run = four(lab, suite="parity")
    assert end.status == "complete" and {(one.arm_a, one.arm_b) for one in run.of(ParityResult)} == set(PAIRS)
    end, run = four(lab, selfcheck=True)
    assert end.status == "complete" and max(map(len, lab.telemetry.watched)) == 4
    assert set(words(run)) == set(PAIRS)
    assert set(words(run, "step time (self-check)")) == {("A", "E"), ("B", "F"), ("C", "G"), ("D", "H")}


def test_all_suites_in_one_run_take_both_pairs(quality):
    end, run = quality(suite="all", arms=ARMS, **GPU)
    assert end.status == "complete" and list(run.parts) == ["training", "why", "sampling", "quality"]
    assert words(run) == words(run, "sampling time, geometric mean over cells") == {
        pair: ("A-faster", None) for pair in PAIRS}
    assert {one.arm for one in run.of(Quality)} == set("ABCD")


def test_on_the_cpu_nothing_is_said_of_formats(lab):
    _, run = lab.run(arms="scripted,scripted:slow", blocks=6, pairs=2, epochs=0)
    assert all(one.precision is None for one in run.of(Verdict)) and "float32" not in "".join(terminal.lines(run))
    assert "precision" not in json.loads(summary(run).text())["verdicts"][0]
    assert {one.info["device"] for one in run.of(WorkerStarted)} == {"cpu"}


@pytest.fixture
def gpu(monkeypatch):
    """Pretend to have a GPU that both frameworks can use; the test says of which capability."""
    def pretend(capability):
        monkeypatch.setattr(resolving, "_cuda_fault", lambda *a: None)
        for name, value in (("fault", None), ("words", ""), ("capability", capability)):
            monkeypatch.setattr(resolving.gpu, name, lambda value=value: value)

    return pretend


@pytest.mark.parametrize(("capability", "arms", "said"), [
    ((9, 0), "pytorch,jittor,pytorch:tf32,jittor:tf32", ""), ((8, 0), "pytorch,jittor,pytorch:tf32,jittor:tf32", ""),
    ((7, 5), "pytorch,jittor", "; only the strict float32 pair: TF32 needs compute capability 8.0, that of this GPU is "
                               "7.5"),
    (None, "pytorch,jittor", "; only the strict float32 pair: TF32 needs compute capability 8.0, that of this GPU "
                             "cannot be read")])
def test_the_default_on_cuda_is_two_pairs_where_the_gpu_has_tf32(gpu, capability, arms, said, capsys):
    gpu(capability)
    job = resolve(*parse(["--suite", "all"]), [], Progress(quiet=True))
    assert job.options.arms == arms and job.plans[0].device == "cuda" and job.recipe.preset == "ddpm"
    assert job.device_reason == "every arm can use it" + said
    assert cli.main(["--dry-run"]) == 0
    out = capsys.readouterr().out
    assert f"device: every arm can use it{said}\n" in out
    assert ("compare C with D (TF32)" in out) == (not said)


def test_the_second_pair_is_left_out_where_the_environment_forbids_tf32(gpu, monkeypatch):
    gpu((9, 0))
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    job = resolve(*parse([]), [], Progress(quiet=True))
    assert job.options.arms == "pytorch,jittor" and "NVIDIA_TF32_OVERRIDE=0" in job.device_reason


def test_arms_that_are_named_stay_as_they_are(gpu):
    gpu((9, 0))
    for words in (["--arms", "pytorch,jittor"], ["--device", "cpu"]):
        options = resolve(*parse(words), [], Progress(quiet=True)).options
        assert options.arms == "pytorch,jittor"
    # The same file twice names each arm too: the second pair has none.
    for paths in (("pytorch=a", "jittor=b"), ("pytorch=a", "jittor=a")):
        options, why = default_arms(BenchConfig(model_path=paths, suite="quality"), "cuda")
        assert options.arms == "pytorch,jittor" and "arm by arm" in why
    assert default_arms(BenchConfig(model_path=("a",), suite="quality"), "cuda")[1] is None
    assert default_arms(BenchConfig(), "cpu")[0] == BenchConfig(arms="pytorch,jittor") and BenchConfig().arms == AUTO


def test_nothing_is_prepared_while_another_arm_is_measured(lab):
    """Neither process nor warm-up of any arm begins between the windows of a pair that is measured."""
    _, run = four(lab)
    for block in range(6):
        began = [(one.arm, stamp) for one in run.of(WorkerStarted) if one.block == block
                 for stamp in (one.spawn_ns, one.first_stamp_ns)]
        began += [(one.arm, stamp) for one in run.of(WarmUp) if one.block == block for stamp in one.start_ns]
        for pair in PAIRS:
            windows = [one for one in run.of(Window) if one.block == block and one.arm in pair]
            first, last = min(one.start_ns for one in windows), max(one.end_ns for one in windows)
            assert [slot for slot, stamp in began if first < stamp < last] == []
            assert {slot for slot, stamp in began if stamp < first} >= set(pair)
