"""A suite that registers itself from outside is planned, measured, resumed, judged and shown; no file knows it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from test_real_processes import ROOT, SHORT, only_run, run

OUTSIDE = ROOT / "tests" / "fake_suite"


@pytest.fixture
def env(real_env):
    """The environment of real processes, with the outside suite installed beside the scripted backend."""
    return {**real_env, "PYTHONPATH": os.pathsep.join([real_env["PYTHONPATH"], str(OUTSIDE)])}


def test_it_is_planned_like_any_other(env, tmp_path):
    done = run(env, *SHORT, "--suite", "bursts", "--arms", "scripted", "--steps", "5", "--dry-run",
               out=tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "suite bursts: lone steps against steps in bursts\n" in done.stdout
    assert "\nbursts of 5 steps\n6 blocks of 4 pairs" in done.stdout


def test_without_its_package_there_is_no_such_suite(real_env, tmp_path):
    done = run(real_env, *SHORT, "--suite", "bursts", "--arms", "scripted", "--dry-run", out=tmp_path / "out")
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert "bursts" in done.stderr and "train-speed" in done.stderr


@pytest.mark.slow
def test_it_is_measured_judged_and_shown(env, tmp_path):
    out = tmp_path / "results"
    done = run(env, *SHORT, "--suite", "bursts", "--arms", "scripted:slow,scripted", "--steps", "3", "--quiet", out=out)
    assert done.returncode == 0, done.stderr
    folder = only_run(out)
    summary = json.loads((folder / "run.json").read_text())
    assert summary["suite"] == "bursts" and summary["declared"]["parts"] == ["bursts"]
    (verdict,) = summary["verdicts"]
    assert verdict["metric"] == "time of a lone step" and verdict["ratio"] == pytest.approx(2)
    assert "time of a lone step" in done.stdout and str(folder / "report.html") in done.stdout

    lines = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
    bursts = [line for line in lines if line["type"] == "burst"]
    # A block that a busy test machine disturbed is measured once more.
    blocks = sum(line["type"] == "block" for line in lines)
    assert blocks >= 6 and len(bursts) == 2 * 2 * blocks and {line["steps"] for line in bursts} == {3}
    for page in ("report.md", "report.html"):
        text = (folder / page).read_text()
        assert "Steps within a burst" in text and "of which only the last is waited for" in text

    # Where its package is missing, its lines cannot be read and its chapter is not there, and both are said.
    bare = {key: value for key, value in env.items() if key != "PYTHONPATH"}
    again = subprocess.run([sys.executable, "-m", "reports", "build", str(folder)], cwd=ROOT, env=bare, check=False,
                           capture_output=True, text=True, timeout=120)
    assert again.returncode == 0, again.stderr
    text = (folder / "report.md").read_text()
    assert "No chapter on bursts is installed" in text and "Steps within a burst" not in text
    assert "time of a lone step" in text


def test_its_lines_are_read_only_with_it(env, tmp_path, monkeypatch):
    line = '{"type":"burst","t_ns":1,"part":"bursts","arm":"A","block":0,"pair":0,"steps":3,"burst_ns":5}'
    code = ("from harness.record.events import reader\nfrom pydantic import ValidationError\n"
            f"try:\n    print(type(reader().validate_json({line!r})).__name__)\n"
            "except ValidationError:\n    print('unknown')\n")
    told = []
    for one in (env, {key: value for key, value in env.items() if key != "PYTHONPATH"}):
        done = subprocess.run([sys.executable, "-c", code], env=one, cwd=ROOT, check=True, capture_output=True,
                              text=True)
        told.append(done.stdout.strip())
    assert told == ["Burst", "unknown"]
