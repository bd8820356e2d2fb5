"""Whole runs as a user starts them: real processes, sockets, signals and files, with the scripted backend."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from harness.record.events import BlockState, EnvironmentRecorded, Finding, WorkerStarted
from harness.record.lines import encode
from harness.record.run import read_run
from impls.devices import usable_cpus

ROOT = Path(__file__).resolve().parents[2]
SHORT = ["--dataset", "digits", "--preset", "tiny", "--device", "cpu", "--blocks", "6", "--pairs", "4", "--epochs", "0"]


def command(*options, out):
    return [sys.executable, str(ROOT / "run_bench.py"), "--out", str(out), *options]


def run(env, *options, out, **changes):
    return subprocess.run(command(*options, out=out), env={**env, **changes}, cwd=out.parent, capture_output=True,
                          text=True, timeout=300, check=False)


def only_run(out):
    (folder,) = [path for path in out.iterdir() if path.is_dir()]
    return folder


def leftovers(env):
    """Our workers that are still alive, told by the environment that only this test has."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        try:
            if "harness.worker" in (process.info["cmdline"] or []) and (
                    process.environ().get("XDG_CACHE_HOME") == env["XDG_CACHE_HOME"]):
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.mark.slow
def test_a_run_from_options_to_report(real_env, tmp_path):
    out = tmp_path / "results"
    # The environment says 1.
    threads = usable_cpus()
    done = run(real_env, *SHORT, "--arms", "scripted:slow,scripted", "--quiet", f"--threads={threads}", out=out)
    assert done.returncode == 0, done.stderr
    folder = only_run(out)
    summary = json.loads((folder / "run.json").read_text())
    assert summary["status"] == "complete" and summary["exit_code"] == 0
    verdict = summary["verdicts"][0]
    assert (verdict["arm_a"], verdict["arm_b"]) == ("scripted:slow", "scripted")
    assert verdict["metric"] == "step time" and verdict["blocks"] >= 6
    assert verdict["ratio"] == pytest.approx(2)
    # Blocks that a busy test machine disturbed may rightly take the verdict away, never turn it round.
    disturbed = any(state.dirty for state in read_run(folder).of(BlockState))
    assert (verdict["word"], verdict["reason"]) in [("B-faster", None), ("inconclusive", "machine")][:1 + disturbed]
    assert done.stderr == ""
    assert "time scripted:slow / time scripted = 2.000" in done.stdout
    assert done.stdout.strip().endswith("report.html") and (folder / "report.html").exists()
    assert summary["environment"]["facts"]["threads"] == threads == summary["config"]["bench"]["threads"]
    assert {worker.info["threads"] for worker in read_run(folder).of(WorkerStarted)} == {threads}
    assert {"report.html", "report.md", "journal.jsonl"} <= {file["path"] for file in summary["files"]}
    assert not leftovers(real_env)
    assert not [path for path in out.iterdir() if path.name.startswith(".")]


@pytest.mark.slow
def test_a_crash_of_one_arm_is_reported_and_the_other_measured(real_env, tmp_path):
    out = tmp_path / "results"
    done = run(real_env, *SHORT, "--arms", "scripted,scripted:crash", out=out, SCRIPTED_CRASH_AT="23")
    assert done.returncode == 1, done.stderr
    folder = only_run(out)
    summary = json.loads((folder / "run.json").read_text())
    assert summary["status"] == "failed"
    failed = [case for case in summary["cases"] if case["status"] == "failed"]
    assert failed and {case["arm"] for case in failed} == {"scripted:crash"}
    assert "status 3" in failed[0]["reason"] and "about to crash" in failed[0]["log_tail"]
    assert (folder / failed[0]["log"]).read_text().startswith("about to crash")
    assert sum(case["status"] == "measured" and case["slot"] == "A" and case["block"] is not None
               for case in summary["cases"]) >= 6
    assert (folder / "report.html").exists()
    assert not leftovers(real_env)


