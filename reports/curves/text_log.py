"""Steps and losses out of what programs print: a few shapes that are common, or a pattern of the user's own.

A pattern comes from outside, and one may take longer than the world lasts on a single line: it is stopped by the clock
of this process's work.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

from impls.errors import UsageError
from messages import tell

NUMBER = r"(?P<loss>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|nan|-?inf)"
GAP = r"[^\d\n]{0,12}?"
# A line may tell that of the held-out data, too.
NOT_OF = "".join(rf"(?<!{word}[ _/.-])" for word in ("val", "valid", "validation", "test", "eval", "dev"))
LOSS = rf"(?<![A-Za-z]){NOT_OF}(?:train(?:ing)?[ _/]?)?loss\b[\s:=(\[]{{1,4}}{NUMBER}"
EPOCH = r"epoch\W{0,4}(?P<epoch>\d+)"
COUNT = r"(?P<step>\d+) ?/ ?(?P<total>\d+)"
# In this order where two match as many lines. Every gap is bounded, so that no line takes long.
SHAPES = tuple(re.compile(pattern, re.IGNORECASE) for pattern in (
    # Epoch 3:  45%|####    | 352/782 [00:12<00:15, 28.1it/s, loss=0.0421]
    rf"(?:{EPOCH}[^|\n]{{0,40}}?)?\d{{1,3}}%\|[^|\n]{{0,200}}\| ?{COUNT} ?\[[^\n]{{0,200}}?{LOSS}",
    # Train Epoch: 2 [1280/60000 (2%)]	Loss: 0.302
    rf"{EPOCH}[^\d\n]{{0,20}}(?:\d+[^\d\n]{{1,20}})?{COUNT}[^\n]{{0,120}}?{LOSS}",
    # epoch 2 iter 300 loss 0.302
    rf"{EPOCH}[^\n]{{0,60}}?\b(?:step|iter(?:ation)?|it|batch){GAP}{COUNT}[^\n]{{0,120}}?{LOSS}",
    # step 300: loss 0.302; iter: 300/10000, lr: 1e-4, loss: 0.302
    rf"\b(?:global_?step|steps?|iter(?:ation)?s?|it|batch){GAP}(?P<step>\d+)[^\n]{{0,160}}?{LOSS}",
    # epoch 3, loss 0.302
    rf"\bepoch{GAP}(?P<step>\d+)[^\n]{{0,160}}?{LOSS}",
))
IN_EPOCH = re.compile(rf"\b{EPOCH}", re.IGNORECASE)
# Colours, and what a bar draws itself with.
COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
LONGEST_LINE = 4000
LOOKED_AT = 2000
WITHIN_S = 10.0

Point = tuple[int, float]


def points(lines: Iterable[str], pattern: str | None, where: str) -> list[Point]:
    """Step and loss of every line that has them, in order.

    Args:
        lines: of the log.
        pattern: a regular expression with the groups `step` and `loss`, and perhaps `epoch` and `total` (steps in an
            epoch); by default the common shape that fits most lines.
        where: the file, for messages.

    Raises:
        UsageError: the pattern is none, lacks a group, or takes too long.
    """
    texts = [COLOURS.sub("", line)[:LONGEST_LINE] for line in lines]
    if pattern is None:
        sample = texts[:LOOKED_AT]
        shape = max(SHAPES, key=lambda one: sum(one.search(line) is not None for line in sample))
        return _counted(shape, texts, where)
    try:
        own = re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise UsageError(tell("--pattern {pattern}: no regular expression: {error}", pattern=repr(pattern[:80]),
                              error=error)) from error
    for name in ("step", "loss"):
        if name not in own.groupindex:
            raise UsageError(tell("--pattern {pattern}: it has no group {name}: write (?P<{name}>...)",
                                  pattern=repr(pattern[:80]), name=name))
    with _limited(tell("--pattern {pattern}: it takes longer than {limit} s on {log}: write one without repetitions "
                       "inside repetitions", pattern=repr(pattern[:80]), limit=f"{WITHIN_S:.0f}", log=where)):
        return _counted(own, texts, where)


def require_one_count(places: Iterable[tuple[float | None, int]], where: str) -> None:
    """Refuse steps that begin anew with each epoch, of which only the last epoch's would be left.

    A training that goes on from a checkpoint falls back too, but into an epoch that it had begun.

    Args:
        places: epoch, where it is known, and step, in order.
        where: the file, for messages.

    Raises:
        UsageError: they do.
    """
    before: tuple[float, int] | None = None
    for epoch, step in places:
        if epoch is None:
            continue
        if before is not None and epoch > before[0] and step < before[1]:
            raise UsageError(tell("{log}: its steps begin anew in epoch {epoch}: log steps that count on, or print "
                                  "lines and give --pattern with the groups epoch, step and total", log=where,
                                  epoch=f"{epoch:g}"))
        before = epoch, step


def _counted(shape: re.Pattern[str], texts: Iterable[str], where: str) -> list[Point]:
    found = list(_found(shape, texts))
    require_one_count(((epoch, step) for epoch, step, _ in found), where)
    return [(step, loss) for _, step, loss in found]


def _found(shape: re.Pattern[str], texts: Iterable[str]) -> Iterator[tuple[int | None, int, float]]:
    """Epoch, step and loss of every line that has the last two; no epoch where the step counts it already.

    A bar that begins anew, as long as one that was full, counts on from there: it is that of the next epoch, though it
    does not say so. Behind one that was not full, a training was started again.
    """
    before, at, length = 0, 0, 0
    for text in texts:
        match = shape.search(text)
        if match is None:
            continue
        groups = match.groupdict()
        try:
            step, loss = int(groups["step"].replace(",", "")), float(groups["loss"].replace(",", ""))
            epoch = None
            if groups.get("epoch") and groups.get("total"):
                step += int(groups["epoch"]) * int(groups["total"])
            elif groups.get("epoch"):
                epoch = int(groups["epoch"])
            elif other := IN_EPOCH.search(text):
                epoch = int(other["epoch"])
            elif groups.get("total"):
                total = int(groups["total"])
                before += length if step < at == length == total else 0
                at, length = step, total
                step += before
        except (ValueError, AttributeError):
            # A group that did not take part, or took something else.
            continue
        yield epoch, step, loss


@contextmanager
def _limited(message: str) -> Iterator[None]:
    """Stop what takes too long: matching looks for signals all the time, and nothing else can end it."""
    def stop(number: int, frame: FrameType | None) -> None:
        raise UsageError(message)

    # The clock of this process's work, so that a busy machine stops nobody.
    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, WITHIN_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
