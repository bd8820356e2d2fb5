"""Whatever is missing, torn, failed or alone: the report still builds and says what is not there and why."""

from __future__ import annotations

import json
import re
from pathlib import Path

import matplotlib.figure
import pytest
import synthetic
from journals import sealed

from harness.record import events
from harness.record.events import Verdict
from harness.record.run import read_run
from reports import report as sections
from reports.chapters.answer import verdicts
from reports.page import render
from reports.page.blocks import Picture, Prose, Report, Table
from reports.page.figures import Draw, FigureMaker
from reports.page.plotting import style_context
from reports.view.run import view

KINDS = [kind.model_fields["type"].default for kind in events.KINDS]


class Sketches(FigureMaker):
    """Draws every figure but writes none: the slow part is left out."""

    def make(self, name: str, draw: Draw) -> Picture | Prose:
        with style_context():
            wide = draw(False)
        if isinstance(wide, str):
            return Prose(f"{name}: n/a, {wide}.")
        assert isinstance(wide.figure, matplotlib.figure.Figure)
        assert "nan" not in wide.alt.split() and wide.alt.endswith(".")
        assert wide.data is not None and wide.data.marks, f"{name} tells no data"
        assert {len(mark.cells) for mark in wide.data.marks} == {len(wide.data.head)}
        table = wide.data.table
        assert all("None" not in cell.text.split() and "nan" not in cell.text for row in table.rows for cell in row)
        return Picture(name, wide.alt, wide.caption, {"wide": f"<svg id='{name}'></svg>"}, table)


def report_of(folder: Path) -> Report:
    run = read_run(folder)
    report = sections.report_of(run, Sketches())
    page, text = render.html(report), render.markdown(report)
    assert "Traceback" not in page.replace("Traceback (most recent call last):", "") and text
    for section in report.sections:
        for block in section.blocks:
            if isinstance(block, Table):
                assert all(len(row) == len(block.head) for row in block.rows), block.caption
                for row in block.rows:
                    assert all(cell.note for cell in row if cell.text == "n/a"), (block.caption, row)
                    assert all("None" not in cell.text.split() and "nan" not in cell.text.split() for cell in row)
    return report


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    scenario = synthetic.Scenario(blocks=4, pairs=6, findings=synthetic.FINDINGS)
    folder = synthetic.write_run(tmp_path_factory.mktemp("partial") / "run", scenario)
    return (folder / "journal.jsonl").read_text(encoding="utf-8").splitlines()


def write(folder: Path, lines: list[str], end: str = "\n") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "journal.jsonl").write_text("\n".join(sealed(lines)) + end, encoding="utf-8")
    return folder


def words(report: Report) -> str:
    return re.sub(r"\s+", " ", render.html(report))


@pytest.mark.parametrize("kind", KINDS)
def test_a_report_without_one_kind_of_event(kind: str, journal: list[str], tmp_path: Path) -> None:
    kept = [line for line in journal if json.loads(line)["type"] != kind]
    report = report_of(write(tmp_path, kept))
    assert bool(report.verdicts) == (kind != "verdict")


@pytest.mark.parametrize("kind", KINDS)
def test_a_report_of_one_kind_of_event_alone(kind: str, journal: list[str], tmp_path: Path) -> None:
    report_of(write(tmp_path, [line for line in journal if json.loads(line)["type"] == kind]))


@pytest.mark.parametrize("share", [0.02, 0.1, 0.4, 0.9])
def test_a_journal_cut_off_anywhere(share: float, journal: list[str], tmp_path: Path) -> None:
    text = "\n".join(journal)
    # Within a line: a cut between two would damage none.
    folder = write(tmp_path, [text[: int(len(text) * share)].rstrip("\n")[:-1]], end="")
    report = report_of(folder)
    assert report.status == "unfinished"
    assert any("journal has no end" in note.message for note in report.notes)
    assert any("journal is damaged" in note.message for note in report.notes)


def test_an_empty_journal(tmp_path: Path) -> None:
    report = report_of(write(tmp_path, []))
    assert report.verdicts == () and "no arm recorded" in report.title


