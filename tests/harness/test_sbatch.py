"""`--sbatch`: the script that it writes, by a stand-in for sbatch, and by a real SLURM where there is one."""

from __future__ import annotations

import json
import os
import shlex
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from slurm_node import array, slurm  # noqa: F401

from harness.record.events import BlockState, Case, Verdict
from harness.record.run import read_run
from harness.run.sbatch import _kept

ROOT = Path(__file__).resolve().parents[2]
SHORT = ["--arms", "scripted:slow,scripted", "--dataset", "digits", "--preset", "tiny", "--device", "cpu", "--blocks",
         "6", "--pairs", "2", "--epochs", "0", "--quiet"]
# What a batch script finds: SLURM's variables, of which SLURM_PROCID is there too, and no launcher.
FAKE = """#!{python}
import os, re, subprocess, sys

*options, script = sys.argv[1:]
text = open(script).read()
tasks = next((o for o in options if o.startswith("--array=")), re.search("^#SBATCH (--array=.*)$", text, re.M)[1])
first, _, last = tasks.removeprefix("--array=").partition("-")
log = re.search("^#SBATCH --output=(.*)$", text, re.M)[1]
for task in range(int(first), int(last or first) + 1):
    env = {{**os.environ, "SLURM_JOB_ID": str(10 + task), "SLURM_ARRAY_JOB_ID": "10", "SLURM_ARRAY_TASK_ID": str(task),
           "SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_JOB_NODELIST": "here"}}
    with open(log.replace("%a", str(task)), "ab") as out:
        subprocess.run(["bash", script], env=env, stdout=out, stderr=out, check="--may-fail" not in options)
print("Submitted batch job 10")
"""


def bench(env, cwd, *words):
    return subprocess.run([sys.executable, str(ROOT / "run_bench.py"), *words], env=env, cwd=cwd, capture_output=True,
                          text=True, timeout=300, check=False)


def reports(env, *words):
    return subprocess.run([sys.executable, "-m", "reports", *map(str, words)], env=env, cwd=ROOT, capture_output=True,
                          text=True, timeout=300, check=False)


@pytest.fixture
def fake_sbatch(real_env, tmp_path):
    place = tmp_path / "bin" / "sbatch"
    place.parent.mkdir()
    place.write_text(FAKE.format(python=sys.executable))
    place.chmod(place.stat().st_mode | stat.S_IXUSR)
    return {**real_env, "PATH": f"{place.parent}{os.pathsep}{real_env['PATH']}"}


def test_the_script_can_be_read_and_is_a_script(real_env, tmp_path):
    done = bench(real_env, tmp_path, *SHORT, "--sbatch", "run.sh", "--tasks=3", "--out", "re sults", "--threads", "1")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "wrote run.sh; next: sbatch run.sh\n"
    text = (tmp_path / "run.sh").read_text()
    assert subprocess.run(["bash", "-n", "run.sh"], cwd=tmp_path, check=False).returncode == 0
    assert text.startswith("#!/bin/bash\n# One run of 6 blocks, measured in 3 parts: task i takes blocks i, i + 3, ...")
    for line in ("#SBATCH --array=0-2", "#SBATCH --exclusive", "#SBATCH --cpus-per-task=1", f"cd {tmp_path}"):
        assert f"\n{line}\n" in text
    (parts,) = (tmp_path / "re sults").iterdir()
    last = text.splitlines()[-1]
    assert last.endswith('--threads 1 --share "$SLURM_ARRAY_TASK_ID/3" --out "$part"') and "--sbatch" not in last
    assert "--tasks" not in last and f"part='{parts}'/part-$SLURM_ARRAY_TASK_ID" in text
    # Shown without being written, and never written over.
    shown = bench(real_env, tmp_path, *SHORT, "--sbatch", "other.sh", "--dry-run").stdout
    assert shown.startswith("#!/bin/bash\n") and "dry" not in shown
    assert not (tmp_path / "other.sh").exists()
    again = bench(real_env, tmp_path, *SHORT, "--sbatch", "run.sh")
    assert again.returncode == 2 and "--sbatch run.sh: is there already" in again.stderr
    gone = bench(real_env, tmp_path, *SHORT, "--sbatch", "nope/x.sh")
    assert gone.returncode == 2 and "--sbatch nope/x.sh: cannot write nope/x.sh: No such file" in gone.stderr
    assert not (tmp_path / "results").exists()
    # No file may grow.
    command = shlex.join([sys.executable, str(ROOT / "run_bench.py"), *SHORT, "--sbatch", "full.sh"])
    full = subprocess.run(["bash", "-c", f"ulimit -f 0; trap '' XFSZ; exec {command}"], env=real_env, cwd=tmp_path,
                          capture_output=True, text=True, timeout=300, check=False)
    assert full.returncode == 2 and "--sbatch full.sh: cannot write full.sh: File too large" in full.stderr
    assert not (tmp_path / "full.sh").exists() and not (tmp_path / "results").exists()
    inside = bench(real_env, tmp_path, *SHORT, "--sbatch", "results/inside.sh")
    assert inside.returncode == 0 and (tmp_path / "results" / "inside.sh").exists()
    odd = tmp_path / b"caf\xe9".decode(errors="surrogateescape")
    odd.mkdir()
    unnamed = bench(real_env, odd, *SHORT, "--sbatch", "run.sh")
    assert unnamed.returncode == 2 and "holds bytes that are no UTF-8" in unnamed.stderr and not list(odd.iterdir())
    nowhere = bench(real_env, tmp_path, *SHORT, "--sbatch", "nowhere.sh", "--out", "run.sh/x")
    assert nowhere.returncode == 2 and nowhere.stderr.count("\n") == 1 and not (tmp_path / "nowhere.sh").exists()
    wrong = bench(real_env, tmp_path, *SHORT, "--steps", "x", "--sbatch", "wrong.sh")
    assert wrong.returncode == 2 and not (tmp_path / "wrong.sh").exists()


