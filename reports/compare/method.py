"""How runs are compared, in words, and how to repeat it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from messages import marked, tell
from reports.compare.runs import Comparison
from reports.page.blocks import Block, Code, Prose
from reports.text import percent

METHOD = marked(
    "The unit is the block, a fresh process. Per block and arm stands the logarithm of its median time; the ratio is "
    "the difference of the means of two runs, with Welch's t interval, because blocks of different runs are not "
    "paired and may spread differently. Several arms, cells or runs are judged under Holm's step-down. The interval "
    "beyond the margin of {margin} above 1: slower; below: faster; inside: equivalent; else inconclusive. Disturbed "
    "blocks count; where the word would differ without them, it is inconclusive. The level is this comparison's own, "
    "whatever look a run ended at: its looks asked about arms of one run."
)
RELATIVE = marked(
    "The ratio of ratios takes, per block, the median of the paired log-ratios of an arm to the control, measured in "
    "alternation, and compares that between the runs. What slows both arms alike cancels in it; what changed in the "
    "control's own software does not. {carries}"
)
CARRIED = {
    True: marked("It carries the verdict here, because a control was named."),
    False: marked("Here it only describes: the verdict rests on the arm's own time until a control is named with "
                  "--control."),
}


def method(comparison: Comparison, command: Sequence[str]) -> tuple[Block, ...]:
    """How it was judged, and how to repeat it."""
    text = tell(METHOD, margin=percent(comparison.margin, 1))
    carries = tell(CARRIED[comparison.control is not None])
    return (Prose(text), Prose(tell(RELATIVE, carries=carries)), Code(shlex.join(command), tell("This page again")))
