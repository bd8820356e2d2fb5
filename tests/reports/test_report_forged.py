"""Numbers and facts that no run writes: the report still builds, and says what it cannot draw."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import synthetic
import synthetic_sampling
from test_report_partial import words, write

from harness.record.run import read_run
from reports import report as sections
from reports.page import render
from reports.page.figures import FigureMaker

Change = Callable[[Any], Any]
# What orders and identifies lines stays as it was.
KEPT = ("seq", "schema_version", "block", "pair", "position")


def spoiled(value: Any, change: Change, key: str | None = None) -> Any:
    """The content of a journal line with every number changed."""
    if isinstance(value, dict):
        return {name: spoiled(one, change, name) for name, one in value.items()}
    if isinstance(value, list):
        return [spoiled(one, change, key) for one in value]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return change(value) if number and key not in KEPT else value


NUMBERS: dict[str, Change] = {
    "nothing": lambda value: 0,
    "as large as can be": lambda value: 2**63 - 1 if isinstance(value, int) else value,
    "not a number": lambda value: "NaN" if isinstance(value, float) else value,
    "infinite": lambda value: "Infinity" if isinstance(value, float) else value,
    "below nothing": lambda value: -value,
}


@pytest.fixture(scope="module")
def journals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("forged")
    paths = {
        "training": synthetic.write_run(folder / "training", synthetic.Scenario(blocks=4, pairs=6)),
        "sampling": synthetic_sampling.write_sampling(folder / "sampling", synthetic_sampling.Sampling(blocks=3)),
    }
    return {name: [json.loads(line) for line in (path / "journal.jsonl").read_text(encoding="utf-8").splitlines()]
            for name, path in paths.items()}  # fmt: skip


def page_of(folder: Path) -> str:
    """The page with its figures drawn: an axis may fail only then."""
    run = read_run(folder)
    report = sections.report_of(run, FigureMaker())
    assert render.markdown(report)
    return words(report)


# Arithmetic on such numbers may warn; a page must come of it.
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("change", NUMBERS.values(), ids=NUMBERS)
@pytest.mark.parametrize("what", ["training", "sampling"])
def test_a_report_of_numbers_that_no_run_writes(
    what: str, change: Change, journals: dict[str, list[dict[str, Any]]], tmp_path: Path
) -> None:
    lines = [event if event["type"] in ("run", "environment") else spoiled(event, change) for event in journals[what]]
    assert "The journal is damaged" not in page_of(write(tmp_path, [json.dumps(line) for line in lines]))


def altered(lines: list[dict[str, Any]], kind: str, **changes: Any) -> list[str]:
    """The journal with fields of one kind of event set."""
    return [json.dumps({**line, **changes} if line["type"] == kind else line) for line in lines]


def test_windows_without_length_are_not_enlarged(journals: dict[str, list[dict[str, Any]]], tmp_path: Path) -> None:
    lines = altered(journals["training"], "window", start_ns=7, end_ns=7)
    assert "Timeline windows: n/a, the measured windows have no length." in page_of(write(tmp_path, lines))


@pytest.mark.parametrize("groups", [["x"], 7])
def test_groups_of_facts_that_are_none_count_as_empty(
    groups: object, journals: dict[str, list[dict[str, Any]]], tmp_path: Path
) -> None:
    info = {"device": "cpu", "operators": groups, "flags": groups}
    lines = altered(journals["training"], "worker", info=info)
    page = page_of(write(tmp_path, lines))
    assert "the backend names no such operator" in page and "flag:" not in page


def test_losses_that_are_no_numbers_are_left_out_of_the_parity_figure(
    journals: dict[str, list[dict[str, Any]]], tmp_path: Path
) -> None:
    def page(losses: list[Any], control: list[Any]) -> str:
        lines = altered(journals["training"], "parity", loss_rel_diff=losses, control_rel_diff=control,
                        tolerances={"loss": "NaN"})  # fmt: skip
        return page_of(write(tmp_path, lines))

    some = page([0.25, "NaN", 0.5, "Infinity"], ["NaN", 0.125])
    assert "differ by at most 0.50 relative over 2 matched steps" in some
    assert "2 further steps left out: no finite number." in some
    none = page(["NaN", "Infinity", "-Infinity"], ["NaN"])
    assert "Parity: n/a, none of 3 differences of matched losses is a finite number." in none
