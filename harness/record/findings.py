"""Every code that a finding can have; `python -m harness.record.findings > docs/findings.md` makes its page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from harness.record.events.base import Severity

# before: known before anything is measured; during: seen while measuring; end: from the whole journal, found anew when
# a run that went on ends again.
When = Literal["before", "during", "end"]


@dataclass(frozen=True)
class Entry:
    """One code.

    Attributes:
        code: as in the journal.
        severity: how serious it is; several where it depends.
        when: when it is found.
        meaning: what was seen, and what that does to the figures.
        advice: what a user can do.
    """

    code: str
    severity: tuple[Severity, ...]
    when: When
    meaning: str
    advice: str


def _info(code: str, when: When, meaning: str, advice: str) -> Entry:
    return Entry(code, ("info",), when, meaning, advice)


def _warn(code: str, when: When, meaning: str, advice: str) -> Entry:
    return Entry(code, ("warning",), when, meaning, advice)


CATALOGUE: tuple[Entry, ...] = (
    # The machine before the run
    _warn("high-load", "before", "The load average is above a quarter of the usable processors before anything of ours "
          "runs: steps will share them.", "End other programs, or wait."),
    _warn("low-memory", "before", "Less than 1 GiB, or a tenth of the memory that may be used, is free.",
          "End other programs; choose a smaller preset or `--schedule sequential`."),
    _warn("swap-in-use", "before", "More than 64 MiB are swapped out: a page that comes back makes a step many times "
          "as long.", "Free memory first, or turn swap off and on again."),
    _warn("governor-powersave", "before", "The CPU's frequency governor saves power, so that the frequency follows the "
          "load.", "`cpupower frequency-set -g performance`"),
    _warn("cpu-limit", "before", "A cgroup allows less CPU time than there are usable processors: threads beyond it "
          "are stopped for part of each period.",
          "Use no more threads than that (`OMP_NUM_THREADS`), or raise the limit."),
    _warn("debug-build", "before", "Python is a debug build, several times slower than usual.",
          "Use a release build of Python."),
    _warn("traced", "before", "A debugger or a coverage tool traces this process.", "Measure without it."),
    _warn("debug-switch", "before", "An environment variable makes programs check themselves or wait after every "
          "kernel, such as `CUDA_LAUNCH_BLOCKING=1`.", "Unset it."),
    _warn("slow-clock", "before", "The kernel reads the time from a slow source (`hpet`, `acpi_pm`, `jiffies`).",
          "Boot with `clocksource=tsc` where the processor's counter is reliable."),
    _warn("gpu-shared", "before", "Processes of others run on a GPU that this run may use.",
          "Choose another GPU with `CUDA_VISIBLE_DEVICES`, or wait."),
    _info("no-ddpm", "before", "On the CPU the default cells of a sampling suite leave DDPM out, which takes minutes a "
          "batch.", "`--steps 10,50,ddpm` adds it."),
    _warn("environment-changed", "before", "The run went on in another environment (`--allow-env-change`); every fact "
          "that must match and does not is named with both values. Verdicts say how many blocks come from each, and "
          "are withdrawn (`inconclusive`, reason `environment`) where the environments decide differently.",
          "Start a new run for figures of one machine."),
    # While measuring
    _warn("no-steady-state", "during", "The warm-up of a process was ended by its cap: no steady state was found, or "
          "too late to confirm it.", "Look at its step times for drift; its times are measured all the same."),
    _warn("compiled-while-measured", "during", "Operators were compiled during the measured windows of a block.",
          "Repeat the run: everything is compiled now."),
    _info("epoch-part", "during", "An epoch was shortened to a part of the data, so that it stays short.",
          "`--epochs N` runs N whole epochs."),
    Entry("unsynchronised", ("error",), "during", "An arm's clock stops before its work is done: operations are "
          "pending after the synchronisation, reading the losses afterwards takes long, or k times the steps do not "
          "take longer, five times in a row; or a sampler's chain takes far less than a whole batch. Its "
          "case fails, and its comparisons are `not-comparable`.",
          "Make the backend's `synchronize` wait for all enqueued work."),
    Entry("time-limit", ("warning", "info"), "end", "`--time-limit` ended the run; a warning where fewer blocks "
          "were measured than a verdict needs.", "Give it more minutes."),
    _warn("monitor-failed", "during", "A fault in the telemetry ended it; the measurements are not affected.",
          "Report it with the run folder."),
    _warn("cpu-frequency-drift", "during", "The CPU's frequency moved by more than a tenth.",
          "Governor `performance`, turbo off, mains power."),
    _warn("swapping", "during", "More than 64 MiB were swapped out during the run.",
          "Free memory; choose a smaller batch or `--schedule sequential`."),
    _warn("swapped-in", "during", "More than 4 MiB came back from swap; in the windows of a block, it is dirty.",
          "Free memory; choose a smaller batch or `--schedule sequential`."),
    _warn("memory-pressure", "during", "Every program at once waited for memory for over 1 % of the time (pressure "
          "stall information); in the windows of a block, it is dirty.",
          "Free memory; choose a smaller batch or `--schedule sequential`."),
    _warn("memory-nearly-full", "during", "Less than 0.5 GiB of memory were left at one moment.",
          "End other programs; choose a smaller batch or `--schedule sequential`."),
    _warn("oom-kill", "during", "The kernel ended processes for lack of memory, ours or others'.",
          "Free memory; choose a smaller batch or `--schedule sequential`."),
    _warn("cpu-stolen", "during", "The hypervisor gave over 5 % of this machine's CPU time to others; in the windows "
          "of a block, it is dirty.", "Measure on dedicated processors, or at another time."),
    _warn("cpu-throttled", "during", "A cgroup's CPU limit stopped this process for over 1 % of the time; in the "
          "windows of a block, it is dirty.", "Raise the limit, or use fewer threads (`OMP_NUM_THREADS`)."),
    _warn("suspended", "during", "The machine was suspended (CLOCK_BOOTTIME ran ahead of CLOCK_MONOTONIC); a block "
          "with a suspend in its windows is dirty.", "Keep the machine awake while it measures."),
    _warn("clock-drift", "during", "The system's clock ran over 0.1 % off the hardware's: absolute times are off by as "
          "much, ratios hold.", "Check the time daemon (`chronyc tracking`)."),
    _info("clock-stepped", "during", "The time of day was set by over a second. No measured time depends on it.",
          "None needed; only dates are affected."),
    _warn("gpu-disturbed", "during", "A GPU lowered its clock by heat or supply, or others used it; in a block, it is "
          "dirty.", "See the clock and process panels of the timeline."),
    _info("gpu-power-limited", "during", "A GPU ran at its power limit, which is usual under full load.",
          "Raise the limit, or know that it may hold a faster arm back more than a slower one."),
    # At the end
    _warn("blocks-disturbed", "end", "Blocks were dirty. All of them count; where the verdict differs without them it "
          "is withdrawn (`inconclusive`, reason `machine`).", "Repeat on an idle machine with steady clocks."),
    _info("tails", "end", "Typical and mean step differ by over 1 % in some blocks: some steps took much longer.",
          "Look at the distribution of step times."),
    _info("noise-floor", "end", "`--selfcheck`: the half-width of the interval of an arm against itself. Smaller "
          "differences cannot be seen on this machine with as many blocks.", "More blocks make it narrower."),
    _info("resolution", "end", "`--selfcheck`: whether this machine can resolve a difference of 1 %, and the least "
          "number of blocks n with t(n-1) s / sqrt(n) below 1 % at the spread s of the blocks measured.",
          "Give `--blocks` that number, or quieten the machine."),
    _warn("selfcheck-difference", "end", "`--selfcheck`: an arm against itself came out as a difference, which chance "
          "does once in twenty times.", "Repeat it; if it comes again, look at affinity and at other programs."),
    _info("harness-overhead", "end", "`--selfcheck`: the median ratio of harness windows to a bare loop, with its "
          "exact interval (the range where there are fewer than six pairs).", "None needed."),
    _warn("harness-overhead-high", "end", "`--selfcheck`: the same, with the interval above 1 %: absolute times are "
          "too long by as much, in every arm.", "Give `--steps` for longer windows."),
    _info("synchronised", "end", "`--selfcheck`: the figures that prove that an arm's clock stops after its work.",
          "None needed."),
    _warn("selfcheck-incomplete", "end", "`--selfcheck`: a part of it was not measured.",
          "See the failed cases and their logs."),
    # Neighbours
    _warn("other-run", "during", "Another run of this program measures on the machine at the same time: each disturbs "
          "the other.", "Let one end before the next starts."),
    # Image quality
    _warn("rough-extrapolation", "during", "The distance at infinitely many images is a rough guess: a quarter of the "
          "images is no more than the network's features, and there the bias does not fall with 1/n.",
          "Give `--num-images` more than four times the features."),
    _warn("few-images", "during", "A set has fewer images than the distance needs: under 2048, or no more than the "
          "network has features, the estimate is biased upwards and its covariance is rank-deficient.",
          "Give `--num-images` more, and prefer the kernel distance, which is unbiased."),
)
# What a run that goes on finds again when it ends.
# What a self-check says of each arm, in this order.
SELF_CHECK_CODES = ("noise-floor", "resolution", "selfcheck-difference", "harness-overhead", "harness-overhead-high",
                    "synchronised", "unsynchronised", "selfcheck-incomplete")
END_CODES = frozenset(entry.code for entry in CATALOGUE if entry.when == "end")

_HEAD = """# Findings

What the harness notices about the machine, the arms and itself is a *finding*: a line of the journal with a code, a
severity, a message with the figures, and what to do. The report shows all of them above the numbers. An `error` means
that figures must not be used, a `warning` that they may be worse than they look, an `info` is good to know.

A *dirty* block is kept, counted, and repeated at the end of the run (at most a quarter extra).
"""
_TITLES: dict[When, str] = {"before": "Before measuring", "during": "While measuring", "end": "At the end"}


def markdown() -> str:
    """The whole page."""
    parts = [_HEAD]
    for when, title in _TITLES.items():
        rows = [f"| `{entry.code}` | {' or '.join(entry.severity)} | {entry.meaning} | {entry.advice} |"
                for entry in CATALOGUE if entry.when == when]
        head = [f"\n## {title}", "| code | severity | meaning | what to do |", "|---|---|---|---|"]
        parts.append("\n".join([*head, *rows]) + "\n")
    return "".join(parts)


if __name__ == "__main__":
    print(markdown(), end="")
