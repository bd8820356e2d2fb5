"""Sampling runs that lack something: the report still builds and says what is not there and why; and mixed runs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import synthetic
import synthetic_sampling
from synthetic_sampling import Sampling
from test_report_partial import KINDS, report_of, words, write

from reports import index
from reports.page.blocks import Report, Table
from reports.view.run import view


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = synthetic_sampling.write_sampling(
        tmp_path_factory.mktemp("sampling") / "run", Sampling(blocks=3, pairs=2, findings=synthetic.FINDINGS)
    )
    return (folder / "journal.jsonl").read_text(encoding="utf-8").splitlines()


def made(folder: Path, **options: Any) -> Report:
    options = {"blocks": 2, "pairs": 2, **options}
    return report_of(synthetic_sampling.write_sampling(folder / "run", Sampling(**options)))


def table(report: Report, anchor: str, start: str) -> Table:
    blocks = next(section for section in report.sections if section.anchor == anchor).blocks
    return next(block for block in blocks if isinstance(block, Table) and block.caption.startswith(start))


@pytest.mark.parametrize("kind", KINDS)
def test_a_sampling_report_without_one_kind_of_event(kind: str, journal: list[str], tmp_path: Path) -> None:
    kept = [line for line in journal if json.loads(line)["type"] != kind]
    report = report_of(write(tmp_path, kept))
    anchors = {section.anchor for section in report.sections}
    assert "over-calls" in anchors and not {"throughput", "epochs", "losses"} & anchors


@pytest.mark.parametrize("kind", KINDS)
def test_a_sampling_report_of_one_kind_of_event_alone(kind: str, journal: list[str], tmp_path: Path) -> None:
    report_of(write(tmp_path, [line for line in journal if json.loads(line)["type"] == kind]))


@pytest.mark.parametrize("kind", ["sample", "sweep", "stepwise"])
def test_a_sampling_report_without_one_kind_of_window(kind: str, journal: list[str], tmp_path: Path) -> None:
    page = words(report_of(write(tmp_path, [line for line in journal if f'"kind":"{kind}"' not in line])))
    said = {"sample": "no whole batch was measured", "sweep": "no batch of it was measured", "stepwise": "n/a"}
    assert said[kind] in page


@pytest.mark.parametrize("share", [0.05, 0.2, 0.6, 0.95])
def test_a_sampling_journal_cut_off_anywhere(share: float, journal: list[str], tmp_path: Path) -> None:
    text = "\n".join(journal)
    assert report_of(write(tmp_path, [text[: int(len(text) * share)]], end="")).status == "unfinished"


def test_one_arm_failed(tmp_path: Path) -> None:
    report = made(tmp_path, fail="B", end="failed")
    page = words(report)
    assert report.verdicts == () and "killed: out of memory?" in page
    assert "no images of this arm were recorded" in page and "not timed both ways in this run" in page
    rows = table(report, "key-figures", "Whole batches").rows
    assert [row[2].text != "n/a" for row in rows] == [True, False] * 5
    assert "no batch of this cell was measured" in page


def test_images_that_do_not_agree(tmp_path: Path) -> None:
    report = made(tmp_path, agreement_passed=False)
    found = table(report, "agreement", "jittor against pytorch, 16 images, DDIM with 10 network calls: failed")
    assert (found.rows[0][1].text, found.rows[0][3].text, found.rows[0][3].mark) == ("73 %", "fail", "bad")
    assert "Failed: 73.1 % of all values agree" in words(report)


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ({}, "the journal names no cell"),
        ({"ddim-10": 10}, "a line needs two DDIM cells"),
        ({"ddpm-1000": 1000, "ddim-10": 10}, "a line needs two DDIM cells"),
        ({"ddim-10": 10, "ddim-50-quad": 50}, "cell ddim-50-quad"),
    ],
)
def test_few_cells(cells: dict[str, int], said: str, tmp_path: Path) -> None:
    assert said in words(made(tmp_path, cells=cells, sweep=()))


def test_a_block_that_was_cut_off_does_not_bend_the_line(journal: list[str], tmp_path: Path) -> None:
    whole = table(report_of(write(tmp_path / "whole", journal)), "over-calls", "Time of a DDIM batch")
    slow = next(json.loads(line) for line in journal if '"kind":"sample"' in line)
    slow |= {"block": 3, "end_ns": slow["end_ns"] + 10**11}
    cut = table(report_of(write(tmp_path / "cut", [*journal, json.dumps(slow)])), "over-calls", "Time of a DDIM batch")
    assert cut.rows == whole.rows


def test_an_intercept_that_may_be_none_is_called_so(tmp_path: Path) -> None:
    report = made(tmp_path, blocks=3, outside_ms=(-1.0, 40.0))
    row = table(report, "load", "The usual suspects").rows[0]
    assert row[1].note and "lost in the noise" in row[1].note and "of a batch with 10 network calls" in str(row[2].note)


def test_one_block_gives_a_line_without_an_interval(tmp_path: Path) -> None:
    rows = table(made(tmp_path, blocks=1), "over-calls", "Time of a DDIM batch").rows
    assert [cell.note for row in rows for cell in row[1:3]] == ["one block: no interval"] * 4


@pytest.mark.parametrize("arms", [("jittor",), ("pytorch",) * 2, ("a", "b", "c")])
def test_other_numbers_of_arms(arms: tuple[str, ...], tmp_path: Path) -> None:
    several = {"arms": arms, "step_ms": (9.0, 9.1, 12.0)[: len(arms)], "outside_ms": (14.0, 14.2, 30.0)[: len(arms)]}
    report = made(tmp_path, blocks=3, **several)
    assert [section.anchor for section in report.sections].count("images") == 1
    assert bool(report.verdicts) == (len(arms) > 1)


def test_energy_per_image_counts_the_images_of_the_batches_read(tmp_path: Path) -> None:
    row = next(row for row in table(made(tmp_path, gpu=True), "key-figures", "Key figures").rows
               if row[0].text == "energy per image")  # fmt: skip
    # 40 mJ per network call, 4 images a batch, every cell as often as any other.
    assert [float(cell.text.replace("\u202f", "").split()[0]) for cell in row[1:]] == [4620.0] * 2


def test_all_cells_together_come_first_and_single_cells_are_smaller(journal: list[str], tmp_path: Path) -> None:
    report = report_of(write(tmp_path, journal))
    assert [card.minor for card in report.verdicts] == [False] + [True] * 5
    assert report.verdicts[0].sentence.endswith("geometric mean over 5 cells")


def test_a_verdict_on_network_calls_says_so(journal: list[str], tmp_path: Path) -> None:
    lines = [json.loads(line) for line in journal]
    verdict = next(line for line in lines if line["type"] == "verdict")
    for metric in ("network call time", "step time"):
        changed = json.dumps({**verdict, "metric": metric, "kind": "stepwise", "cell": None})
        report = report_of(write(tmp_path, [*journal, changed]))
        card = report.verdicts[-1]
        assert card.sentence.endswith("per network call")
        assert "over 3 blocks of 2 pairs;" in card.facts[0]


def test_a_run_that_trains_and_samples_tells_both(journal: list[str], tmp_path: Path) -> None:
    folder = synthetic.write_run(tmp_path / "run", synthetic.Scenario(blocks=3, pairs=3))
    head, *trained = (folder / "journal.jsonl").read_text(encoding="utf-8").splitlines()
    sampled = [json.loads(line) for line in journal]
    started = json.loads(head)
    started["suite"] = "all"
    started["declared"] = {**sampled[0]["declared"], **started["declared"], "parts": ["training", "sampling"]}
    started["experiment"]["sample"] = {"batch_size": 4}
    own = ("worker", "warmup", "window", "memory", "block", "trap", "samples", "sample-agreement", "verdict")
    sampled = [line for line in sampled if line["type"] in own]
    moved = [json.dumps(line | ({"block": line["block"] + 50} if "block" in line else {})) for line in sampled]
    end = trained.pop()
    report = report_of(write(folder, [json.dumps(started), *trained, *moved, end]))
    anchors = [section.anchor for section in report.sections]
    assert len(set(anchors)) == len(anchors)
    assert {"training-losses", "training-epochs", "training-steps", "sampling-steps", "sampling-over-calls",
            "sampling-images", "timeline", "memory", "trust"} <= set(anchors)  # fmt: skip
    sentences = [card.sentence for card in report.verdicts]
    assert sentences[0].endswith("per training step") and sentences[1].endswith("geometric mean over 5 cells")
    assert "3 blocks of 3 pairs" in report.verdicts[0].facts[0]
    assert table(report, "training-key-figures", "Key figures").rows[0][1].note == table(
        report_of(synthetic.write_run(tmp_path / "alone", synthetic.Scenario(blocks=3, pairs=3))),
        "key-figures", "Key figures",
    ).rows[0][1].note  # fmt: skip


def test_the_index_sums_up_cells_below_the_mean(journal: list[str], tmp_path: Path) -> None:
    folder = write(tmp_path / "sample-speed-x", journal)
    page = re.sub(r"<[^>]+>", " ", index.build(folder.parent).read_text(encoding="utf-8"))
    mean = page.index("jittor in sampling time, geometric mean over cells [A-faster]: time pytorch / time jittor = 0.7")
    cells = page.index("sampling time by cell, time pytorch / time jittor: ddim-10: pytorch is 1.")
    assert mean < cells and page.count("ddim-250") == 1 and "cpu, batch 4" in page


def test_a_view_names_the_batch_of_what_it_tells(journal: list[str], tmp_path: Path) -> None:
    from harness.record.run import read_run
    from reports.suites.registry import whole

    run = read_run(write(tmp_path, journal))
    assert (view(run).batch_size, whole(run).batch_size) == (8, 4)
