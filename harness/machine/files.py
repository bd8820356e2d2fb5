"""What the operating system tells in files and by small tools: processor, cgroup limits, container, git, compilers."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from messages import recorded

# The folder of this program.
ROOT = Path(__file__).resolve().parents[2]
TOOL_LIMIT_S = 10.0
CGROUP_UNLIMITED_BYTES = 1 << 60


class SystemFiles:
    """Linux's files under `root`, which a test replaces; every answer is None where the file is missing or strange."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._processors = root / "sys/devices/system/cpu"

    def text(self, path: str | Path) -> str | None:
        """The stripped text of a small file below the root."""
        try:
            return (self._root / path).read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            return None

    def first(self, path: str | Path, pattern: str) -> str | None:
        """What the pattern's group takes where the pattern first matches in a file; `^` and `$` are a line's ends."""
        found = re.search(pattern, self.text(path) or "", re.MULTILINE)
        return found[1] if found else None

    def number(self, path: str | Path, pattern: str = r"\A(-?\d+)\Z") -> int | None:
        """The whole number that `first` finds: the only word of the file, or what the pattern's group takes."""
        text = self.first(path, pattern)
        return None if text is None else int(text)

    def cpu_model(self) -> str | None:
        """The processor's name."""
        return self.first("proc/cpuinfo", r"^(?:model name|Model|Hardware)\s*:\s*(.*\S)")  # English

    def governor(self, processors: list[int]) -> str | None:
        """The frequency governor of these processors; several are joined by a plus sign."""
        found = {self.text(self._processors / f"cpu{n}/cpufreq/scaling_governor") for n in processors}
        return "+".join(sorted(name for name in found if name)) or None

    def max_frequency_mhz(self, processors: list[int]) -> float | None:
        """The highest frequency that the governor allows any of these processors."""
        found = [self.number(self._processors / f"cpu{n}/cpufreq/scaling_max_freq") for n in processors]
        return max((khz / 1000 for khz in found if khz), default=None)

    def turbo(self) -> bool | None:
        """Whether the processor may run above its base frequency."""
        off = self.number(self._processors / "intel_pstate/no_turbo")
        if off is not None:
            return off == 0
        boost = self.number(self._processors / "cpufreq/boost")
        return None if boost is None else boost == 1

    def cpu_limit_cores(self) -> float | None:
        """CPU time that cgroups allow, in cores: the least of this process's group and those above it."""
        limits = []
        for folder in self._groups("cpu"):
            quota, _, period = (self.text(folder / "cpu.max") or "").partition(" ")
            if not quota:
                quota = self.text(folder / "cpu.cfs_quota_us") or ""
                period = self.text(folder / "cpu.cfs_period_us") or ""
            if quota.isdecimal() and period.isdecimal() and int(period):
                limits.append(int(quota) / int(period))
        return min(limits, default=None)

    def memory_limit_bytes(self) -> int | None:
        """Memory that cgroups allow: the least of this process's group and those above it."""
        found = [self.number(folder / name) for folder in self._groups("memory")
                 for name in ("memory.max", "memory.limit_in_bytes")]
        return min((limit for limit in found if limit is not None and 0 < limit < CGROUP_UNLIMITED_BYTES), default=None)

    def throttled_s(self) -> float | None:
        """Time for which CPU limits stopped this process's control groups, of the one that was stopped longest."""
        # Version 2 counts microseconds, version 1 nanoseconds.
        return max((count / per_s for folder in self._groups("cpu")
                    for name, per_s in (("throttled_usec", 1e6), ("throttled_time", 1e9))
                    if (count := self.number(folder / "cpu.stat", rf"^{name} (\d+)$")) is not None), default=None)

    def stolen_s(self, processors: list[int]) -> float | None:
        """Time that a hypervisor gave to others while these processors wanted to run."""
        found = re.findall(r"^cpu(\d+)((?: \d+)+)", self.text("proc/stat") or "", re.MULTILINE)
        ticks = [times.split()[7] for number, times in found if int(number) in processors and times.count(" ") > 7]
        return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK") if ticks else None

    def vmstat(self, name: str) -> int | None:
        """One counter of the memory management since the machine started."""
        return self.number("proc/vmstat", rf"^{name} (\d+)$")

    def memory_stalled_s(self) -> float | None:
        """Time for which every program that could run waited for memory (pressure stall information)."""
        total_us = self.number("proc/pressure/memory", r"^full .*total=(\d+)")  # English
        return None if total_us is None else total_us / 1e6

    def clock_source(self) -> str | None:
        """What the kernel reads the time from."""
        return self.text("sys/devices/system/clocksource/clocksource0/current_clocksource")

    def exists(self, path: str | Path) -> bool:
        """Whether a file is there."""
        return (self._root / path).exists()

    def nvidia_gpus(self) -> int:
        """NVIDIA's display controllers on the PCI bus, with a driver or without."""
        found = (self._root / "sys/bus/pci/devices").glob("*")
        return sum(self.text(one / "vendor") == "0x10de" and (self.text(one / "class") or "").startswith("0x03")
                   for one in found)

    def _groups(self, controller: str) -> list[Path]:
        """Folders of this process's control groups, version 2 and 1, from the innermost to the root of each tree."""
        folders: list[Path] = []
        for line in (self.text("proc/self/cgroup") or "").splitlines():
            number, _, rest = line.partition(":")
            controllers, _, place = rest.partition(":")
            if number != "0" and controller not in controllers.split(","):
                continue
            tree = Path("sys/fs/cgroup") if number == "0" else Path("sys/fs/cgroup") / controllers
            inner = Path(place.lstrip("/"))
            folders += [tree / part for part in (inner, *inner.parents)]
        return folders

    def container(self, environ: Mapping[str, str]) -> str | None:
        """The kind of container this process runs in; None when nothing points to one."""
        if "APPTAINER_NAME" in environ or "SINGULARITY_NAME" in environ:
            return "apptainer"
        if "KUBERNETES_SERVICE_HOST" in environ:
            return "kubernetes"
        if (self._root / "run/.containerenv").exists():
            return "podman"
        if (self._root / ".dockerenv").exists():
            return "docker"
        found = self.first("proc/1/cgroup", "(kubepods|docker|lxc|containerd|podman)")
        return "kubernetes" if found == "kubepods" else found

    def virtual_machine(self) -> bool | None:
        """Whether the processor says that a hypervisor is below."""
        flags = self.first("proc/cpuinfo", r"^(?:flags|Features)\s*:(.*)$")
        return None if flags is None else "hypervisor" in flags.split()

    def distribution(self) -> str | None:
        """The distribution's name with its version."""
        return self.first("etc/os-release", r'^PRETTY_NAME="?([^"\n]+)')