@pytest.mark.parametrize(
    ("scenario", "said"),
    [
        (synthetic.Scenario(arms=("jittor",), step_ms=(50.0,)), "This run gave no verdict: one arm alone"),
        (synthetic.Scenario(arms=("pytorch",) * 2, step_ms=(60.0, 60.0)), "the same arm twice (A/A)"),
        (synthetic.Scenario(fail="B", end="failed"), "killed: out of memory?"),
        (synthetic.Scenario(end="interrupted", verdicts=False), "The run was interrupted"),
        (synthetic.Scenario(parity_passed=False), "Failed: gradient of down.0.blocks.1.conv1.weight differs"),
        (synthetic.Scenario(gpu=True), "gpu:0"),
        (synthetic.Scenario(arms=("a", "b", "c", "d"), step_ms=(40.0, 50.0, 60.0, 70.0)), "against d: train-speed"),
    ],
)
def test_every_kind_of_run_renders(scenario: synthetic.Scenario, said: str, tmp_path: Path) -> None:
    scenario.blocks, scenario.pairs = 4, 4
    assert said in words(report_of(synthetic.write_run(tmp_path / "run", scenario)))


def test_device_memory_is_compared_as_both_frameworks_tell_it(tmp_path: Path) -> None:
    run = synthetic.write_run(tmp_path / "run", synthetic.Scenario(gpu=True, blocks=2, pairs=4))
    journal = run / "journal.jsonl"
    lines = [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()]
    for line in lines:
        if line["type"] == "memory" and line["arm"] == "B":
            line |= {"device_peak_bytes": None, "device_allocated_bytes": None, "reason": "it tells only what it took"}

    def told() -> str:
        text = sealed(json.dumps({name: line[name] for name in line if name not in ("seq", "crc")}) for line in lines)
        journal.write_text("\n".join(text) + "\n", encoding="utf-8")
        return re.sub(r"\s", " ", words(report_of(run)))

    shown = told()
    assert "3.00 GiB<small>taken by its allocator; its tensors at most 3.00 GiB after the warm-up" in shown
    assert "3.00 GiB<small>taken by its allocator; n/a what its tensors held: it tells only what it took" in shown
    # A run whose peak counts from the start, as all did once.
    for line in lines:
        if line["type"] == "memory" and line["arm"] == "A":
            line["device_reserved_bytes"] = 2 << 30
    assert ("2.00 GiB<small>taken by its allocator; its tensors at most 3.00 GiB with the warm-up, of which not all "
            "was kept") in told()


def test_arms_of_one_name_are_told_apart(tmp_path: Path) -> None:
    scenario = synthetic.Scenario(arms=("pytorch",) * 2, step_ms=(60.0, 60.0), blocks=4, pairs=4)
    report = report_of(synthetic.write_run(tmp_path / "run", scenario))
    assert report.title == "pytorch (A) against pytorch (B): train-speed"
    assert "pytorch (A) and pytorch (B), the same arm twice, cannot be told apart" in report.verdicts[0].sentence


def test_a_failed_case_shows_the_end_of_its_log(tmp_path: Path) -> None:
    scenario = synthetic.Scenario(blocks=2, pairs=4, fail="B", end="failed")
    page = words(report_of(synthetic.write_run(tmp_path / "run", scenario)))
    assert "What was not measured" in page and "MemoryError" in page and "logs/block-2-B.log" in page


def test_a_case_that_was_measured_at_a_second_try_is_no_failure(journal: list[str], tmp_path: Path) -> None:
    case = {"type": "case", "case_id": "block-0-A", "arm": "A", "block": 0, "status": "failed", "reason": "first try"}
    report = report_of(write(tmp_path, [journal[0], json.dumps(case), *journal[1:]]))
    assert "failed" not in [section.anchor for section in report.sections]


