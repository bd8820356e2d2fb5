"""Lines about why one arm is slower: steps cut into phases, what is measured apart, shares of the gap, and guesses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from harness.record.events.base import ArmSlot, Event, PartName
from messages import marked, shown, tell

Whole = Literal["step", "network call"]
# What a line of all causes together adds up, by its method.
_WHOLES = {"cuts": marked("all phases"), "isolated": marked("all operators"), "swapped": marked("all swaps")}
_METHODS = {"isolated": marked("isolated"), "swapped": marked("swapped"), "left-out": marked("left-out"),
            "apart": marked("apart")}
# Causes and words of shares that no page tells as they are recorded.
_RECORDED = (
    marked("data"), marked("backward"), marked("optimizer"), marked("network"), marked("update"),
    marked("does-not-explain"), marked("works-against"), marked("adds-up"), marked("does-not-add-up"),
    marked("no-gap"), marked("not-measured"), marked("does-not-hold"),
)  # fmt: skip


class Phases(Event):
    """Steps of one arm, some whole and as many cut into phases, each phase waited for.

    `pair` numbers the turns of a block, or the rounds of network calls, which each arm has by itself; `position` is 0
    for the arm that ran first in a turn.
    """

    type: Literal["phases"] = "phases"
    subject: ClassVar = ("part", "arm", "block", "of", "pair")
    part: PartName
    arm: ArmSlot
    block: int
    of: Whole = "step"
    pair: int
    position: int
    whole_ns: list[int] = Field(description="one duration per whole step, synchronised at its end")
    phase_ns: dict[str, list[int]] = Field(description="phase, in order -> one duration per cut step; empty where the "
                                                       "arm does not cut its steps")


class IsolatedOperator(Event):
    """One operator of one arm's network alone, with its backward pass in training, timed in several rounds."""

    type: Literal["isolated-operator"] = "isolated-operator"
    subject: ClassVar = ("part", "arm", "operator")
    part: PartName
    arm: ArmSlot
    operator: str = Field(description="name of the first such operator of the network")
    operator_class: str = Field(description="attention, norm, convolution, linear, other, or copy: a ceiling")
    kind: str
    inputs: list[list[int]] = Field(description="shapes of what it reads, for one image")
    output: list[int]
    count: int = Field(description="how often the network has it; 0 for what it has not")
    flop: int = Field(description="floating-point operations of a run, of the whole batch")
    bytes: int = Field(description="what a run must read and write at least")
    round_ns: list[float] = Field(description="duration of a run in each round; empty where there is none")
    reason: str | None = Field(None, description="why there is none")


class Swapped(Event):
    """Steps of one arm in a block, and as many of the same arm with one kind of operator swapped, in turn.

    Both in one process, behind the windows of the block.
    """

    type: Literal["swapped"] = "swapped"
    subject: ClassVar = ("part", "arm", "block", "swap")
    part: PartName
    arm: ArmSlot
    block: int
    swap: str = Field(description="the arm that it becomes")
    cause: str = Field(description="the class of operators that is swapped; 'all' for several at once")
    plain_ns: list[int] = Field(description="one duration per step, synchronised at its end")
    swapped_ns: list[int]
    operators: dict[str, str] = Field(description="what the arm that it becomes told of its operators")


class LeftOut(Event):
    """Steps of one arm in a block, and as many of the same arm without something, in turn, behind the block's swaps."""

    type: Literal["left-out"] = "left-out"
    subject: ClassVar = ("part", "arm", "block", "cause")
    part: PartName
    arm: ArmSlot
    block: int
    cause: str = Field(description="what is left out: attention, clipping, averaged weights")
    plain_ns: list[int] = Field(description="one duration per step, synchronised at its end")
    without_ns: list[int]


class Kernels(BaseModel):
    """All launches of one kernel, or of one class of them, in one phase of the profiled steps."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str = Field(description="as the profiler calls it; empty for a whole class")
    phase: str
    operator_class: str | None = Field(description="attention, norm, convolution, linear; None where the name does not "
                                                   "tell")
    count: int = Field(description="launches in all profiled steps")
    ns: float = Field(description="in all profiled steps")


class Profiled(Event):
    """What an arm's own profiler told of some steps, once in a run, after everything else of a block."""

    type: Literal["profiled"] = "profiled"
    subject: ClassVar = ("part", "arm", "of")
    part: PartName
    arm: ArmSlot
    block: int
    of: Whole = "step"
    tool: str | None = Field(description="the profiler; None where there is none")
    steps: int
    phase_ns: dict[str, float] = Field(description="phase -> mean duration in steps beside the profiled ones, which "
                                                   "no profiler slows down")
    by_class: list[Kernels] = Field(description="for every phase and class: phase, operator_class, count "
                                                "(launches) and ns, in all profiled steps; name is empty")
    longest: list[Kernels] = Field(description="the same of the kernels that took most, each with its name, the "
                                               "longest first")
    trace: str | None = Field(None, description="file in the run folder: gzipped JSON for Chrome's trace viewer")
    note: str = Field("", description="what must be known of the profiler to read its numbers")
    reason: str | None = Field(None, description="why there is nothing")


