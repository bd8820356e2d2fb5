"""`run_bench.py --doctor` with a real framework: an environment in which the tests run is in order."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_this_environment_is_in_order(framework, tmp_path):
    done = subprocess.run([sys.executable, str(ROOT / "run_bench.py"), "--doctor", "--device", "cpu", "--arms",
                           framework, "--out", str(tmp_path / "results")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    first, *rest = done.stdout.splitlines()
    assert first.startswith(f"all in order: {framework} (") and first.endswith(", cpu)")
    assert f"| arm {framework} | " in "\n".join(rest)
    assert not list(tmp_path.iterdir())