@pytest.mark.parametrize("word", ["A-faster", "B-faster", "equivalent", "inconclusive", "not-comparable"])
@pytest.mark.parametrize("ratio", [None, 0.5, 1.0, 1.004, 3.0])
def test_verdicts_are_rendered_as_recorded(word: str, ratio: float | None, journal: list[str], tmp_path: Path) -> None:
    kept = [line for line in journal if json.loads(line)["type"] != "verdict"]
    low, high = (None, None) if ratio is None else (ratio * 0.99, ratio * 1.01)
    verdict = Verdict.model_validate(
        dict(kind="stepwise", metric="step time", arm_a="A", arm_b="B", ratio=ratio, ci_low=low, ci_high=high, blocks=4,
             word=word, reason="some reason", next_action="do this", block_log_ratios=[])
    )  # fmt: skip
    (card,) = verdicts.cards(view(read_run(write(tmp_path, [*kept, verdict.model_dump_json()]))))
    assert card.word == word and card.next_action == "do this."
    assert any("some reason" in fact for fact in card.facts)
    faster = {"A-faster": "pytorch is", "B-faster": "jittor is"}.get(word)
    if faster and ratio is not None:
        assert card.sentence.startswith(faster)
    else:
        assert "times as fast" not in card.sentence and "% faster" not in card.sentence


def test_a_recorded_pass_of_parity_stands_when_later_steps_drift(journal: list[str], tmp_path: Path) -> None:
    def drift(line: str) -> str:
        event = json.loads(line)
        if event["type"] == "parity":
            event["loss_rel_diff"][-1] = 0.5
        return json.dumps(event)

    report = report_of(write(tmp_path, [drift(line) for line in journal]))
    rows = next(s for s in report.sections if s.anchor == "parity").blocks[1]
    assert isinstance(rows, Table)
    losses = rows.rows[-1]
    assert losses[1].text == "0.50" and losses[3].text == "pass" and "first steps only" in str(losses[1].note)


def test_steps_left_out_for_overflow_are_shown_where_a_loss_is_scaled(journal: list[str], tmp_path: Path) -> None:
    def scaled(line: str) -> str:
        event = json.loads(line)
        if event["type"] == "losses" and event["arm"] == "B" and event["randomness"] == "native":
            event |= {"loss_scale": 32768.0, "skipped": 3}
        return json.dumps(event)

    def suspects(lines: list[str]) -> Table:
        report = report_of(write(tmp_path, lines))
        blocks = next(section for section in report.sections if section.anchor == "load").blocks
        return next(one for one in blocks if isinstance(one, Table) and one.caption.startswith("The usual suspects"))

    name, plain, told = suspects([scaled(line) for line in journal]).rows[0]
    assert name.text == "steps left out for overflow" and (plain.text, plain.note) == ("n/a", "its loss is not scaled")
    assert told.text == "3 of 300 steps" and told.note == "loss scale at the end 32\u202f768"
    assert all(row[0].text != name.text for row in suspects(journal).rows)


def test_numbers_that_are_not_finite_are_not_shown_as_numbers(journal: list[str], tmp_path: Path) -> None:
    def spoil(line: str) -> str:
        event = json.loads(line)
        if event["type"] == "losses":
            event["losses"][3:6] = ["NaN", "Infinity", "-Infinity"]
        if event["type"] == "parity":
            event["loss_rel_diff"][2] = "NaN"
            event["passed"] = False
        return json.dumps(event)

    page = words(report_of(write(tmp_path, [spoil(line) for line in journal])))
    assert "not a number" in page


def test_events_of_slots_that_were_never_declared_are_shown_by_their_letter(journal: list[str], tmp_path: Path) -> None:
    report = report_of(write(tmp_path, [line for line in journal if json.loads(line)["type"] != "run"]))
    assert report.title.startswith("A against B")


def test_a_busy_finding_that_repeats_is_said_once(journal: list[str], tmp_path: Path) -> None:
    finding = synthetic.FINDINGS[0].model_dump_json()
    report = report_of(write(tmp_path, [*journal, finding, finding]))
    assert [note.times for note in report.notes if note.message == synthetic.FINDINGS[0].message] == [3]


def test_self_checks_come_last_and_give_the_noise_floor(journal: list[str], tmp_path: Path) -> None:
    check = Verdict(kind="stepwise", metric="step time (self-check)", arm_a="A", arm_b="A", ratio=1.0, ci_low=0.995,
                    ci_high=1.005, blocks=4, word="equivalent", block_log_ratios=[0.0, 0.001, -0.001, 0.0])  # fmt: skip
    report = report_of(write(tmp_path, [check.model_dump_json(), *journal]))
    assert [card.minor for card in report.verdicts] == [False, True]
    assert any("Noise floor of this machine" in fact and "0.50 %" in fact for fact in report.verdicts[0].facts)
