"""Writes complete, plausible, clearly synthetic runs: every event is made by a formula, no framework is involved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from journals import sealed
from synthetic_facts import MODEL, MS, T0, Facts, S, Scenario

from harness.record.events import (
    BlockState,
    Case,
    Energy,
    Epoch,
    Event,
    Finding,
    Memory,
    RunEnded,
    Sample,
    WarmUp,
    Window,
    WorkerStarted,
)

NASTY = '<script>alert("x")</script>](http://evil.example)|`*_$1\n# not a heading'


class Maker(Facts):
    """Keeps the clock and the random numbers while the events are made."""

    def __init__(self, scenario: Scenario) -> None:
        self.s = scenario
        self.rng = np.random.default_rng(7)
        self.now = T0
        self.events: list[Event] = []
        self.busy: list[tuple[int, int, str, float]] = []
        self.log_ratios: list[float] = []
        self.mean_step: dict[str, list[float]] = {slot: [] for slot in self.slots}
        self.alive: dict[str, list[tuple[int, int]]] = {slot: [] for slot in self.slots}

    @property
    def slots(self) -> list[str]:
        return list("ABCDEFGH"[: len(self.s.arms)])

    def add(self, event: Event) -> None:
        self.events.append(event.model_copy(update={"t_ns": event.t_ns or self.now}))

    def step_ns(self, slot: str, n: int, block_factor: float = 1.0) -> list[int]:
        typical = self.s.step_ms[self.slots.index(slot)] * MS * block_factor
        noise = np.exp(self.rng.normal(0, 0.035, n)) * np.where(self.rng.random(n) < 0.02, 1.6, 1.0)
        return [int(ns) for ns in typical * noise]

    def spend(self, slot: str, ns: int, cores: float) -> None:
        self.busy.append((self.now, self.now + ns, slot, cores))
        self.now += ns

    def info(self, slot: str) -> dict[str, Any]:
        name = self.s.arms[self.slots.index(slot)]
        jittor = name.startswith("jittor")
        return {
            "framework": "Jittor" if jittor else "PyTorch",
            "version": "0.0-synthetic",
            "device": "cuda" if self.s.gpu else "cpu",
            "device_name": MODEL,
            "device_uuid": None,
            "dtype": "float32",
            "tf32": False,
            "threads": 2,
            "operators": {"attention": "matmul + softmax" if jittor else "scaled_dot_product_attention"},
            "flags": {"memory format": "NCHW", "oneDNN": "on", "compiler": "g++" if jittor else "none"},
        }

    def worker(self, slot: str, block: int, role: str, cache: str | None) -> None:
        jittor, begin = self.s.arms[self.slots.index(slot)].startswith("jittor"), self.now
        spawn, imports, build = 400 * MS, (2_600 if jittor else 1_900) * MS, (900 if jittor else 160) * MS
        typical = int(self.s.step_ms[self.slots.index(slot)] * MS)
        compile_ns = {"cold": 92 * S, "warm": 700 * MS, None: 260 * MS}[cache]
        self.spend(slot, spawn + imports + build, 0.9)
        stamp = self.now
        self.spend(slot, typical + compile_ns, 1.3)
        self.add(
            WorkerStarted(
                arm=slot,
                block=block,
                role=role,
                pid=4000 + block * 10 + self.slots.index(slot),
                spawn_ns=spawn,
                import_ns=imports,
                build_ns=build,
                first_step_ns=typical + compile_ns,
                first_stamp_ns=stamp,
                compile_ns=compile_ns,
                cache=cache,
                parameter_count=2_251_523,
                info=self.info(slot),
            )
        )
        self.alive[slot].append((begin, self.now))

    def warm_up(self, slot: str, block: int, factor: float) -> None:
        first = next(event for event in reversed(self.events) if isinstance(event, WorkerStarted) and event.arm == slot)
        steps = self.step_ns(slot, 24, factor)
        steps[:6] = [int(ns * (1.9 - 0.15 * i)) for i, ns in enumerate(steps[:6])]
        starts = [first.first_stamp_ns]
        for ns in steps:
            starts.append(self.now)
            self.spend(slot, ns, 1.9)
        steps = [first.first_step_ns, *steps]
        self.add(
            WarmUp(
                arm=slot,
                block=block,
                start_ns=starts,
                step_ns=steps,
                classification="warmup",
                steady_from=7,
                capped=False,
            )
        )

    def window(self, kind: str, slot: str, block: int, pair: int, position: int, factor: float, steps: int) -> float:
        found = self.step_ns(slot, steps, factor * (0.97 if kind == "free" else 1.0))
        begin, total = self.now, sum(found)
        self.spend(slot, total, 1.95)
        others = {one: 1 * MS for one in self.slots if one != slot}
        self.add(
            Window(
                kind=kind,
                arm=slot,
                block=block,
                pair=pair,
                position=position,
                start_ns=begin,
                end_ns=self.now,
                steps=steps,
                step_ns=found if kind == "stepwise" else [],
                others_cpu_ns=others,
            )
        )
        self.now += 20 * MS
        return total / steps

    def block(self, block: int) -> None:
        begin = self.now
        for slot in self.slots:
            self.worker(
                slot, block, "measure", "warm" if self.s.arms[self.slots.index(slot)].startswith("jittor") else None
            )
        factors = {slot: float(np.exp(self.rng.normal(0, 0.012))) for slot in self.slots}
        for slot in self.slots:
            self.warm_up(slot, block, factors[slot])
        logs, totals = [], {slot: 0.0 for slot in self.slots}
        for pair in range(self.s.pairs):
            order = self.slots if pair % 2 else self.slots[::-1]
            times = {
                slot: self.window("stepwise", slot, block, pair, i, factors[slot], 1) for i, slot in enumerate(order)
            }
            for slot in self.slots:
                totals[slot] += times[slot]
            if len(times) > 1:
                logs.append(float(np.log(times["A"] / times["B"])))
        for pair in range(2):
            for i, slot in enumerate(self.slots):
                self.window("free", slot, block, pair, i, factors[slot], max(2, int(2_000 / self.s.step_ms[i])))
        for slot in self.slots:
            self.mean_step[slot].append(totals[slot])
            rss = 830 * 2**20 if slot == "A" else 1_150 * 2**20
            reason = None if self.s.gpu else "no GPU in use"
            peak = 3 * 2**30 if self.s.gpu else None
            self.add(
                Memory(
                    arm=slot,
                    block=block,
                    rss_peak_bytes=rss,
                    device_allocated_bytes=peak,
                    device_peak_bytes=peak,
                    device_reserved_bytes=peak,
                    reason=reason,
                )
            )
            self.alive[slot].append((begin, self.now))
            self.add(Case(case_id=f"block-{block}-{slot}", arm=slot, block=block, status="measured"))
            self.add(
                Energy(
                    source="gpu:0",
                    arm=slot,
                    block=block,
                    start_ns=begin,
                    end_ns=self.now,
                    steps=100,
                    energy_mj=1_234_567 if self.s.gpu else None,
                    reason=None if self.s.gpu else "NVML could not be loaded: no NVIDIA driver",
                )
            )
        if logs:
            self.log_ratios.append(float(np.median(logs)))
        dirty = block == 3
        self.add(
            BlockState(
                block=block,
                order_seed=100 + block,
                dirty=dirty,
                reasons=["jittor used 3.1 % CPU while it waited"] if dirty else [],
            )
        )

    def epochs(self, slot: str) -> None:
        begun = self.now
        self.worker(slot, 90, "epochs", None)
        last = None
        for number in range(3):
            gap = None if last is None else self.now + 1_400 * MS - last
            if last is not None:
                self.spend(slot, 1_400 * MS, 0.25)
            begin, stamps, waits = self.now, [], []
            for step, ns in enumerate(self.step_ns(slot, 24)):
                wait = 160 * MS if step == 0 else 45 * MS if step % 6 == 0 else 60_000
                self.spend(slot, wait, 0.3)
                stamps.append(self.now)
                waits.append(wait)
                self.spend(slot, ns, 1.9)
            last = self.now
            self.add(
                Epoch(
                    arm=slot,
                    block=90,
                    epoch=number,
                    loader="native",
                    num_workers=2,
                    images=192,
                    start_ns=begin,
                    end_ns=self.now,
                    gap_ns=gap,
                    step_start_ns=stamps,
                    loader_wait_ns=waits,
                )
            )
        self.alive[slot].append((begun, self.now))

    def telemetry(self) -> None:
        """Samples every 0.5 s: the busy intervals, averaged over the time since the sample before."""
        edges = np.arange(T0, self.now + S // 2, S // 2)
        for left, right in zip(edges[:-1], edges[1:], strict=True):
            share = {slot: 0.0 for slot in self.slots}
            for begin, end, slot, cores in self.busy:
                overlap = min(end, right) - max(begin, left)
                if overlap > 0:
                    share[slot] += cores * overlap / (right - left)
            total = min(2.0, sum(share.values()) + 0.06)
            self.events.append(
                Sample(
                    t_ns=int(right),
                    source="host",
                    values={"cpu_percent": total * 100, "load1": 1.2, "memory_available_bytes": 20 * 2**30},
                )
            )
            for slot in self.slots:
                alive = any(begin <= right and left <= end for begin, end in self.alive[slot])
                if alive:
                    self.events.append(
                        Sample(
                            t_ns=int(right),
                            source=f"process:{slot}",
                            values={
                                "cpu_percent": share[slot] * 100,
                                "rss_bytes": (700 if slot == "A" else 1000) * 2**20,
                            },
                        )
                    )
            if self.s.gpu:
                self.events.append(
                    Sample(
                        t_ns=int(right),
                        source="gpu:0",
                        values={
                            "utilisation_percent": min(100.0, sum(share.values()) * 50),
                            "memory_used_bytes": 4 * 2**30,
                            "power_mw": 210_000,
                            "temperature_c": 55,
                        },
                    )
                )

    def make(self) -> list[Event]:
        self.head()
        self.evidence()
        for block in range(self.s.blocks):
            self.block(block)
        for slot in self.slots:
            self.epochs(slot)
            self.losses(slot)
            if self.s.arms[self.slots.index(slot)].startswith("jittor"):
                self.worker(slot, 91, "cold-start", "cold")
        if self.s.fail:
            self.add(
                Case(
                    case_id=f"block-{self.s.blocks}-{self.s.fail}",
                    arm=self.s.fail,
                    block=self.s.blocks,
                    status="failed",
                    reason="the worker ended with exit code -9 (killed: out of memory?)",
                    log=f"logs/block-{self.s.blocks}-{self.s.fail}.log",
                    log_tail=self.s.log_tail,
                )
            )
        for finding in self.s.findings:
            self.add(finding)
        if self.s.verdicts and len(self.s.arms) > 1 and self.s.blocks > 1:
            self.verdict()
        self.telemetry()
        if self.s.end:
            codes = {"complete": 0, "failed": 1, "interrupted": 130}
            self.add(RunEnded(status=self.s.end, exit_code=codes[self.s.end], wall_s=(self.now - T0) / 1e9))
        return self.events


FINDINGS = [
    Finding(
        severity="warning",
        code="machine-busy",
        message="the machine's load was 1.8 on 2 cores before the run",
        advice="close other programs and repeat",
    ),
    Finding(severity="info", code="no-gpu", message="no GPU telemetry: NVML could not be loaded"),
]


def write_run(folder: Path, scenario: Scenario | None = None) -> Path:
    """A run folder with its journal; the log and figure folders exist as in a real run."""
    return write_events(folder, Maker(scenario or Scenario(findings=FINDINGS)).make)


def write_events(folder: Path, make: Callable[[], list[Event]]) -> Path:
    """A run folder whose journal holds what `make` gives once the folder is there."""
    folder.mkdir(parents=True)
    for name in ("logs", "figures", "samples"):
        (folder / name).mkdir()
    lines = sealed(event.model_dump_json() for event in make())
    (folder / "journal.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder
