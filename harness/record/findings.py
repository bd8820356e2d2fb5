"""Every kind of finding, once; `python -m harness.record.findings > docs/findings.md` makes its page.

With `DDPM_BENCH_LANG=zh` it is that in Chinese, `docs/zh/findings.md`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from harness.record.events.base import ArmSlot, Severity
from harness.record.events.run import Finding
from messages import marked, preferred, recorded, shown, tell, use, words

# before: known before anything is measured; during: seen while measuring; end: from the whole journal, found anew when
# a run that went on ends again.
When = Literal["before", "during", "end"]


@dataclass(frozen=True)
class Kind:
    """What findings of one code have in common.

    Attributes:
        code: as in the journal.
        severity: how serious it is.
        when: when it is found.
        meaning: what was seen, and what that does to the figures; for the page.
        advice: what a user can do, as every finding says it; None where nothing is needed, or what is needed depends.
        milder: the severity that it may have instead, by circumstances that `meaning` names.
    """

    code: str
    severity: Severity
    when: When
    meaning: str
    advice: str | None = None
    milder: Severity | None = None

    def found(self, message: str, *, arm: ArmSlot | None = None, block: int | None = None, t_ns: int = 0,
              mild: bool = False, advice: str | None = None) -> Finding:
        """A finding of this kind.

        Args:
            message: what was seen, with the figures.
            arm: the arm that it is about, if it is about one.
            block: the same of a block.
            t_ns: its stamp; 0 for that of the writing.
            mild: whether it has the milder severity.
            advice: instead of the kind's, where it depends on what was seen.
        """
        severity = self.milder if mild and self.milder else self.severity
        return Finding(t_ns=t_ns, severity=severity, code=self.code, message=message, advice=advice or self.advice,
                       arm=arm, block=block)


# What helps where one thread is used already.
SHARED_PROCESSORS = marked("end other programs, or wait: measured steps will share the processors with them")
APART = marked("--schedule sequential keeps the arms apart, --time-limit bounds the run")
_FREE_MEMORY = marked("free memory, or choose a smaller batch or --schedule sequential")

# What was asked for
ARM_ALIAS = Kind(
    "arm-alias", "info", "before",
    marked("An arm stands for others by device, by what is done and by what the machine has: the run and its page "
           "name those that ran."))

# The machine before the run
HIGH_LOAD = Kind(
    "high-load", "warning", "before",
    marked("The load average is above a quarter of the usable processors before anything of ours runs."),
    recorded("{advice}; where those are all busy, threads wait for one another, and --threads 1 is many times "
             "as fast", advice=SHARED_PROCESSORS))
LOW_MEMORY = Kind(
    "low-memory", "warning", "before",
    marked("Less than 1 GiB, or a tenth of the memory that may be used, is free."),
    marked("end other programs, or choose a smaller preset or --schedule sequential"))
SWAP_IN_USE = Kind(
    "swap-in-use", "warning", "before",
    marked("More than 64 MiB are swapped out."),
    marked("a page that comes back during a step makes it many times as long: free memory first"))
GOVERNOR_POWERSAVE = Kind(
    "governor-powersave", "warning", "before",
    marked("The CPU's frequency governor saves power, so that the frequency follows the load."),
    marked("set it to 'performance': cpupower frequency-set -g performance"))
CPU_LIMIT = Kind(
    "cpu-limit", "warning", "before",
    marked("A cgroup allows less CPU time than the arms have threads; `--threads` or `OMP_NUM_THREADS` sets their "
           "number."),
    marked("use no more threads than that: beyond it the kernel stops the process for part of each period"))
THREADS_SETTING = Kind(
    "threads-setting", "warning", "before",
    marked("`OMP_NUM_THREADS` is no number of threads as OpenMP reads it, or asks for more than the processors that "
           "may be used: as many are used as there are processors, as without it."),
    marked("give --threads N, or mend the variable"))
DEBUG_BUILD = Kind(
    "debug-build", "warning", "before",
    marked("Python is a debug build, several times slower than usual."),
    marked("use a release build of Python"))
TRACED = Kind(
    "traced", "warning", "before",
    marked("A debugger or a coverage tool traces this process."),
    marked("measure without it"))
DEBUG_SWITCH = Kind(
    "debug-switch", "warning", "before",
    marked("An environment variable is set that makes programs check themselves or wait after every kernel, such as "
           "`CUDA_LAUNCH_BLOCKING=1`."),
    marked("unset it: it makes programs check themselves or wait, which is not what users run"))
SLOW_CLOCK = Kind(
    "slow-clock", "warning", "before",
    marked("The kernel reads the time from a slow source (`hpet`, `acpi_pm`, `jiffies`)."),
    marked("use the processor's own counter (boot with clocksource=tsc) where it is reliable"))
GPU_SHARED = Kind(
    "gpu-shared", "warning", "before",
    marked("Processes of others run on a GPU that this run may use."),
    marked("choose another GPU with CUDA_VISIBLE_DEVICES, or wait until it is free"))
GPU_UNUSED = Kind(
    "gpu-unused", "warning", "before",
    marked("`--device auto` took the CPU on a machine with an NVIDIA driver, because an arm cannot use CUDA here; "
           "the finding says why."),
    marked("see docs/gpu.md; --device cuda makes it an error, --device cpu asks for the CPU"))
UNLIKE_GPUS = Kind(
    "unlike-gpus", "info", "before",
    marked("The machine has GPUs of several kinds; a run takes the first by bus address that answers."),
    marked("CUDA_VISIBLE_DEVICES chooses another"))
NO_DDPM = Kind(
    "no-ddpm", "info", "before",
    marked("On the CPU the default cells of a sampling suite leave DDPM out, which takes minutes a batch."),
    marked("--steps 10,50,ddpm adds it"))
ENVIRONMENT_CHANGED = Kind(
    "environment-changed", "warning", "before",
    marked("The run went on in another environment (`--allow-env-change`); every fact that must match and does not "
           "is named with both values. Verdicts say how many blocks come from each, and are withdrawn "
           "(`inconclusive`, reason `environment`) where the environments decide differently."),
    marked("start a new run for figures of one machine; the report shows both environments"))

# While measuring
NO_STEADY_STATE = Kind(
    "no-steady-state", "warning", "during",
    marked("The warm-up of a process was ended by its cap: no steady state was found, or too late to confirm it."),
    marked("its times are measured all the same; look at the step times for drift"))
COMPILED_WHILE_MEASURED = Kind(
    "compiled-while-measured", "warning", "during",
    marked("Operators were compiled during the measured windows of a block."),
    marked("repeat the run: everything is compiled now"))
BUSY_MACHINE = Kind(
    "busy-machine", "warning", "during",
    marked("Even in the fastest of its last three windows an arm's step took over three times as long as alone in "
           "its warm-up, or the load average, less the run's own threads, is above the number of processors while "
           "other programs use at least half of them. Threads of several programs wait for one another then; the "
           "finding says how long a block takes at this pace."),
    recorded("end other programs, or give --threads 1; {advice}", advice=APART))
EPOCH_PART = Kind(
    "epoch-part", "info", "during",
    marked("An epoch was shortened to a part of the data, so that it stays short."),
    marked("--epochs N runs N whole epochs"))
UNSYNCHRONISED = Kind(
    "unsynchronised", "error", "during",
    marked("An arm's clock stops before its work is done: operations are pending after the synchronisation, reading "
           "the losses afterwards takes long, or k times the steps do not take longer, five times in a row; or a "
           "sampler's chain takes far less than a whole batch. Its case fails, and its comparisons are "
           "`not-comparable`."),
    marked("its times mean nothing: make its `synchronize` wait for all enqueued work"))
TIME_LIMIT = Kind(
    "time-limit", "warning", "end",
    marked("`--time-limit` ended the run, also within a block: what is unfinished is measured again by `--resume`. "
           "An info where as many blocks were measured as a verdict needs: the run, or the part that it names, is "
           "complete then, and a new run with a longer limit gives a narrower interval."),
    marked("go on with --resume, where --time-limit may be given anew; fewer --pairs or --num-images take less time"),
    milder="info")
MONITOR_FAILED = Kind(
    "monitor-failed", "warning", "during",
    marked("A fault in the telemetry ended it."),
    marked("the measurements are not affected; please report this with the run folder"))
CPU_FREQUENCY_DRIFT = Kind(
    "cpu-frequency-drift", "warning", "during",
    marked("The CPU's frequency moved by more than a tenth."),
    marked("fix it (governor 'performance', turbo off, mains power) if the verdict is undecided"))
SWAPPING = Kind(
    "swapping", "warning", "during",
    marked("More than 64 MiB were swapped out during the run."),
    _FREE_MEMORY)
SWAPPED_IN = Kind(
    "swapped-in", "warning", "during",
    marked("More than 4 MiB came back from swap; in the windows of a block, it is dirty."),
    _FREE_MEMORY)
MEMORY_PRESSURE = Kind(
    "memory-pressure", "warning", "during",
    marked("Every program at once waited for memory for over 1 % of the time (pressure stall information); in the "
           "windows of a block, it is dirty."),
    _FREE_MEMORY)
MEMORY_NEARLY_FULL = Kind(
    "memory-nearly-full", "warning", "during",
    marked("Less than 0.5 GiB of memory were left at one moment."),
    marked("end other programs, or choose a smaller batch or --schedule sequential: the kernel ends processes when "
           "nothing is left"))
OOM_KILL = Kind(
    "oom-kill", "warning", "during",
    marked("The kernel ended processes for lack of memory, ours or others'."),
    _FREE_MEMORY)
CPU_STOLEN = Kind(
    "cpu-stolen", "warning", "during",
    marked("The hypervisor gave over 5 % of this machine's CPU time to others; in the windows of a block, it is "
           "dirty."),
    marked("measure on dedicated processors, or at another time"))
CPU_THROTTLED = Kind(
    "cpu-throttled", "warning", "during",
    marked("A cgroup's CPU limit stopped this process for over 1 % of the time; in the windows of a block, it is "
           "dirty."),
    marked("raise the limit, or use no more threads than it has cores (--threads)"))
SUSPENDED = Kind(
    "suspended", "warning", "during",
    marked("The machine was suspended (CLOCK_BOOTTIME ran ahead of CLOCK_MONOTONIC); a block with a suspend in its "
           "windows is dirty."),
    marked("keep it awake while it measures: caches and clocks are cold afterwards"))
CLOCK_DRIFT = Kind(
    "clock-drift", "warning", "during",
    marked("The system's clock ran over 0.1 % off the hardware's."),
    marked("check the time daemon (chronyc tracking): ratios hold, absolute times are off by as much"))
CLOCK_STEPPED = Kind(
    "clock-stepped", "info", "during",
    marked("The time of day was set by over a second."),
    marked("no time in this run depends on it; only the dates of its folder and its start do"))
GPU_DISTURBED = Kind(
    "gpu-disturbed", "warning", "during",
    marked("A GPU lowered its clock by heat or supply, or others used it; in a block, it is dirty."),
    marked("see the clock and process panels of the timeline"))
GPU_LOST = Kind(
    "gpu-lost", "warning", "during",
    marked("The run's GPU stopped answering: it fell off the bus, or the driver ended. Blocks from then on are "
           "dirty, and what failed in them says so; those before stand."),
    marked("look for Xid in the kernel's log (dmesg), restart the machine where nvidia-smi misses the GPU too, then "
           "--resume"))
GPU_POWER_LIMITED = Kind(
    "gpu-power-limited", "info", "during",
    marked("A GPU ran at its power limit."),
    marked("usual under full load; it may hold a faster arm back more than a slower one"))
OTHER_RUN = Kind(
    "other-run", "warning", "during",
    marked("Another run of this program measures on the machine at the same time."),
    marked("both disturb each other: let one end before the next"))
ROUGH_EXTRAPOLATION = Kind(
    "rough-extrapolation", "warning", "during",
    marked("The distance at infinitely many images is a rough guess: a quarter of the images is no more than the "
           "network's features, and there the bias does not fall with 1/n."),
    marked("read the distance at the images that there are, or give --num-images more"))
FEW_IMAGES = Kind(
    "few-images", "warning", "during",
    marked("A set has fewer images than the distance needs: under 2048, or no more than the network has features, "
           "the estimate is biased upwards and its covariance is rank-deficient; the kernel distance is unbiased."),
    marked("give --num-images more; papers use 50000"))

# At the end
BLOCKS_DISTURBED = Kind(
    "blocks-disturbed", "warning", "end",
    marked("Blocks were dirty. Where the verdict differs without them it is withdrawn (`inconclusive`, reason "
           "`machine`): repeat on an idle machine with steady clocks."),
    marked("all of them count, and a verdict that hangs on them is withdrawn: see the table of blocks"))
MERGED = Kind(
    "merged", "info", "end",
    marked("The run was measured in parts (`--share`), of which `python -m reports merge` made one. Where they ran "
           "on several hosts the host is a factor: its ratio stands in the message, and verdicts rest on the spread "
           "of blocks within hosts, or on that of all blocks, whichever is wider."))
TAILS = Kind(
    "tails", "info", "end",
    marked("Typical and mean step differ by over 1 % in some blocks: some steps took much longer."),
    marked("look at the distribution of step times"))
NOISE_FLOOR = Kind(
    "noise-floor", "info", "end",
    marked("`--selfcheck`: the half-width of the interval of an arm against itself. Smaller differences cannot be "
           "seen on this machine with as many blocks; more make it narrower."))
RESOLUTION = Kind(
    "resolution", "info", "end",
    marked("`--selfcheck`: whether this machine can resolve a difference of 1 %, and the least number of blocks n "
           "with t(n-1) s / sqrt(n) below 1 % at the spread s of the blocks measured. Where it cannot, the advice is"
           " `--blocks` with that number, or to quieten the machine."))
SELFCHECK_DIFFERENCE = Kind(
    "selfcheck-difference", "warning", "end",
    marked("`--selfcheck`: an arm against itself came out as a difference."),
    marked("one such result in twenty is chance; if it comes again, something favours one of two equal processes: "
           "look at affinity and at other programs"))
HARNESS_OVERHEAD = Kind(
    "harness-overhead", "info", "end",
    marked("`--selfcheck`: the median ratio of harness windows to a bare loop, with its exact interval (the range "
           "where there are fewer than six pairs)."))
HARNESS_OVERHEAD_HIGH = Kind(
    "harness-overhead-high", "warning", "end",
    marked("`--selfcheck`: the same, with the interval above 1 %, in every arm."),
    marked("absolute times are too long by as much; give --steps for longer windows"))
SYNCHRONISED = Kind(
    "synchronised", "info", "end",
    marked("`--selfcheck`: the figures that prove that an arm's clock stops after its work."))
SELFCHECK_INCOMPLETE = Kind(
    "selfcheck-incomplete", "warning", "end",
    marked("`--selfcheck`: a part of it was not measured."),
    marked("see the failed cases and their logs"))

KINDS: tuple[Kind, ...] = tuple(kind for kind in list(globals().values()) if isinstance(kind, Kind))
# What a run that goes on finds again when it ends.
END_CODES = frozenset(kind.code for kind in KINDS if kind.when == "end")
# What a self-check says of each arm, in this order.
SELF_CHECK_CODES = tuple(kind.code for kind in (
    NOISE_FLOOR, RESOLUTION, SELFCHECK_DIFFERENCE, HARNESS_OVERHEAD, HARNESS_OVERHEAD_HIGH, SYNCHRONISED,
    UNSYNCHRONISED, SELFCHECK_INCOMPLETE))

_TITLE = marked("Findings")
_HEAD = marked("""\
What the harness notices about the machine, the arms and itself is a *finding*: a line of the journal with a code, a
severity, a message with the figures, and what to do. The report shows all of them above the numbers. An `error` means
that figures must not be used, a `warning` that they may be worse than they look, an `info` is good to know.

A *dirty* block is kept, counted, and repeated at the end of the run (at most a quarter extra).""")
_TITLES: dict[When, str] = {
    "before": marked("Before measuring"), "during": marked("While measuring"), "end": marked("At the end")}


def markdown() -> str:
    """The whole page, in the reader's language."""
    parts = [f"# {tell(_TITLE)}\n\n{tell(_HEAD)}\n"]
    columns = " | ".join(words("code", "severity", "meaning", "what to do"))
    for when, title in _TITLES.items():
        rows = [f"| `{kind.code}` | {_severity(kind)} | {tell(kind.meaning)} | {shown(kind.advice or '')} |"
                for kind in KINDS if kind.when == when]
        parts.append("\n".join([f"\n## {tell(title)}", f"| {columns} |", "|---|---|---|---|", *rows]) + "\n")
    return "".join(parts)


def _severity(kind: Kind) -> str:
    return tell("{severity} or {milder}", severity=kind.severity, milder=kind.milder) if kind.milder else kind.severity


if __name__ == "__main__":
    use(preferred())
    print(markdown(), end="")
