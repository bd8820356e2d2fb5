"""The run folder: what survives a cut, a torn line, damage, NaN, and a resume."""

from __future__ import annotations

import json
import math
import threading

import pytest

from harness.record.events import (
    ArmEntry,
    BlockState,
    Case,
    Finding,
    Losses,
    Resumed,
    RunEnded,
    RunStarted,
    Verdict,
    Window,
)
from harness.record.run import read_run
from harness.record.summary import read_summary, summary
from harness.record.writer import RunWriter
from impls.errors import UsageError


def started(**changes):
    return RunStarted(**{"run_id": "r", "suite": "train-speed", "started_utc": "now", "command": [],
                         "arms": [ArmEntry(slot="A", name="pytorch"), ArmEntry(slot="B", name="jittor")], "bench": {},
                         "experiment": {}, "config_sha256": "0", "declared": {}, **changes})


def window(block, pair=0):
    return Window(kind="stepwise", arm="A", block=block, pair=pair, position=0, start_ns=1, end_ns=2, steps=1,
                  step_ns=[1])


VERDICT = Verdict(metric="step time", arm_a="A", arm_b="B", ratio=0.5, ci_low=0.4, ci_high=math.inf, blocks=6,
                  word="A-faster")


@pytest.fixture
def writer(tmp_path):
    made = RunWriter.create(tmp_path / "results", "train-speed")
    yield made
    made.close()


def test_a_name_that_is_no_unicode_is_written_with_its_bytes_spelt_out(writer):
    # As another run's folder, or a file, may be called on this machine.
    odd = b"caf\xe9".decode(errors="surrogateescape")
    writer.append(started(command=["--out", odd], bench={odd: [odd, 1.5, None]}))
    writer.append(Finding(severity="warning", code="x", message=f"another run ({odd}) is measuring", block=2))
    writer.append(VERDICT)
    run = read_run(writer.path)
    assert run.damage == [] and run.started is not None
    assert run.started.command == ["--out", r"caf\xe9"]
    assert run.started.bench == {r"caf\xe9": [r"caf\xe9", 1.5, None]}
    (found,) = run.of(Finding)
    assert (found.message, found.block) == (r"another run (caf\xe9) is measuring", 2)
    assert run.events == writer.run.events and run.of(Verdict)[0].ci_high == math.inf


def test_what_was_written_is_read_back(writer):
    events = [started(), window(0), Losses(arm="A", block=0, randomness="native", first_step=0, losses=[1.5, math.nan])]
    for event in events:
        writer.append(event)
    run = read_run(writer.path)
    assert [type(event) for event in run.events] == [type(event) for event in events]
    assert run.arms == {"A": "pytorch", "B": "jittor"}
    assert run.damage == []
    assert run.status == "unfinished"
    losses = run.of(Losses)[0].losses
    assert losses[0] == 1.5 and math.isnan(losses[1])
    assert all(event.t_ns > 0 for event in run.events)


def test_the_folder_has_its_parts_and_a_telling_name(writer):
    assert writer.path.name.startswith("train-speed-2")
    assert {child.name for child in writer.path.iterdir()} == {"journal.jsonl", "logs", "figures", "samples"}


def test_a_torn_last_line_is_reported_and_the_rest_is_read(writer):
    writer.append(started())
    writer.append(window(0))
    journal = writer.path / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-20])
    run = read_run(writer.path)
    assert len(run.events) == 1
    assert len(run.damage) == 1 and "line 2" in run.damage[0] and "torn" in run.damage[0]


def test_writing_goes_on_behind_a_torn_line(writer):
    writer.append(started())
    writer.close()
    journal = writer.path / "journal.jsonl"
    journal.write_bytes(journal.read_bytes() + b'{"type":"wind')
    again = RunWriter(writer.path)
    again.append(window(0))
    again.close()
    run = read_run(writer.path)
    assert [type(event) for event in run.events] == [RunStarted, Window]
    assert "line 2" in run.damage[0]


