"""A command line in this process, with a backend that needs no framework."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest
import scripted_sampler

from impls import registry
from impls.backend import TrainerState
from impls.recipe.config import merged, preset
from impls.store.checkpoint import save_state
from impls.tools.sample import run as sample


@pytest.fixture
def scripted(monkeypatch):
    """The scripted backend, known to the registry; the process keeps its signal handlers."""
    monkeypatch.setattr(registry, "BUILT_IN", (*registry.BUILT_IN, scripted_sampler.SPEC))
    monkeypatch.setattr(scripted_sampler.ScriptedBackend, "stop_after", None)
    monkeypatch.setattr(scripted_sampler.ScriptedBackend, "last", None)
    # Hooks of fork cannot be taken back.
    monkeypatch.setattr(os, "register_at_fork", lambda **_: None)
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield scripted_sampler.ScriptedBackend
    for number, handler in kept.items():
        signal.signal(number, handler)


@pytest.fixture
def checkpoint(tmp_path):
    """A training's folder whose network the scripted backend has; T = 20, 8x8 images."""
    config = merged(preset("tiny"), {"model": {"image_size": 8}, "diffusion": {"T": 20}}, "test")
    raw, averaged, zeros = ({"a.weight": np.full((2, 3), value, np.float32)} for value in (1, 2, 0))
    path = tmp_path / "training" / "checkpoints" / "step-000007.safetensors"
    save_state(path, TrainerState(7, raw, averaged, zeros, zeros), config)
    return path


@pytest.fixture
def sampled(scripted, checkpoint, tmp_path, capsys):
    """Run the command line in this process: (exit code, stdout, lines of stderr that are no progress bar)."""
    def run(*options, backend="scripted-sampler", model=True, root="out"):
        named = ["--model_path", str(checkpoint)] if model else []
        code = sample.main(["--backend", backend, *named, "--device", "cpu", "--sample_root", str(tmp_path / root),
                            "--log_root", str(tmp_path / "logs"), *map(str, options)])
        captured = capsys.readouterr()
        errors = [line for line in captured.err.replace("\r", "\n").splitlines() if line and "call/s" not in line
                  and "?call" not in line]
        return code, captured.out, errors
    return run
