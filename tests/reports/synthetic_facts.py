"""What a synthetic run states once: its head, its evidence, its losses and its verdict; and the scenarios."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from harness.record.events import (
    ArmEntry,
    DatasetRecorded,
    EnvironmentRecorded,
    Event,
    Finding,
    Losses,
    MonitorState,
    Overhead,
    ParityResult,
    Peak,
    RunStarted,
    StepCost,
    SyncProof,
    Verdict,
)

T0 = 5_000_000_000_000
MS = 1_000_000
S = 1_000_000_000
MODEL = "Imaginary CPU @ 3.00GHz (synthetic)"


@dataclass
class Scenario:
    """What the synthetic run should look like.

    Attributes:
        arms: names; the slots follow their order.
        step_ms: typical step time per arm.
        gpu: whether GPU telemetry and energy exist.
        fail: slot of an arm whose last block fails, or None.
        end: status of the last line, or None for a run that was cut off.
    """

    arms: tuple[str, ...] = ("pytorch", "jittor")
    step_ms: tuple[float, ...] = (120.0, 352.0)
    blocks: int = 6
    pairs: int = 40
    gpu: bool = False
    fail: str | None = None
    end: str | None = "complete"
    verdicts: bool = True
    parity_passed: bool = True
    findings: list[Finding] = field(default_factory=list)
    log_tail: list[str] = field(
        default_factory=lambda: ["step 17 loss 0.41", "Traceback (most recent call last):", "MemoryError"]
    )
    command: list[str] = field(default_factory=lambda: ["python", "run_bench.py", "--suite", "train-speed"])


class Facts:
    """The parts of a run that no clock moves through; mixed into the maker, which keeps clock and events."""

    part = "training"
    s: Scenario
    now: int
    log_ratios: list[float]
    mean_step: dict[str, list[float]]

    @property
    def slots(self) -> list[str]:
        return list("ABCDEFGH"[: len(self.s.arms)])

    def add(self, event: Event) -> None:
        raise AssertionError("the maker adds events")

    def step_ns(self, slot: str, n: int, block_factor: float = 1.0) -> list[int]:
        raise AssertionError("the maker draws step times")

    def losses(self, slot: str) -> None:
        def curve(seed: int, n: int, noise: float) -> list[float]:
            rng = np.random.default_rng(seed)
            x = np.arange(n)
            return [float(v) for v in (0.05 + 0.95 * np.exp(-x / 60)) * np.exp(rng.normal(0, noise, n))]

        self.add(Losses(arm=slot, block=0, randomness="native", first_step=0, losses=curve(ord(slot), 300, 0.18)))
        self.add(Losses(arm=slot, block=0, randomness="matched", first_step=0, losses=curve(1, 50, 0.1)))
        if slot == "A":
            self.add(Losses(arm=slot, block=0, randomness="control", first_step=0, losses=curve(1, 50, 0.1)))

    def head(self) -> None:
        arms = [ArmEntry(slot=slot, name=name) for slot, name in zip(self.slots, self.s.arms, strict=True)]
        self.add(
            RunStarted(
                run_id="train-speed-20260101T000000Z-synth",
                suite="train-speed",
                started_utc="2026-01-01T00:00:00+00:00",
                command=self.s.command,
                arms=arms,
                bench={"device": "cuda" if self.s.gpu else "cpu", "pairs": self.s.pairs},
                experiment={"preset": "tiny", "seed": 0, "train": {"batch_size": 8}},
                config_sha256="c0ffee" * 10,
                declared={
                    "parts": [self.part],
                    "metric": "step time",
                    "margin": 0.01,
                    "alpha": 0.05,
                    "pairs": self.s.pairs,
                    "blocks": self.s.blocks,
                    "seed": 0,
                    "time_limit_min": None,
                },
            )
        )
        self.add(
            EnvironmentRecorded(
                facts={
                    "cpu_model": MODEL,
                    "cpu_cores": 2,
                    "ram_bytes": 24 * 2**30,
                    "governor": None,
                    "python": "3.11.7",
                    "git_commit": "0123456789abcdef",
                    "git_dirty": False,
                },
                reasons={"governor": "the kernel offers no cpufreq interface"},
                starred=["cpu_model", "python"],
            )
        )
        self.add(
            DatasetRecorded(
                name="fashion-mnist",
                images=60_000,
                shape=[32, 32, 3],
                sha256="ab" * 32,
                why="CIFAR-10 is not on disk and cannot be downloaded; Fashion-MNIST is on disk",
            )
        )
        self.add(MonitorState(source="host", available=True, static={"interval_s": 0.5}))
        self.add(
            MonitorState(
                source="gpu:0",
                available=self.s.gpu,
                reason=None if self.s.gpu else "NVML could not be loaded: no NVIDIA driver",
            )
        )
        self.add(StepCost(forward_flop_per_image=148_000_000, step_flop=148_000_000 * 3 * 8, part=self.part))
        self.add(Peak(arm="A", matmul_n=1024, flops=1.31e11, part=self.part))

    def evidence(self) -> None:
        for slot in self.slots:
            bare = self.step_ns(slot, 20)
            for what, factor in (("harness", 1.0021), ("monitors", 1.0011)):
                self.add(Overhead(arm=slot, what=what, part=self.part, bare_ns=bare,
                                  harness_ns=[int(ns * factor) for ns in bare]))  # fmt: skip
            jittor = self.s.arms[self.slots.index(slot)].startswith("jittor")
            short = sum(self.step_ns(slot, 2))
            self.add(
                SyncProof(
                    arm=slot,
                    part=self.part,
                    pending_before=19_012 if jittor else None,
                    pending_after=31 if jittor else None,
                    pending_base=31 if jittor else None,
                    steps_short=2,
                    steps_long=8,
                    short_ns=short,
                    long_ns=int(short * 4.03),
                )
            )
        for slot in self.slots[1:]:
            n = 50
            rng = np.random.default_rng(3)
            self.add(
                ParityResult(
                    arm_a="A",
                    arm_b=slot,
                    preset="tiny",
                    batch_size=8,
                    parameters_equal=True,
                    forward_max_abs=3.1e-6,
                    gradient_worst_rel=2.2e-5 if self.s.parity_passed else 3.2e-2,
                    gradient_worst_name="down.0.blocks.1.conv1.weight",
                    adam_max_abs=4.1e-8,
                    loss_rel_diff=[float(v) for v in 1e-7 * np.exp(np.arange(n) / 11) * np.exp(rng.normal(0, 0.4, n))],
                    control_rel_diff=[
                        float(v) for v in 2e-7 * np.exp(np.arange(n) / 10) * np.exp(rng.normal(0, 0.4, n))
                    ],
                    tolerances={
                        "forward": 2e-5,
                        "gradient": 1e-4,
                        "adam": 1e-6,
                        "loss": 1e-4,
                    },
                    passed=self.s.parity_passed,
                    reason=None if self.s.parity_passed else "gradient of down.0.blocks.1.conv1.weight differs",
                )
            )

    def verdict(self) -> None:
        logs = np.array(self.log_ratios)
        half = 2.571 * logs.std(ddof=1) / np.sqrt(logs.size)
        low, high = float(np.exp(logs.mean() - half)), float(np.exp(logs.mean() + half))
        word = "A-faster" if high < 1 / 1.01 else "B-faster" if low > 1.01 else "inconclusive"
        open_word = word == "inconclusive"
        self.add(
            Verdict(
                part="training",
                kind="stepwise",
                metric="step time",
                arm_a="A",
                arm_b="B",
                ratio=float(np.exp(logs.mean())),
                ci_low=low,
                ci_high=high,
                blocks=logs.size,
                word=word,
                reason="noise" if open_word else None,
                next_action="run 5 further blocks: --blocks 11" if open_word else None,
                mean_ratio=float(np.sum(self.mean_step["A"]) / np.sum(self.mean_step["B"])),
                sign_flip_p=0.03125,
                block_log_ratios=[float(v) for v in logs],
                further_blocks=5 if open_word else None,
                alpha=0.05,
            )
        )
