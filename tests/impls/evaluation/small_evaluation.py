"""Images whose features are known, and the command line in this process."""

from __future__ import annotations

import os
import signal

import numpy as np

from impls.evaluation.distances import Reference, Sample
from impls.tools.evaluate import run as evaluate


def evaluate_here(monkeypatch, words: list[str]) -> int:
    """Run the command line in this process, which keeps its signal handlers."""
    # Hooks of fork cannot be taken back.
    monkeypatch.setattr(os, "register_at_fork", lambda **_: None)
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return evaluate.main(words)
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


def draw(count: int, seed: int = 0, size: int = 8, shift: float = 0) -> np.ndarray:
    """Images (N, size, size, 3) whose quarters have colours of a Gaussian."""
    rng = np.random.default_rng(seed)
    colours = rng.normal(120 + shift, 30, (count, 2, 2, 3)).repeat(size // 2, 1).repeat(size // 2, 2)
    return np.clip(np.rint(colours), 0, 255).astype(np.uint8)


def frechet(one: np.ndarray, other: np.ndarray) -> float:
    """The Fréchet distance between two sets of features, (n, d) and (m, d)."""
    return Sample(one, Reference(other)).distance(np.arange(len(one)))
