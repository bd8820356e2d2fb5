"""Reports and sections in Chinese, or in both languages with figures that are drawn once."""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import unescape
from pathlib import Path

import pytest
import synthetic

from harness.record.run import read_run
from messages import paired, speaking, tell
from reports import __main__ as command_line
from reports import report
from reports.page import figures, font, render
from reports.page.blocks import Note, Part, Report, Table, VerdictCard
from reports.page.relabelled import Dictionary
from reports.text import Value

CHINESE = re.compile(r"[\u4e00-\u9fff]")
# What stands in a figure and what it tells whoever points at it; numbers depend on how much room texts take.
TEXTS = re.compile(r"<text[^>]*>([^<]*)|<title>([^<]*)")


# As it is, before tests have it raise what it is given.
UNDRAWN = figures.undrawn


def scenario() -> synthetic.Scenario:
    return synthetic.Scenario(blocks=2, pairs=3, findings=synthetic.FINDINGS)


def command(*words: object) -> int:
    """Run a command, which leaves its language to the process."""
    with speaking("en"):
        return command_line.main([*map(str, words)])


def texts(svg: str) -> set[str]:
    said = (unescape(one or other) for one, other in TEXTS.findall(svg))
    return {line for text in said for line in text.split("\n") if re.search(r"[A-Za-z\u4e00-\u9fff]{2}", line)}


@dataclass(frozen=True)
class Both:
    """A run whose report was built in both languages at once, and in each alone; and how often it was drawn."""

    folder: Path
    english: Path
    chinese: Path
    drawn: int
    drawn_alone: int

    def read(self, name: str) -> str:
        return (self.folder / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Both:
    folders = [synthetic.write_run(tmp_path_factory.mktemp(name) / "run", scenario()) for name in ("both", "en", "zh")]
    count, draw = 0, figures.drawing

    def counted(*given: object, **options: object) -> object:
        nonlocal count
        count += 1
        return draw(*given, **options)

    counts = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "drawing", counted)
        for folder, asked in zip(folders, ("both", "en", "zh"), strict=True):
            before = count
            assert command("build", folder, "--lang", asked) == 0
            counts.append(count - before)
    return Both(*folders, *counts[:2])


def test_the_second_language_draws_nothing(both: Both) -> None:
    assert both.drawn == both.drawn_alone > 5


def test_the_english_page_is_the_same_but_for_its_link(both: Both) -> None:
    link = '<a href="report.zh.html" hreflang="zh-Hans" lang="zh-Hans">中文</a> '
    alternate = '<link rel="alternate" hreflang="zh-Hans" href="report.zh.html">\n'
    page = both.read("report.html")
    assert page.count(link) == 1 == page.count(alternate)
    assert page.replace(link, "").replace(alternate, "") == (both.english / "report.html").read_text(encoding="utf-8")
    text = both.read("report.md")
    assert text.replace("[中文](report.zh.md)\n\n", "") == (both.english / "report.md").read_text(encoding="utf-8")
    for file in (both.english / "figures").iterdir():
        assert file.read_bytes() == (both.folder / "figures" / file.name).read_bytes()


def test_a_page_in_english_knows_no_other_language(both: Both) -> None:
    page = (both.english / "report.html").read_text(encoding="utf-8")
    assert '<html lang="en">' in page and not CHINESE.search(page) and "font-src" not in page
    assert not list(both.english.glob("*.zh.*")) and not list((both.english / "figures").glob("*.zh.*"))


def test_the_chinese_page_links_back_and_tells_the_same_numbers(both: Both) -> None:
    page = both.read("report.zh.html")
    assert '<html lang="zh-Hans">' in page and "font-src data:" in page and font.FAMILY in page
    assert '<a href="report.html" hreflang="en" lang="en">English</a>' in page
    assert both.read("report.zh.md").count("[English](report.md)") == 1
    ratio = re.findall(r"\d\.\d+ \\\[\d\.\d+, \d\.\d+\\\]", both.read("report.md"))
    assert ratio and all(one in both.read("report.zh.md") for one in ratio)


def test_the_chinese_page_is_that_of_chinese_alone(both: Both) -> None:
    """But for figures, whose words the next test compares, and links."""
    def words(text: str) -> list[str]:
        text = re.sub(r"<svg.*?</svg>|<style>.*?</style>|<head>.*?</head>", "", text, flags=re.S)
        text = text.replace('<a href="report.html" hreflang="en" lang="en">English</a> ', "")
        return [line for line in text.splitlines() if line.strip()]

    assert words(both.read("report.zh.html")) == words((both.chinese / "report.html").read_text(encoding="utf-8"))


