"""A run as a section of a README: what it links is there, numbers are the journal's, it says what may be quoted."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from conftest import Built
from markdown_it import MarkdownIt
from PIL import Image
from synthetic import NASTY, Maker, Scenario, write_run
from synthetic_quality import Judged, write_quality
from synthetic_sampling import Sampling, write_sampling

from harness.record.events import Finding, Verdict
from harness.record.run import RecordedRun, read_run
from impls.errors import UsageError
from impls.tools.train import options as train_options
from reports import __main__ as command_line
from reports.pack import badge, latex, quotes
from reports.pack.cells import cells, table
from reports.pack.write import pack
from reports.page import figures
from reports.suites.registry import whole

LIGHT_INK, DARK_INK = (0x1B, 0x1F, 0x24), (0xE6, 0xE9, 0xEC)
HEADINGS = ["Environment", "Data", "Training", "Test", "Alignment log", "Performance log"]


class Rendered(HTMLParser):
    """What a reader of a page gets: its addresses, headings, cells and text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.headings: list[str] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self.tags: set[str] = set()
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [value or "" for name, value in attributes if name in ("src", "href", "srcset")]
        if tag in ("h2", "h3", "tr", "td", "th"):
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        elif tag == "h3":
            self.headings.append("")

    def handle_endtag(self, tag: str) -> None:
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data
        elif self.open and self.open[-1] == "h3":
            self.headings[-1] += data


def pasted(section: Path) -> Rendered:
    """The section in a README of the folder that it was written into, with every address checked."""
    readme = section.parent / "README.md"
    readme.write_text(f"# Mine\n\nSome words.\n\n{section.read_text(encoding='utf-8')}\n## More\n", encoding="utf-8")
    text = readme.read_text(encoding="utf-8")
    found = Rendered(MarkdownIt("commonmark", {"html": True}).enable("table").render(text))
    for address in found.addresses:
        assert (readme.parent / address).is_file(), address
    return found


