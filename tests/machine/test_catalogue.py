"""Every code of a finding is documented, as severe as it is, and none that does not exist."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

from harness.record.events import Finding, Resumed
from harness.record.findings import CATALOGUE, END_CODES, SELF_CHECK_CODES, markdown
from harness.record.run import read_run
from harness.record.writer import RunWriter

ROOT = Path(__file__).parents[2]
DYNAMIC = None


def used() -> dict[str, set[str | None]]:
    """Code -> severities with which the program makes findings; DYNAMIC where it depends."""
    found: dict[str, set[str | None]] = defaultdict(set)
    for path in sorted(file for folder in ("harness", "impls", "reports") for file in (ROOT / folder).rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        makers = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "_warning"]
        inside = {id(node) for maker in makers for node in ast.walk(maker)}
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or id(node) in inside:
                continue
            if node.func.id == "_warning":
                code, severity = node.args[0], ast.Constant("warning")
            elif node.func.id == "Finding":
                words = {word.arg: word.value for word in node.keywords}
                code, severity = words["code"], words["severity"]
            else:
                continue
            assert isinstance(code, ast.Constant), f"{path}:{node.lineno}: a code that cannot be looked up"
            found[code.value].add(severity.value if isinstance(severity, ast.Constant) else DYNAMIC)
    return found


def test_every_code_is_in_the_catalogue_and_every_entry_is_used():
    codes = [entry.code for entry in CATALOGUE]
    assert len(codes) == len(set(codes))
    assert set(used()) == set(codes)


def test_the_severity_is_the_one_that_is_documented():
    documented = {entry.code: set(entry.severity) for entry in CATALOGUE}
    for code, severities in used().items():
        if DYNAMIC in severities:
            assert len(documented[code]) > 1, code
        else:
            assert severities == documented[code], code


def test_every_entry_can_be_acted_on():
    for entry in CATALOGUE:
        assert entry.meaning.endswith(".") and len(entry.advice) > 5, entry.code
        assert "|" not in entry.meaning + entry.advice, entry.code


def test_the_page_is_the_one_made_from_the_catalogue():
    page = (ROOT / "docs" / "findings.md").read_text(encoding="utf-8")
    assert page == markdown(), "run: python -m harness.record.findings > docs/findings.md"


def test_what_a_selfcheck_prints_is_known():
    assert set(SELF_CHECK_CODES) <= {entry.code for entry in CATALOGUE}


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
