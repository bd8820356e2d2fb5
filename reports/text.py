"""Numbers as people read them: three significant digits, a unit, and "n/a" with its reason instead of a guess."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from messages import marked, tell

MINUS = "\N{MINUS SIGN}"
TIMES = "\N{MULTIPLICATION SIGN}"
DASH = "\N{EN DASH}"
THIN = "\N{NARROW NO-BREAK SPACE}"
NA = "n/a"
# What a sentence ends with, in any language.
STOPS = (".", "!", "?", "。", "！", "？")
# Control characters, those that turn the direction of writing, and halves of letters.
UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Value:
    """One table cell.

    Attributes:
        text: what is shown, unit included.
        note: small print below it: a spread, a source, or for n/a the reason.
        mark: "good", "bad", "warn" or "" - an accent that the text repeats in words.
        slot: letter of the arm that the cell names, or None.
        link: a file of the run folder, relative to it, or None.
    """

    text: str
    note: str | None = None
    mark: str = ""
    slot: str | None = None
    link: str | None = None


def missing(reason: str) -> Value:
    """A quantity that cannot be given, with the reason."""
    return Value(NA, reason)


def passed(result: bool) -> Value:
    """Pass or fail, in words and by accent."""
    return Value(tell("pass"), mark="good") if result else Value(tell("fail"), mark="bad")


def sentence(text: str) -> str:
    """`text` with a full stop, that of its language."""
    return text if text.endswith(STOPS) else tell("{text}.", text=text)


def sentences(*texts: str) -> str:
    """Sentences one behind the other; empty ones are none."""
    first, *rest = [text for text in texts if text] or [""]
    return tell("{first} {rest}", first=first, rest=sentences(*rest)) if rest else first


def commas(texts: Iterable[str]) -> str:
    """Texts in a row, with commas: as messages, so that figures too have them in every language."""
    return _in_a_row(texts, marked("{first}, {rest}"))


def semicolons(texts: Iterable[str]) -> str:
    """Texts in a row that have commas themselves."""
    return _in_a_row(texts, marked("{first}; {rest}"))


def _in_a_row(texts: Iterable[str], message: str) -> str:
    *before, joined = list(texts) or [""]
    for one in reversed(before):
        joined = tell(message, first=one, rest=joined)
    return joined


def number(value: float | int | None, digits: int = 3) -> str:
    """`value` with `digits` significant digits, thousands grouped; tiny and huge ones as powers of ten."""
    if value is None or not math.isfinite(value):
        return NA
    if value == 0:
        return "0"
    size = abs(value)
    if size < 1e-3 or size >= 1e9:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        return f"{mantissa}e{int(exponent)}".replace("-", MINUS)
    # The rounded value sets the decimals: 99.96 is 100, not 100.0.
    decimals = max(0, digits - 1 - math.floor(math.log10(float(f"{size:.{digits - 1}e}"))))
    return f"{round(value, decimals):,.{decimals}f}".replace(",", THIN).replace("-", MINUS)


def duration(ns: float | int | None) -> str:
    """Nanoseconds in the unit that fits: µs, ms, s or min."""
    if ns is None or not math.isfinite(ns):
        return NA
    factor, unit = time_unit(abs(ns))
    return f"{number(ns / factor)} {unit}"


def time_unit(ns: float) -> tuple[float, str]:
    """Nanoseconds per unit, and the unit's name, for times of about `ns`."""
    for limit, factor, unit in ((1e3, 1.0, "ns"), (1e6, 1e3, "µs"), (1e9, 1e6, "ms"), (120e9, 1e9, "s")):
        if ns < limit:
            return factor, unit
    return 60e9, "min"


def size(number_of_bytes: float | int | None) -> str:
    """Bytes as MiB or GiB."""
    if number_of_bytes is None or not math.isfinite(number_of_bytes):
        return NA
    if abs(number_of_bytes) >= 1000 * 2**20:
        return f"{number(number_of_bytes / 2**30)} GiB"
    return f"{number(number_of_bytes / 2**20)} MiB"