@pytest.mark.parametrize("bad", [b"\xff\xfe", b"[]", b'{"type":"window"}', b'{"type":"nonsense"}', b"null"])
def test_a_damaged_line_in_the_middle_is_damage_not_a_traceback(writer, bad):
    writer.append(started())
    with (writer.path / "journal.jsonl").open("ab") as file:
        file.write(bad + b"\n")
    writer.append(window(0))
    run = read_run(writer.path)
    assert [type(event) for event in run.events] == [RunStarted, Window]
    assert len(run.damage) == 1 and "line 2" in run.damage[0]


def test_a_newer_schema_is_refused(writer):
    with (writer.path / "journal.jsonl").open("ab") as file:
        file.write(b'{"type":"run","schema_version":99,"new":1}\n')
    with pytest.raises(UsageError, match="99"):
        read_run(writer.path)


def test_a_folder_without_a_journal_is_no_run(tmp_path):
    with pytest.raises(UsageError, match="not a run folder"):
        read_run(tmp_path)


def test_the_summary_names_arms_and_is_plain_json(writer):
    writer.append(started())
    writer.append(Case(case_id="block-0-A", arm="A", block=0, status="failed", reason="x"))
    writer.append(Case(case_id="block-0-A", arm="A", block=0, status="measured"))
    writer.append(VERDICT)
    writer.finish(RunEnded(status="complete", exit_code=0, wall_s=1.0))
    summary = json.loads((writer.path / "run.json").read_text(), parse_constant=pytest.fail)
    assert summary["status"] == "complete"
    assert summary["arms"] == [{"slot": "A", "name": "pytorch"}, {"slot": "B", "name": "jittor"}]
    (verdict,) = summary["verdicts"]
    assert list(verdict) == ["metric", "arm_a", "arm_b", "ratio", "ci_low", "ci_high", "blocks", "word", "reason",
                             "next_action"]
    assert (verdict["arm_a"], verdict["arm_b"], verdict["ci_high"]) == ("pytorch", "jittor", None)
    assert [(case["arm"], case["status"]) for case in summary["cases"]] == [("pytorch", "measured")]
    assert [file["path"] for file in summary["files"]] == ["journal.jsonl"]
    assert not list(writer.path.glob(".*"))


def test_a_resumed_run_forgets_the_blocks_it_measures_again(writer):
    for event in (started(), window(0), BlockState(block=0, order_seed=1, dirty=False), window(1), VERDICT,
                  RunEnded(status="interrupted", exit_code=130, wall_s=1.0),
                  Resumed(resumed_utc="later", discarded_blocks=[1]), window(1, pair=7)):
        writer.append(event)
    run = read_run(writer.path)
    assert [(w.block, w.pair) for w in run.of(Window)] == [(0, 0), (1, 7)]
    assert run.of(Verdict) == [] and run.status == "unfinished"
    assert run.discarded == 3


AGAIN = (started(declared={"pair": (1, 2)}), window(0), window(1),
         Case(case_id="extras-A", arm="A", block=0, status="failed"),
         Case(case_id="extras-A", arm="A", block=1, status="measured"), BlockState(block=0, order_seed=1, dirty=False),
         Case(case_id="prewarm-jittor", arm="B", block=None, status="failed"), VERDICT, window(1),
         RunEnded(status="interrupted", exit_code=130, wall_s=1.0), Resumed(resumed_utc="x", discarded_blocks=[1]),
         VERDICT, window(1), window(1, pair=1), window(1), VERDICT, Resumed(resumed_utc="y", discarded_blocks=[1]))


def test_the_run_that_a_writer_holds_is_what_a_reader_finds_after_every_line(writer):
    for event in AGAIN:
        writer.append(event)
        assert writer.run == read_run(writer.path)
    assert writer.run.discarded == 11 and [case.status for case in writer.run.of(Case)] == ["failed"]


