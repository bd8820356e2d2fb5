"""A whole run over both frameworks: all examples in one pair, which imports them from its own folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.record.events import AlignedLayer, Alignment, PairRecorded, ParityResult
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

# A port that says other names; the second block's activation is not the first model's.
PORT = """
import numpy as np

def torch_model():
    from torch import nn

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.fc, self.act = nn.LayerNorm(8), nn.Linear(8, 8), nn.GELU()
        def forward(self, x):
            return x + self.act(self.fc(self.norm(x)))

    return nn.Sequential(nn.Linear(4, 8), Block(), Block(), nn.Linear(8, 3))

def jittor_model():
    import jittor as jt
    from jittor import nn

    class Exact(nn.Module):
        def execute(self, x):
            return x * 0.5 * (1 + jt.erf(x / 2**0.5))

    class Tanh(nn.Module):
        def execute(self, x):
            return x * 0.5 * (1 + jt.tanh(0.7978845608 * (x + 0.044715 * x**3)))

    class Layer(nn.Module):
        def __init__(self, act):
            super().__init__()
            self.ln, self.linear, self.act = nn.LayerNorm(8), nn.Linear(8, 8), act
        def execute(self, x):
            return x + self.act(self.linear(self.ln(x)))

    return nn.Sequential(nn.Linear(4, 8), Layer(Exact()), Layer(Tanh()), nn.Linear(8, 3))

def batch(rng): return {"x": rng.standard_normal((6, 4)), "y": rng.standard_normal((6, 3))}
def torch_loss(model, batch): return ((model(batch["x"]) - batch["y"]) ** 2).mean()
def jittor_loss(model, batch): return ((model(batch["x"]) - batch["y"]) ** 2).mean()
def names(name): return name.replace("norm", "ln").replace("fc", "linear")
"""


def bench(path: Path, out: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "run_bench.py", "--pair", str(path), "--device", "cpu", "--out", str(out), "--quiet"]
    return subprocess.run([*command, *words], check=False, cwd=ROOT, capture_output=True, text=True, timeout=1500,
                          env={**os.environ, "OMP_NUM_THREADS": "1"})


def run_of(out: Path):
    (folder,) = [path for path in out.iterdir() if path.is_dir()]
    return read_run(folder)


@pytest.fixture(autouse=True)
def once(framework):
    """Both frameworks take part in every run."""
    if framework == "pytorch":
        pytest.skip("done with --framework jittor")


# Its kernels take minutes where nobody has compiled them yet.
@pytest.mark.slow
@pytest.mark.timeout(1600)
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


def test_the_first_layer_that_differs_is_named_as_in_the_first_model(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(PORT)
    done = bench(path, tmp_path / "out", "--suite", "align")
    assert done.returncode == 0, done.stdout + done.stderr
    run = run_of(tmp_path / "out")
    (found,) = run.of(Alignment)
    assert found.twins == ["double", "perturbed"] and found.compared == found.calls == 11 and not found.unmatched
    assert (found.word, found.culprit.where, found.batch_size) == ("differ", "2.act (GELU)", 6)
    assert any(hint.startswith("gelu: it has its tanh form") for hint in found.hints)
    fed = {one.name: all(entry.agrees for entry in one.differences if entry.fed) for one in run.of(AlignedLayer)}
    # The fault is in what these do, too.
    assert {name for name, agrees in fed.items() if not agrees} == {"2.act", "2", ""}
    # Each but the first's input has a gradient, and each its weights.
    (norm,) = (one for one in run.of(AlignedLayer) if one.name == "1.norm")
    assert {"output 0", "gradient of input 0", "gradient of weight", "gradient of bias"} <= {
        entry.place for entry in norm.differences if entry.fed and entry.max_abs is not None}


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
