"""Finds the messages that a recorded text was made from, and says them in another language."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from messages import LETTER, PLACE, marked

# A form with fewer letters of its own would be found in anything, unless all its places are counts; one that fills
# another's place may have fewer.
FEWEST_LETTERS = 7
FEWEST_PLACED = 4
# One with fewer is believed only where all that stands in its places is understood too, or is a name.
FIRM_LETTERS = 12
COUNTS = ("n", "m")
# One word is a message of ours where it stands in these; in all others it is a name, such as a host's or a preset's,
# or a setting, although we may translate a word like it elsewhere: "machine", "attention", "native".
WORDS = ("array", "before", "cause", "fault", "kind", "maker", "metric", "now", "part", "place", "reason", "source",
         "text", "told", "what", "where", "why")
_COUNT = re.compile(r"[\d\u202f\u2212]+")
# Pieces of a text between these were often told one by one; between the loose ones within such a piece, and more often
# they hold together what nobody knows.
JOINTS = (marked(". "), marked("; "), marked(": "))
LOOSE_JOINTS = {", ": marked("{first}, {last}"), " and ": marked("{first} and {last}")}
# A form is less likely where what stands in a place has a joint in it, and a joint less than none.
IN_PLACE, BETWEEN = 0.2, 0.1
# What is not understood costs a word for each pair of words in a row; a word alone may well be a name.
NAME = 0.3
LONGEST = 4000
MOST_JOINTS = 8
DEEPEST = 24
MOST_READ = 400
MOST_KEPT = 20_000

_WORD = re.compile(r"[A-Za-z]+")
_WHOLE_WORD = re.compile(r"(?<![\0A-Za-z])[A-Za-z]+(?![\0A-Za-z])")
# Between Chinese letters there is none, whatever a place is filled with.
_SPACE = re.compile(f"(?<={LETTER}) (?={LETTER})")
_WORDLIKE = re.compile(r"\b[a-z]{2,}\b")
_PHRASE = re.compile(r"\b[a-z]{2,}(?=[,:;.]? [a-z]{2,}\b)")


@dataclass(frozen=True)
class Form:
    """What a message with places looks like.

    Attributes:
        letters: how many are its own.
        pieces: what stands before, between and behind its places.
        names: of the places.
        foreign: the message in the other language.
    """

    letters: int
    pieces: tuple[str, ...]
    names: tuple[str, ...]
    foreign: str

    @property
    def brief(self) -> bool:
        """Whether it is believed in another's place only."""
        return self.letters < FEWEST_LETTERS and not all(name in COUNTS for name in self.names)

    @property
    def length(self) -> int:
        """How long a text of it is at least."""
        return len(self.names) + sum(map(len, self.pieces))

    @classmethod
    def of(cls, message: str, foreign: str) -> Form | None:
        """None where a message cannot be told by its form."""
        pieces = tuple(piece.replace("{{", "{").replace("}}", "}") for piece in PLACE.split(message)[::2])
        names = tuple(PLACE.findall(message))
        letters = sum(map(str.isalpha, "".join(pieces)))
        least = 1 if all(name in COUNTS for name in names) else FEWEST_PLACED
        if not names or letters < least or not all(pieces[1:-1]):
            return None
        return cls(letters, pieces, names, foreign) if set(names) == set(PLACE.findall(foreign)) else None

    def places(self, text: str) -> Iterator[dict[str, str]]:
        """What stands in its places if a text was made from it: each as short as can be from the left, or the right."""
        first, *inner, last = self.pieces
        if self.length > len(text) or not (text.startswith(first) and text.endswith(last)):
            return
        text = text[len(first) : len(text) - len(last)]
        one = _cut(text, inner)
        other = [part[::-1] for part in _cut(text[::-1], [piece[::-1] for piece in inner[::-1]])[::-1]]
        for parts in (one, other) if one != other else (one,):
            found = dict(zip(self.names, parts, strict=False))
            if parts and all(found[name] == part and (name not in COUNTS or _COUNT.fullmatch(part))
                             for name, part in zip(self.names, parts, strict=True)):
                yield found


