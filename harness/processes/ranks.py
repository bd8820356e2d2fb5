"""How the ranks of one arm are started: a launcher's command before that of a worker, and what does not fit it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.machine import gpu
from impls.devices import usable_cpus
from impls.errors import UnavailableError, UsageError
from impls.ranks import Launcher
from impls.registry import Arm, Device
from messages import listed, marked, tell

# As `--launcher` says it.
Choice = Literal["auto", "local", "torchrun", "mpirun", "slurm"]
WORKER = ("-m", "harness.worker")
# Without a name for this host, which a container may not have; each takes a free port.
MEETING = ("--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "--local-addr", "127.0.0.1")
ROOT_SWITCHES = ("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM")
# What Open MPI hands to other hosts only where it is named.
CARRIED = ("DDPM_BENCH_", "OMP_", "MKL_", "OPENBLAS_", "PYTHON", "PATH", "LD_LIBRARY_PATH", "CUDA_", "NVIDIA_")
HINTS = {"mpirun": marked("install Open MPI (Debian: openmpi-bin libopenmpi-dev)"),
         "srun": marked("start it inside a SLURM job")}


@dataclass(frozen=True)
class Launch:
    """A launcher with what it is asked for.

    Attributes:
        launcher: which one.
        ranks: how many processes on all nodes together.
        nodes: how many hosts.
        mpi: whether the ranks speak MPI.
    """

    launcher: Launcher
    ranks: int
    nodes: int = 1
    mpi: bool = False

    @property
    def abroad(self) -> bool:
        """Whether ranks may be on other hosts than this one: SLURM's are where the job is, also of one node."""
        return self.nodes > 1 or self.launcher == "srun"

    def command(self, python: str, env: Mapping[str, str]) -> list[str]:
        """What starts so many workers.

        Args:
            python: the arm's interpreter.
            env: of the launcher.
        """
        worker, each = [python, *WORKER], self.ranks // self.nodes
        if self.launcher == "torchrun":
            return [python, "-m", "torch.distributed.run", *MEETING, "--nproc-per-node", str(self.ranks), *WORKER]
        if self.launcher == "mpirun":
            # One core for each rank would be Open MPI's own way, whatever threads it has; how many ranks a host may
            # have was checked before.
            words = ["mpirun", "--oversubscribe", "--bind-to", "none", "-np", str(self.ranks)]
            if self.nodes > 1:
                names = sorted(name for name in env if name.startswith(CARRIED))
                words += ["--npernode", str(each), *(word for name in names for word in ("-x", name))]
            return [*words, *worker]
        # Without --overlap a step would wait for those that run beside it.
        words = ["srun", "--overlap", "--export=ALL", "--kill-on-bad-exit=1", "--cpu-bind=none",
                 f"--nodes={self.nodes}", f"--ntasks={self.ranks}", f"--ntasks-per-node={each}"]
        return [*words, *(["--mpi=pmix"] if self.mpi else []), *worker]

    def environment(self, folder: Path) -> dict[str, str]:
        """What a launcher is told beside: files that a killed one leaves go into the run's temporary folder."""
        if self.launcher == "torchrun" or self.abroad:
            return {}
        # By the names of Open MPI 4 and 5.
        return {f"OMPI_MCA_btl_{name}_backing_directory": str(folder) for name in ("vader", "sm")}


def launch_of(arm: Arm, choice: Choice, ranks: int, nodes: int = 1) -> Launch:
    """How so many ranks of an arm are started.

    Raises:
        UsageError: the launcher does not fit the arm, or the numbers do not fit it or each other.
        UnavailableError: the launcher is not on this machine.
    """
    if not arm.spec.launchers:
        raise UsageError(tell("--ranks {ranks}: {arm} runs in one process: leave it out", ranks=ranks, arm=arm.name))
    if choice == "local":
        raise UsageError(tell("--launcher local: starts one process an arm, and --ranks {ranks} asks for more: "
                              "leave it out", ranks=ranks))
    launcher: Launcher = arm.spec.launchers[0] if choice == "auto" else "srun" if choice == "slurm" else choice
    if launcher not in arm.spec.launchers:
        fitting = tell(" or ").join("slurm" if one == "srun" else one for one in arm.spec.launchers)
        raise UsageError(tell("--launcher {launcher}: does not fit {arm}: choose {fitting}, or leave it out for the "
                              "usual one of each arm", launcher=choice, arm=arm.name, fitting=fitting))
    if arm.spec.most_ranks is not None and ranks > arm.spec.most_ranks:
        raise UsageError(tell("--ranks {ranks}: {arm} can have {most} at most", ranks=ranks, arm=arm.name,
                              most=arm.spec.most_ranks))
    if ranks % nodes:
        near = sorted({ranks // nodes * nodes or nodes, (ranks // nodes + 1) * nodes})
        raise UsageError(tell("--ranks {ranks}: does not divide among --nodes {nodes}: choose {fitting}", ranks=ranks,
                              nodes=nodes, fitting=tell(" or ").join(map(str, near))))
    if nodes > 1 and launcher == "torchrun":
        raise UsageError(tell("--nodes {nodes}: torchrun starts the ranks of its own host alone: choose --launcher "
                              "slurm", nodes=nodes))
    program = None if launcher == "torchrun" else launcher
    if program is not None and shutil.which(program) is None:
        raise UnavailableError(tell("--ranks {ranks}: ranks of {arm} are started by {program}, which is not on PATH: "
                                    "{hint}, or leave this arm out", ranks=ranks, arm=arm.name, program=program,
                                    hint=tell(HINTS[program])))
    if launcher == "mpirun" and os.geteuid() == 0 and any(name not in os.environ for name in ROOT_SWITCHES):
        raise UsageError(tell("--ranks {ranks}: mpirun refuses to run as root: in a container set {switches}, else "
                              "run as another user", ranks=ranks,
                              switches=listed([f"{name}=1" for name in ROOT_SWITCHES])))
    return Launch(launcher, ranks, nodes, mpi="mpirun" in arm.spec.launchers)


def require_room(ranks: int, nodes: int, threads: int, device: Device) -> None:
    """Refuse more ranks than this host has processors or GPUs for; what other hosts have is not known here.

    Raises:
        UsageError: they would wait for one another.
    """
    if nodes > 1:
        return
    if device == "cuda":
        if ranks > (count := gpu.count()) > 0:
            raise UsageError(tell("--ranks {ranks}: one GPU for each, and {count} here: choose at most {count}",
                                  ranks=ranks, count=count))
        return
    cpus = usable_cpus()
    room = cpus // threads
    if ranks > room and threads > 1:
        raise UsageError(tell("--ranks {ranks}: this process may use {cpus} processors: choose at most {room} ranks of "
                              "{threads} threads, or fewer --threads", ranks=ranks, cpus=cpus, room=room,
                              threads=threads))
    if ranks > room:
        raise UsageError(tell("--ranks {ranks}: this process may use {cpus} processors: choose at most {room} ranks",
                              ranks=ranks, cpus=cpus, room=room))
