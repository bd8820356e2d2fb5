"""Every page in English and in Chinese: the same numbers, and no English sentence left in the Chinese one."""

from __future__ import annotations

import re
from collections import Counter
from html import unescape

import pytest

from harness.record.run import read_run
from messages import speaking
from reports import report
from reports.page import render
from reports.page.figures import FigureMaker

NUMBER = re.compile(r"\d(?:[\d.,\u202f]*\d)?")
# Three English words in a row; what people are not told is taken out before.
ENGLISH = re.compile(r"\b[A-Za-z]?[a-z]{2,}(?: [a-z]{2,}){2,}\b")
# What no reader is told; then names, commands and words of the record, which stay.
UNSEEN = re.compile(r"<(style|title|script)\b.*?</\1>", re.DOTALL)
KEPT = re.compile(r"<(code|pre)\b.*?</\1>|<[^>]*class=\"(?:arm|na)[^\"]*\"[^>]*>[^<]*<", re.DOTALL)
CODE = re.compile(r"[\w.-]*[/=:_][\w./=:-]+|--[\w-]+", re.ASCII)


# What the synthetic journals say that no run of this program says, and one key of the record.
MADE_UP = {
    "cores before the runclose other programs and repeat", "could not be loaded", "is on disk",
    "is not on disk and cannot be downloaded", "the kernel offers no cpufreq interface", "while it waited",
    "checkpoint of this run", "groups of images", "the covariance has not full rank", "the distance is biased upwards",
    "time limit min"}


def seen(html: str) -> str:
    """What a reader sees of a page."""
    text = UNSEEN.sub(" ", html)
    text = re.sub(r"</?(?:b|i|em|span|a|sub|sup)\b[^>]*>", "", text)
    return unescape(re.sub(r"<[^>]+>", "\n", text))


@pytest.fixture(params=["training", "sampling", "quality"])
def both(request, bilingual):
    """A run's page in English and in Chinese."""
    folder = bilingual[request.param]
    return tuple((folder / name).read_text(encoding="utf-8") for name in ("report.html", "report.zh.html"))


def test_no_number_differs_between_the_languages(both):
    english, chinese = (Counter(NUMBER.findall(seen(page))) for page in both)
    assert (english - chinese, chinese - english) == (Counter(), Counter())


def test_no_english_sentence_is_left_in_chinese(both):
    _, chinese = both
    assert sorted(set(ENGLISH.findall(CODE.sub(" ", seen(KEPT.sub(" ", chinese))))) - MADE_UP) == []


def test_a_page_says_in_which_language_it_is_and_links_to_the_other(both):
    english, chinese = both
    assert '<html lang="en">' in english and 'href="report.zh.html"' in english
    assert '<html lang="zh-Hans">' in chinese and 'href="report.html"' in chinese


def test_markdown_has_the_same_numbers_too(bilingual):
    texts = ((bilingual["training"] / name).read_text(encoding="utf-8") for name in ("report.md", "report.zh.md"))
    english, chinese = (Counter(NUMBER.findall(re.sub(r"\]\([^)]*\)", "]", text))) for text in texts)
    assert (english - chinese, chinese - english) == (Counter(), Counter())


def test_a_page_in_one_language_is_that_of_both(bilingual):
    run = read_run(bilingual["training"])
    with speaking("zh"):
        alone = render.html(report.report_of(run, FigureMaker()))
    text = (run.path / "report.zh.html").read_text(encoding="utf-8")
    assert set(seen(text).split()) - set(seen(alone).split()) == {"English"}
    assert set(seen(alone).split()) <= set(seen(text).split())
