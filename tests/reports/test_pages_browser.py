"""Pages of every kind in a browser: nothing moves sideways, axe finds no serious fault, paper shows what matters."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import chromium
import pytest
import synthetic
from conftest import Built
from journals import sealed
from light_runs import Light, write
from test_align_command import losses
from test_report_browser import CONTRAST, OVERLAPS, SIDEWAYS, UNFOLD, WIDER, complaints
from test_why_chapter import full, recorded, swap
from test_why_operator_page import FOUND, operator

from harness.record.events import AlignedLayer, Alignment, ArmEntry, Peak, RunStarted
from harness.record.events.align import Culprit, Difference
from harness.record.run import RecordedRun
from messages import language, speaking
from reports import __main__ as command
from reports import report
from reports.compare import write as compare_files
from reports.compare.runs import compare
from reports.page import render
from reports.page.figures import FigureMaker

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(chromium.executable() is None, reason="no Chromium on this machine: install Debian's chromium"),
]
DEEP = ("down", "blocks", "0", "attention", "projection")
AXE = """axe.run(document, {resultTypes: ['violations']}).then(found => found.violations
  .filter(one => ['serious', 'critical'].includes(one.impact))
  .map(one => [one.id, one.nodes.slice(0, 3).map(node => node.html.slice(0, 200))]))"""
# Texts of one figure that lie on each other: in the figures' second language they are as wide as they come to be.
CROSSED = """[...document.querySelectorAll('figure svg')].filter(s => s.getBoundingClientRect().width).flatMap(s => {
  const all = [...s.querySelectorAll('text')].filter(t => t.textContent.trim())
    .map(t => [t.textContent, t.getBoundingClientRect()]);
  const crossed = (p, q) => Math.min(p.right, q.right) - Math.max(p.left, q.left) > 3
    && Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top) > 4;
  return all.flatMap(([a, p], i) => all.slice(i + 1).filter(([, q]) => crossed(p, q)).map(([b]) => [a, b])); })"""
SMALLEST = """Math.min(...[...document.querySelectorAll('figure svg text')].map(t => t.getBoundingClientRect().height)
  .filter(h => h))"""


def traced() -> RecordedRun:
    """Two networks that part deep inside, with long names."""
    head = RunStarted(run_id="r", suite="align", started_utc="2026-01-01T00:00:00+00:00", command=["python"], bench={},
                      arms=[ArmEntry(slot="A", name="pytorch"), ArmEntry(slot="B", name="jittor:onednn+attention=own")],
                      experiment={}, config_sha256="", declared={"parts": ["align"]})  # fmt: skip
    entries = [Difference(place=place, fed=True, max_abs=0.5, max_rel=0.25, cosine=0.98765432, tolerance=1e-6,
                          agrees=place != "output 0") for place in ("input 0", "output 0", "gradient of weight")]
    layers = [AlignedLayer(part="align", arm_a="A", arm_b="B", number=number, name=".".join(DEEP[:number]), nth=0,
                           kind="GroupNormalisationThenAttention", within=number - 1 if number else None,
                           differences=entries) for number in range(len(DEEP) + 1)]  # fmt: skip
    name = ".".join(DEEP)
    culprit = Culprit(stage="forward", number=len(DEEP), name=name, kind="Conv", where=f"{name} (Conv)",
                      place="output 0")  # fmt: skip
    end = Alignment(part="align", arm_a="A", arm_b="B", reference="A", batch_size=4, calls=6, compared=6,
                    twins=["double"], training=entries, word="differ", culprit=culprit, further=["up.0 (Conv)"],
                    hints=["another epsilon"])  # fmt: skip
    return RecordedRun(Path("r"), (head, *layers, end))


def caused() -> RecordedRun:
    """A gap with causes, operators and swaps."""
    alone = [operator(arm, kind, FOUND[kind][4 + place]) for kind in FOUND for place, arm in enumerate("AB")]
    alone += [operator(arm, "copy", ms, count=0) for arm, ms in (("A", 10), ("B", 5))]
    swaps = [swap("attention", "slow:attention=own", (0.5, 0.45, 0.55), "explains"),
             swap("conv", "slow:conv=own", None, "not-measured", reason="no compiler")]  # fmt: skip
    return recorded(*full(), *alone, Peak(arm="B", matmul_n=1024, flops=100e9, part="why"), *swaps)


def page_of(run: RecordedRun, folder: Path) -> Path:
    file = folder / "report.html"
    file.write_text(render.html(report.report_of(run, FigureMaker())), encoding="utf-8")
    return file


def inferred(folder: Path) -> Path:
    """A training's journal read as that of forward passes."""
    run = synthetic.write_run(folder / "run", synthetic.Scenario(blocks=3, pairs=6, arms=("pytorch", "jittor:onednn")))
    journal = (run / "journal.jsonl").read_text(encoding="utf-8")
    lines = [line.replace('"training"', '"inference"') for line in journal.splitlines() if '"type":"epoch"' not in line]
    (run / "journal.jsonl").write_text("\n".join(sealed(lines)), encoding="utf-8")
    return report.build(run)


def curved(folder: Path) -> Path:
    logs = []
    for name, rate in (("a", 1.0), ("b", 1.3)):
        for seed in range(3):
            file = folder / f"{name}{seed}.csv"
            rows = "".join(f"{step},{loss}\n" for step, loss in enumerate(losses(seed, rate, own=50 + seed), 1))
            file.write_text(f"step,loss\n{rows}")
            logs.append(str(file))
    assert command.main(["align", *logs[:3], "--against", *logs[3:], "--out", str(folder / "align"), "--lang",
                         language()]) == 0  # fmt: skip
    return folder / "align" / "align.html"


