"""The command line in this process; the user's cache is a folder of the test."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import scripted_features

from impls import evaluate
from impls.fidelity import extractors


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
    # Hooks of fork cannot be taken back.
    monkeypatch.setattr(os, "register_at_fork", lambda **_: None)
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def run(*options, features="quarters", json_path="out.json"):
        path = tmp_path / json_path
        path.unlink(missing_ok=True)
        words = ["--features", features, "--device", "cpu", "--json", str(path), *map(str, options)]
        code = evaluate.main(words)
        captured = capsys.readouterr()
        found = json.loads(path.read_text()) if path.is_file() else None
        return code, found, captured.out, captured.err.splitlines()

    yield run
    for number, handler in kept.items():
        signal.signal(number, handler)


def draw(count: int, seed: int = 0, size: int = 8, shift: float = 0) -> np.ndarray:
    """Images (N, size, size, 3) whose quarters have colours of a Gaussian."""
    rng = np.random.default_rng(seed)
    colours = rng.normal(120 + shift, 30, (count, 2, 2, 3)).repeat(size // 2, 1).repeat(size // 2, 2)
    return np.clip(np.rint(colours), 0, 255).astype(np.uint8)


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
