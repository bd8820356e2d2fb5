"""What this program says to people, in the reader's language: one catalogue for pages, terminal and errors.

Messages stand in the code in English, whole sentences with named places, as `tell("{arm} takes {time}", arm=..., ...)`.
Their translations stand in `messages/LANGUAGE/*.po`. Journals are English, whoever runs: what is written there is
made by `recorded`, and `shown` finds its translation again when somebody reads it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from messages.recognise import Reader

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = get_args(Language)
# BCP 47, for pages.
TAGS: Mapping[Language, str] = {"en": "en", "zh": "zh-Hans"}
# Before the locale's; processes whose words are recorded are given English by it.
VARIABLE = "DDPM_BENCH_LANG"
FOLDER = Path(__file__).parent


@dataclass
class _Speaker:
    # Of the process, not of a thread: whoever shows progress speaks as the others do.
    language: Language = "en"
    pairs: dict[str, str] | None = None
    kept: frozenset[str] = frozenset()


_speaker = _Speaker()


def language() -> Language:
    """The language in which `tell` speaks."""
    return _speaker.language


def use(chosen: Language) -> None:
    """Speak this language from now on."""
    _speaker.language = chosen


@contextmanager
def speaking(chosen: Language) -> Iterator[None]:
    """Speak this language for as long as the context lasts."""
    before, _speaker.language = _speaker.language, chosen
    try:
        yield
    finally:
        _speaker.language = before


def preferred(environment: Mapping[str, str] = os.environ) -> Language:
    """The language that an environment asks for: by our own variable, else by its locale; or else English."""
    for name in (VARIABLE, "LC_ALL", "LC_MESSAGES", "LANG"):
        if environment.get(name):
            return next((one for one in LANGUAGES if environment[name].lower().startswith(one)), "en")
    return "en"


def tell(message: str, /, **places: object) -> str:
    """A message in the reader's language.

    Args:
        message: in English, with places such as `{arm}`; a literal, which is how the catalogue finds it.
        places: what stands in them, as text; without any, braces are braces.
    """
    return _filled(message, places)


def plural(n: int, one: str, many: str | None = None) -> str:
    """A count with its noun: "1 block", "6 blocks", and in a language without plurals as its classifiers want.

    Args:
        n: the count.
        one: the noun for one, a literal; the message is "{n} noun".
        many: for several; by default with an s, or es after s.
    """
    return _filled(f"{{n}} {one if n == 1 else many or several(one)}", {"n": count(n)})


def choice(n: int, one: str, many: str, /, **places: object) -> str:
    """One of two messages, by a count: "{n} run was left out" or "{n} runs were left out".

    Args:
        n: the count, which is `{n}` in both.
        one: for one.
        many: for several.
        places: what stands in further places.
    """
    return _filled(one if n == 1 else many, {"n": count(n), **places})


def words(*messages: str) -> tuple[str, ...]:
    """Several messages without places, such as the heads of a table."""
    return tuple(tell(message) for message in messages)


def listed(items: Sequence[str]) -> str:
    """Things in a row: "a, b and c"."""
    *first, last = items or ("",)
    if not first:
        return last
    *before, joined = first
    for one in reversed(before):
        joined = tell("{first}, {second}", first=one, second=joined)
    return tell("{first} and {last}", first=joined, last=last)


def recorded(message: str, /, **places: object) -> str:
    """A message for a journal: in English, whatever the reader's language; `shown` translates it.

    Args:
        message: as for `tell`.
        places: what stands in its places; one word that is a message stands in those of `recognise.WORDS`, since it
            is taken for a name in others.
    """
    return message.format(**places) if places else message


def marked(message: str) -> str:
    """The message itself: for constants, which are told later by `tell(CONSTANT)`."""
    return message


# What the system says of files and sockets, in English whatever its locale, and found in places of our messages.
SYSTEM = frozenset((
    marked("Operation not permitted"),
    marked("No such file or directory"),
    marked("Input/output error"),
    marked("Permission denied"),
    marked("File exists"),
    marked("Not a directory"),
    marked("Is a directory"),
    marked("Too many open files"),
    marked("File too large"),
    marked("No space left on device"),
    marked("Read-only file system"),
    marked("File name too long"),
    marked("Disk quota exceeded"),
    marked("Address already in use"),
    marked("Connection refused"),
    marked("Network is unreachable"),
))  # fmt: skip


def recorded_plural(n: int, one: str, many: str | None = None) -> str:
    """As `plural`, for a journal."""
    return f"{count(n)} {one if n == 1 else many or several(one)}"


def shown(text: str) -> str:
    """A recorded text in the reader's language; where no message has its form, as it was recorded.

    Journals hold sentences, and older ones hold nothing else: which message one was made from is told by its form.
    """
    if _speaker.pairs is not None:
        _speaker.pairs.setdefault(text, _said_again(text, "zh"))
    return text if language() == "en" else _said_again(text, language())


def several(word: str) -> str:
    """Steps of a step, and passes of a pass."""
    return f"{word}{'es' if word.endswith('s') else 's'}"


def count(value: int) -> str:
    """A whole number with its thousands grouped."""
    return f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}").replace("-", "\N{MINUS SIGN}")


@contextmanager
def paired(names: Iterable[str] = ()) -> Iterator[dict[str, str]]:
    """Note everything that is told, in English and in every other language: what is drawn once is labelled in two.

    Args:
        names: what stays as it is, even where a message reads the same.

    Yields:
        text in English -> in Chinese.
    """
    before, found = (_speaker.pairs, _speaker.kept), {name: name for name in names}
    _speaker.pairs, _speaker.kept = found, frozenset(found)
    try:
        yield found
    finally:
        _speaker.pairs, _speaker.kept = before


def _filled(message: str, places: Mapping[str, object]) -> str:
    if _speaker.pairs is not None:
        pairs, foreign = _speaker.pairs, _catalogue("zh").get(message, message)
        english = message.format(**places) if places else message
        if english not in _speaker.kept:
            pairs[english] = _put(foreign, {name: pairs.get(str(value), value) for name, value in places.items()})
    if _speaker.language == "en":
        return message.format(**places) if places else message
    known = _catalogue(_speaker.language)
    return _put(known.get(message, message), {
        name: known.get(value, value) if isinstance(value, str) and value in SYSTEM else value
        for name, value in places.items()})  # fmt: skip


def _put(text: str, places: Mapping[str, object]) -> str:
    """A translation with its places filled, where no space of its own is left between two Chinese letters."""
    if not places:
        return text
    filled = text.format(**{name: f"\0{value}\0" for name, value in places.items()})
    return _SPACE.sub("", filled).replace("\0", "")


# A Chinese letter or sign: between two of them there is no space.
LETTER = "[\u3001-\u301b\u4e00-\u9fff\uff01-\uff1f]"
_SPACE = re.compile(f"(?<={LETTER})(?:\0 \0?| \0)(?={LETTER})")


@cache
def _catalogue(chosen: Language) -> dict[str, str]:
    """English -> this language. Babel is loaded here, because an English run needs none of it."""
    if chosen == "en":
        return {}
    from babel.messages.pofile import read_po

    found: dict[str, str] = {}
    for path in sorted((FOLDER / chosen).glob("*.po")):
        with path.open("rb") as file:
            for entry in read_po(file):
                # One that knows plurals has both forms in English and one in Chinese.
                ids = [entry.id] if isinstance(entry.id, str) else entry.id
                said = entry.string if isinstance(entry.string, str) else (entry.string or ("",))[0]
                if said:
                    found.update((str(one), str(said)) for one in ids if one)
    return found


PLACE = re.compile(r"\{(\w+)\}")


def _said_again(text: str, chosen: Language) -> str:
    return _forms(chosen).again(text)


@cache
def _forms(chosen: Language) -> Reader:
    """What recognises messages of this language; an English run needs none of it."""
    from messages.recognise import Reader

    return Reader(_catalogue(chosen))
