"""The command line in this process; the user's cache is a folder of the test."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import scripted_features
from small_evaluation import draw, evaluate_here

from impls.evaluation import networks as extractors


@pytest.fixture
def quarters(monkeypatch):
    """The scripted network, known by name."""
    monkeypatch.setattr(extractors, "BUILT_IN", (*extractors.BUILT_IN, scripted_features.SPEC))
    monkeypatch.setattr(scripted_features.NETWORK, "weight", 0.1)
    monkeypatch.setattr(scripted_features.NETWORK, "calls", 0)
    return scripted_features.NETWORK


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("TORCH_HOME", raising=False)
    return tmp_path / "cache" / "ddpm-bench"


@pytest.fixture
def evaluated(cache, quarters, monkeypatch, capsys, tmp_path):
    """Run the command line: (exit code, JSON or None, stdout, lines of stderr)."""
    def run(*options, features="quarters", json_path="out.json"):
        path = tmp_path / json_path
        path.unlink(missing_ok=True)
        words = ["--features", features, "--device", "cpu", "--json", str(path), *map(str, options)]
        code = evaluate_here(monkeypatch, words)
        captured = capsys.readouterr()
        found = json.loads(path.read_text()) if path.is_file() else None
        return code, found, captured.out, captured.err.splitlines()

    return run


@pytest.fixture
def images(tmp_path):
    """Write images into an npz: (name, array) -> its path."""
    def write(name: str, array: np.ndarray) -> Path:
        path = tmp_path / name
        np.savez(path, images=array)
        return path
    return write


@pytest.fixture
def files(images):
    """Drawn and real images, as the options that name them."""
    return ["--images", images("drawn.npz", draw(64, 1)), "--reference", images("real.npz", draw(200, 2))]
