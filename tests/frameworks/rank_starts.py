"""Starting ranks: PyTorch's by torchrun or as it would, Jittor's by mpirun where there is one."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 240
TORCHRUN = ("-m", "torch.distributed.run", "--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "--local-addr",
            "127.0.0.1", "--nproc-per-node")
MPIRUN = ("mpirun", "--oversubscribe", "--bind-to", "none", "-np")


def require_launcher(framework: str) -> None:
    """Skip where ranks of this framework cannot be started."""
    missing = [name for name in ("mpirun", os.environ.get("mpicc_path", "mpicc")) if shutil.which(name) is None]  # noqa: SIM112
    if framework == "jittor" and missing:
        pytest.skip(f"Jittor's ranks need Open MPI (Debian: openmpi-bin libopenmpi-dev): no {' and no '.join(missing)}")


def environment(**more: str) -> dict[str, str]:
    root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"} if os.geteuid() == 0 else {}
    # pytest's own switches are not for the processes that it starts.
    return {**os.environ, "OMP_NUM_THREADS": "1", **root, **more}


def prefix(framework: str, size: int) -> list[str]:
    """What starts so many ranks of what follows."""
    if framework == "jittor":
        return [*MPIRUN, str(size), sys.executable]
    return [sys.executable, *TORCHRUN, str(size)]


def launched(framework: str, size: int, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Ranks by their launcher, to their end."""
    return subprocess.run([*prefix(framework, size), *words], check=False, cwd=ROOT, env=environment(), text=True,
                          capture_output=True, timeout=LIMIT_S)


class Ranks:
    """PyTorch's ranks, each a child of this process, told by torchrun's variables who they are."""

    def __init__(self, size: int, words: Sequence[str]) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        common = {"TORCHELASTIC_RUN_ID": "test", "WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(size),
                  "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        self.processes = [
            subprocess.Popen([sys.executable, *words], cwd=ROOT, text=True, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, env=environment(**common, RANK=str(rank), LOCAL_RANK=str(rank)))
            for rank in range(size)]

    def ends(self) -> tuple[list[int], list[str], list[str]]:
        """Exit codes, and what was said on stdout and stderr."""
        said = [process.communicate(timeout=LIMIT_S) for process in self.processes]
        return [process.returncode for process in self.processes], [out for out, _ in said], [err for _, err in said]
