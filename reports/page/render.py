"""Turns a page's blocks into self-contained HTML, and into Markdown of the same facts."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from reports.page.blocks import Report
from reports.text import printable

TEMPLATES = Path(__file__).resolve().parents[2] / "templates"


def html(report: Report) -> str:
    """The report as one self-contained page."""
    return html_environment().get_template("report.html").render(report=report)


def markdown(report: Report) -> str:
    """The report as Markdown, with its pictures beside it in figures/."""
    text = markdown_environment().get_template("report.md").render(report=report)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


@cache
def html_environment() -> Environment:
    """Templates whose every value is escaped; SVG drawn by this program, whose texts are, passes through `inline`."""
    return _environment(_clean, inline=Markup)


@cache
def markdown_environment() -> Environment:
    """Templates whose every value is escaped for Markdown, HTML included."""
    return _environment(markdown_text, fenced=fenced, address=address)


def _environment(finalize: Callable[[object], object], **filters: Callable[[str], Markup]) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=finalize,
    )
    environment.filters.update(filters)
    return environment


def markdown_text(value: object) -> Markup:
    """A value as one line of literal Markdown text: nothing in it is markup, a cell break or HTML."""
    if isinstance(value, Markup):
        return value
    line = " ".join(printable(value).split("\n"))
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # Escaping every special character is ugly to read; only those that can start something at their place are.
    line = re.sub(r"([\\`*_\[\]|~$])", r"\\\1", line)
    line = re.sub(r"^(\s*)([#+-]|\d+[.)])(?=\s)", r"\1\\\2", line)
    return Markup(
        re.sub(r"!(?=\\\[)", r"\\!", re.sub(r"(?i)\b(https?|ftp|www)(?=[:.])", "\\1\N{ZERO WIDTH NON-JOINER}", line))
    )


def address(link: str) -> Markup:
    """A quoted relative address; brackets and other marks that Markdown reads are quoted too."""
    return Markup(re.sub(r"[^A-Za-z0-9/._%-]", lambda mark: quote(mark[0], safe=""), link))


def fenced(text: str) -> Markup:
    """Text as a code block, fenced by more backticks than it holds."""
    plain = printable(text)
    longest = max((len(run) for run in re.findall(r"`+", plain)), default=0)
    fence = "`" * max(3, longest + 1)
    return Markup(f"{fence}text\n{plain}\n{fence}")


def _clean(value: object) -> object:
    """Strip control characters from text before it is escaped."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def page(template: str, **values: object) -> str:
    """Any other page, such as the index."""
    return html_environment().get_template(template).render(**values)
