"""Kernels against host: what of a step computes, what is left to the host, and each arm's trace to download."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from harness.record.events import Profiled, Whole
from messages import count, listed, marked, plural, shown, tell, words
from reports.page.blocks import Block, Prose, Section, Table, head, table_of
from reports.page.blocks import section as section_of
from reports.suites.why.causes import Told, name_of, told
from reports.text import Value, duration, missing, number, percent, sentence
from reports.view.run import RunView

LONGEST = 8
WHOLES: tuple[Whole, ...] = get_args(Whole)
WHOLE: dict[Whole, str] = {"step": marked("whole step"), "network call": marked("whole network call")}  # English


@dataclass(frozen=True)
class Split:
    """A step, or a phase of it, in nanoseconds.

    Attributes:
        whole: all of it, as timed beside the profiled steps.
        kernels: what the profiler saw compute.
        launches: how many kernels.
    """

    whole: float
    kernels: float
    launches: float

    @property
    def host(self) -> float:
        """What is left; less than nothing where kernels overlap."""
        return self.whole - self.kernels

    @property
    def per_launch(self) -> Value:
        """What the host takes for each kernel."""
        if not self.launches:
            return missing(tell("no kernel was seen"))
        return Value(duration(self.host / self.launches)) if self.host > 0 else missing(
            tell("nothing is left to the host"))

    def part(self, ns: float) -> str | None:
        """Some of it as a share of it; None of what took no time."""
        return percent(ns / self.whole) if self.whole > 0 else None


def section(seen: RunView) -> Section | None:
    """Of steps and of network calls: every arm, every pair phase by phase, and the longest kernels of a step."""
    blocks: list[Block | None] = []
    for of in WHOLES:
        lines = profiled(seen, of)
        blocks.append(arms(seen, lines, of))
        for one in told(seen, of):
            if all(slot in lines and cut(lines[slot]) for slot in (one.slow, one.fast)):
                # Without shares there is no gap, or nobody knows whose.
                blocks += [Prose(said(seen, one, lines))] if one.shares else []
                blocks.append(phases(seen, one, lines))
        blocks.append(longest(seen, lines, of))
    return section_of("kernels", tell("Kernels against host"), *blocks)


def profiled(seen: RunView, of: Whole) -> dict[str, Profiled]:
    """What each arm's profiler told, by slot."""
    return {line.arm: line for line in seen.run.of(Profiled) if line.of == of}


def cut(line: Profiled) -> bool:
    """Whether it tells how long steps and their phases were."""
    return line.reason is None and line.steps > 0 and bool(line.phase_ns)


def split(line: Profiled) -> dict[str, Split]:
    """Phase by phase, and the whole step or network call."""
    found = {}
    for phase, ns in line.phase_ns.items():
        own = [one for one in line.by_class if one.phase == phase]
        found[phase] = Split(ns, sum(one.ns for one in own) / line.steps, sum(one.count for one in own) / line.steps)
    parts = list(found.values())
    found[WHOLE[line.of]] = Split(sum(one.whole for one in parts), sum(one.kernels for one in parts),
                                  sum(one.launches for one in parts))
    return found


def of_kernels(seen: RunView, one: Told) -> dict[str, float]:
    """Phase -> what of that which it takes longer in the slow arm is kernels, between 0 and 1.

    Of phases that both profilers told of, and in which kernels and host both take longer, or both shorter.
    """
    lines = profiled(seen, one.together.of)
    if not all(slot in lines and cut(lines[slot]) for slot in (one.slow, one.fast)):
        return {}
    slow, fast = split(lines[one.slow]), split(lines[one.fast])
    found = {}
    for phase in slow.keys() & fast.keys():
        kernels, rest = slow[phase].kernels - fast[phase].kernels, slow[phase].host - fast[phase].host
        if kernels * rest >= 0 and kernels + rest:
            found[phase] = kernels / (kernels + rest)
    return found


def arms(seen: RunView, lines: dict[str, Profiled], of: Whole) -> Table | None:
    """Arm by arm, with its trace."""
    rows = []
    for arm in seen.arms:
        line = lines.get(arm.slot)
        if line is None:
            continue
        name = Value(arm.label, slot=arm.slot)
        if not cut(line):
            why = shown(line.reason) if line.reason else tell("its steps are not cut into phases")
            rows.append((name, *[missing(why)] * 4, trace(seen, line)))
            continue
        whole = split(line)[WHOLE[of]]
        rows.append((name, Value(duration(whole.kernels), whole.part(whole.kernels)), host(whole),
                     Value(count(round(whole.launches))), whole.per_launch, trace(seen, line)))
    caption = (tell("A step under each arm's own profiler, once, behind everything else that was measured")
               if of == "step" else
               tell("A network call under each arm's own profiler, once, behind everything else that was measured"))
    return table_of(caption, words("arm", "kernels", "host", "launches", "host per launch", "trace"), rows)


