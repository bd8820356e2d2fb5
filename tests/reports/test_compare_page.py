"""The pages of a comparison: what they say, that nothing in a journal becomes markup, and what they warn of."""

from __future__ import annotations

import html
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest
from light_runs import FACTS, INFO, Light, altered, write
from synthetic import NASTY
from test_report_untrusted import does_nothing, outside_code

from reports.compare import write as compare_files
from reports.compare.runs import Comparison, compare

SMALL = {"pairs": 3}


def pages(folder: Path, *lights: Light, **options: object) -> tuple[Comparison, str, str]:
    """A comparison with its two pages."""
    paths = [write(folder / f"run-{i}", light) for i, light in enumerate(lights)]
    comparison = compare(paths, **options)  # type: ignore[arg-type]
    page = compare_files.write(comparison, folder / "out", ["python", "-m", "reports", "compare", *map(str, paths)])
    markdown = (folder / "out" / "compare.md").read_text(encoding="utf-8")
    return comparison, page.read_text(encoding="utf-8"), markdown


def arms(pytorch: float, jittor: float) -> tuple[tuple[str, float], ...]:
    return ("pytorch", pytorch), ("jittor", jittor)


@pytest.fixture(scope="module")
def slower(tmp_path_factory: pytest.TempPathFactory) -> tuple[Comparison, str, str]:
    after = Light(seed=2, arms=arms(100, 155), facts={**FACTS, "version_torch": "3.0"}, dirty=(1,))
    return pages(tmp_path_factory.mktemp("slower"), Light(seed=1), after)


def test_both_pages_say_what_became_slower_by_how_much_and_what_changed(slower: tuple[Comparison, str, str]) -> None:
    _, page, markdown = slower
    text = re.sub(r"<[^>]+>", " ", html.unescape(page))
    for shown in (text, markdown.replace("\\", "")):
        assert "Slower than in run A: jittor" in shown
        assert re.search(r"jittor\s+takes 3\.\d+ % more time in B than in A per training step", shown)
        assert "pytorch" in shown and "takes the same time in B as in A per training step, within the margin" in shown
        assert "2.14.1" in shown and "3.0" in shown and "under test" in shown
        assert "no interval covers it" in shown and "1 disturbed block, kept and flagged" in shown
        assert re.search(r"jittor / pytorch in B, over the same in A: 1\.03", shown)
        assert "carries the verdict" in shown and "describes" in shown
        assert "recorded verdict" not in shown.lower() and "reference table" not in shown


def test_the_figure_has_a_message_and_follows_the_theme(slower: tuple[Comparison, str, str], tmp_path: Path) -> None:
    _, page, markdown = slower
    label = re.search(r'role="img" aria-label="(Time in B divided by time in A: [^"]+)"', page)
    assert label and re.search(r"jittor 1\.03\d* \[1\.0\d+, 1\.0\d+\] \(slower\)", label[1])
    assert "](figures/compare.svg)" in markdown
    for svg in re.findall(r"<svg xmlns.*?</svg>", page, flags=re.S):
        ET.fromstring(svg)
        assert "currentColor" in svg and "#1b1f24" not in svg


def test_the_same_comparison_gives_the_same_bytes(tmp_path: Path) -> None:
    comparison, page, markdown = pages(tmp_path, Light(seed=1, **SMALL), Light(seed=2, **SMALL))
    again = compare_files.write(comparison, tmp_path / "again" / "deep", ["x"])
    assert again.read_text(encoding="utf-8").replace("x</code>", "") == re.sub(r"python -m reports.*?</code>", "", page)
    assert {file.name for file in again.parent.iterdir()} == {"compare.html", "compare.md", "figures"}


def test_a_named_control_is_said_to_carry_the_verdict_and_is_not_judged(tmp_path: Path) -> None:
    after = Light(seed=2, arms=arms(110, 165), info=altered(INFO, version="3.0"))
    comparison, page, _ = pages(tmp_path, Light(seed=1), after, control="pytorch")
    text = html.unescape(page)
    assert comparison.words == ["equivalent"]
    assert "It carries the verdict here, because a control was named" in text and "not judged" in text
    assert "The control itself changed: version of pytorch: 2.14.1 against 3.0" in text


def test_arms_that_moved_together_raise_a_warning_with_the_way_out(tmp_path: Path) -> None:
    comparison, page, _ = pages(tmp_path, Light(seed=1), Light(seed=2, arms=arms(105, 157.5)))
    assert comparison.words == ["slower", "slower"]
    told = [line for line in compare_files.remarks(comparison) if "moved the same way" in line]
    assert len(told) == 2 and "jittor is slower, but relative to pytorch the ratio is" in told[1]
    assert "--control pytorch" in html.unescape(page)


