"""Command lines from typed settings: every fault becomes one line, and dashes and underscores are the same."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from impls.errors import UsageError
from impls.recipe.config import Frozen, first_fault, is_text, read_json

Settings = TypeVar("Settings", bound=Frozen)
EXPERIMENT = "experiment"
COMMAND_LINE_ONLY = ("config", "config_path")


def alias(word: str) -> str:
    """`--config_path` is another name of `--config`; underscores and dashes are the same in option names."""
    if not word.startswith("--"):
        return word
    name, equals, value = word.partition("=")
    name = "--" + name[2:].replace("_", "-")
    return ("--config" if name == "--config-path" else name) + equals + value


def flags(argv: Sequence[str], settings: type[Frozen]) -> list[str]:
    """`argv` with `--name=true` and `--name true` of a yes-or-no option as `--name`, and false as `--no-name`."""
    names = {"--" + name.replace("_", "-") for name, field in settings.model_fields.items() if field.annotation is bool}
    words: list[str] = []
    for word in argv:
        name, equals, value = word.partition("=")
        if equals and name in names and value.lower() in ("true", "false"):
            words.append(name if value.lower() == "true" else "--no-" + name[2:])
        elif words and words[-1] in names and word.lower() in ("true", "false"):
            words[-1] = words[-1] if word.lower() == "true" else "--no-" + words[-1][2:]
        else:
            words.append(word)
    return words


def command_line(argv: Sequence[str], base: Settings, prog: str) -> Settings:
    """`base` with the options of `argv` laid over it.

    Raises:
        UsageError: tyro refused an option; its box of lines becomes one; or a word is no UTF-8.
        SystemExit: `--help`, with status 0.
    """
    import tyro

    for word in argv:
        if not is_text(word):
            # Journals, logs and configuration files are UTF-8, and they hold the options.
            raise UsageError(f"{word!r:.80}: holds bytes that are no UTF-8: rename the file or folder")
    noise = io.StringIO()
    try:
        with contextlib.redirect_stderr(noise):
            parsed: Settings = tyro.cli(type(base), prog=prog, args=list(argv), default=base)
    except SystemExit as stop:
        if not stop.code:
            raise
        raise UsageError(one_line(noise.getvalue(), prog)) from stop
    except AssertionError as error:
        # So tyro refuses the shell of its own options for completion.
        raise UsageError(f"{' '.join(str(error).split())} (see {prog} --help)") from error
    return parsed


def said(message: object) -> str:
    """A message for the terminal on one line, whatever a file name in it is made of."""
    return " ".join(str(message).encode("utf-8", "backslashreplace").decode("utf-8").split())


def one_line(box: str, prog: str) -> str:
    """The message inside tyro's error box, without the frame, the help text and the line breaks."""
    words: list[str] = []
    for line in box.splitlines()[1:]:
        inner = line.strip("│╭╮╰╯ \t")
        # Where stdout is not UTF-8, tyro draws no frame, only lines of "-" below the title and between the parts.
        if inner and not inner.strip("─-"):
            if words:
                break
            continue
        words += inner.split()
    text = " ".join(words) or "the command line cannot be understood"
    number = re.match(r"Error parsing (--\S+): no type matching \{None\}\|(\w+) could be \w+ from \[(.*?)\]", text)
    if number:
        kind = {"INT": "a whole number", "FLOAT": "a number"}.get(number[2], "a text")
        text = f"{number[1]}: expected {kind}, got {number[3]}"
    text = re.sub(r"^Error parsing (--\S+): ", r"\1: ", text)
    return f"{text.rstrip('.')} (see {prog} --help)"


def option_file(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options and experiment overrides of a `--config` file; dashes and underscores are the same in its keys.

    Raises:
        UsageError: no JSON object, or one that names a file to read itself.
    """
    data = {key.replace("-", "_"): value for key, value in read_json(path).items()}
    overrides = data.pop(EXPERIMENT, {})
    for key in COMMAND_LINE_ONLY:
        if key in data:
            raise UsageError(f"{path}: {key!r} belongs on the command line, not into the file")
    return data, overrides


def validated(settings: type[Settings], data: Mapping[str, Any], source: object) -> Settings:
    """The options that such a file holds.

    Raises:
        UsageError: an unknown key, which is answered with the known ones, or a wrong value.
    """
    try:
        return settings.model_validate(data)
    except ValidationError as error:
        known = ", ".join(name for name in settings.model_fields if name not in COMMAND_LINE_ONLY)
        more = f" (known: {known}, {EXPERIMENT})" if "unknown key" in first_fault(error) else ""
        raise UsageError(f"{source}: {first_fault(error)}{more}") from error


def check_ranges(options: Frozen, least: Mapping[str, int], where: str = "") -> None:
    """Make sure that options which are given are no less than the least that makes sense, and seeds fit their streams.

    Raises:
        UsageError: one is not; the message begins with `where`.
    """
    for name, low in least.items():
        value = getattr(options, name)
        if value is not None and value < low:
            raise UsageError(f"{where}--{name.replace('_', '-')}: must be at least {low}, got {value}")
    seed = getattr(options, "seed", None)
    if seed is not None and seed >= 2**63:
        raise UsageError(f"{where}--seed: must be below 2**63, got {seed}")


def option(argv: Sequence[str], name: str) -> str | None:
    """The last value of the option `name` in a command line that is not parsed yet, since `--config` holds defaults."""
    found = None
    for word, following in zip(argv, [*argv[1:], None], strict=False):
        if word == name and following is not None:
            found = following
        elif word.startswith(f"{name}="):
            found = word.partition("=")[2]
    return found