def test_chinese_punctuation_has_its_own_width_and_no_space_behind_it(both: Both) -> None:
    page = re.sub(r"<svg.*?</svg>|<style>.*?</style>|<pre.*?</pre>", "", both.read("report.zh.html"), flags=re.S)
    assert re.findall(r"<(?:title|h1)>([^<]*)", page) == ["pytorch 对 jittor：train-speed"] * 2
    text = unescape(re.sub(r"</?(?:b|span|a|small|em|strong)\b[^>]*>", "", page))
    assert re.findall(r".{0,20}[\u3001\u3002\uff01-\uff1f] \S.{0,20}", text) == []
    assert re.findall(r".{0,20}[\u4e00-\u9fff][:;,](?!\S).{0,20}", text) == []
    said = re.sub(r"`[^`]*`", "", both.read("report.zh.md"))
    assert said.startswith("# pytorch 对 jittor：train-speed\n")
    assert re.findall(r".{0,20}[\u4e00-\u9fff][:;,](?!\S).{0,20}", said) == []


def test_headings_before_a_sentence_end_as_chinese_does() -> None:
    card = VerdictCard("?", (Part("A"),), (), "请加区组", "inconclusive", "open")
    with speaking("zh"):
        found = Report("x", "y", "z", "complete", (card,), (Note("warning", "很忙", where="jittor"),), ())
        page, text = render.html(found), render.markdown(found)
    assert "<b>下一步：</b>请加区组" in page and "<b>警告（jittor）：</b>很忙" in page
    assert "下一步：请加区组" in text and "**警告（jittor）：**" in text


def test_relabelled_figures_have_the_words_of_figures_drawn_in_chinese(both: Both) -> None:
    found = sorted(file.name for file in (both.chinese / "figures").glob("*.svg"))
    assert len(found) > 5
    for name in found:
        direct = (both.chinese / "figures" / name).read_text(encoding="utf-8")
        made = both.read(f"figures/{name.replace('.svg', '.zh.svg')}")
        assert texts(made) == texts(direct), name


def test_a_chinese_figure_that_stands_alone_brings_its_letters(both: Both) -> None:
    made = both.read("figures/ratio.zh.svg")
    assert CHINESE.search(made) and f"@font-face{{font-family:'{font.FAMILY}'" in made
    assert f"font-family: {font.CHINESE}" in made and "@font-face" not in both.read("figures/ratio.svg")
    shown = re.findall(r"!\[[^\n]*\]\((figures/[^)]+\.svg)\)", both.read("report.zh.md"))
    assert shown and all(one.endswith(".zh.svg") and (both.folder / one).is_file() for one in shown)