@pytest.fixture(scope="module")
def repository(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the section of a training run was written to."""
    out = tmp_path_factory.mktemp("repository")
    assert command_line.main(["export", str(built.folder), "--format", "readme", "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def name(built: Built) -> str:
    return built.folder.name


def test_the_pasted_section_renders_with_every_link_and_six_headings(repository: Path, name: str) -> None:
    page = pasted(repository / f"{name}.md")
    assert page.headings == HEADINGS
    assert page.tags >= {"picture", "source", "img", "table", "code", "ul"}
    badge_says = ET.parse(repository / name / "badge.svg").getroot().get("aria-label")
    assert f'<img src="{name}/badge.svg" alt="{badge_says}">' in (repository / f"{name}.md").read_text(encoding="utf-8")
    assert "|---" not in page.text and "**" not in page.text and "\\" not in page.text
    lying = {f"{name}/{file.name}" for file in (repository / name).iterdir()}
    assert lying - set(page.addresses) == {one for one in lying if one.endswith("-dark.png")}


def test_every_cell_has_its_interval_and_what_it_rests_on(repository: Path, name: str, built: Built) -> None:
    page = pasted(repository / f"{name}.md")
    (verdict,) = [json.loads(line) for line in (built.folder / "journal.jsonl").read_text().splitlines()
                  if '"type":"verdict"' in line]
    (row,) = [row for row in page.rows if row[0] == "step time"]
    ratio = re.fullmatch(r"([\d.]+) \[([\d.]+), ([\d.]+)\]", row[3])
    assert ratio is not None
    for shown, recorded in zip(ratio.groups(), (verdict["ratio"], verdict["ci_low"], verdict["ci_high"]), strict=True):
        assert shown == f"{recorded:.{len(shown.split('.')[1])}f}"
    assert row[1:3] == ["pytorch", "jittor"] and row[4:] == ["95 %", "4 blocks", "A-faster"]
    medians = next(row for row in page.rows if row[0] == "step time, median")
    assert all(re.search(r"\(p10.p90 .* ms, 48 steps\)", cell) for cell in medians[1:])


def test_what_trains_each_arm_alone_is_a_command(repository: Path, name: str) -> None:
    text = (repository / f"{name}.md").read_text(encoding="utf-8")
    lines = re.findall(r"^python -m impls.train (.+)$", text, re.M)
    assert [train_options.parse(shlex.split(line))[0].backend for line in lines] == ["pytorch", "jittor"]
    assert "python run_bench.py --suite train-speed" in text


def test_pictures_are_those_of_the_page_light_and_dark(repository: Path, name: str, built: Built) -> None:
    for svg in (repository / name).glob("*.svg"):
        root = ET.fromstring(svg.read_text(encoding="utf-8"))
        assert root.tag.endswith("svg")
    ratio = {theme: (repository / name / f"ratio{theme}.svg").read_text(encoding="utf-8") for theme in ("", "-dark")}
    page = (built.folder / "figures" / "ratio.svg").read_text(encoding="utf-8")
    words = re.findall(r"<text[^>]*>([^<]+)", page)
    for text in ratio.values():
        assert re.findall(r"<text[^>]*>([^<]+)", text) == words and len(words) > 5
        assert "var(" not in text and "currentColor" not in text and "<style" not in text
    assert "background:#ffffff" in ratio[""] and "background:#14181d" in ratio["-dark"]
    assert "#1b1f24" in ratio[""] and "#1b1f24" not in ratio["-dark"] and "#e6e9ec" in ratio["-dark"]


def test_slides_are_sixteen_to_nine_in_both_themes(repository: Path, name: str) -> None:
    slides = sorted((repository / name).glob("*.png"))
    assert len(slides) >= 8
    for slide in slides:
        with Image.open(slide) as image:
            assert image.size == (1920, 1080)
            paper = (0x14, 0x18, 0x1D) if slide.stem.endswith("-dark") else (255, 255, 255)
            assert image.convert("RGB").getpixel((3, 3)) == paper
    for theme, ink in (("", LIGHT_INK), ("-dark", DARK_INK)):
        with Image.open(repository / name / f"ratio{theme}.png") as image:
            colours = {colour for _, colour in image.convert("RGB").getcolors(2**24) or []}
        assert ink in colours


def test_the_raw_lines_make_the_page_again(repository: Path, name: str, built: Built) -> None:
    copied = read_run(repository / name)
    assert copied.events == read_run(built.folder).events and copied.damage == []


def changed(change: Callable[[Verdict], dict[str, Any]] = lambda verdict: {}, *more: Finding,
            **scenario: Any) -> RecordedRun:
    """A synthetic run whose verdicts are changed."""
    events = Maker(Scenario(blocks=3, pairs=4, findings=list(more), **scenario)).make()
    return RecordedRun(Path("train-speed-changed"), tuple(
        event.model_copy(update=change(event)) if isinstance(event, Verdict) else event for event in events))


def first(run: RecordedRun) -> tuple[quotes.Quote, badge.Badge]:
    seen = whole(run)
    return quotes.quotes(seen)[0], badge.badge_of(seen, cells(seen))


def test_a_decided_verdict_may_be_quoted_with_its_interval_and_setting() -> None:
    quote, made = first(changed())
    assert quote.why_not is None
    assert re.fullmatch(r"pytorch is 2\.\d+ times as fast as jittor per training step\. "
                        r"Time of jittor / time of pytorch: 2\.\d+ \[2\.\d+, [23]\.\d+\], 95 % interval over 3 blocks "
                        r"of 4 pairs; declared margin ±1 %\. Measured on CPU, preset tiny, batch 8, fashion-mnist\.",
                        quote.text)
    assert made.label == "time pytorch / jittor" and made.message.startswith("0.3") and made.colour == badge.BLUE


NOT = {
    "undecided": (lambda _: {"word": "inconclusive", "reason": "noise", "next_action": "add blocks"}, (), {},
                  "it decides nothing: reason: noise (the interval is wider than the margin); add blocks", badge.AMBER),
    "unlike": (lambda _: {"word": "not-comparable", "reason": "parity failed"}, (), {},
               "the arms must not be compared: parity failed", badge.GREY),
    "same arm": (lambda _: {}, (), {"arms": ("jittor", "jittor")},
                 "it is the same arm twice, which tells the noise of the machine", badge.GREY),
    "cut off": (lambda _: {}, (), {"end": None}, "the run is unfinished: it says less than it was to say", badge.GREY),
    "error": (lambda _: {}, (Finding(severity="error", code="x", message="jittor does not wait", arm="B"),), {},
              "the run has an error: jittor does not wait", badge.GREY),
}


@pytest.mark.parametrize("why", NOT)
def test_what_may_not_be_quoted_says_why_and_is_grey(why: str) -> None:
    change, found, scenario, reason, colour = NOT[why]
    quote, made = first(changed(change, *found, **scenario))
    assert quote.why_not == reason and made.colour == colour


def test_an_error_about_another_arm_forbids_nothing_and_a_damaged_journal_all() -> None:
    other = Finding(severity="error", code="unsynchronised", message="it does not wait", arm="C")
    run = changed(lambda _: {}, other, arms=("pytorch", "jittor", "third"), step_ms=(100.0, 200.0, 300.0))
    assert first(run)[0].why_not is None
    damaged = quotes.quotes(whole(replace(run, damage=["line 3"])))
    assert {quote.why_not for quote in damaged} == {"1 line of the journal cannot be read"}


@pytest.mark.parametrize(("verdicts", "passed", "message", "colour"), [
    (False, True, "passed", badge.GREEN), (False, False, "failed", badge.RED)])
def test_without_a_verdict_the_badge_tells_of_parity(verdicts, passed, message, colour) -> None:
    _, made = first(changed(verdicts=verdicts, parity_passed=passed))
    assert made == badge.Badge("parity pytorch, jittor", message, colour)


def test_a_badge_is_a_picture_that_says_what_it_shows() -> None:
    root = ET.fromstring(badge.svg(badge.Badge(NASTY, "1.20 [1.1, 1.3]", badge.BLUE)))
    assert root.get("aria-label", "").endswith(": 1.20 [1.1, 1.3]") and root.tag.endswith("svg")
    assert not [one for one in root.iter() if one.tag.endswith("script")]


def structure(text: str) -> None:
    """What LaTeX would stumble over."""
    assert text.isascii()
    assert re.findall(r"\\begin\{(\w+)\}", text) == re.findall(r"\\end\{(\w+)\}", text)[::-1]
    bare = re.sub(r"\\[\\{}$&#%_]", "", text)
    assert bare.count("{") == bare.count("}") and bare.count("$") % 2 == 0
    body = text[text.index(r"\hline") : text.rindex(r"\hline")]
    for row in body.splitlines():
        if row.endswith(r"\\") and "multicolumn" not in row:
            assert len(re.findall(r"(?<!\\)&", row)) == 6, row


HOSTILE = [NASTY, r"\input{/etc/passwd}", "100 % & 中文 ~^_{}#", "[1] µs ±×−", "\x1b[31mred"]


@pytest.mark.parametrize("arm", ["pytorch", *HOSTILE])
def test_the_table_for_a_paper_is_plain_latex(arm: str) -> None:
    run = changed(arms=(arm, "jittor"))
    text = latex.table(cells(whole(run)), "Measured on CPU, ±1 %.", run.path.name)
    structure(text)
    assert r"\input{/etc" not in text and "booktabs" not in text and r"\toprule" not in text
    structure(latex.table([], "", "x"))


def test_the_table_compiles(repository: Path, name: str, tmp_path: Path) -> None:
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed here")
    tables = [(repository / name / "table.tex").read_text(), latex.table([], "", "x"),
              *(latex.table(cells(whole(changed(arms=(arm, "jittor")))), "±1 %.", "x") for arm in HOSTILE)]
    document = "\n".join([r"\documentclass{article}", r"\begin{document}", *tables, r"\end{document}"])
    (tmp_path / "paper.tex").write_text(document)
    done = subprocess.run(["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"], check=False,
                          cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=120)
    assert done.returncode == 0 and (tmp_path / "paper.pdf").is_file(), done.stdout[-2000:]


@pytest.mark.parametrize("kind", ["judged", "sampled"])
def test_other_suites_fill_the_headings_that_they_can(kind: str, tmp_path: Path,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    # What is drawn is looked at above.
    monkeypatch.setattr("reports.pack.pictures.write", lambda folder, name, draw: "not drawn")
    judged, small = kind == "judged", Sampling(blocks=2, pairs=2, cells={"ddim-10": 10, "ddim-20": 20})
    folder = write_quality(tmp_path / "run", Judged()) if judged else write_sampling(tmp_path / "run", small)
    page = pasted(pack(read_run(folder), tmp_path / "out"))
    assert page.headings == HEADINGS
    if judged:
        rows = [row for row in page.rows if row[0].endswith(", fd")]
        assert rows and all(re.search(r"\[.+\]", row[3]) and row[4].replace("\u202f", "").isdigit() for row in rows)
        assert "this run compared no times. python run_bench.py --suite train-speed does" in page.text
    else:
        assert "this run judged no images. python run_bench.py --suite quality does" in page.text
        assert sum(row[0].startswith("batch time") or "ddim" in row[0] for row in page.rows) >= 2


def test_texts_of_strangers_stay_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reports.pack.pictures.write", lambda folder, name, draw: "not drawn")
    found = [Finding(severity="error", code="x", message=NASTY, advice=NASTY, arm="A")]
    scenario = Scenario(arms=(NASTY, "jittor"), blocks=3, pairs=4, findings=found, command=["python", "x.py", NASTY])
    page = pasted(pack(read_run(write_run(tmp_path / "run", scenario)), tmp_path / "out"))
    assert "script" not in page.tags and page.headings == HEADINGS
    assert not [one for one in page.addresses if "evil" in one]
    structure((tmp_path / "out" / "run" / "table.tex").read_text())


def test_a_figure_that_cannot_be_drawn_costs_a_line(built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                    capsys: pytest.CaptureFixture[str]) -> None:
    def fails(figure: object, name: str) -> str:
        raise RuntimeError("no font")

    monkeypatch.setattr(figures, "undrawn", lambda error: f"it cannot be drawn here ({error})")
    monkeypatch.setattr("reports.pack.pictures.svg", fails)
    page = pasted(pack(read_run(built.folder), tmp_path))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "figure ratio could not be drawn: it cannot be drawn here (no font)" and len(lines) >= 3
    assert page.headings == HEADINGS and "picture" not in page.tags
    assert "Ratio: n/a, it cannot be drawn here (no font)." in page.text


def test_no_cell_is_missing_without_its_reason() -> None:
    run = changed(lambda _: {"ratio": None, "ci_low": None, "ci_high": None, "alpha": None, "word": "not-comparable",
                             "reason": "parity failed"})
    found = table(cells(whole(run)))
    assert found is not None and len(found.rows) >= 1
    for row in found.rows:
        assert [value.text for value in row[3:5]] == ["n/a", "n/a"] and row[3].note == "parity failed" and row[4].note


def test_a_pack_never_lands_in_the_run_itself(built: Built) -> None:
    before = sorted(built.folder.rglob("*"))
    with pytest.raises(UsageError, match="would be written into the run itself"):
        pack(read_run(built.folder), built.folder.parent)
    assert sorted(built.folder.rglob("*")) == before
