"""What of the source is told to people: every marked message, and every sentence that nobody has marked."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from messages import several
from messages.templates import read

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("impls", "harness", "reports", "messages")
TEMPLATES = ROOT / "templates"
# Functions of this package whose first argument is a message.
MARKS = ("tell", "recorded", "marked")
PLURALS = ("plural", "recorded_plural")
# A sentence in quotes that is English for good: what no reader sees, or a program reads.
ENGLISH = "# English"
# Errors that only a fault of ours raises: they are seen with their traceback.
OURS = {"ValueError", "TypeError", "RuntimeError", "AssertionError", "KeyError", "AttributeError", "LookupError",
        "IndexError"}  # fmt: skip
# Functions whose strings are patterns or descriptions of a file format.
FORMATS = {"compile", "sub", "match", "fullmatch", "search", "findall", "finditer", "split", "Field", "Literal",
           "code"}  # fmt: skip
SENTENCE = re.compile(r"[A-Za-z]*[a-z]{2,}['a-z]*[,:;.]? \S*[a-z]{2,}|[a-z]{2,} \{\}|\{\}[,:;.]? [a-z]{2,}")


@dataclass(frozen=True)
class Message:
    """One message; of a count with both forms.

    Attributes:
        text: in English.
        many: its form for several, where it has one.
        places: where it stands, e.g. "reports/text.py:12".
    """

    text: str
    many: str | None = None
    places: list[str] = field(default_factory=list, compare=False)


@dataclass(frozen=True)
class Loose:
    """A sentence that is not marked."""

    place: str
    text: str


def files(*paths: Path) -> list[Path]:
    """Python files and templates below these paths; all without any."""
    found = [path if path.is_absolute() else ROOT / path for path in paths]
    found = found or [*(ROOT / package for package in PACKAGES), TEMPLATES, ROOT / "run_bench.py"]
    inner = [inner for path in found for inner in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    # The skeletons that are written for users are files of theirs.
    return [path for path in inner if path.suffix == ".py" and path.parent != TEMPLATES
            or path.suffix in (".html", ".md") and path.parent == TEMPLATES]  # fmt: skip


def messages(*paths: Path) -> list[Message]:
    """Every message in these files, each once."""
    found: dict[tuple[str, str | None], Message] = {}
    for path in files(*paths):
        for text, many, line in (_in_template if path.parent == TEMPLATES else _in_python)(path):
            message = found.setdefault((text, many), Message(text, many))
            message.places.append(f"{path.relative_to(ROOT).as_posix()}:{line}")
    return list(found.values())


def loose(*paths: Path) -> list[Loose]:
    """Every sentence in these files that is not marked."""
    return [one for path in files(*paths) if path.suffix == ".py" for one in _loose(path)]


def _in_template(path: Path) -> Iterator[tuple[str, str | None, int]]:
    from jinja2.ext import babel_extract

    with path.open("rb") as file:
        options = {"trimmed": "true", "silent": "false", "encoding": "utf-8", "trim_blocks": "true",
                   "lstrip_blocks": "true"}
        for line, _, message, _ in babel_extract(file, ("gettext", "ngettext", "_"), (), options):
            one, many = message[:2] if isinstance(message, tuple | list) else (message, None)
            yield read(one or ""), read(many) if many else None, line


def _in_python(path: Path) -> Iterator[tuple[str, str | None, int]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield from ((*message, node.lineno) for message in _in_call(node))


def _in_call(node: ast.Call) -> Iterator[tuple[str, str | None]]:
    name = _name(node.func)
    said = [one.value if isinstance(one, ast.Constant) and isinstance(one.value, str) else None for one in node.args]
    first, second, third = (*said, None, None, None)[:3]
    if name in MARKS and first is not None:
        yield first, None
    elif name == "words":
        yield from ((one, None) for one in said if one is not None)
    elif name in PLURALS and second is not None:
        yield f"{{n}} {second}", f"{{n}} {third or several(second)}"
    elif name == "choice" and second is not None:
        yield second, third


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _loose(path: Path) -> Iterator[Loose]:
    source = path.read_text(encoding="utf-8")
    lines, place = source.splitlines(), path.relative_to(ROOT).as_posix()
    for node in _outside(ast.parse(source)):
        text = _text(node)
        if SENTENCE.search(text) and ENGLISH not in "\n".join(lines[node.lineno - 1 : node.end_lineno]):
            yield Loose(f"{place}:{node.lineno}", text)


def _text(node: ast.expr) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(str(one.value) if isinstance(one, ast.Constant) else "{}" for one in node.values)
    return str(node.value) if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _outside(node: ast.AST) -> Iterator[ast.expr]:
    """Strings that are neither docstrings nor marked, nor what only a fault of ours or a pattern says."""
    if isinstance(node, ast.JoinedStr | ast.Constant):
        yield node
    for inner in _inner(node):
        yield from _outside(inner)


def _inner(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return
    if isinstance(node, ast.JoinedStr):
        yield from (part.value for part in node.values if isinstance(part, ast.FormattedValue))
    elif isinstance(node, ast.Call) and _name(node.func) in (*MARKS, *PLURALS, "words", "choice"):
        # What stands in the places may hold sentences of its own.
        yield from (one for one in node.args if not isinstance(one, ast.Constant))
        yield from (one.value for one in node.keywords)
    elif not isinstance(node, ast.Call | ast.Subscript) or _name(_head(node)) not in OURS | FORMATS:
        for name, inner in ast.iter_fields(node):
            # A type in quotes is no sentence.
            if name not in ("annotation", "returns"):
                yield from (one for one in (inner if isinstance(inner, list) else [inner]) if isinstance(one, ast.AST))


def _head(node: ast.Call | ast.Subscript) -> ast.expr:
    return node.func if isinstance(node, ast.Call) else node.value
