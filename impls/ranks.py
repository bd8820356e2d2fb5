"""Which of several processes this one is: started by torchrun, by Open MPI's mpirun, by SLURM's srun, or alone."""

from __future__ import annotations

import ctypes
import fcntl
import os
import re
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from impls.devices import default_threads, usable_cpus
from impls.errors import EXIT_FAILED, UsageError
from messages import tell

Launcher = Literal["torchrun", "mpirun", "srun"]
# A child that inherits these would take itself for a rank, and MPI ends the whole job where one is too many.
LAUNCHERS_OWN = ("OMPI_", "PMIX_", "PMI_", "SLURM_", "TORCHELASTIC_")
# Where ranks of SLURM meet that were told no port: one of these, by the job's number.
FIRST_PORT, PORTS = 20_000, 20_000
VISIBLE = "CUDA_VISIBLE_DEVICES"
PR_SET_PDEATHSIG = 1
# In a container a launcher may be process 1 itself, which otherwise takes in those whose parent has died.
STARTERS = (b"torch", b"mpi", b"orte", b"prte", b"slurm")


@dataclass(frozen=True)
class Ranks:
    """The place of this process among those that were started together.

    Attributes:
        rank: its number, from 0.
        size: how many there are.
        local_rank: its number among those of its host.
        local_size: how many its host has.
        launcher: what started them; None for a process of its own.
        job: what tells these ranks from those of other starts on the same host.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    launcher: Launcher | None = None
    job: str = ""

    def share(self, batch_size: int) -> range:
        """The positions of a whole batch that are this rank's.

        Raises:
            UsageError: the batch does not divide.
        """
        own, left = divmod(batch_size, self.size)
        if left:
            fitting = tell("{fewer} or {more}", fewer=own * self.size, more=(own + 1) * self.size
                           ) if own else str(self.size)
            raise UsageError(tell("batch size {batch_size}: does not divide among {size} ranks: choose {fitting} (it "
                                  "is that of all ranks together)", batch_size=batch_size, size=self.size,
                                  fitting=fitting))
        return range(self.rank * own, (self.rank + 1) * own)


ALONE = Ranks()


def own_ranks(environ: Mapping[str, str] = os.environ) -> Ranks:
    """The ranks that the variables of a launcher tell of; `ALONE` where none of them started this process.

    The innermost launcher counts: torchrun and mpirun may run under srun. The shell of a SLURM job has a SLURM_PROCID
    too and is no rank.

    Raises:
        UsageError: a launcher's variables are missing or contradict one another.
    """
    if "TORCHELASTIC_RUN_ID" in environ:
        numbers = _numbers(environ, "torchrun", ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"))
        return Ranks(*numbers, "torchrun", f"{environ['TORCHELASTIC_RUN_ID']}:{environ.get('MASTER_PORT', '')}")
    if "OMPI_COMM_WORLD_SIZE" in environ:
        names = [f"OMPI_COMM_WORLD_{what}" for what in ("RANK", "SIZE", "LOCAL_RANK", "LOCAL_SIZE")]
        return Ranks(*_numbers(environ, "mpirun", names), "mpirun", environ.get("PMIX_NAMESPACE", ""))
    if "SLURM_STEP_ID" in environ and environ.get("SLURM_STEP_NUM_TASKS", "1") != "1":
        counts = _tasks(environ.get("SLURM_STEP_TASKS_PER_NODE", ""))
        node = environ.get("SLURM_NODEID", "0")
        here = counts[int(node)] if node.isdigit() and int(node) < len(counts) else ""
        told = {**environ, "SLURM_STEP_TASKS_PER_NODE": str(here)}
        names = ["SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_STEP_TASKS_PER_NODE"]
        job = f"{environ.get('SLURM_JOB_ID')}.{environ['SLURM_STEP_ID']}"
        return Ranks(*_numbers(told, "srun", names), "srun", job)
    return ALONE


def _numbers(environ: Mapping[str, str], launcher: Launcher, names: list[str] | tuple[str, ...]
             ) -> tuple[int, int, int, int]:
    """Rank, size, local rank and local size."""
    texts = [environ.get(name, "") for name in names]
    wrong = next((name for name, text in zip(names, texts, strict=True) if not re.fullmatch(r"[0-9]{1,7}", text)), None)
    if wrong is not None:
        raise UsageError(tell("{launcher} started this process, but {name} is {value}: start it anew, or unset that "
                              "launcher's variables", launcher=launcher, name=wrong,
                              value=f"{environ.get(wrong) or tell('missing'):.40}"))
    rank, size, local_rank, local_size = map(int, texts)
    if not (rank < size and local_rank < local_size <= size):
        told = ", ".join(f"{name}={text}" for name, text in zip(names, texts, strict=True))
        raise UsageError(tell("{launcher} started this process, but its variables contradict one another ({values}): "
                              "start it anew, or unset that launcher's variables", launcher=launcher, values=told))
    return rank, size, local_rank, local_size


def _tasks(text: str) -> list[int]:
    """SLURM's tasks of every node: "2(x3),1" is [2, 2, 2, 1]."""
    return [int(count) for count, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", text) for _ in range(int(times or 1))]


def end_with_parent() -> None:
    """Have the kernel end this process at once with the one that started it, where it is Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def end_with_launcher(environ: Mapping[str, str] = os.environ) -> None:
    """Have the kernel end this process, if it is a rank, at once when what started it dies.

    Ranks whose launcher was killed would compute on for minutes, or wait for one another for ever. What they have
    written goes on from the last checkpoint. A process that is no rank outlives its shell, as usual.
    """
    try:
        own = own_ranks(environ)
    except UsageError:
        # Told by the command itself.
        return
    if own.size == 1 or sys.platform != "linux":
        return
    end_with_parent()
    # It may have died before.
    if os.getppid() == 1 and not starts_ranks(own):
        with suppress(OSError):
            os.write(2, tell("rank {rank}: its {launcher} is gone", rank=own.rank, launcher=own.launcher).encode()
                     + b"\n")
        os._exit(EXIT_FAILED)


def starts_ranks(own: Ranks, process: Path = Path("/proc/1")) -> bool:
    """Whether a process is a launcher, or stands between one and this rank, as a container's first process does."""
    try:
        if any(name in (process / "cmdline").read_bytes() for name in STARTERS):
            return True
        text = (process / "environ").read_text(encoding="utf-8", errors="replace")
        return own_ranks(dict(line.split("=", 1) for line in text.split("\0") if "=" in line)) == own
    except (OSError, UsageError):
        return False


def meeting_point(environ: Mapping[str, str]) -> tuple[str, int]:
    """Host and port where ranks that srun started find each other; MASTER_ADDR and MASTER_PORT win.

    Raises:
        UsageError: MASTER_PORT is no port.
    """
    nodes = environ.get("SLURM_STEP_NODELIST", "127.0.0.1")
    # "gpu[03-05,9],cpu1" begins with gpu03.
    first = re.match(r"([^\[,]+)(?:\[(\d+))?", nodes)
    host = environ.get("MASTER_ADDR") or ((first[1] + (first[2] or "")) if first else nodes)
    number = int(environ.get("SLURM_JOB_ID", "0")) * 16 + int(environ.get("SLURM_STEP_ID", "0"))
    port = environ.get("MASTER_PORT") or str(FIRST_PORT + number % PORTS)
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) < 1 << 16:
        raise UsageError(tell("MASTER_PORT is {port}: set it to a port, 1 to 65535, or unset it", port=repr(port[:40])))
    return host, int(port)


