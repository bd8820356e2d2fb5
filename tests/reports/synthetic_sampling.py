"""Synthetic runs of the sampling suite: every event is made by a formula, and the pictures are drawn shapes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from synthetic import Maker, write_events
from synthetic_facts import MS, T0, S, Scenario

from harness.record.events import (
    ArmEntry,
    BlockState,
    Case,
    Energy,
    Event,
    Memory,
    RunEnded,
    RunStarted,
    SampleAgreement,
    SamplesDrawn,
    StepCost,
    Trap,
    Verdict,
    Window,
)

CELLS = {"ddim-10": 10, "ddim-50": 50, "ddim-250": 250, "ddim-1000": 1000, "ddpm-1000": 1000}
FORWARD_FLOP = 148_000_000


@dataclass
class Sampling(Scenario):
    """What the synthetic sampling run should look like.

    Attributes:
        step_ms: typical time of a network call per arm.
        outside_ms: time of a batch outside the network per arm.
        cells: name -> network calls.
        pictures: whether the files that the journal names are there.
    """

    step_ms: tuple[float, ...] = (9.0, 11.5)
    outside_ms: tuple[float, ...] = (14.0, 55.0)
    cells: dict[str, int] = field(default_factory=lambda: dict(CELLS))
    blocks: int = 5
    pairs: int = 4
    batch: int = 4
    sweep: tuple[int, ...] = (1, 2, 4, 8)
    agreement_passed: bool = True
    pictures: bool = True
    weights: str = "random, from seed 0"
    command: list[str] = field(default_factory=lambda: ["python", "run_bench.py", "--suite", "sample-speed"])


class SamplingMaker(Maker):
    """Makes the events of a sampling run."""

    part = "sampling"
    s: Sampling

    def __init__(self, scenario: Sampling, folder: Path) -> None:
        super().__init__(scenario)
        self.folder = folder
        self.logs: dict[str, list[float]] = {cell: [] for cell in scenario.cells}

    def head(self) -> None:
        super().head()
        arms = [ArmEntry(slot=slot, name=name) for slot, name in zip(self.slots, self.s.arms, strict=True)]
        declared = {
            "parts": [self.part],
            "metric": "sampling time", "margin": 0.01, "alpha": 0.05, "pairs": self.s.pairs, "blocks": self.s.blocks,
            "seed": 0, "time_limit_min": None, "cells": list(self.s.cells),
            "sweep": {"cell": next(iter(self.s.cells), None), "batch_sizes": list(self.s.sweep)},
        }  # fmt: skip
        started = RunStarted(
            run_id="sample-speed-20260101T000000Z-synth", suite="sample-speed",
            started_utc="2026-01-01T00:00:00+00:00", command=self.s.command, arms=arms,
            bench={"device": "cuda" if self.s.gpu else "cpu", "pairs": self.s.pairs},
            experiment={"preset": "tiny", "seed": 0, "train": {"batch_size": 8},
                        "sample": {"batch_size": self.s.batch}},
            config_sha256="c0ffee" * 10, declared=declared, t_ns=T0,
        )  # fmt: skip
        cost = StepCost(forward_flop_per_image=FORWARD_FLOP, step_flop=FORWARD_FLOP * self.s.batch, part=self.part,
                        t_ns=T0)  # fmt: skip
        self.events = [{RunStarted: started, StepCost: cost}.get(type(one), one) for one in self.events]

    def evidence(self) -> None:
        super().evidence()
        self.events = [event for event in self.events if event.type != "parity"]

    def batch(self, slot: str, calls: int, factor: float, images: int) -> int:
        i = self.slots.index(slot)
        call = self.s.step_ms[i] * (0.4 + 0.6 * images / self.s.batch)
        noise = float(np.exp(self.rng.normal(0, 0.012)))
        return int((self.s.outside_ms[i] + call * calls) * MS * factor * noise)

    def sampled(self, kind: str, slot: str, block: int, pair: int, position: int, factor: float,
                cell: str, images: int) -> int:  # fmt: skip
        calls = self.s.cells[cell]
        begin = self.now
        self.spend(slot, self.batch(slot, calls, factor, images), 1.95)
        self.add(Window(kind=kind, arm=slot, block=block, pair=pair, position=position, start_ns=begin,
                        end_ns=self.now, steps=calls, step_ns=[], cell=cell, images=images))  # fmt: skip
        self.add(Energy(source="gpu:0", arm=slot, block=block, start_ns=begin, end_ns=self.now, steps=calls,
                        energy_mj=calls * 40 if self.s.gpu else None,
                        reason=None if self.s.gpu else "NVML could not be loaded: no NVIDIA driver"))  # fmt: skip
        spent = self.now - begin
        self.now += 20 * MS
        return spent

    def block(self, block: int) -> None:
        begin = self.now
        alive = [slot for slot in self.slots if slot != self.s.fail]
        for slot in alive:
            jittor = self.s.arms[self.slots.index(slot)].startswith("jittor")
            self.worker(slot, block, "measure", "warm" if jittor else None)
        factors = {slot: float(np.exp(self.rng.normal(0, 0.004))) for slot in self.slots}
        for slot in alive:
            self.warm_up(slot, block, factors[slot])
        for pair in range(self.s.pairs):
            for i, slot in enumerate(alive if pair % 2 else alive[::-1]):
                self.window("stepwise", slot, block, pair, i, factors[slot], 10)
        for cell in self.s.cells:
            logs = []
            for pair in range(self.s.pairs):
                times = {
                    slot: self.sampled("sample", slot, block, pair, i, factors[slot], cell, self.s.batch)
                    for i, slot in enumerate(alive if pair % 2 else alive[::-1])
                }
                if len(times) > 1:
                    logs.append(float(np.log(times["A"] / times["B"])))
            if logs:
                self.logs[cell].append(float(np.median(logs)))
        if block == 0:
            self.once(alive)
        for slot in alive:
            self.add(Memory(arm=slot, block=block, rss_peak_bytes=700 * 2**20, device_allocated_bytes=None,
                            device_peak_bytes=None, device_reserved_bytes=None, reason="no GPU in use"))  # fmt: skip
            self.alive[slot].append((begin, self.now))
            self.add(Case(case_id=f"block-{block}-{slot}", arm=slot, block=block, status="measured"))
        dirty = block == 3
        self.add(BlockState(block=block, order_seed=100 + block, dirty=dirty, reasons=["busy"] if dirty else []))

    def once(self, alive: list[str]) -> None:
        """The sweep of batch sizes and the clock that does not wait, in the first block only."""
        cells = list(self.s.cells)
        for images in self.s.sweep if cells else ():
            for pair in range(2):
                for i, slot in enumerate(alive):
                    self.sampled("sweep", slot, 0, pair, i, 1.0, cells[0], images)
        for slot in alive if cells else ():
            true = self.batch(slot, self.s.cells[cells[0]], 1.0, self.s.batch)
            queued = int(true * (0.97 if slot == "A" else 0.21))
            self.add(Trap(arm=slot, block=0, cell=cells[0], images=self.s.batch, unsynchronised_ns=queued,
                          synchronised_ns=true))  # fmt: skip

    def drawn(self) -> None:
        """Pictures of every arm that lives, and whether they agree."""
        cell = next(iter(self.s.cells), "ddim-50")
        alive = [slot for slot in self.slots if slot != self.s.fail]
        for slot in alive:
            grid, gif = f"samples/grid-{slot}.png", f"samples/denoising-{slot}.gif"
            if self.s.pictures:
                draw(self.folder / grid, self.folder / gif)
            self.add(SamplesDrawn(arm=slot, cell=cell, seed=0, images=16, weights=self.s.weights, grid=grid, gif=gif))
        for slot in alive[1:]:
            ok = self.s.agreement_passed
            self.add(SampleAgreement(arm_a="A", arm_b=slot, cell=cell, images=16,
                                     within_one=0.99987 if ok else 0.731, largest=2 if ok else 88, tolerance=0.999,
                                     passed=ok, reason=None if ok else "73.1 % of all values agree"))  # fmt: skip

    def verdict(self) -> None:
        cells = [cell for cell, logs in self.logs.items() if len(logs) > 1]
        for rank, cell in enumerate(cells):
            self.judged("sampling time", cell, np.array(self.logs[cell]), 0.05 / (len(cells) - rank))
        if cells:
            mean = np.mean([self.logs[cell] for cell in cells], axis=0)
            self.judged("sampling time, geometric mean over cells", None, mean, 0.05)

    def judged(self, metric: str, cell: str | None, logs: np.ndarray, alpha: float) -> None:
        half = (3.5 if alpha < 0.05 else 2.78) * logs.std(ddof=1) / np.sqrt(logs.size)
        low, high = float(np.exp(logs.mean() - half)), float(np.exp(logs.mean() + half))
        word = "A-faster" if high < 1 / 1.01 else "B-faster" if low > 1.01 else "inconclusive"
        self.add(Verdict(part="sampling", kind="sample", metric=metric, cell=cell, arm_a="A", arm_b="B",
                         ratio=float(np.exp(logs.mean())), ci_low=low, ci_high=high, blocks=logs.size, word=word,
                         alpha=alpha, reason="noise" if word == "inconclusive" else None,
                         block_log_ratios=[float(v) for v in logs]))  # fmt: skip

    def make(self) -> list[Event]:
        self.head()
        self.evidence()
        if self.s.fail:
            self.add(Case(case_id=f"block-0-{self.s.fail}", arm=self.s.fail, block=0, status="failed",
                          reason="the worker ended with exit code -9 (killed: out of memory?)",
                          log=f"logs/block-0-{self.s.fail}.log", log_tail=self.s.log_tail))  # fmt: skip
        for block in range(self.s.blocks):
            self.block(block)
        self.drawn()
        for finding in self.s.findings:
            self.add(finding)
        if self.s.verdicts and not self.s.fail and len(self.s.arms) > 1:
            self.verdict()
        self.telemetry()
        if self.s.end:
            codes = {"complete": 0, "failed": 1, "interrupted": 130}
            self.add(RunEnded(status=self.s.end, exit_code=codes[self.s.end], wall_s=(self.now - T0) / S))
        return self.events


def draw(grid: Path, gif: Path) -> None:
    """Sixteen shapes in a grid of four, and how they come out of noise."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:32, :32]
    sheet = np.zeros((4 * 34 + 2, 4 * 34 + 2, 3))
    for i in range(16):
        cy, cx, radius = rng.uniform(10, 22), rng.uniform(10, 22), rng.uniform(5, 10)
        disc = (np.hypot(y - cy, x - cx) < radius)[..., None]
        image = np.where(disc, rng.uniform(0.4, 1, 3), rng.uniform(0, 0.5, 3))
        top, left = 2 + i // 4 * 34, 2 + i % 4 * 34
        sheet[top : top + 32, left : left + 32] = image
    Image.fromarray((sheet * 255).astype(np.uint8)).save(grid)
    noise = rng.uniform(0, 1, sheet.shape)
    frames = [Image.fromarray(((sheet * a + noise * (1 - a)) * 255).astype(np.uint8)) for a in np.linspace(0, 1, 8)]
    frames[0].save(gif, save_all=True, append_images=frames[1:], duration=120, loop=0)


def write_sampling(folder: Path, scenario: Sampling | None = None) -> Path:
    """A run folder of the sampling suite with its pictures."""
    return write_events(folder, lambda: SamplingMaker(scenario or Sampling(), folder).make())
