"""An argument parser whose faults are one line and whose help can be read in any terminal."""

from __future__ import annotations

import argparse
import re
import shutil
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from impls import VERSION
from impls.errors import UsageError
from messages import LANGUAGES, tell

NARROWEST, WIDEST = 40, 100


class Help(argparse.HelpFormatter):
    """Help of a width that people can read, whatever COLUMNS says; a switch with the answer that it is for."""

    def __init__(self, prog: str) -> None:
        columns = shutil.get_terminal_size().columns
        super().__init__(prog, max_help_position=26, width=min(max(columns, NARROWEST), WIDEST) - 2)

    def _split_lines(self, text: str, width: int) -> list[str]:
        wrapper = textwrap.TextWrapper(width, break_long_words=False, break_on_hyphens=False)
        return [line for part in text.splitlines() for line in wrapper.wrap(" ".join(part.split()))]

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if isinstance(action, Switch):
            return ", ".join(action.option_strings if action.usual else action.option_strings[:1])
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        value = action.metavar or "|".join(map(str, action.choices or ())) or action.dest.upper()
        return f"{action.option_strings[0]} {value}" + (" ..." if action.nargs == "+" else "")


class Switch(argparse.Action):
    """A yes-or-no option: `--name`, `--name=true`, `--name true`; `--no-name` and false for the contrary.

    Attributes:
        usual: the answer where nothing is said.
    """

    def __init__(self, option_strings: Sequence[str], dest: str, usual: bool = False, **settings: Any) -> None:
        name, self.usual = option_strings[0][2:], usual
        super().__init__([f"--{name}", f"--no-{name}"], dest, nargs="?", **settings)

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any,
                 option_string: str | None = None) -> None:
        """Note the answer."""
        negated = (option_string or "").startswith("--no-")
        word = "true" if values is None else str(values).lower()
        if word not in ("true", "false") or (negated and values is not None):
            raise argparse.ArgumentError(None, f"{option_string}: expected {'no value' if negated else 'true or false'}"
                                               f", got {values!r}")
        setattr(namespace, self.dest, (word == "true") != negated)


class Spoken(argparse.Action):
    """`--lang`: checked here and heeded before, by `process.run`, so that faults are told in that language too."""

    def __init__(self, option_strings: Sequence[str], dest: str, **settings: Any) -> None:
        super().__init__(option_strings, dest, default=argparse.SUPPRESS, **settings)

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any,
                 option_string: str | None = None) -> None:
        """Leave one language; more of them are the command's own matter."""
        if values not in LANGUAGES:
            setattr(namespace, self.dest, values)


class Parser(argparse.ArgumentParser):
    """An argument parser without abbreviations; every command has `--version` and `--lang`.

    Args:
        more_languages: what `--lang` may say beside one language.
        settings: of argparse.
    """

    def __init__(self, more_languages: Sequence[str] = (), **settings: Any) -> None:
        super().__init__(**{"allow_abbrev": False, "formatter_class": Help, **settings})
        self.add_argument("--lang", action=Spoken, choices=(*LANGUAGES, *more_languages),
                          help=tell("language of the terminal and of pages (default: by LANG)"))
        self.add_argument("--version", action="version", version=f"ddpm-bench {VERSION}",
                          help=tell("show the version and exit"))

    def error(self, message: str) -> NoReturn:
        """Turn a fault into the project's exception.

        Raises:
            UsageError: always.
        """
        told = re.sub(r"^argument (--\S+?)(?:/\S+)?: ", r"\1: ", message)
        told = re.sub(r": expected (one|at least one) argument$", ": its value is missing (one that begins with - is "
                      "written --name=-1)", told)
        raise UsageError(f"{told} (see {self.prog} --help)")


def one_of(words: Sequence[str]) -> Callable[[str], str]:
    """What parses an option's value as one of these words."""
    def word(text: str) -> str:
        if text not in words:
            raise argparse.ArgumentTypeError(f"invalid choice {text[:80]!r}: choose from {', '.join(words)}")
        return text
    return word


def perhaps(kind: Callable[[str], Any]) -> Callable[[str], Any]:
    """What parses an option's value as one of its kind, or "none", which takes back what a file says."""
    return lambda text: None if text in ("none", "None") else kind(text)


def _number(kind: Callable[[str], Any], what: str) -> Callable[[str], Any]:
    def number(text: str) -> Any:
        try:
            return kind(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"expected {what}, got {text[:80]!r}") from error
    return number


# What parse an option's value.
whole_number, any_number = _number(int, "a whole number"), _number(float, "a number")