@pytest.mark.parametrize("words", [["--dry-run", "--seed", "3"], ["--seed", "3", "--dry_run=true"],
                                   ["--dry-run", "true", "--seed", "3"], ["--seed", "3", "--no-dry-run"],
                                   ["--sbatch", "--dry-run", "--out=x", "--seed", "3", "--tasks", "4"]])
def test_a_task_measures_whatever_its_script_was_made_with(words):
    assert _kept(words) == ["--seed", "3"]


@pytest.mark.slow
def test_an_array_of_two_tasks_is_merged_and_one_part_is_measured_alone(fake_sbatch, tmp_path):
    env = fake_sbatch
    assert bench(env, tmp_path, *SHORT, "--sbatch", "run.sh").returncode == 0
    (parts,) = (tmp_path / "results").iterdir()
    subprocess.run(["sbatch", "--array=0", "run.sh"], env=env, cwd=tmp_path, check=True)
    missing = reports(env, "merge", parts / "part-0", "--out", tmp_path / "merged")
    assert missing.returncode == 2 and "part 1 is missing: measure it alone (sbatch --array=1 SCRIPT" in missing.stderr
    subprocess.run(["sbatch", "--array=1", "run.sh"], env=env, cwd=tmp_path, check=True)
    done = reports(env, "merge", *sorted(parts.glob("part-?")), "--out", tmp_path / "merged")
    assert done.returncode == 0, done.stderr
    assert "time scripted:slow / time scripted = 2.000" in done.stdout
    assert (tmp_path / "merged" / "report.html").exists()
    run = read_run(tmp_path / "merged")
    assert run.of(Verdict)[0].blocks == 6 and {0, 1, 2, 3, 4, 5} <= {state.block for state in run.of(BlockState)}
    # Once more: nothing is left to do, and it says so.
    subprocess.run(["sbatch", "--may-fail", "--array=1", "run.sh"], env=env, cwd=tmp_path, check=True)
    assert "that run is complete: nothing is left to do" in (parts / "task-1.log").read_text()


def cases(run):
    return {case.case_id for case in run.of(Case) if case.block is None or case.block < 6}


@pytest.mark.slurm
@pytest.mark.slow
def test_a_real_array_of_two_tasks_makes_one_run(real_env, slurm, tmp_path):  # noqa: F811
    env = {**real_env, **slurm}
    assert bench(env, tmp_path, *SHORT, "--sbatch", "run.sh").returncode == 0
    (parts,) = (tmp_path / "results").iterdir()
    said = array(env, tmp_path, "run.sh")
    logs = "".join(path.read_text() for path in parts.glob("*.log"))
    done = reports(env, "merge", *sorted(parts.glob("part-?")), "--out", tmp_path / "merged")
    assert done.returncode == 0, done.stderr + said + logs
    one = bench(env, tmp_path, *SHORT, "--out", "whole")
    assert one.returncode == 0, one.stderr
    (folder,) = [path for path in (tmp_path / "whole").iterdir() if path.is_dir()]
    ours, theirs = (read_run(path) for path in (tmp_path / "merged", folder))
    # The scripted arms take as long as their script says, on whatever machine.
    for left, right in zip(ours.of(Verdict), theirs.of(Verdict), strict=True):
        assert (left.metric, left.arm_a, left.arm_b, left.cell) == (right.metric, right.arm_a, right.arm_b, right.cell)
        assert left.ratio == pytest.approx(right.ratio, rel=1e-2)
    assert {state.block for state in ours.of(BlockState)} >= set(range(6))
    assert ours.started.declared == theirs.started.declared
    # A disturbed block may have been measured again, with a number behind all of them.
    assert cases(ours) >= cases(theirs)


@pytest.mark.slurm
@pytest.mark.slow
def test_ranks_of_srun_train_as_one_process(slurm, tmp_path):  # noqa: F811
    worker, told = ROOT / "tests" / "frameworks" / "rank_worker.py", {}
    for size, command in ((1, [sys.executable]), (2, ["srun", "-n", "2", sys.executable])):
        place = tmp_path / str(size)
        place.mkdir()
        done = subprocess.run([*command, str(worker), "pytorch", "10", str(place)], cwd=ROOT, capture_output=True,
                              text=True, env={**os.environ, **slurm, "OMP_NUM_THREADS": "1"}, timeout=240, check=False)
        assert done.returncode == 0, done.stderr
        told[size] = [json.loads((place / f"rank-{rank}.json").read_text()) for rank in range(size)]
    first, second = told[2]
    assert first["size"] == 2 and first["hashes"] == second["hashes"] and first["losses"] == second["losses"]
    assert first["losses"] == pytest.approx(told[1][0]["losses"], rel=1e-5)