@pytest.mark.parametrize("lost", [(), (0,), (2, 3, 9)])
@pytest.mark.parametrize("torn", [b"", b'{"type":"wind'])
def test_a_writer_that_goes_on_holds_what_a_reader_finds_damage_included(writer, lost, torn):
    for event in AGAIN[:12]:
        writer.append(event)
    writer.close()
    journal = writer.path / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*(line for number, line in enumerate(lines) if number not in lost), lines[5], torn]))
    again = RunWriter(writer.path)
    assert again.run == read_run(writer.path)
    for event in AGAIN[10:]:
        again.append(event)
        assert again.run == read_run(writer.path)
    assert len(again.run.damage) == 1 + bool(lost) + bool(torn)
    again.close()


def test_a_line_that_a_reader_takes_for_damage_is_damage_to_the_writer(writer):
    absurd = window(0).model_copy(update={"end_ns": 2**70})
    for event in (started(), absurd, window(0), absurd):
        writer.append(event)
        assert writer.run == read_run(writer.path)
    assert writer.run.damage == [f"line {place} cannot be read: it holds a number beyond 64 bits" for place in (2, 4)]
    writer.summarise()
    assert read_summary(writer.path).damage == writer.run.damage


def test_the_summary_is_read_back_as_it_was_written(writer):
    for event in (started(), Case(case_id="c", arm="A", block=0, status="failed", reason="x"), VERDICT,
                  VERDICT.model_copy(update={"cell": "ddim-10", "ratio": math.nan})):
        writer.append(event)
    assert read_summary(writer.path).text() == summary(writer.run).text()
    assert not (writer.path / "run.json").exists()
    writer.finish(RunEnded(status="complete", exit_code=0, wall_s=1.0))
    found = read_summary(writer.path)
    assert found.text() == (writer.path / "run.json").read_text()
    assert [(one.arm_a, one.cell, one.ratio) for one in found.verdicts] == [("pytorch", None, 0.5),
                                                                            ("pytorch", "ddim-10", None)]


@pytest.mark.parametrize(("content", "said"), [
    (b"{", "run.json is not JSON"), (b"[]", "run.json holds no JSON object"), (b"[" * 10**6, "run.json is not JSON"),
    (b"\xff", "run.json is not JSON"), (b" " * 20_000_001, "run.json is larger than")])
def test_a_summary_that_is_none_is_refused_in_one_line(writer, content, said):
    (writer.path / "run.json").write_bytes(content)
    with pytest.raises(UsageError, match=said) as error:
        read_summary(writer.path)
    assert "\n" not in str(error.value)


def test_of_a_forged_summary_what_is_as_it_should_be_is_read(writer):
    forged = {"suite": 7, "status": "complete", "arms": {"a": None}, "config": [],
              "verdicts": [{"metric": [], "word": "x"}], "wall_s": "soon", "declared": {"device": {}}, "more": 1}
    (writer.path / "run.json").write_text(json.dumps(forged))
    found = read_summary(writer.path)
    assert (found.suite, found.status, found.arms, found.config, found.wall_s) == (None, "complete", [], None, None)
    assert [(one.metric, one.word) for one in found.verdicts] == [(None, "x")]


def test_lines_of_several_threads_do_not_mix(writer):
    def write():
        for number in range(200):
            writer.append(Finding(severity="info", code=str(number), message="m" * 500))

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    run = read_run(writer.path)
    assert run.damage == [] and len(run.events) == 800


def test_an_unwritable_folder_is_one_clear_line(tmp_path):
    (tmp_path / "results").write_text("a file, not a folder")
    with pytest.raises(UsageError, match="--out .*cannot write"):
        RunWriter.create(tmp_path / "results", "train-speed")
    assert (tmp_path / "results").read_text() == "a file, not a folder"


def test_a_discarded_run_leaves_nothing(tmp_path):
    made = RunWriter.create(tmp_path / "results", "parity")
    made.discard()
    assert list(tmp_path.iterdir()) == []


def test_discarding_keeps_other_runs(tmp_path):
    kept = RunWriter.create(tmp_path / "results", "parity")
    RunWriter.create(tmp_path / "results", "parity").discard()
    assert list((tmp_path / "results").iterdir()) == [kept.path]
    kept.close()
