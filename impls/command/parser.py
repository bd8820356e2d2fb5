"""An argument parser whose faults are one line and whose help can be read in any terminal."""

from __future__ import annotations

import argparse
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

from impls import VERSION
from impls.command.columns import width as columns
from impls.command.columns import wrapped
from impls.errors import UsageError
from messages import LANGUAGES, marked, shown, tell

NARROWEST, WIDEST = 40, 100
# What argparse itself says of a command line that it cannot read.
REQUIRED = marked("the following arguments are required: {names}")
ARGPARSE = (
    REQUIRED,
    marked("unrecognized arguments: {words}"),
    marked("{option}: invalid choice: {value} (choose from {choices})"),
    marked("{option}: not allowed with argument {other}"),
    marked("{option}: ignored explicit argument {value}"),
    marked("{option}: its value is missing (one that begins with - is written --name=-1)"),
    marked("one of the arguments {names} is required"),
    marked("argument {name}: invalid choice: {value} (choose from {choices})"),
)


class Help(argparse.HelpFormatter):
    """Help of a width that people can read, whatever COLUMNS says; a switch with the answer that it is for."""

    def __init__(self, prog: str) -> None:
        there = shutil.get_terminal_size().columns
        super().__init__(prog, max_help_position=26, width=min(max(there, NARROWEST), WIDEST) - 2)

    def add_usage(self, usage: str | None, actions: Iterable[argparse.Action], groups: Iterable[Any],
                  prefix: str | None = None) -> None:
        """How the command is called."""
        super().add_usage(usage, actions, groups, tell("usage: ") if prefix is None else prefix)

    def _split_lines(self, text: str, width: int) -> list[str]:
        return [line for part in text.splitlines() for line in wrapped(part, width)]

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if columns(text) == len(text):
            return super()._fill_text(text, width, indent)
        return "\n".join(indent + line for line in wrapped(text, width - len(indent)))

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
            message = (tell("{option}: expected no value, got {value}", option=option_string, value=repr(values))
                       if negated else
                       tell("{option}: expected true or false, got {value}", option=option_string, value=repr(values)))
            raise argparse.ArgumentError(None, message)
        setattr(namespace, self.dest, (word == "true") != negated)


class Spoken(argparse.Action):
    """`--lang`: checked here and heeded before, by `process.run`, so that faults are told in that language too."""

    def __init__(self, option_strings: Sequence[str], dest: str, **settings: Any) -> None:
        super().__init__(option_strings, dest, **{**settings, "default": argparse.SUPPRESS})

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
        super().__init__(**{"allow_abbrev": False, "formatter_class": Help, "add_help": False, **settings})
        self._positionals.title, self._optionals.title = tell("positional arguments"), tell("options")
        self.add_argument("-h", "--help", action="help", help=tell("show this help message and exit"))
        self.add_argument("--lang", action=Spoken, choices=(*LANGUAGES, *more_languages),
                          help=tell("language of the terminal and of pages (default: by LANG)"))
        self.add_argument("--version", action="version", version=f"ddpm-bench {VERSION}",  # English
                          help=tell("show the version and exit"))

    def format_help(self) -> str:
        """The help, with a colon of its language after each title."""
        text = super().format_help()
        for title in (self._positionals.title, self._optionals.title):
            text = text.replace(f"\n{title}:\n", "\n" + tell("{title}:", title=title) + "\n")
        return text

    def error(self, message: str) -> NoReturn:
        """Turn a fault into the project's exception.

        Raises:
            UsageError: always.
        """
        told = re.sub(r"^argument (--\S+?)(?:/\S+)?: ", r"\1: ", message)
        told = re.sub(r": expected (one|at least one) argument$", ": its value is missing (one that begins with - is "
                      "written --name=-1)", told)
        raise UsageError(tell("{fault} (see {command} --help)", fault=_fault(told), command=self.prog))


def _fault(told: str) -> str:
    """What argparse says, in the reader's language; names of arguments, and what we say of a value, as they are."""
    if told.startswith(head := REQUIRED.removesuffix("{names}")):
        return tell(REQUIRED, names=told.removeprefix(head))
    option, _, fault = told.partition(": ")
    again = shown(told)
    return tell("{option}: {fault}", option=option, fault=shown(fault)) if again == told and fault else again


def one_of(words: Sequence[str]) -> Callable[[str], str]:
    """What parses an option's value as one of these words."""
    def word(text: str) -> str:
        if text not in words:
            raise argparse.ArgumentTypeError(tell("invalid choice {value}: choose from {choices}",
                                                  value=repr(text[:80]), choices=", ".join(words)))
        return text
    return word


def perhaps(kind: Callable[[str], Any]) -> Callable[[str], Any]:
    """What parses an option's value as one of its kind, or "none", which takes back what a file says."""
    return lambda text: None if text in ("none", "None") else kind(text)


def _number(kind: Callable[[str], Any], message: str) -> Callable[[str], Any]:
    def number(text: str) -> Any:
        try:
            return kind(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(tell(message, value=repr(text[:80]))) from error
    return number


# What parse an option's value.
whole_number = _number(int, marked("expected a whole number, got {value}"))
any_number = _number(float, marked("expected a number, got {value}"))
