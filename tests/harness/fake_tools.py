"""The tools of the quality part without their work, and what runs of it are asked."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import scripted_backend

from harness.processes.session import WorkerFailedError
from harness.record.events import Case
from impls.backend import TrainerState
from impls.pictures.images import save_grid, save_npz, save_png
from impls.recipe.config import preset
from impls.store.checkpoint import save_state

ARMS = "scripted,scripted:slow"
FEATURES = {"extractor": "efficientnet-lite0", "label": "FD efficientnet-lite0", "weights_sha256": "f" * 64,
            "feature_size": 1280, "input_size": 96}
REFERENCE = {"dataset": "digits", "split": "the first 1,500", "images": 1500, "images_sha256": "0" * 64, "cached": True,
             "images_per_s": None}


@dataclass
class FakeTools:
    """Does what the tools of `impls` leave behind; `faults` names cases that fail, with their cause."""

    calls: list[tuple[str, dict[str, list[str]]]] = field(default_factory=list)
    faults: dict[str, str] = field(default_factory=dict)

    def run(self, tool, words, log, watcher, text, arm=None, check=None):
        options: dict[str, list[str]] = {}
        for word in words:
            name, _, value = word.removeprefix("--").partition("=")
            options.setdefault(name, []).append(value)
        self.calls.append((tool, options))
        log.write_text("the tool says hello\n")
        watcher.tick(text, 1.0)
        if log.stem in self.faults:
            raise WorkerFailedError(self.faults[log.stem], f"{log.stem} went wrong")
        getattr(self, tool)(options)
        return 12.0

    def train(self, options):
        steps = int(options["max_steps"][0])
        start = options.get("model_path")
        folder = Path(start[0]) if start else Path(options["log_root"][0]) / "training-1"
        params = {name: np.full(shape, steps, np.float32) for name, shape in scripted_backend.SHAPES.items()}
        zeros = {name: np.zeros_like(value) for name, value in params.items()}
        save_state(folder / "checkpoints" / f"step-{steps:08d}.safetensors",
                   TrainerState(steps, params, None, zeros, zeros), preset("tiny"))
        with (folder / "log.jsonl").open("a") as file:
            for step in range(1, steps + 1):
                file.write(json.dumps({"step": step, "epoch": 1, "loss": 1 / step, "lr": 1e-3}) + "\n")

    def sample(self, options):
        folder, count = Path(options["sample_root"][0]), int(options["num_images"][0])
        images = np.zeros((count, 4, 4, 3), np.uint8)
        save_npz(folder / "images.npz", images)
        save_grid(folder / "grid.png", images[:4])
        weights = {"description": "raw weights", "kind": "raw", "sha256": options["model_path"][0]}
        (folder / "sampling.json").write_text(json.dumps({
            "nfe": int(options.get("steps", ["1000"])[0]), "eta": 0.0, "spacing": "uniform",
            "seed": int(options["seed"][0]), "weights": weights, "batches": [[9.0, 2], [1.0, 2], [1.2, 2]]}))

    def evaluate(self, options):
        sets = []
        for number, path in enumerate(options.get("images", [])):
            nearest = None
            if "nearest" in options:
                picture = Path(options["nearest"][0]) / f"{number}.png"
                save_png(picture, np.zeros((4, 4, 3), np.uint8))
                nearest = {"picture": str(picture), "space": "features", "distances": [1.0], "typical": 2.0}
            sets.append({"path": path, "images": 6, "ladder": [{"images": 6, "value": 5.0}], "interval": "jackknife",
                         "figures": [{"metric": "fd", "value": 5.0 + number, "ci_low": 4.0, "ci_high": 6.0,
                                      "reason": None}],
                         "images_per_s": 90.0, "warnings": ["6 images are few"], "nearest": nearest})
        differences = [{"a": 0, "b": number, "images": 6, "value": -1.0, "ci_low": -2.0, "ci_high": 0.0}
                       for number in range(1, len(sets))]
        Path(options["json"][0]).write_text(json.dumps({
            "features": FEATURES, "reference": REFERENCE, "sets": sets, "differences": differences}))


def cases(run):
    return {case.case_id: case.status for case in run.of(Case)}
