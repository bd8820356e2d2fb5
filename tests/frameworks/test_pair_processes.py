"""A whole run over both frameworks: all examples in one pair, which imports them from its own folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.record.events import PairRecorded, ParityResult
from harness.record.run import read_run

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "docs" / "examples" / "pairs"
# At a small size.
ALL = """
import ddpm, gpt_lora, resnet18, vit

resnet18.WIDTH = resnet18.BATCH = 4
vit.WIDTH, vit.DEPTH, vit.BATCH = 24, 1, 4
gpt_lora.WIDTH, gpt_lora.TOKENS, gpt_lora.WORDS, gpt_lora.BATCH = 16, 8, 16, 2
ddpm.BATCH = 1
PARTS = {"resnet18": resnet18, "vit": vit, "gpt_lora": gpt_lora, "ddpm": ddpm}
optimizer, images = {"name": "AdamW", "lr": 1e-3}, 11

def _joined(nn, models):
    class Joined(nn.Module):
        def __init__(self):
            super().__init__()
            for name, model in models.items():
                setattr(self, name, model)
    return Joined()

def torch_model():
    from torch import nn
    return _joined(nn, {name: part.torch_model() for name, part in PARTS.items()})

def jittor_model():
    from jittor import nn
    return _joined(nn, {name: part.jittor_model() for name, part in PARTS.items()})

def batch(rng):
    return {f"{name}.{key}": value for name, part in PARTS.items() for key, value in part.batch(rng).items()}

def _part(model, batch, name):
    return getattr(model, name), {key.split(".")[1]: value for key, value in batch.items() if key.startswith(name)}

def torch_loss(model, batch):
    return sum(part.torch_loss(*_part(model, batch, name)) for name, part in PARTS.items())

def jittor_loss(model, batch):
    return sum(part.jittor_loss(*_part(model, batch, name)) for name, part in PARTS.items())

def outputs(model, batch):
    return [part.outputs(*_part(model, batch, name)) for name, part in PARTS.items() if hasattr(part, "outputs")]
"""


def bench(path: Path, out: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "run_bench.py", "--pair", str(path), "--device", "cpu", "--out", str(out), "--quiet"]
    return subprocess.run([*command, *words], check=False, cwd=ROOT, capture_output=True, text=True, timeout=560,
                          env={**os.environ, "OMP_NUM_THREADS": "1"})


def run_of(out: Path):
    (folder,) = [path for path in out.iterdir() if path.is_dir()]
    return read_run(folder)


@pytest.fixture(autouse=True)
def once(framework):
    """Both frameworks take part in every run."""
    if framework == "pytorch":
        pytest.skip("done with --framework jittor")


@pytest.mark.slow
def test_all_examples_agree_in_both_frameworks(tmp_path):
    shutil.copytree(EXAMPLES, tmp_path / "mine")
    path = tmp_path / "mine" / "together.py"
    path.write_text(ALL)
    done = bench(path, tmp_path / "out", "--suite", "parity", "--steps", "6")
    assert done.returncode == 0, done.stdout + done.stderr
    run = run_of(tmp_path / "out")
    (result,), (pair,) = run.of(ParityResult), run.of(PairRecorded)
    assert result.passed and result.batch_size == 11
    assert {f"{name}.py" for name in ("together", "ddpm", "gpt_lora", "resnet18", "vit")} == set(pair.files)


def test_weights_that_do_not_map_are_one_line_and_nothing_is_left(tmp_path):
    path = tmp_path / "mine.py"
    text = (ROOT / "templates" / "pair.py").read_text()
    place = text.index("def jittor_model")
    path.write_text(text[:place] + text[place:].replace("nn.Linear(128, CLASSES)", "nn.Linear(128, CLASSES + 1)", 1))
    done = bench(path, tmp_path / "out", "--suite", "parity")
    assert done.returncode == 2 and "shapes differ: 2.weight 10x128 against 2.weight 11x128" in done.stderr
    assert "mine.py: torch_model() and jittor_model()" in done.stderr
    assert len([line for line in done.stderr.splitlines() if "error:" in line]) == 1
    assert not [one for one in (tmp_path / "out").glob("*") if one.is_dir()]