def percent(fraction: float | None, digits: int = 2) -> str:
    """A fraction as per cent; below a tenth of a per cent the sign of the noise is not worth more digits."""
    if fraction is None or not math.isfinite(fraction):
        return NA
    if abs(fraction) < 5e-5:
        return "0.00 %"
    shown = number(fraction * 100, max(digits, math.floor(math.log10(abs(fraction * 100))) + 1))
    return f"{shown} %"


def signed_percent(fraction: float | None) -> str:
    """As `percent`, always with its sign."""
    text = percent(fraction)
    return text if text == NA or text.startswith(MINUS) else f"+{text}"


def share(fraction: float) -> str:
    """A share of a whole; one that is nearly the whole is never rounded up to it."""
    if not math.isfinite(fraction):
        return NA
    if fraction >= 1 or fraction <= 0.9:
        return percent(fraction)
    decimals = min(6, max(1, math.ceil(-math.log10(1 - fraction)) - 2))
    return f"{math.floor(fraction * 100 * 10**decimals + 1e-6) / 10**decimals:.{decimals}f} %"


def with_interval(ratio: float | None, low: float | None, high: float | None) -> str:
    """A text such as "2.93 [2.88, 2.99]" with as many decimals as the interval's half-width deserves."""
    if ratio is None or not math.isfinite(ratio):
        return NA
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return tell("{ratio} (no interval)", ratio=f"{ratio:.3f}")
    decimals = ratio_decimals((high - low) / 2)
    return f"{ratio:.{decimals}f} [{low:.{decimals}f}, {high:.{decimals}f}]"


def ratio_decimals(half_width: float) -> int:
    """Two to four decimals, so that the half-width shows two significant digits where that is possible."""
    if half_width <= 0:
        return 3
    return min(4, max(2, 1 - math.floor(math.log10(half_width))))


def spread(values_ns: Sequence[int] | Floats) -> str:
    """The middle 80 % of durations, such as "p10-p90 118-140 ms"."""
    low, high = (float(v) for v in np.percentile(np.asarray(values_ns, dtype=float), (10, 90)))
    factor, unit = time_unit(high)
    return f"p10{DASH}p90 {number(low / factor)}{DASH}{number(high / factor)} {unit}"


def tag(label: str, most: int = 34, wrap: int | None = None) -> str:
    """A label that fits into a figure: one line of at most `most` characters, its middle left out where it is longer.

    Args:
        label: the full text.
        most: characters that fit.
        wrap: also break after ":" or "+" once a line holds more than this many characters.
    """
    line = one_line(label)
    if len(line) > most:
        line = f"{line[: most * 2 // 3]}\N{HORIZONTAL ELLIPSIS}{line[len(line) - most // 3 + 1 :]}"
    if wrap is None or len(line) <= wrap:
        return line
    lines = [""]
    for piece in re.findall(r"[^:+]*[:+]|[^:+]+$", line):
        if lines[-1] and len(lines[-1] + piece) > wrap:
            lines.append("")
        lines[-1] += piece
    return "\n".join(lines)


def tick(label: str, narrow: bool) -> str:
    """A label beside an axis: in several short lines on a phone."""
    return tag(label, 40, 14) if narrow else tag(label, 34)


def utc(stamp: str) -> str:
    """An ISO 8601 stamp for people; as it stands where it is none."""
    return re.sub(r"^(\d{4}-\d\d-\d\d)T(\d\d:\d\d)(:\d\d)?(\.\d+)?(Z|\+00:00)$", r"\1 \2\3 UTC", stamp)


def one_line(text: object) -> str:
    """`text` on one line, as `printable`."""
    return " ".join(printable(text).split())


def printable(text: object) -> str:
    """`text` without control characters, terminal colours and halves of letters: it may come from anywhere."""
    plain = str(text)
    if not UNPRINTABLE.search(plain):
        return plain
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", plain)
    return "".join(
        c if c in "\n\t" or (ord(c) >= 32 and not 0x7F <= ord(c) <= 0x9F and not 0xD800 <= ord(c) <= 0xDFFF)
        else "\N{REPLACEMENT CHARACTER}"
        for c in plain
        if not 0x202A <= ord(c) <= 0x202E and not 0x2066 <= ord(c) <= 0x2069
    )