class Apart(Event):
    """A round of what is measured beside the blocks: the same work of one arm done in two ways, in turn.

    `waiting`: steps with the device waited for after each, and at the end only. `loader`: steps with the data resident,
    and through the framework's own loader, in both without the first of an epoch. `sampling`: a DDIM batch until it is
    on the host, and until it was asked for by a clock that does not wait.
    """

    type: Literal["apart"] = "apart"
    subject: ClassVar = ("part", "arm", "what", "round")
    part: PartName
    arm: ArmSlot
    block: int
    what: Literal["waiting", "loader", "sampling"]
    round: int
    steps: int = Field(description="steps, or network calls, in each way")
    plain_ns: int = Field(description="in the first way")
    other_ns: int = Field(description="in the second way")
    first_ns: int | None = Field(None, description="loader: from the end of an epoch until the next one's first batch")


class StartUp(Event):
    """What starting costs two arms, compilation included: once, not in each step."""

    type: Literal["start-up"] = "start-up"
    subject: ClassVar = ("part", "arm_a", "arm_b")
    part: PartName
    arm_a: ArmSlot
    arm_b: ArmSlot
    cold: bool = Field(description="whether from empty compile caches; else from those that were there")
    a_ns: float = Field(description="from launching a process to the end of its first step, median")
    b_ns: float
    steps: int | None = Field(description="steps after which the gap has cost, or saved, as much as the starts differ; "
                                          "None without a gap")


class Guess(Event):
    """A common guess about the slow arm of a pair, held against what this run measured."""

    type: Literal["guess"] = "guess"
    subject: ClassVar = ("part", "arm_a", "arm_b", "guess")
    part: PartName
    arm_a: ArmSlot
    arm_b: ArmSlot
    slow: ArmSlot = Field(description="which of the two takes longer for a step")
    guess: Literal["loader", "compilation", "attention", "sampling"]
    word: Literal["holds", "does-not-hold", "inconclusive", "not-measured"]
    reason: str = Field(description="the figures that say so, or why there are none")
    next_action: str | None = None

    def sentence(self, arms: Mapping[str, str]) -> str:
        """What it says of arms of these names by slot, for the terminal."""
        fast = self.arm_a if self.slow == self.arm_b else self.arm_b
        slow, other = (arms.get(slot, slot) for slot in (self.slow, fast))
        return tell("guess about {slow} beside {other}: {guess}: {word}: {reason}", slow=slow, other=other,
                    guess=shown(self.guess), word=shown(self.word), reason=shown(self.reason))


class Share(Event):
    """What a cause holds of the gap between two arms: (time A - time B) of the cause over that of whole steps."""

    type: Literal["share"] = "share"
    subject: ClassVar = ("part", "arm_a", "arm_b", "method", "of", "cause", "swap")
    part: PartName
    arm_a: ArmSlot
    arm_b: ArmSlot
    method: Literal["cuts", "isolated", "swapped", "left-out", "apart"]
    of: Whole = Field("step", description="whose gap it is: that of a training step, or of a sampler's network call")
    cause: str = Field(description="cuts: a phase; isolated, swapped: a class of operators; left-out: attention, "
                                   "clipping, averaged weights; apart: loader, waiting, threads; 'all' for the sum of "
                                   "all, which is 1 where nothing is left over")
    swap: str | None = Field(None, description="swapped: the arm that the slower one becomes")
    a_ns: float | None = Field(description="time of a step's phase in arm A, mean over blocks; swapped, left-out: "
                                           "what that saves of a step, in the arm that it is made in")
    b_ns: float | None
    share: float | None
    ci_low: float | None
    ci_high: float | None
    blocks: int = Field(description="blocks that it rests on; rounds, of what is measured once: network calls, "
                                    "operators alone, the loader, waiting")
    word: Literal["explains", "does-not-explain", "works-against", "inconclusive", "adds-up", "does-not-add-up",
                  "no-gap", "not-measured", "contested"]
    own_word: Literal["explains", "does-not-explain", "works-against"] | None = Field(
        None, description="contested: the word that its own interval gives")
    reason: str | None = None
    next_action: str | None = None

    @property
    def says(self) -> str:
        """Its word; of a contested share that of its own interval."""
        return self.own_word or self.word

    def sentence(self, arms: Mapping[str, str]) -> str:
        """What it says of arms of these names by slot, for the terminal."""
        a, b = (arms.get(slot, slot) for slot in (self.arm_a, self.arm_b))
        whole = tell(_WHOLES[self.method]) if self.method in _WHOLES else f"all {self.method}"  # English
        what = whole if self.cause == "all" else shown(self.cause)
        what = tell("switching to {arm}", arm=self.swap) if self.swap else what
        if self.method != "cuts":
            what = tell("{first}, {rest}", first=what, rest=tell(_METHODS[self.method]))
        what = tell("{what} of a network call", what=what) if self.of != "step" else what
        if self.share is None or self.ci_low is None or self.ci_high is None:
            return tell("why: {what} of {a} and {b}: {word}: {reason}", what=what, a=a, b=b, word=shown(self.word),
                        reason=shown(str(self.reason)))
        return tell("why: {what}: {share} [{low}, {high}] of the gap between {a} and {b} [{word}]", what=what,
                    share=f"{self.share:.0%}", low=f"{self.ci_low:.0%}", high=f"{self.ci_high:.0%}", a=a, b=b,
                    word=shown(self.word)) + (f" ({shown(self.reason)})" if self.reason else "")