@pytest.fixture
def pairs(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    import messages

    known = {"time": "耗时", "step time": "单步耗时", "{arm} takes {time}": "{arm} 耗时 {time}",
             "{path} holds no weights at all": "{path} 中没有权重", "two\nlines": "两\n行"}
    monkeypatch.setattr(messages, "_catalogue", lambda chosen: known if chosen == "zh" else {})
    messages._forms.cache_clear()
    with paired() as found:
        for message in ("time", "step time", "two\nlines"):
            tell(message)
        tell("{arm} takes {time}", arm="a<b", time="3 ms")
    yield found
    messages._forms.cache_clear()


def test_texts_are_found_as_they_are_by_their_form_or_by_their_pieces(pairs: dict[str, str]) -> None:
    with speaking("zh"):
        told = Dictionary(pairs)
        assert told("step time") == "单步耗时" and told("two") == "两" and told("1.25") == "1.25"
        assert told("x.pt holds no weights at all") == "x.pt 中没有权重"
        assert told("step time, ms; times") == "单步耗时, ms; times"
        assert told.lines("step time: 3 ms\na: time") == "单步耗时: 3 ms\na: 耗时" and told.lines("") == ""
        svg = told.svg('<svg><text x="1">a&lt;b takes 3 ms</text><title>time: &quot;3&quot;</title></svg>')
        assert svg == '<svg><text x="1">a&lt;b 耗时 3 ms</text><title>耗时: &quot;3&quot;</title></svg>'
        table = told.table(Table("time", (Value("step time"),), ((Value("a", note="time"),),)))
        assert (table.caption, table.head[0].text, table.rows[0][0].note) == ("耗时", "单步耗时", "耗时")


def test_a_quote_within_a_figure_s_text_ends_nothing(pairs: dict[str, str]) -> None:
    pairs['the "fast" step time'] = '"快"的单步耗时'
    with speaking("zh"):
        svg = Dictionary(pairs).svg('<g aria-label="step time"><text>the "fast" step time</text></g>')
    assert svg == '<g aria-label="单步耗时"><text>&quot;快&quot;的单步耗时</text></g>'


def test_arms_keep_names_that_are_messages_too(tmp_path: Path) -> None:
    folder = synthetic.write_run(tmp_path / "run", synthetic.Scenario(arms=("step", "machine"), blocks=2, pairs=3))
    assert command("build", folder, "--lang", "both") == 0
    for page in ("report.zh.html", "report.zh.md"):
        said = (folder / page).read_text(encoding="utf-8")
        assert "machine 的耗时 / step 的耗时" in said and "step，区组 0" in said
        assert not re.search("步，区组 0|机器 的|步 的", said)
    drawn = {line for file in folder.glob("figures/*.zh.svg") for line in texts(file.read_text(encoding="utf-8"))}
    assert {"step", "machine"} <= drawn and not {"步", "机器"} & drawn


def test_a_figure_that_cannot_be_drawn_is_missing_in_both_languages(tmp_path: Path, monkeypatch, capsys) -> None:
    folder = synthetic.write_run(tmp_path / "run", scenario())

    def broken(*given: object, **options: object) -> None:
        raise RuntimeError("no paper")

    monkeypatch.setattr(figures, "undrawn", UNDRAWN)
    monkeypatch.setattr(figures, "drawing", broken)
    report.write(read_run(folder), both=True)
    assert "n/a, it cannot be drawn here (RuntimeError: no paper)." in (folder / "report.md").read_text("utf-8")
    assert "（RuntimeError: no paper）" in (folder / "report.zh.md").read_text("utf-8")
    assert "could not be drawn" in capsys.readouterr().err


def test_a_section_in_both_languages_shares_its_folder(tmp_path: Path, monkeypatch) -> None:
    from reports.pack import pictures

    monkeypatch.setattr(pictures, "write", lambda folder, name, draw: f"not drawn as {name}")
    folder = synthetic.write_run(tmp_path / "run", scenario())
    out = tmp_path / "out"
    assert command("export", folder, "--format", "readme", "--lang", "both", "--out", out) == 0
    assert sorted(file.name for file in out.iterdir()) == ["run", "run.md", "run.zh.md"]
    names = {file.name for file in (out / "run").iterdir()}
    assert names == {"badge.svg", "badge.zh.svg", "table.tex", "journal.jsonl"}
    english, chinese = ((out / name).read_text("utf-8") for name in ("run.md", "run.zh.md"))
    assert "### Environment" in english and not CHINESE.search(english)
    assert "### 环境" in chinese and "run/badge.zh.svg" in chinese and "not drawn as ratio.zh" in chinese
    assert CHINESE.search((out / "run" / "badge.zh.svg").read_text("utf-8"))
    assert (out / "run" / "table.tex").read_text("utf-8").isascii()


def test_a_section_in_chinese_alone_has_the_usual_names(tmp_path: Path, monkeypatch) -> None:
    from reports.pack import pictures

    monkeypatch.setattr(pictures, "write", lambda folder, name, draw: "not drawn")
    folder = synthetic.write_run(tmp_path / "run", scenario())
    assert command("export", folder, "--format", "readme", "--lang", "zh") == 0
    out = folder / "readme"
    assert "### 环境" in (out / "run.md").read_text("utf-8")
    assert (out / "run" / "table.tex").read_text("utf-8").isascii()
    badge = (out / "run" / "badge.svg").read_text("utf-8")
    assert CHINESE.search(badge) and "@font-face" in badge


def test_only_reports_and_sections_come_in_both(capsys) -> None:
    for words in (["index", "--lang", "both"], ["--lang", "both", "build", "x"]):
        assert command(*words) == 2 and "both" in capsys.readouterr().err


def test_every_check_that_forbids_a_comparison_has_a_name_in_chinese() -> None:
    from harness.record import events
    from reports.compare.fairness import CHECKS

    kinds = [one.model_fields["type"].default.replace("-", " ") for one in vars(events).values()
             if "passed" in getattr(one, "model_fields", {}) and one.model_fields["type"].default]
    assert sorted(kinds) == sorted(("parity", *CHECKS))
    with speaking("zh"):
        assert all(CHINESE.search(tell(kind)) for kind in kinds)


def test_markdown_has_chinese_brackets_and_no_space_behind_chinese_punctuation(both: Both) -> None:
    text = both.read("report.zh.md")
    assert re.findall(r".{8}[\u3001\u3002\uff01-\uff1f] [^\s|].{8}", text) == []
    assert re.findall(rf"\({CHINESE.pattern}.*?\)", text) == []