@dataclass
class Reader:
    """Reads texts that were made from messages.

    Attributes:
        known: message -> the same in the other language.
    """

    known: Mapping[str, str]
    _by_word: dict[str, list[Form]] = field(default_factory=dict)
    _read: dict[tuple[str, bool], tuple[str, float]] = field(default_factory=dict)
    _left: int = 0
    _depth: int = 0

    def __post_init__(self) -> None:
        """Sort the forms by the rarest of their words: few are looked at for a text."""
        words = {message: _WHOLE_WORD.findall(PLACE.sub("\0", message)) for message in self.known}
        often = Counter(word for found in words.values() for word in found)
        for message, foreign in self.known.items():
            form = Form.of(message, foreign)
            if form is not None:
                key = min(words[message], key=often.__getitem__, default="")
                self._by_word.setdefault(key, []).append(form)

    def again(self, text: str) -> str:
        """A text in the other language, as far as it is understood."""
        if len(text) > LONGEST:
            return self.known.get(text, text)
        if len(self._read) > MOST_KEPT:
            self._read.clear()
        self._left, self._depth = MOST_READ, 0
        said = self._best(text, False)[0]
        return said if said == text else _SPACE.sub("", said)

    def _best(self, text: str, placed: bool) -> tuple[str, float]:
        """A text as well as it can be said, and how much of it is not understood; `placed` where it fills a place."""
        if text in self.known:
            return self.known[text], 0.0
        if (text, placed) in self._read:
            return self._read[text, placed]
        best = text, len(_PHRASE.findall(text)) + (NAME if _WORDLIKE.search(text) else 0)
        if self._left <= 0 or self._depth >= DEEPEST:
            # What would take for ever stays as it is.
            return best
        self._left, self._depth = self._left - 1, self._depth + 1
        for said, unknown in self._ways(text, placed):
            if unknown < best[1] or (unknown == best[1] and best[0] == text):
                best = said, unknown
        self._depth -= 1
        self._read[text, placed] = best
        return best

    def _ways(self, text: str, placed: bool) -> Iterator[tuple[str, float]]:
        """Every way in which it may have been made; the likelier first."""
        words = {"", *_WORD.findall(text)}
        forms = [form for word in words for form in self._by_word.get(word, ()) if placed or not form.brief]
        for form in sorted(forms, key=lambda form: (-form.letters, -form.length)):
            for places in form.places(text):
                said = {name: self._best(value, True) if name in WORDS or " " in value else (value, 0.0)
                        for name, value in places.items()}
                unknown = sum(cost for _, cost in said.values())
                if unknown < 1 or form.letters >= FIRM_LETTERS:
                    joints = sum(value.count(joint) for value in places.values() for joint in JOINTS)
                    yield form.foreign.format(**{name: value for name, (value, _) in said.items()}), (
                        unknown + IN_PLACE * joints)
        for joint in JOINTS:
            for at in _places_of(joint, text):
                yield self._joined(joint, text[:at], text[at + len(joint) :], placed)
        for joint in () if any(joint in text for joint in JOINTS) else LOOSE_JOINTS:
            for at in _places_of(joint, text):
                whole, unknown = self._joined(joint, text[:at], text[at + len(joint) :], placed)
                if unknown < 1:
                    yield whole, unknown
        if text.endswith(".") and text[:-1] in self.known:
            yield self.known[text[:-1]] + self._known(". ").rstrip(), 0.0

    def _joined(self, joint: str, before: str, behind: str, placed: bool) -> tuple[str, float]:
        (one, unknown), (other, more) = self._best(before, placed), self._best(behind, placed)
        if (one, other) == (before, behind) and not (placed and joint == " and "):
            # Two names with a word between them are known as such only where a message has places for them.
            return before + joint + behind, unknown + more + 1
        if joint in LOOSE_JOINTS:
            said = self._known(LOOSE_JOINTS[joint]).format(first=one, last=other)
        else:
            said = one + self._known(joint) + other
        return said, unknown + more + BETWEEN

    def _known(self, message: str) -> str:
        return self.known.get(message, message)


def _cut(text: str, pieces: Sequence[str]) -> list[str]:
    """A text at pieces of it, each where it first comes; empty where one does not, or nothing is between two."""
    parts: list[str] = []
    begin = 0
    for piece in pieces:
        at = text.find(piece, begin + 1)
        if at < 0:
            return []
        parts.append(text[begin:at])
        begin = at + len(piece)
    return [*parts, text[begin:]] if begin < len(text) else []


def _places_of(joint: str, text: str) -> list[int]:
    """Where a joint stands in a text, at most so often."""
    found: list[int] = []
    at = text.find(joint)
    while at >= 0 and len(found) < MOST_JOINTS:
        found.append(at)
        at = text.find(joint, at + len(joint))
    return found