def for_child(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for a child that is no rank."""
    return {name: value for name, value in environ.items() if not name.startswith(LAUNCHERS_OWN)}


@contextmanager
def once_on_host(ranks: Ranks, file: Path) -> Iterator[bool]:
    """A block of which the ranks of a host wait for the first of them to come; whether this is that one.

    Where it fails, or is killed, the next one is the first.

    Args:
        ranks: as they were started.
        file: made where it is missing; on a disk that only this host writes to, or that has locks.
    """
    # The launcher's process id, since the number of a job comes again.
    job = f"{ranks.job} {os.uname().nodename} {os.getppid()}"
    with file.open("a+", encoding="utf-8") as marked:
        fcntl.flock(marked, fcntl.LOCK_EX)
        marked.seek(0)
        first = marked.read() != job
        yield first
        if first:
            marked.truncate(0)
            marked.write(job)


def take_gpu(ranks: Ranks) -> None:
    """Show this process, which has not looked for GPUs yet, its own alone.

    SLURM may show each of its tasks one GPU, another one each.
    """
    if ranks.local_size == 1:
        return
    shown = os.environ.get(VISIBLE)
    gpus = None if shown is None else [gpu for gpu in shown.split(",") if gpu.strip()]
    if gpus is None:
        os.environ[VISIBLE] = str(ranks.local_rank)
    elif ranks.launcher != "srun" or len(gpus) != 1:
        # Where there are fewer GPUs than ranks: none, which is refused where GPUs are asked for.
        os.environ[VISIBLE] = gpus[ranks.local_rank] if ranks.local_rank < len(gpus) else ""


def threads_here(ranks: Ranks) -> int:
    """Threads for one operator where ranks share a host: what OMP_NUM_THREADS says, else this rank's part of it."""
    if os.environ.get("OMP_NUM_THREADS", "").strip():
        return default_threads()
    # A launcher that binds its ranks has more processors than it gives each of them.
    bound = usable_cpus() < len(os.sched_getaffinity(os.getppid()))
    return usable_cpus() if bound else max(1, usable_cpus() // ranks.local_size)


def command(launcher: Launcher, size: int, words: str) -> str:
    """How a person starts so many ranks on one host: what stands before the words that come after `python`."""
    prefix = {"torchrun": f"torchrun --nproc-per-node {size}",  # English
              "mpirun": f"mpirun -np {size} --bind-to none python", "srun": f"srun -n {size} python"}  # English
    return f"{prefix[launcher]} {words}"
