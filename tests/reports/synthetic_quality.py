"""Synthetic runs of the quality suite: every figure is made by a formula, and the pictures are drawn shapes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from synthetic import Maker, write_events
from synthetic_facts import Scenario

from harness.record.events import (
    ArmEntry,
    Case,
    DatasetRecorded,
    EnvironmentRecorded,
    Event,
    Figure,
    ImagesSampled,
    NearestImages,
    Quality,
    QualityDifference,
    ReferenceFeatures,
    RunEnded,
    Rung,
    RunStarted,
    Trained,
)

CELLS = {"ddim-10": 10, "ddim-20": 20, "ddim-50": 50, "ddpm-1000": 1000}
FEW = "N is below 2048: the covariance has not full rank, the distance is biased upwards"


@dataclass
class Judged(Scenario):
    """What the synthetic quality run should look like.

    Attributes:
        cells: name -> network calls.
        trainings: lengths in steps; None for weights that were given.
        gap: distance of the second arm less that of the first.
        half: half the width of the intervals of distances; None for none.
        untimed: slots whose sets have no time.
        pictures: whether the files that the journal names are there.
        bare: whether figures other than the distance are missing.
    """

    cells: dict[str, int] = field(default_factory=lambda: dict(CELLS))
    trainings: tuple[int | None, ...] = (2000, 6000)
    label: str = "FD efficientnet-lite0"
    dataset: str = "fashion-mnist"
    gap: float = 0.8
    half: float | None = 1.9
    images: int = 1000
    matched: bool = False
    untimed: str = ""
    pictures: bool = True
    bare: bool = False
    weights: str = "checkpoint of this run"
    warnings: tuple[str, ...] = (FEW,)
    command: list[str] = field(default_factory=lambda: ["python", "run_bench.py", "--suite", "quality"])


class JudgedMaker(Maker):
    """Makes the events of a quality run."""

    s: Judged

    def __init__(self, scenario: Judged, folder: Path) -> None:
        super().__init__(scenario)
        self.folder = folder

    def distance(self, slot: str, cell: str, steps: int | None) -> float:
        """A formula with all that a figure depends on."""
        calls = self.s.cells[cell]
        trained = 0.0 if steps is None else 60_000 / steps
        other = 4.0 if cell.startswith("ddpm") else 0.0
        return 40.0 + trained + 130 / calls + other + self.s.gap * self.slots.index(slot)

    def begin(self) -> None:
        arms = [ArmEntry(slot=slot, name=name) for slot, name in zip(self.slots, self.s.arms, strict=True)]
        self.add(RunStarted(
            run_id="quality-20260101T000000Z-synth", suite="quality", started_utc="2026-01-01T00:00:00+00:00",
            command=self.s.command, arms=arms, bench={"device": "cpu"},
            experiment={"preset": "tiny", "seed": 0, "train": {"batch_size": 16}}, config_sha256="c0ffee" * 10,
            declared={"parts": ["quality"], "cells": list(self.s.cells), "images": self.s.images},
        ))  # fmt: skip
        self.add(EnvironmentRecorded(facts={"cpu_cores": 2}, starred=["cpu_cores"]))
        self.add(DatasetRecorded(name=self.s.dataset, images=60_000, shape=[32, 32, 3], sha256="ab" * 32, why="chosen"))
        self.add(ReferenceFeatures(
            extractor="efficientnet-lite0", label=self.s.label, weights_sha256="fe" * 32, feature_size=1280,
            input_size=224, dataset=self.s.dataset, split="the first 5,000 of 60,000 training images, without flips",
            images=5000, images_sha256="1f" * 32, cached=False, images_per_s=81.5,
        ))  # fmt: skip

    def trained(self, slot: str, steps: int) -> None:
        self.add(Trained(
            arm=slot, steps=steps, batch_size=16, seconds=steps * 0.07 if slot == "A" else None, loss=0.03 + 60 / steps,
            checkpoint=f"training/{slot}-{steps}", weights_sha256=slot * 64,
        ))  # fmt: skip

    def judged(self, slot: str, cell: str, steps: int | None) -> None:
        grid = f"samples/{slot}-{cell if cell.isascii() and '/' not in cell else 'odd'}-{steps}.png"
        if self.s.pictures:
            draw(self.folder / grid, seed=len(cell) + (steps or 0) % 97)
        calls, timed = self.s.cells[cell], slot not in self.s.untimed
        self.add(ImagesSampled(
            arm=slot, cell=cell, nfe=calls, eta=0.0, spacing="uniform", seed=7, images=self.s.images, batch_size=50,
            train_steps=steps, seconds=self.s.images * calls * (0.002 if slot == "A" else 0.003) if timed else None,
            why_no_seconds=None if timed else "the drawing was interrupted in between", npz=grid[:-3] + "npz",
            grid=grid, weights=self.s.weights, weights_kind="ema", weights_sha256=slot.lower() * 64,
        ))  # fmt: skip
        value, half, n = self.distance(slot, cell, steps), self.s.half, self.s.images
        figures = [figure("fd", value, half)]
        if self.s.bare:
            figures.append(Figure(metric="kid", value=None, reason="too few images for subsets of 1000"))
        else:
            figures += [figure("fd-extrapolated", value - 12, half and half * 1.6), figure("kid", 0.0213, 0.0011)]
            figures += [figure("is", 3.21, 0.12), figure("precision", 0.61, 0.03), figure("recall", 0.32, 0.04)]
        ladder = [] if self.s.bare else [
            Rung(images=n // k, value=value - 12 + 12 * k + (-1) ** k * 0.2) for k in (8, 4, 2, 1)
        ]  # fmt: skip
        self.add(Quality(arm=slot, cell=cell, train_steps=steps, extractor="efficientnet-lite0", label=self.s.label,
                         images=n, figures=figures, ladder=ladder, interval="jackknife over 20 groups of images",
                         images_per_s=80.2, warnings=list(self.s.warnings)))  # fmt: skip

    def compared(self, slot: str, cell: str, steps: int | None) -> None:
        value, half = self.distance(slot, cell, steps) - self.distance("A", cell, steps), self.s.half
        self.add(QualityDifference(arm_a=slot, arm_b="A", cell=cell, train_steps=steps, label=self.s.label,
                                   images=self.s.images, value=value, ci_low=None if half is None else value - half,
                                   ci_high=None if half is None else value + half,
                                   matched_weights=self.s.matched))  # fmt: skip

    def make(self) -> list[Event]:
        self.begin()
        alive = [slot for slot in self.slots if slot != self.s.fail]
        for steps in self.s.trainings:
            for slot in alive if steps is not None else ():
                self.trained(slot, steps)
            for cell in self.s.cells:
                for slot in alive:
                    self.judged(slot, cell, steps)
                for slot in alive[1:]:
                    self.compared(slot, cell, steps)
        for slot in alive:
            cell = next(iter(self.s.cells))
            picture = f"samples/nearest-{slot}.png"
            if self.s.pictures:
                draw(self.folder / picture, seed=1)
            self.add(NearestImages(arm=slot, cell=cell, picture=picture, space="features of efficientnet-lite0",
                                   distances=[14.2, 11.3, 17.9, 12.5], typical=9.7))  # fmt: skip
        if self.s.fail:
            first = min(steps or 0 for steps in self.s.trainings)
            self.add(Case(case_id=f"train-{self.s.fail}-{first}", arm=self.s.fail, block=None, status="failed",
                          reason="the training ended with exit code -9 (killed: out of memory?)",
                          log=f"logs/train-{self.s.fail}.log", log_tail=self.s.log_tail))  # fmt: skip
        for finding in self.s.findings:
            self.add(finding)
        if self.s.end:
            codes = {"complete": 0, "failed": 1, "interrupted": 130}
            self.add(RunEnded(status=self.s.end, exit_code=codes[self.s.end], wall_s=600.0))
        return self.events


def figure(metric: str, value: float, half: float | None) -> Figure:
    """A figure in the middle of its interval."""
    low, high = (None, None) if half is None else (value - half, value + half)
    return Figure.model_validate({"metric": metric, "value": value, "ci_low": low, "ci_high": high})


def draw(file: Path, seed: int, rows: int = 4) -> None:
    """Shapes in a grid, as small as the real ones."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:32, :32]
    sheet = np.zeros((rows * 34 + 2, rows * 34 + 2, 3))
    for i in range(rows * rows):
        cy, cx, radius = rng.uniform(10, 22), rng.uniform(10, 22), rng.uniform(5, 10)
        disc = (np.hypot(y - cy, x - cx) < radius)[..., None]
        top, left = 2 + i // rows * 34, 2 + i % rows * 34
        sheet[top : top + 32, left : left + 32] = np.where(disc, rng.uniform(0.4, 1, 3), rng.uniform(0, 0.5, 3))
    Image.fromarray((sheet * 255).astype(np.uint8)).save(file)


def write_quality(folder: Path, scenario: Judged | None = None) -> Path:
    """A run folder of the quality suite with its pictures."""
    return write_events(folder, lambda: JudgedMaker(scenario or Judged(), folder).make())
