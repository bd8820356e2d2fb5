"""Two runs at once on one machine, into one results folder."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from harness.record.events import Finding
from harness.record.run import read_run

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = ["--dataset", "digits", "--preset", "tiny", "--device", "cpu", "--blocks", "6", "--pairs", "2", "--epochs",
           "0", "--arms", "scripted,scripted:slow"]


@pytest.fixture
def start(real_env, tmp_path):
    """Starts a run; both share a temporary folder of their own, so that other runs on this machine do not count."""
    temp = tempfile.mkdtemp(prefix="t-", dir="/tmp")
    started = []

    def run():
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "run_bench.py"), "--out", str(tmp_path / "results"), *OPTIONS], text=True,
            env={**real_env, "TMPDIR": temp}, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()
    shutil.rmtree(temp)


def until(process, text):
    said = []
    for line in process.stderr:
        said.append(line)
        if text in line:
            return line
    raise AssertionError("".join(said))


@pytest.mark.slow
def test_both_end_well_and_each_records_the_other(start, tmp_path):
    first = start()
    folder = Path(until(first, "run folder").split()[-1])
    until(first, "block 1/")
    # It waits until the other one measures too.
    first.send_signal(signal.SIGSTOP)
    second = start()
    other = Path(until(second, "run folder").split()[-1])
    until(second, "block 1/")
    first.send_signal(signal.SIGCONT)
    for process in (first, second):
        said = process.communicate(timeout=300)[1]
        assert process.returncode == 0, said
    assert folder != other
    for mine, process, its in ((folder, second, other), (other, first, folder)):
        run = read_run(mine)
        assert run.status == "complete" and run.damage == []
        (finding,) = [finding for finding in run.of(Finding) if finding.code == "other-run"]
        assert f"pid {process.pid}, {its}" in finding.message and finding.severity == "warning"
        summary = json.loads((mine / "run.json").read_text())
        assert {case["status"] for case in summary["cases"]} == {"measured"}
    index = (tmp_path / "results" / "index.html").read_text()
    assert all(f"{run.name}/report.html" in index for run in (folder, other))
    assert {path.name for path in (tmp_path / "results").iterdir()} == {
        folder.name, other.name, "index.html", "feed.xml"}