def trace(seen: RunView, line: Profiled) -> Value:
    """A link to the file beside the report."""
    # From the slot, not from the journal, which somebody else may have written.
    file = f"{line.arm}{'' if line.of == 'step' else '-calls'}.json.gz"
    name = f"traces/{file}"
    if line.trace is None or not (seen.run.path / name).is_file():
        return missing(shown(line.reason) if line.reason else tell("the file is not there"))
    return Value(file, tell("{tool}: {note}", tool=line.tool, note=shown(line.note)), link=name)


def host(one: Split) -> Value:
    """What is left to the host, or that kernels overlap."""
    if one.host < 0:
        held = one.part(one.kernels) or tell("more than there is")
        return Value("0", tell("kernels hold {share}: they overlap, or noise", share=held))
    return Value(duration(one.host), one.part(one.host))


def said(seen: RunView, one: Told, lines: dict[str, Profiled]) -> str:
    """What of the gap is kernels and what is the host."""
    slow, fast = (split(lines[slot])[WHOLE[one.together.of]] for slot in (one.slow, one.fast))
    gap = slow.whole - fast.whole
    if gap <= 0:
        return sentence(tell("While it was profiled, {slow} was not the slower one: read no gap from this",
                             slow=seen.label(one.slow)))
    parts = [(tell("kernels"), slow.kernels - fast.kernels), (tell("the host between them"), slow.host - fast.host)]
    parts.sort(key=lambda part: -part[1])
    places = {"gap": duration(gap), "slow": seen.label(one.slow), "fast": seen.label(one.fast),
              "parts": listed([f"{name} {duration(ns)}" for name, ns in parts])}
    if one.together.of == "step":
        return sentence(tell("Of the {gap} that a step of {slow} took longer than one of {fast} here, {parts}; one "
                             "measurement, without intervals", **places))
    return sentence(tell("Of the {gap} that a network call of {slow} took longer than one of {fast} here, {parts}; one "
                         "measurement, without intervals", **places))


def phases(seen: RunView, one: Told, lines: dict[str, Profiled]) -> Table:
    """Phase by phase, both arms."""
    slow, fast = (split(lines[slot]) for slot in (one.slow, one.fast))
    rows = tuple((Value(name_of(phase)), cell(slow.get(phase)), cell(fast.get(phase)))
                 for phase in dict.fromkeys((*slow, *fast)))
    names = [Value(seen.label(slot), slot=slot) for slot in (one.slow, one.fast)]
    caption = (tell("Kernels + host of a step, phase by phase") if one.together.of == "step" else
               tell("Kernels + host of a network call, phase by phase"))
    return Table(caption, (*head(tell("phase")), *names), rows)


def cell(one: Split | None) -> Value:
    """Kernels, host, launches."""
    if one is None:
        return missing(tell("the arm has no such phase"))
    return Value(f"{duration(one.kernels)} + {host(one).text}", plural(round(one.launches), "launch", "launches"))


def longest(seen: RunView, lines: dict[str, Profiled], of: Whole) -> Table | None:
    """The kernels that take most of each arm's step, or network call."""
    rows = []
    for line in (lines[arm.slot] for arm in seen.arms if arm.slot in lines and lines[arm.slot].steps > 0):
        name = Value(seen.label(line.arm), slot=line.arm)
        whole_ns = sum(one.ns for one in line.by_class)
        rows += [(Value(one.name, one.operator_class and name_of(one.operator_class)), name, Value(name_of(one.phase)),
                  Value(duration(one.ns / line.steps),
                        tell("{share} of all kernels", share=percent(one.ns / whole_ns)) if whole_ns > 0 else None),
                  Value(number(one.count / line.steps))) for one in line.longest[:LONGEST]]
    caption, part = ((tell("The kernels that take most of a step, as each profiler calls them"), tell("of a step"))
                     if of == "step" else
                     (tell("The kernels that take most of a network call, as each profiler calls them"),
                      tell("of a network call")))
    return table_of(caption, (*words("kernel", "arm", "phase"), part, *words("launches")), rows)
