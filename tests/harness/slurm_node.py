"""A SLURM of one node in a folder of its own, from Debian's packages, for the tests marked `slurm`."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "sinfo")
LIMIT_S = 60
CONF = """ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={daemon}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=test Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory) -> Iterator[dict[str, str]]:
    """The variables by which SLURM's commands find it; skipped, with the reason, where it cannot be set up."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        pytest.skip(f"a real SLURM needs Debian's slurm-wlm and munge: no {', no '.join(missing)}")
    if os.geteuid() != 0:
        pytest.skip("a real SLURM of one node is set up by root alone")
    folder = tmp_path_factory.mktemp("slurm")
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(64))
    key.chmod(0o600)
    ports = [_free_port() for _ in range(2)]
    conf = folder / "slurm.conf"
    conf.write_text(CONF.format(host=socket.gethostname().partition(".")[0], controller=ports[0], daemon=ports[1],
                                folder=folder, cpus=os.cpu_count()))
    env = {"SLURM_CONF": str(conf)}
    munged = ["munged", "--foreground", "--force", "--num-threads=1", f"--key-file={key}",
              f"--socket={folder}/munge.socket", f"--pid-file={folder}/munged.pid", f"--seed-file={folder}/munge.seed",
              f"--log-file={folder}/munged.log"]
    with ExitStack() as stack:
        for command in (munged, ["slurmctld", "-D", "-f", str(conf)], ["slurmd", "-D", "-f", str(conf)]):
            log = stack.enter_context((folder / f"{command[0]}.out").open("wb"))
            process = subprocess.Popen(command, env={**os.environ, **env}, stdout=log, stderr=log)
            stack.callback(_end, process)
            if command is munged:
                _wait((folder / "munge.socket").exists, folder)
        _wait(lambda: _state(env) == "idle", folder)
        yield env


def array(env: dict[str, str], cwd: Path, script: str) -> str:
    """Submit a script and wait for all of its tasks; what sbatch said."""
    done = subprocess.run(["sbatch", "--wait", script], env=env, cwd=cwd, capture_output=True, text=True, timeout=300,
                          check=False)
    return f"sbatch ended with {done.returncode}: {done.stdout}{done.stderr}"


def _state(env: dict[str, str]) -> str:
    done = subprocess.run(["sinfo", "--noheader", "--format=%T"], env={**os.environ, **env}, capture_output=True,
                          text=True, check=False)
    return done.stdout.strip()


def _wait(ready, folder: Path) -> None:
    until = time.monotonic() + LIMIT_S
    while not ready():
        said = "".join(f"{path.name}:\n{path.read_text(errors='replace')[-2000:]}\n" for path in folder.glob("*.out"))
        assert time.monotonic() < until, said
        time.sleep(0.1)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(10)
    process.kill()
    process.wait()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
