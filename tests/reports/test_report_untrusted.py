"""Names, messages and logs come from elsewhere: nothing in them may become markup, in any of the files written."""

from __future__ import annotations

import html
import re
import shlex
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest
import synthetic
from conftest import Built

from reports.page import render


class Tags(HTMLParser):
    """Collects every start tag with its attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def does_nothing(page: str, pictures: bool = False) -> None:
    """A page that runs nothing and leads nowhere; the pictures of one that may have any are inside it."""
    for tag, attributes in Tags(page).tags:
        assert tag not in ("script", "iframe", "object", "form", "base") and (pictures or tag != "img")
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("href", "src", "xlink:href", "action", "srcset"):
            value = attributes.get(name)
            shown = tag == "img" and name == "src" and str(value).startswith(("data:image/png;", "data:image/gif;"))
            assert shown or value is None or value.startswith("#") or value == "data:,", (tag, name, value)


def outside_code(markdown: str) -> str:
    """The text without its code blocks, in which everything is literal."""
    return re.sub(r"(?ms)^(`{3,})text\n.*?\n\1$", "", markdown)


def test_a_hostile_arm_name_is_shown_and_does_nothing(nasty: Built) -> None:
    assert "alert" in nasty.html
    does_nothing(nasty.html)
    assert "<script" not in nasty.html.lower() and "<script" not in outside_code(nasty.markdown).lower()


def test_the_style_leads_only_into_the_page(nasty: Built) -> None:
    style = "".join(re.findall(r"<style>.*?</style>", nasty.html, flags=re.S))
    assert "@import" not in style and not re.search(r"url\((?!#)", nasty.html)


def test_the_page_forbids_scripts_and_network_to_itself(nasty: Built) -> None:
    policy = next(attrs["content"] for tag, attrs in Tags(nasty.html).tags if attrs.get("http-equiv"))
    assert policy and policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:")
    assert "script-src" not in policy


def test_figures_escape_what_they_show(nasty: Built) -> None:
    files = sorted((nasty.folder / "figures").glob("*.svg"))
    assert files
    for file in files:
        root = ET.fromstring(file.read_text(encoding="utf-8"))
        assert not [element for element in root.iter() if element.tag.split("}")[-1] in ("script", "image", "a")], file


def test_markdown_keeps_hostile_text_inside_its_cell_and_its_line(nasty: Built) -> None:
    tables = re.findall(r"(?m)^\|.*$", nasty.markdown)
    widths = [len(re.findall(r"(?<!\\)\|", line)) for line in tables]
    heads = [i for i, line in enumerate(tables) if line.startswith("|---")]
    for first, after in zip(heads, [*heads[1:], len(tables) + 1], strict=True):
        assert len(set(widths[first - 1 : after - 1])) == 1, tables[first - 1]
    text = outside_code(nasty.markdown)
    assert not re.search(r"(?m)^# not a heading", text)
    assert not re.search(r"(?<!\\)\]\(http", text)


def test_a_log_cannot_end_its_code_block(nasty: Built) -> None:
    block = re.search(r"(?ms)^(`{4,})text\n```\n.*?\n\1$", nasty.markdown)
    assert block and "\x1b" not in nasty.markdown and "\x1b" not in nasty.html


def test_the_command_can_be_pasted(nasty: Built) -> None:
    label = nasty.html.index("The command of this run")
    code = re.search(r"<code>(.*?)</code>", nasty.html[label:], flags=re.S)
    assert code
    assert shlex.split(html.unescape(code[1]))[:4] == [
        "python", "run_bench.py", "--out", "my results; rm -rf '$HOME'",
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["a*b_c`d[e]|f", "# head", "- item", "1. item", "<b>&", "$x$", "~~gone~~", "a\nb"])
def test_markdown_text_is_literal(text: str) -> None:
    shown = str(render.markdown_text(text))
    assert "\n" not in shown and "<" not in shown
    assert html.unescape(re.sub(r"\\(.)", r"\1", shown)) == text.replace("\n", " ")
    assert not re.match(r"(#|-|\d+\.)\s", shown)


def test_the_whole_hostile_name_survives_to_the_reader(nasty: Built) -> None:
    assert synthetic.NASTY.replace("\n", " ") in " ".join(html.unescape(nasty.html).split("\n"))
