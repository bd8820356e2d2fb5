"""Which rank a process is, from variables as launchers set them; what ranks share on a host."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from impls import ranks
from impls.errors import UsageError
from impls.ranks import ALONE, Ranks, command, for_child, meeting_point, once_on_host, own_ranks, take_gpu, threads_here

# As recorded from torchrun 2.13, Open MPI 4.1.4 and SLURM 22.05, without what does not tell of ranks.
TORCHRUN = {"TORCHELASTIC_RUN_ID": "none", "RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2",
            "GROUP_RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500", "TORCHELASTIC_RESTART_COUNT": "0"}
MPIRUN = {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
          "OMPI_COMM_WORLD_LOCAL_RANK": "1", "OMPI_UNIVERSE_SIZE": "2", "PMIX_NAMESPACE": "2745368577"}
BATCH_SHELL = {"SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NTASKS": "4", "SLURM_NODEID": "0",
               "SLURM_JOB_NODELIST": "node[01-02]", "SLURM_TASKS_PER_NODE": "2(x2)"}
SRUN = {**BATCH_SHELL, "SLURM_STEP_ID": "1", "SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3", "SLURM_LOCALID": "1",
        "SLURM_NODEID": "1", "SLURM_STEP_TASKS_PER_NODE": "2(x2)", "SLURM_STEP_NODELIST": "node[01-02]"}
ONE_TASK = {**SRUN, "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0", "SLURM_STEP_TASKS_PER_NODE": "1"}


@pytest.mark.parametrize(("environ", "want"), [
    ({}, ALONE),
    (TORCHRUN, Ranks(3, 4, 1, 2, "torchrun", "none:29500")),
    (MPIRUN, Ranks(1, 2, 1, 2, "mpirun", "2745368577")),
    (BATCH_SHELL, ALONE),
    (ONE_TASK, ALONE),
    (SRUN, Ranks(3, 4, 1, 2, "srun", "7.1")),
    # The innermost one: mpirun in a job's shell, torchrun as a step's task.
    ({**BATCH_SHELL, **MPIRUN}, Ranks(1, 2, 1, 2, "mpirun", "2745368577")),
    ({**ONE_TASK, **TORCHRUN}, Ranks(3, 4, 1, 2, "torchrun", "none:29500")),
    ({**SRUN, "SLURM_STEP_TASKS_PER_NODE": "3,1", "SLURM_LOCALID": "0"}, Ranks(3, 4, 0, 1, "srun", "7.1")),
    # Somebody's own variables of other programs.
    ({"RANK": "5", "WORLD_SIZE": "9"}, ALONE),
])
def test_ranks_are_found_by_their_launchers_variables(environ, want):
    assert own_ranks(environ) == want


@pytest.mark.parametrize(("environ", "line"), [
    ({**TORCHRUN, "RANK": "4"}, "torchrun started this process, but its variables contradict one another (RANK=4"),
    ({**MPIRUN, "OMPI_COMM_WORLD_LOCAL_RANK": "2"}, "contradict one another"),
    ({**MPIRUN, "OMPI_COMM_WORLD_RANK": "one"}, "mpirun started this process, but OMPI_COMM_WORLD_RANK is one: "),
    ({"TORCHELASTIC_RUN_ID": "x"}, "but RANK is missing"),
    ({**SRUN, "SLURM_NODEID": "2"}, "srun started this process, but SLURM_STEP_TASKS_PER_NODE is"),
])
def test_variables_that_do_not_fit_are_refused(environ, line):
    with pytest.raises(UsageError) as caught:
        own_ranks(environ)
    assert line in str(caught.value)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 64])
def test_shares_are_a_batch_cut_into_equal_parts(size):
    parts = [position for rank in range(size) for position in Ranks(rank, size).share(12 * size)]
    assert parts == list(range(12 * size))
    assert all(len(Ranks(rank, size).share(12 * size)) == 12 for rank in range(size))


@pytest.mark.parametrize(("batch", "size", "advice"), [(7, 2, "choose 6 or 8"), (2, 4, "choose 4"), (9, 4, "8 or 12")])
def test_a_batch_that_does_not_divide_is_refused(batch, size, advice):
    with pytest.raises(UsageError, match=f"batch size {batch}: does not divide among {size} ranks: .*{advice}"):
        Ranks(0, size).share(batch)


@pytest.mark.parametrize(("environ", "want"), [
    (SRUN, ("node01", 20_113)),
    ({**SRUN, "SLURM_STEP_NODELIST": "gpu[3,5-6],cpu1"}, ("gpu3", 20_113)),
    ({**SRUN, "SLURM_STEP_NODELIST": "big"}, ("big", 20_113)),
    ({**SRUN, "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "1234"}, ("10.0.0.1", 1234)),
])
def test_ranks_of_slurm_meet_at_the_first_node(environ, want):
    assert meeting_point(environ) == want


@pytest.mark.parametrize("port", ["ephemeral", "0", "70000", "-1"])
def test_a_meeting_place_that_is_no_port_is_a_line(port):
    with pytest.raises(UsageError, match=f"MASTER_PORT is '{port}': set it to a port"):
        meeting_point({**SRUN, "MASTER_PORT": port})


def test_a_child_that_is_no_rank_inherits_nothing_of_the_launcher():
    kept = {"PATH": "/bin", "OMP_NUM_THREADS": "2", "MASTER_PORT": "29500"}
    assert for_child({**MPIRUN, **SRUN, **TORCHRUN, **kept, "PMI_RANK": "0"}).keys() == {
        "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR", *kept}
    assert own_ranks(for_child({**MPIRUN, **SRUN, **TORCHRUN})) == ALONE


@pytest.mark.parametrize(("shown", "ranks", "want"), [
    (None, ALONE, None), ("0,1", ALONE, "0,1"), (None, Ranks(5, 8, 1, 4, "torchrun"), "1"),
    ("4,6", Ranks(1, 2, 1, 2, "mpirun"), "6"), ("4", Ranks(1, 2, 1, 2, "mpirun"), ""),
    # SLURM shows each of its tasks its own.
    ("4", Ranks(1, 2, 1, 2, "srun"), "4"), ("0,1", Ranks(1, 2, 1, 2, "srun"), "1"),
])
def test_every_rank_of_a_host_takes_a_gpu_of_its_own(monkeypatch, shown, ranks, want):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if shown is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)
    take_gpu(ranks)
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == want


@pytest.mark.parametrize(("asked", "own", "launchers", "want"), [
    ("3", 8, 8, 3), (None, 8, 8, 4), (None, 1, 1, 1), (None, 3, 8, 3), ("", 8, 8, 4)])
def test_ranks_divide_the_processors_unless_their_launcher_has(monkeypatch, asked, own, launchers, want):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if asked is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(launchers if pid else own))
    assert threads_here(Ranks(1, 2, 1, 2, "mpirun")) == want


def test_the_first_of_a_host_does_it_and_the_others_wait(tmp_path):
    file, began, done, firsts = tmp_path / "lock", threading.Event(), threading.Event(), []

    def second():
        began.wait(10)
        with once_on_host(Ranks(1, 2, 1, 2, "mpirun", "job"), file) as first:
            firsts.append((first, done.is_set()))

    other = threading.Thread(target=second)
    other.start()
    with once_on_host(Ranks(0, 2, 0, 2, "mpirun", "job"), file) as first:
        began.set()
        firsts.append((first, done.is_set()))
        done.set()
    other.join(10)
    assert firsts == [(True, False), (False, True)]
    with once_on_host(Ranks(0, 2, 0, 2, "mpirun", "another"), file) as first:
        assert first


def test_where_the_first_fails_the_next_one_is_the_first(tmp_path):
    place = Ranks(0, 2, 0, 2, "mpirun", "job")
    with pytest.raises(UsageError), once_on_host(place, tmp_path / "lock"):
        raise UsageError("no compiler")
    with once_on_host(place, tmp_path / "lock") as first:
        assert first


def test_commands_are_prefixes():
    assert command("torchrun", 2, "-m impls.train") == "torchrun --nproc-per-node 2 -m impls.train"
    assert command("mpirun", 4, "-m impls.train") == "mpirun -np 4 --bind-to none python -m impls.train"
    assert ranks.command("srun", 2, "-m x") == "srun -n 2 python -m x"


def test_a_container_s_first_process_stands_between_a_launcher_and_its_rank(tmp_path):
    own = own_ranks(MPIRUN)

    def told(words, environ):
        (tmp_path / "cmdline").write_bytes(b"\0".join(words))
        (tmp_path / "environ").write_text("".join(f"{name}={value}\0" for name, value in environ.items()))
        return ranks.starts_ranks(own, tmp_path)

    assert told([b"/sbin/docker-init", b"--", b"python"], MPIRUN) and told([b"/usr/bin/mpirun"], {})
    for other in ({"HOME": "/"}, {**MPIRUN, "OMPI_COMM_WORLD_RANK": "0"}, {"OMPI_COMM_WORLD_RANK": "1"}):
        assert not told([b"/sbin/init"], other)
    assert not ranks.starts_ranks(own, tmp_path / "none")


RANK = """import os, sys, time
sys.path.insert(0, {root!r})
from impls.ranks import end_with_launcher
end_with_launcher()
print(os.getpid(), flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize(("environ", "ends"), [(TORCHRUN, True), (MPIRUN, True), (SRUN, True), ({}, False)])
def test_a_rank_ends_with_its_launcher_and_no_other_process_does(environ, ends):
    kept = {name: value for name, value in os.environ.items() if name not in {*TORCHRUN, *MPIRUN, *SRUN}}
    code = RANK.format(root=str(Path(__file__).parents[2]))
    starts = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}])"
    launcher = subprocess.Popen([sys.executable, "-c", starts], env={**kept, **environ}, stdout=subprocess.PIPE,
                                text=True)
    rank = psutil.Process(int(launcher.stdout.readline()))
    launcher.kill()
    launcher.wait()
    launcher.stdout.close()
    gone, _ = psutil.wait_procs([rank], timeout=10 if ends else 0.3)
    if not gone:
        rank.kill()
    assert bool(gone) == ends