def test_an_allowed_machine_is_marked_in_card_finding_table_and_terminal(tmp_path: Path) -> None:
    other = Light(seed=2, facts={**FACTS, "cpu_logical": 64})
    comparison, page, markdown = pages(tmp_path, Light(seed=1), other, allow_env_change=True)
    assert page.count("cpu_logical: 2 against 64") == 3 and "machine, allowed" in page
    assert "The machine is not the same" in markdown
    assert any("The machine is not the same" in line for line in compare_files.remarks(comparison))


def test_several_runs_get_letters_and_a_section_each(tmp_path: Path) -> None:
    cells = {"cells": ("ddim-10", "ddim-20"), "pairs": 3}
    comparison, page, _ = pages(tmp_path, Light(seed=1, **cells), Light(seed=2, **cells), Light(seed=3, **cells))
    assert 'id="changes-b"' in page and 'id="changes-c"' in page
    assert "B: jittor, ddim-20" in page and "C: pytorch, ddim-10" in page
    assert len(compare_files.lines(comparison)) == 9
    assert compare_files.default_folder(comparison) == Path("compare-run-0-run-1-run-2")


def test_default_folders_are_named_by_the_ids_of_the_runs(tmp_path: Path) -> None:
    names = ("train-speed-20261124T181508Z-e7869d", "odd name;rm *")
    paths = [write(tmp_path / name, Light(seed=i, **SMALL)) for i, name in enumerate(names)]
    assert compare_files.default_folder(compare(paths)) == Path("compare-e7869d-odd_name_rm__")
    many = [write(tmp_path / str(i), Light(seed=10 + i, blocks=2, **SMALL)) for i in range(6)]
    assert compare_files.default_folder(compare(many)) == Path("compare-0-1-2-3-and-2-more")


def test_hostile_texts_are_shown_and_do_nothing(tmp_path: Path) -> None:
    names = ((NASTY, 100.0), ("\x1b[31m=cmd()|x", 150.0), (NASTY * 3, 10.0))
    facts = {**FACTS, "version_torch": NASTY, NASTY: 1}
    one = Light(seed=1, arms=names, experiment=altered(Light().experiment, seed=NASTY))
    other = Light(seed=2, arms=names[:2], facts=facts, info=altered(INFO, version=NASTY, flags={NASTY: NASTY}))
    comparison, page, markdown = pages(tmp_path, one, other)
    does_nothing(page)
    outside = outside_code(markdown)
    assert "<script" not in outside and "\x1b" not in page + markdown
    assert not re.search(r"(?m)^# not a heading", outside) and not re.search(r"(?<!\\)\]\(http", outside)
    for line in re.findall(r"(?m)^\|.*$", outside):
        assert len(re.findall(r"(?<!\\)\|", line)) in (3, 4, 6, 7), line
    for file in (tmp_path / "out" / "figures").glob("*.svg"):
        assert not [e for e in ET.parse(file).iter() if e.tag.split("}")[-1] in ("script", "image", "a")]
    for line in [*compare_files.lines(comparison), *compare_files.remarks(comparison)]:
        assert "\n" not in line and "\x1b" not in line


def test_what_the_control_has_no_blocks_for_is_told_apart_from_the_control(tmp_path: Path) -> None:
    cells = {"cells": ("ddim-10", "ddim-20"), "pairs": 2, "blocks": 3}
    paths = [write(tmp_path / str(i), Light(seed=i, **cells), without_control(i)) for i in (0, 1)]
    comparison = compare(paths, control="pytorch")
    told = compare_files.lines(comparison)
    assert sum("not judged (the control)" in line for line in told) == 1
    (other,) = (line for line in told if "not judged (the control has no blocks here)" in line)
    assert "jittor" in other and "ddim-20" in other
    page = compare_files.write(comparison, tmp_path / "out", []).read_text(encoding="utf-8")
    assert page.count("the control has no blocks here") == 2


def without_control(number: int) -> Callable[[str], str]:
    """Leaves out the control's windows of one cell, in one of two runs."""

    def kept(line: str) -> bool:
        return not (number and '"arm":"A"' in line and '"cell":"ddim-20"' in line)

    return lambda text: "".join(line for line in text.splitlines(True) if kept(line))
