"""Turns a page's blocks into self-contained HTML, and into Markdown of the same facts."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from messages import language, marked, tell
from messages.templates import install
from reports.page import font
from reports.page.blocks import Report, Table
from reports.text import NA, UNPRINTABLE, Value, printable

TEMPLATES = Path(__file__).resolve().parents[2] / "templates"
# Words of a journal that templates tell: what became of a run, and how grave a finding is.
RECORDED = (marked("complete"), marked("failed"), marked("interrupted"), marked("unfinished"), marked("damaged"),
            marked("Error"), marked("Warning"), marked("Info"))  # fmt: skip


def html(report: Report) -> str:
    """The report as one self-contained page."""
    return page("report.html", report=report)


def markdown(report: Report) -> str:
    """The report as Markdown, with its pictures beside it in figures/."""
    text = markdown_environment().get_template("report.md").render(report=report)
    return closed_up(text)


@cache
def html_environment() -> Environment:
    """Templates whose every value is escaped; SVG drawn by this program, whose texts are, passes through `inline`."""
    return _environment(_clean, inline=Markup, grid=grid)


@cache
def markdown_environment() -> Environment:
    """Templates whose every value is escaped for Markdown, HTML included."""
    return _environment(markdown_text, fenced=fenced, address=address, lines=lines, literal=markdown_text)


def _environment(finalize: Callable[[object], object], **filters: Callable[..., Markup]) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n"],
        finalize=finalize,
    )
    environment.filters.update(filters, told=tell)
    install(environment)
    return environment


# What no Markdown reader takes for anything but text, such as most numbers and names.
PLAIN = re.compile(r"(?!\d+[.)] )(?!.*www)[A-Za-z0-9][A-Za-z0-9 ,.%/()\N{MICRO SIGN}\N{EN DASH}\u202f]*")


def lines(table: Table) -> Markup:
    """A table."""
    heads = "".join(f"{markdown_cell(value)} | " for value in table.head)
    rows = "".join("| " + "".join([f"{markdown_cell(value)} | " for value in row]) + "\n" for row in table.rows)
    return Markup(f"{markdown_text(table.caption)}{tell(':')}\n\n| {heads}\n|{'---|' * len(table.head)}\n{rows}")


def markdown_cell(value: Value) -> str:
    """What stands in a cell."""
    text = str(markdown_text(value.text))
    if value.link:
        text = f"[{text}]({address(value.link)})"
    return tell("{text} ({reason})", text=text, reason=markdown_text(value.note)) if value.note else text


def closed_up(text: str) -> str:
    """Markdown without what a template leaves too much: empty lines, and spaces behind Chinese punctuation."""
    text = re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"
    return text if language() == "en" else re.sub(r"(?<=[\u3001\u3002\uff01-\uff1f]) (?=[^\s|])", "", text)


def markdown_text(value: object) -> Markup:
    """A value as one line of literal Markdown text: nothing in it is markup, a cell break or HTML."""
    if isinstance(value, Markup):
        return value
    if PLAIN.fullmatch(str(value)):
        return Markup(value)
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


# With more columns than these a table stands on a phone, or on a small tablet too, with a line for every cell.
MOST_ON_PHONE, MOST_ON_TABLET = 3, 6


def grid(table: Table) -> Markup:
    """A table; where its columns may find no room side by side, every cell carries the name of its column.

    In Python, because a page has thousands of cells and a template takes ten times as long for each.
    """
    columns = len(table.head)
    names = [f' data-of="{escaped(value.text)}"' if columns > MOST_ON_PHONE else "" for value in table.head]
    sort = "facts" if columns == 2 else ""
    if columns > MOST_ON_PHONE:
        sort = "spread" if columns > MOST_ON_TABLET else "stack"
    heads = "".join(f'<th scope="col">{cell(value)}</th>' for value in table.head)  # English
    rows = "".join(
        f'<tr><th scope="row">{cell(first)}</th>'  # English
        + "".join([f"<td{name}>{cell(value)}</td>" for name, value in zip(names[1:], rest, strict=True)]) + "</tr>\n"
        for first, *rest in table.rows
    )  # fmt: skip
    marked = f' class="{sort}"' if sort else ""
    return Markup(f'<table{marked} aria-label="{escaped(table.caption)}">\n<thead><tr>{heads}</tr></thead>\n'
                  f"<tbody>\n{rows}</tbody>\n</table>")  # English


# What HTML reads, and what is never shown.
MARKS = re.compile(f"[&<>\"']|{UNPRINTABLE.pattern}")


def cell(value: Value) -> str:
    """What stands in a cell."""
    text = escaped(value.text)
    if value.text == NA:
        text = f'<span class="na">{text}</span>'  # English
    elif value.slot:
        text = f'<span class="arm arm-{escape(value.slot)}">{text}</span>'  # English
    elif value.link:
        text = f'<a href="{escape(value.link)}" download>{text}</a>'
    elif value.mark:
        text = f'<span class="{value.mark}">{text}</span>'  # English
    return f"{text}<small>{escaped(value.note)}</small>" if value.note else text


def escaped(text: str) -> str:
    """Text for HTML; most needs nothing."""
    return str(escape(printable(text))) if MARKS.search(text) else text


def _clean(value: object) -> object:
    """Strip control characters from text before it is escaped."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def page(template: str, **values: object) -> str:
    """Any page, such as the index; with the letters of its language."""
    text = html_environment().get_template(template).render(**values)
    letters = font.face(text)
    # What a page tells is escaped: this is the end of its head.
    return text.replace("</head>", f"<style>{letters}{font.PAGE}</style>\n</head>", 1) if letters else text
