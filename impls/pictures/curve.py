"""The picture of a training: its loss against the step, with the losses on held-out images."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from impls.pictures.plot import style
from impls.store.files import whole_file
from impls.store.trainlog import EpochLine

# More points than a picture has columns only cost time.
MOST_POINTS = 1000


def save_curve(path: Path, steps: Sequence[int], losses: Sequence[float], epochs: Sequence[EpochLine]) -> None:
    """Draw the loss of every step, or means of as many as share a pixel, and the validation losses.

    Args:
        path: PNG to write.
        steps: numbers of the steps, ascending.
        losses: their losses.
        epochs: the validation losses; those that are None are left out.

    Raises:
        UsageError: the file cannot be written.
    """
    with style():
        picture = _drawn(steps, losses, epochs)
    with whole_file(path) as partial:
        partial.write_bytes(picture)


def _drawn(steps: Sequence[int], losses: Sequence[float], epochs: Sequence[EpochLine]) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    x, y, each = thinned(steps, losses)
    axes.plot(x, y, color="0.6", linewidth=0.8, label="training" + (  # English
        f", mean of {each} steps" if each > 1 else ""))  # English
    for name, label in (("validation_loss", "held-out images"),  # English
                        ("validation_loss_ema", "held-out images, averaged weights")):  # English
        points = [(line.step, value) for line in epochs if (value := getattr(line, name)) is not None]
        if points:
            axes.plot(*zip(*points, strict=True), marker=".", linewidth=1, label=label)
    axes.set(xlabel="optimisation step", ylabel="loss: mean squared error of the predicted noise",  # English
             yscale="log")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    FigureCanvasAgg(figure)
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=120)
    return png.getvalue()


def thinned(steps: Sequence[int], losses: Sequence[float]) -> tuple[list[float], list[float], int]:
    """Steps and losses as means of runs of equal length, at most 1000 of them, and that length."""
    each = -(-len(steps) // MOST_POINTS) or 1
    runs = range(0, len(steps), each)
    return ([float(np.mean(steps[start : start + each])) for start in runs],
            [float(np.mean(losses[start : start + each])) for start in runs], each)