def tool_version(tool: str, keyword: str) -> str | None:
    """The first line of `tool --version` that holds the keyword; None without such a tool."""
    output = _run([tool, "--version"]) or ""
    return next((line.strip() for line in output.splitlines() if keyword in line), None)


def git_state(root: Path) -> tuple[str | None, bool | None, str]:
    """Commit and whether tracked or new files differ from it; both None, with the reason, where git cannot tell."""
    git = shutil.which("git")
    if git is None:
        return None, None, recorded("git is not installed")
    if not (root / ".git").exists():
        return None, None, recorded("the program does not run from a git checkout")
    # Neither a hook's GIT_DIR may redirect the question, nor may asking it write to the repository.
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    base = [git, "--no-optional-locks", "-C", str(root)]
    commit, status = _run([*base, "rev-parse", "HEAD"], clean), _run([*base, "status", "--porcelain"], clean)
    if commit is None or status is None:
        return None, None, recorded("git refuses to read this checkout (no commit yet, or owned by another user)")
    return commit.strip(), bool(status.strip()), ""


def _run(command: list[str], environ: Mapping[str, str] | None = None) -> str | None:
    """Standard output of a command that must be quick; None when it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TOOL_LIMIT_S, check=True, env=environ,
                              stdin=subprocess.DEVNULL, errors="replace")
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout
