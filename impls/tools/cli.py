"""Command lines from typed settings: every fault becomes one line, and dashes and underscores are the same."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from impls.command.parser import Parser, Switch, any_number, one_of, perhaps, whole_number
from impls.errors import UsageError
from impls.recipe.config import Frozen, first_fault, is_text, read_json, unknown_key
from messages import marked, shown, tell

Settings = TypeVar("Settings", bound=Frozen)
EXPERIMENT = "experiment"
EPILOG = marked("Names of options may have - or _. What was switched on, by a file too, is switched off by --no-NAME, "
                "and what a file says of an option without a default is taken back by the word none.")
COMMAND_LINE_ONLY = ("config", "config_path")


@dataclass(frozen=True)
class Shown:
    """How an option of a settings model stands in its help, as an annotation of the field.

    Attributes:
        value: what its value is called.
        name: of the option, where the field cannot have that name.
        more: what its help says behind the description.
    """

    value: str
    name: str | None = None
    more: Callable[[], str] = str


PathText = Annotated[str, Shown("PATH")]
NameText = Annotated[str, Shown("NAME")]


def alias(word: str) -> str:
    """`--config_path` is another name of `--config`; underscores and dashes are the same in option names."""
    if not word.startswith("--"):
        return word
    name, equals, value = word.partition("=")
    name = "--" + name[2:].replace("_", "-")
    return ("--config" if name == "--config-path" else name) + equals + value


def command_line(argv: Sequence[str], base: Settings, prog: str, about: str = "") -> Settings:
    """`base` with the options of `argv` laid over it.

    Args:
        argv: the words of the command line.
        base: what holds where it says nothing.
        prog: the command.
        about: what it does, for its help.

    Raises:
        UsageError: an option is unknown, or its value is wrong; or a word is no UTF-8.
        SystemExit: `--help` or `--version`, with status 0.
    """
    for word in argv:
        if not is_text(word):
            # Journals, logs and configuration files are UTF-8, and they hold the options.
            encoding = sys.getfilesystemencoding()
            raise UsageError(tell("{word}: holds bytes that are no UTF-8: rename the file or folder",
                                  word=f"{word!r:.80}") if encoding == "utf-8" else
                             tell("{word}: file names are {encoding} in this locale, which has not all these "
                                  "characters: set PYTHONUTF8=1", word=f"{word!r:.80}", encoding=encoding))
    parsed = vars(parser(base, prog, about).parse_args(argv))
    given = {name: value if not isinstance(value, list) else () if value == ["none"] else tuple(value)
             for name, value in parsed.items()}
    try:
        return type(base).model_validate({**base.model_dump(), **given})
    except ValidationError as error:
        raise UsageError(tell("--{fault} (see {command} --help)", fault=shown(first_fault(error)),
                              command=prog)) from error


def parser(base: Frozen, prog: str, about: str) -> Parser:
    """The command line of a settings model; only options that were given appear in what it parses."""
    made = Parser(prog=prog, usage=tell("{prog} [options]", prog=prog), description=tell(about),
                  epilog=tell(EPILOG), argument_default=argparse.SUPPRESS)
    for name, field in type(base).model_fields.items():
        _add(made, name, field, getattr(base, name))
    return made


def _add(made: Parser, name: str, field: FieldInfo, default: Any) -> None:
    parts = list(_parts(field.annotation))
    named = next((one for one in [*field.metadata, *parts] if isinstance(one, Shown)), None)
    text = shown(field.description or "") + (named.more() if named else "")
    if isinstance(default, bool):
        text += tell(" (default: yes)") if default else ""
    elif default not in (None, (), "") and "(default" not in (field.description or ""):
        text += tell(" (default: {value})", value=default)
    how: dict[str, Any] = {"dest": name, "help": text.replace("%", "%%")}
    words = next((get_args(one) for one in parts if get_origin(one) is Literal), None)
    kind: Callable[[str], Any]
    if bool in parts:
        how |= {"action": Switch, "usual": default}
    else:
        kind, value = (whole_number, "N") if int in parts else (any_number, "X") if float in parts else (str, "TEXT")
        if words is not None:
            kind, value = one_of(words), "|".join(words)
        how |= {"type": perhaps(kind) if type(None) in parts else kind, "metavar": named.value if named else value}
        if tuple in parts:
            how |= {"action": "extend", "nargs": "+"}
    made.add_argument(f"--{(named and named.name) or name.replace('_', '-')}", **how)


def _parts(annotation: Any) -> Iterator[Any]:
    """A type, and all that it is made of."""
    yield get_origin(annotation) or annotation
    if get_origin(annotation) is Literal:
        yield annotation
        return
    for part in (*get_args(annotation), *getattr(annotation, "__metadata__", ())):
        yield from _parts(part)


def option_file(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options and experiment overrides of a `--config` file; dashes and underscores are the same in its keys.

    Raises:
        UsageError: no JSON object, or one that names a file to read itself.
    """
    data = {key.replace("-", "_"): value for key, value in read_json(path).items()}
    overrides = data.pop(EXPERIMENT, {})
    for key in COMMAND_LINE_ONLY:
        if key in data:
            raise UsageError(tell("{path}: {key} belongs on the command line, not into the file", path=path,
                                  key=repr(key)))
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
        more = tell(" (known: {names})", names=f"{known}, {EXPERIMENT}") if unknown_key(error) else ""
        raise UsageError(f"{source}: {shown(first_fault(error))}{more}") from error


def check_ranges(options: Frozen, least: Mapping[str, int], where: str = "") -> None:
    """Make sure that options which are given are no less than the least that makes sense, and seeds fit their streams.

    Raises:
        UsageError: one is not; the message begins with `where`.
    """
    for name, low in least.items():
        value = getattr(options, name)
        if value is not None and value < low:
            raise UsageError(tell("{where}--{name}: must be at least {low}, got {value}", where=where,
                                  name=name.replace("_", "-"), low=low, value=value))
    seed = getattr(options, "seed", None)
    if seed is not None and seed >= 2**63:
        raise UsageError(tell("{where}--seed: must be below 2**63, got {seed}", where=where, seed=seed))


def option(argv: Sequence[str], name: str) -> str | None:
    """The last value of the option `name` in a command line that is not parsed yet, since `--config` holds defaults."""
    found = None
    for word, following in zip(argv, [*argv[1:], None], strict=False):
        if word == name and following is not None:
            found = following
        elif word.startswith(f"{name}="):
            found = word.partition("=")[2]
    return found