def compared(folder: Path) -> Path:
    runs = [write(folder / name, Light(seed=seed, pairs=2)) for seed, name in enumerate("ab")]
    return compare_files.write(compare(runs), folder / "compare", ["python"])


def each(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The pages that are no report of a synthetic run, in the language that is spoken."""
    folders = {name: tmp_path_factory.mktemp(name) for name in ("align", "why", "curves", "compare")}
    return {
        "align": page_of(traced(), folders["align"]),
        "why": page_of(caused(), folders["why"]),
        "curves": curved(folders["curves"]),
        "compare": compared(folders["compare"]),
    }


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory, built: Built, sampled: Built, judged: Built) -> dict[str, Path]:
    reports = {"training": built, "sampling": sampled, "quality": judged}
    return {
        **{kind: one.folder / "report.html" for kind, one in reports.items()},
        "inference": inferred(tmp_path_factory.mktemp("infer")),
        **each(tmp_path_factory),
    }


@pytest.fixture(scope="module")
def chinese(tmp_path_factory: pytest.TempPathFactory, bilingual: dict[str, Path]) -> dict[str, Path]:
    """As `pages`, but for inference, which is laid out as training is."""
    with speaking("zh"):
        return {**{kind: folder / "report.zh.html" for kind, folder in bilingual.items()}, **each(tmp_path_factory)}


@pytest.fixture
def of_language(request: pytest.FixtureRequest, language: str) -> dict[str, Path]:
    found: dict[str, Path] = request.getfixturevalue({"en": "pages", "zh": "chinese"}[language])
    return found


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Page]:
    with chromium.page(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@cache
def axe() -> str | None:
    """The source of axe-core, where node finds the package; None where it is not."""
    try:
        found = subprocess.run(["node", "-p", "require.resolve('axe-core/axe.min.js')"], check=True,
                               capture_output=True, text=True, timeout=60)  # fmt: skip
    except (OSError, subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return None
    return Path(found.stdout.strip()).read_text(encoding="utf-8")


KINDS = ("training", "sampling", "quality", "align", "why", "inference", "curves", "compare")


@pytest.mark.parametrize("kind", KINDS[3:])
def test_nothing_moves_sideways_on_any_page(page: chromium.Page, pages: dict[str, Path], kind: str) -> None:
    for width, dark in ((390, True), (768, False), (1280, False)):
        page.open(pages[kind], width, dark)
        assert complaints(page, pages[kind]) == []
        assert page.value("document.querySelectorAll('.forest').length > 0") == (kind != "align")
        # The answer is seen before anything is scrolled.
        tops = page.value("[...document.querySelectorAll('.verdict h2, .forest h3')]"
                          ".map(e => e.getBoundingClientRect().top)")  # fmt: skip
        assert all(top < 900 for top in tops)
        page.value(UNFOLD)
        assert page.value("document.documentElement.scrollWidth") <= width
        assert page.value(WIDER) == [] and page.value(SIDEWAYS) == [] and page.value(CONTRAST) == []
        assert page.value(OVERLAPS) == []


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "inference"])
def test_a_page_in_chinese_is_as_well_laid_out(page: chromium.Page, chinese: dict[str, Path], kind: str) -> None:
    for width, dark in ((390, True), (768, False), (1280, True)):
        page.open(chinese[kind], width, dark)
        assert complaints(page, chinese[kind]) == []
        assert page.value("document.documentElement.lang") == "zh-Hans"
        page.value(UNFOLD)
        assert page.value("document.documentElement.scrollWidth") <= width
        assert page.value(WIDER) == [] and page.value(SIDEWAYS) == [] and page.value(CONTRAST) == []
        assert page.value(OVERLAPS) == [] and page.value(CROSSED) == []
        assert page.value("!document.querySelector('figure svg text')") or page.value(SMALLEST) > 9


@pytest.mark.parametrize(
    ("language", "kind"), [(one, kind) for one in ("en", "zh") for kind in KINDS if (one, kind) != ("zh", "inference")]
)
def test_axe_finds_no_serious_fault(page: chromium.Page, of_language: dict[str, Path], kind: str) -> None:
    source = axe()
    if source is None:
        pytest.skip("node does not find axe-core: npm install axe-core here, or where NODE_PATH points to")
    for width, dark in ((390, False), (1280, True)):
        page.open(of_language[kind], width, dark)
        page.value(f"{source}; 0")
        assert page.value(AXE) == []


@pytest.mark.parametrize("language", ["en", "zh"])
def test_paper_shows_the_words_of_a_verdict_in_the_colours_of_day(
    page: chromium.Page, of_language: dict[str, Path]
) -> None:
    page.open(of_language["training"], 1280, dark=True)
    night = [{"name": "prefers-color-scheme", "value": "dark"}]
    page.call("Emulation.setEmulatedMedia", media="print", features=night)
    style: Any = page.value("(e => [getComputedStyle(e).getPropertyValue('--band').trim(), getComputedStyle(e).color])"
                            "(document.querySelector('.verdict'))")  # fmt: skip
    assert style == ["#e8edf2", "rgb(0, 0, 0)"]
    shown = "[...document.querySelectorAll('{}')].map(e => e.checkVisibility({{contentVisibilityAuto: true}}))"
    assert page.value(shown.format("main > #verdicts .verdict .words li, #findings li")) == [True] * page.value(
        "document.querySelectorAll('main > #verdicts .verdict .words li, #findings li').length")  # fmt: skip
    assert not any(page.value(shown.format("nav.toc, figure .data")))
    paper = base64.b64decode(page.call("Page.printToPDF", printBackground=False)["data"])
    assert paper.startswith(b"%PDF") and page.value("document.documentElement.scrollWidth") <= 1280
    page.call("Emulation.setEmulatedMedia", media="", features=[])
