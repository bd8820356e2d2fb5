"""A run of several parts is told part by part: what belongs to which."""

from pathlib import Path

from test_report_partial import Sketches

from harness.record.events import BlockState, ParityResult, Peak, RunStarted, Window, WorkerStarted
from harness.record.run import RecordedRun
from reports.chapters.evidence.method import looks
from reports.suites.registry import chapters_of, whole


def parts_of(seen):
    return tuple(part for _, part in chapters_of(seen))


def window(block, kind):
    return Window(kind=kind, arm="A", block=block, pair=0, position=0, start_ns=1, end_ns=2, steps=1, step_ns=[],
                  cell="ddim-5" if kind == "sample" else None)


def recorded(declared):
    worker = WorkerStarted(arm="A", block=13, pid=1, spawn_ns=1, import_ns=1, build_ns=1, first_step_ns=1,
                           first_stamp_ns=1, parameter_count=1, info={})
    events = [RunStarted(run_id="r", suite="all", started_utc="2026-01-01T00:00:00+00:00", command=[], arms=[],
                         bench={}, experiment={}, config_sha256="",
                         declared={"parts": ["training", "sampling"], **declared}),
              window(0, "free"), window(11, "sample"), worker,
              *(BlockState(block=block, order_seed=0, dirty=False) for block in (0, 11, 13)),
              *(Peak(arm="A", matmul_n=8, flops=flops, part=part)
                for part, flops in (("training", 1.0), ("sampling", 2.0)))]
    return whole(RecordedRun(Path("r"), tuple(events)))


def test_a_sampling_block_without_windows_is_no_training_block():
    training, sampling = parts_of(recorded({"by_part": {"sampling": {"block_numbers": [11, 21]}}}))
    assert (training.unit.step, sampling.unit.step) == ("step", "network call")
    assert [state.block for state in training.run.of(BlockState)] == [0]
    assert [state.block for state in sampling.run.of(BlockState)] == [11, 13]
    assert not training.run.of(WorkerStarted) and len(sampling.run.of(WorkerStarted)) == 1


def test_every_part_has_the_figures_of_its_own_part():
    training, sampling = parts_of(recorded({}))
    assert [part.peak(part.arms[0]).flops for part in (training, sampling)] == [1.0, 2.0]


def test_parity_is_told_once_where_it_is_the_gate():
    parity = ParityResult(arm_a="A", arm_b="B", preset="tiny", batch_size=4, parameters_equal=True, forward_max_abs=0,
                          gradient_worst_rel=0, gradient_worst_name="w", adam_max_abs=0, loss_rel_diff=[],
                          control_rel_diff=[], tolerances={}, passed=True)
    seen = whole(RecordedRun(Path("r"), (*recorded({}).run.events, parity)))
    anchors = [[one.anchor for one in chapter.sections(part, Sketches()) if one] for chapter, part in chapters_of(seen)]
    assert ["parity" in found for found in anchors] == [True, False]


def test_a_damaged_declaration_is_left_aside():
    for damaged in ([0, 10**15], [3], "x", [5, 1], None):
        _, sampling = parts_of(recorded({"by_part": {"sampling": {"block_numbers": damaged}}}))
        assert [state.block for state in sampling.run.of(BlockState)] == [11]


def test_of_several_parts_those_are_told_that_recorded_anything():
    seen = recorded({"by_part": {"sampling": {"block_numbers": [11, 21]}}})
    run = seen.run
    early = RecordedRun(run.path, tuple(event for event in run.events if getattr(event, "part", None) != "sampling"
                                        and getattr(event, "block", 0) < 11))
    assert [chapter.part for chapter, _ in chapters_of(whole(run))] == ["training", "sampling"]
    assert [chapter.part for chapter, _ in chapters_of(whole(early))] == ["training"]
    nothing = RecordedRun(run.path, run.events[:1])
    assert [chapter.part for chapter, _ in chapters_of(whole(nothing))] == ["training"]


def test_planned_looks_are_explained_where_there_are_several():
    own = {"by_part": {"training": {"looks": [3, 5, 8, 12]}, "sampling": {"looks": 1}, "why": {"looks": [4, 6]}}}
    assert [list(looks(recorded(told))) for told in ({}, {"looks": 1}, {"looks": [6]}, {"looks": ["3", 5]})] == [[]] * 4
    (of_one,), (of_parts,) = looks(recorded({"looks": [3, 5, 8, 12]})), looks(recorded(own))
    assert of_one.startswith("The run was to look after 3, 5, 8 and 12 blocks and to end at the first look that")
    assert "look after 3, 5, 8 and 12 blocks (training), after 4 and 6 blocks (why) and" in of_parts
