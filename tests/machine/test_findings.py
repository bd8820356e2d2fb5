"""Every finding is of a kind, every kind is found somewhere and documented."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.record import findings
from harness.record.events import Finding, Resumed
from harness.record.findings import END_CODES, HIGH_LOAD, KINDS, SELF_CHECK_CODES, Kind, markdown
from harness.record.run import read_run
from harness.record.writer import RunWriter
from messages import speaking

ROOT = Path(__file__).parents[2]
NAMES = {name: kind for name, kind in vars(findings).items() if isinstance(kind, Kind)}


def calls() -> Iterator[tuple[str, ast.Call]]:
    """Every call of the program, with the last part of what is called."""
    for path in sorted(file for folder in ("harness", "impls", "reports") for file in (ROOT / folder).rglob("*.py")):
        if path != Path(findings.__file__):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
                    yield node.func.id if isinstance(node.func, ast.Name) else node.func.attr, node


def kind_of(call: ast.Call) -> str:
    """The name of the kind in `KIND.found(...)` or `findings.KIND.found(...)`."""
    assert isinstance(call.func, ast.Attribute)
    owner = call.func.value
    return owner.id if isinstance(owner, ast.Name) else owner.attr if isinstance(owner, ast.Attribute) else ""


def test_every_finding_is_of_a_kind_and_every_kind_is_found():
    assert not [ast.unparse(call) for name, call in calls() if name == "Finding"]
    assert {kind_of(call) for name, call in calls() if name == "found"} == set(NAMES)


def test_every_kind_stands_there_once():
    assert len({kind.code for kind in KINDS}) == len(KINDS) == len(NAMES)


def test_only_a_kind_that_may_be_milder_is_found_mildly():
    mild = {kind_of(call) for name, call in calls() if name == "found"
            if any(word.arg == "mild" for word in call.keywords)}
    assert mild == {name for name, kind in NAMES.items() if kind.milder}
    assert {kind.found("m", mild=True).severity for kind in KINDS if kind.milder} == {"info"}


def test_a_finding_says_what_its_kind_says():
    assert HIGH_LOAD.found("m", arm="A", block=3, t_ns=5) == Finding(
        t_ns=5, severity="warning", code="high-load", message="m", advice=HIGH_LOAD.advice, arm="A", block=3)
    assert HIGH_LOAD.found("m", advice="other").advice == "other"


def test_every_kind_can_be_acted_on():
    for kind in KINDS:
        assert kind.meaning.endswith("."), kind.code
        assert (kind.advice and len(kind.advice) > 5) or kind.severity == "info", kind.code
        assert "|" not in kind.meaning + (kind.advice or ""), kind.code


@pytest.mark.parametrize(("language", "page"), [("en", "docs/findings.md"), ("zh", "docs/zh/findings.md")])
def test_the_page_is_the_one_made_from_the_kinds(language, page):
    with speaking(language):
        made = markdown()
    command = f"DDPM_BENCH_LANG={language} python -m harness.record.findings > {page}"
    assert (ROOT / page).read_text(encoding="utf-8") == made, f"run: {command}"


def test_what_a_selfcheck_prints_is_known():
    assert set(SELF_CHECK_CODES) <= {kind.code for kind in KINDS}


def test_what_is_found_at_the_end_is_found_anew_after_a_resume(tmp_path):
    writer = RunWriter.create(tmp_path, "train-speed")
    for code in ("high-load", "noise-floor", "blocks-disturbed"):
        writer.append(Finding(severity="info", code=code, message="then"))
    writer.append(Resumed(resumed_utc="", discarded_blocks=[]))
    writer.append(Finding(severity="info", code="noise-floor", message="now"))
    writer.close()
    told = [(finding.code, finding.message) for finding in read_run(writer.path).of(Finding)]
    assert told == [("high-load", "then"), ("noise-floor", "now")]
    assert "high-load" not in END_CODES
