"""Commands in the environments that people have: each ends as it does otherwise, or refuses in one line before work.

Every environment with a command that only speaks and one that refuses; and all of them at once with those that work.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from impls.backend import TrainerState
from impls.recipe.config import merged, preset
from impls.store.checkpoint import save_state

ROOT = Path(__file__).parents[1]
SCRIPTED = [ROOT / "tests" / name for name in ("fake_backend", "impls/tools/train", "impls/tools/sample")]
NOTEBOOK = {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}
ASCII = {"PYTHONIOENCODING": "ascii"}
C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
# Nothing can be made in /proc, whoever one is.
NO_HOME = {"HOME": "/proc/none", "XDG_CACHE_HOME": "/proc/none/cache", "MPLCONFIGDIR": "/proc/none/mpl"}
DUMB = {"TERM": "dumb", "NO_COLOR": "1"}
# Variables, what stands behind the command, and the exit code where the work is done.
ENVIRONMENTS: dict[str, tuple[dict[str, str], str, int]] = {
    "notebook": (NOTEBOOK, "", 0), "ascii": (ASCII, "", 0), "C locale": (C_LOCALE, "", 0), "no home": (NO_HOME, "", 0),
    "narrow": ({"COLUMNS": "1", **DUMB}, "", 0), "no stdout": ({}, ">&-", 0), "no stderr": ({}, "2>&-", 0),
    "no stdin": ({}, "<&-", 0), "a reader who leaves": ({}, "| true", 0), "full stdout": ({}, ">/dev/full", 1),
    "full stderr": ({}, "2>/dev/full", 0)}
PLAN = [str(ROOT / "run_bench.py"), "--dry-run", "--device", "cpu", "--arms", "scripted,scripted"]
EVERYTHING = {**NOTEBOOK, **ASCII, **C_LOCALE, **NO_HOME, **DUMB, "COLUMNS": "3"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where processes find the scripted backends."""
    folder = tmp_path_factory.mktemp("site")
    info = folder / "scripted-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: scripted\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[ddpm_bench.backends]\nscripted = scripted_backend:SPEC\nscripted-trainer = scripted_trainer:SPEC\n"
        "scripted-sampler = scripted_sampler:SPEC\n")
    return os.pathsep.join(map(str, [ROOT, folder, *SCRIPTED]))


@pytest.fixture(scope="module")
def plain(site: str, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The plan as it is told everywhere."""
    return run(PLAN, site, tmp_path_factory.mktemp("plain")).stdout


def run(words: list[str], site: str, folder: Path, behind: str = "",
        **variables: str) -> subprocess.CompletedProcess[bytes]:
    """A command of Python in a shell in `folder`, with `behind` after it."""
    return subprocess.run(
        ["bash", "-c", f'set -o pipefail; "$0" "$@" {behind}', sys.executable, *words], check=False, cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": site, "OMP_NUM_THREADS": "1", **variables},
        stdin=subprocess.DEVNULL, capture_output=True, timeout=120)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_words_and_refusals_anywhere(name, site, plain, tmp_path):
    variables, behind, code = ENVIRONMENTS[name]
    done = run(PLAN, site, tmp_path, behind, **variables)
    lines = done.stderr.decode().splitlines()
    assert done.returncode == code and len(lines) == code, lines
    if not behind.startswith((">", "|")):
        assert done.stdout == plain
    refused = run(["-m", "impls.sample", "--model_path", "nowhere"], site, tmp_path, behind, **variables)
    assert refused.returncode == 2 and len(refused.stderr.splitlines()) == (not behind.startswith("2>"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("behind", ["| true", ">&- 2>&- <&-"])
def test_everything_at_once_costs_no_work(behind, site, tmp_path):
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nbackend: module://nowhere\n")
    folder = tmp_path / "f\u00f6lder"
    folder.mkdir()
    (folder / "matplotlibrc").write_text("text.usetex: True\n")
    variables = {**EVERYTHING, "MATPLOTLIBRC": str(tmp_path / "matplotlibrc"), "XDG_CACHE_HOME": str(tmp_path / "c")}

    def done(*words: str) -> subprocess.CompletedProcess[bytes]:
        ended = run(list(words), site, folder, behind, **variables)
        assert ended.returncode == 0 and b"Traceback" not in ended.stderr, ended.stderr.decode()
        return ended

    done("-m", "impls.train", "--backend", "scripted-trainer", "--device", "cpu", "--dataset_name", "digits",
         "--batch_size", "4", "--max_steps", "2")
    (training,) = (folder / "logs").iterdir()
    assert {"config.json", "log.jsonl", "loss.png", "checkpoints", "samples"} == set(os.listdir(training))
    done("-m", "impls.sample", "--backend", "scripted-sampler", "--device", "cpu", "--model_path",
         checkpoint(tmp_path), "--num_images", "3", "--steps", "5", "--show_denoised")
    (drawn,) = (folder / "samples").iterdir()
    assert {"images", "grid.png", "denoising.gif", "sampling.json"} == set(os.listdir(drawn))
    done(str(ROOT / "run_bench.py"), "--suite", "parity", "--arms", "scripted,scripted", "--device", "cpu", "--steps",
         "2", "--dataset", "digits")
    (report,) = (folder / "results").glob("*/report.html")
    assert "it cannot be drawn here" not in report.read_text(encoding="utf-8")
    assert (folder / "results" / "index.html").exists()


def checkpoint(folder: Path) -> str:
    """A training's checkpoint whose network the scripted sampler has."""
    config = merged(preset("tiny"), {"model": {"image_size": 8}, "diffusion": {"T": 20}}, "test")
    raw, averaged, zeros = ({"a.weight": np.full((2, 3), value, np.float32)} for value in (1, 2, 0))
    path = folder / "step-000007.safetensors"
    save_state(path, TrainerState(7, raw, averaged, zeros, zeros), config)
    return str(path)