@pytest.mark.slow
def test_ctrl_c_leaves_a_readable_journal_and_the_run_can_be_resumed(real_env, tmp_path):
    out = tmp_path / "results"
    options = [*SHORT, "--arms", "scripted,scripted"]
    # Where tests run in the background of a shell, Ctrl-C is ignored and children inherit that. Not by preexec_fn: with
    # it the hooks of fork run as well, and those of a command line that another test ran in this process block Ctrl-C.
    process = subprocess.Popen(["env", "--default-signal=INT", *command(*options, out=out)],
                               env={**real_env, "SCRIPTED_WAIT_S": "0.005"}, cwd=tmp_path, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if "block 2" in line:
            break
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    folder = only_run(out)
    assert f"--resume {folder}" in said and "Traceback" not in said
    assert not leftovers(real_env)
    cut = read_run(folder)
    assert cut.status == "interrupted" and cut.damage == []
    assert json.loads((folder / "run.json").read_text())["exit_code"] == 130

    refused = run(real_env, "--resume", str(folder), "--pairs", "5", out=out)
    assert refused.returncode == 2 and "--pairs was 4" in refused.stderr
    assert read_run(folder).status == "interrupted"

    journal = folder / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    at = next(number for number, line in enumerate(lines) if b'"type":"environment"' in line)
    before = cut.last(EnvironmentRecorded)
    lines[at] = encode(before.model_copy(update={"facts": {**before.facts, "cpu_logical": 999}}), at)
    journal.write_bytes(b"".join(lines))
    refused = run(real_env, "--resume", str(folder), out=out)
    assert refused.returncode == 2 and "cpu_logical was 999" in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1

    resumed = run(real_env, "--resume", str(folder), "--quiet", "--allow-env-change", out=out)
    assert resumed.returncode == 0, resumed.stderr
    done = read_run(folder)
    assert done.status == "complete" and len(done.of(EnvironmentRecorded)) == 2
    assert [f.code for f in done.of(Finding)].count("environment-changed") == 1
    assert "went on in another environment" in (folder / "report.md").read_text()
    again = run(real_env, "--resume", str(folder), out=out)
    assert again.returncode == 2 and "complete" in again.stderr


@pytest.mark.slow
def test_a_killed_runner_leaves_no_orphans(real_env, tmp_path):
    out = tmp_path / "results"
    process = subprocess.Popen(command(*SHORT, "--arms", "scripted,scripted", out=out),
                               env={**real_env, "SCRIPTED_WAIT_S": "0.005"}, cwd=tmp_path, stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if "block 1" in line:
            break
    workers = leftovers(real_env)
    process.kill()
    process.communicate(timeout=30)
    gone, alive = psutil.wait_procs(workers, timeout=30)
    assert not alive
    assert read_run(only_run(out)).status == "unfinished"


BAD = {
    "suite": (["--suite", "sprint"], ["sprint", "train-speed"]),
    "preset": (["--preset", "huge"], ["huge", "tiny"]),
    "arm": (["--arms", "tensorflow"], ["tensorflow", "pytorch"]),
    "arm option": (["--arms", "scripted:fast"], ["fast"]),
    "option": (["--fast"], ["--fast"]),
    "dataset": (["--dataset", "imagenet"], ["imagenet", "digits"]),
    "data root": (["--data-root", "/nonexistent", "--arms", "scripted"], ["/nonexistent"]),
    "cuda": (["--device", "cuda", "--arms", "scripted,jittor:onednn"], ["--device cuda", "cpu"]),
    "batch": ([*SHORT, "--arms", "scripted", "--batch-size", "5000"], ["5000", "1797"]),
    "blocks": (["--blocks", "1"], ["at least 6"]),
    "config": (["--config", "/nonexistent.json"], ["/nonexistent.json"]),
    "resume": (["--resume", "/nonexistent"], ["/nonexistent", "not a run folder"]),
    "unusable": ([*SHORT, "--arms", "scripted:unusable"], ["scripted", "unusable"]),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_exit_2_and_nothing_written(real_env, tmp_path, name):
    options, words = BAD[name]
    out = tmp_path / "here" / "results"
    out.parent.mkdir()
    done = run(real_env, *options, "--quiet", out=out)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("run_bench.py: error: ")
    for word in words:
        assert word in line
    assert list(out.parent.iterdir()) == []


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to be sure that only the kind of file is in the way")
def test_an_unwritable_results_folder(real_env, tmp_path):
    out = tmp_path / "here" / "results"
    out.parent.mkdir()
    out.write_text("precious")
    done = run(real_env, *SHORT, "--arms", "scripted", "--quiet", out=out)
    assert done.returncode == 2 and "--out" in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert out.read_text() == "precious"


def test_a_dry_run_prints_the_resolved_configuration_and_writes_nothing(real_env, tmp_path):
    out = tmp_path / "here" / "results"
    out.parent.mkdir()
    done = run(real_env, "--dry-run", "--device", "cpu", "--batch_size", "4", out=out, OMP_NUM_THREADS="1,1")
    assert done.returncode == 0 and done.stderr == ""
    resolved = json.loads(done.stdout[done.stdout.index("{"):])
    assert resolved["experiment"]["train"]["batch_size"] == 4 and resolved["experiment"]["preset"] == "tiny"
    assert resolved["threads"] == 1
    assert list(out.parent.iterdir()) == []


def test_starting_up_loads_nothing_heavy():
    code = ("import sys, harness.cli; "
            "print([m for m in ('scipy', 'matplotlib', 'pandas', 'torch', 'jittor', 'sklearn') if m in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"
