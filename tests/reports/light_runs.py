"""Small recorded runs for comparisons: only the events that a comparison reads, made by a formula."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from journals import sealed

from harness.record.events import (
    BlockState,
    Case,
    DatasetRecorded,
    EnvironmentRecorded,
    Event,
    ParityResult,
    RunEnded,
    RunStarted,
    Window,
    WorkerStarted,
)
from harness.record.run import RecordedRun

MS = 1_000_000
EXPERIMENT = {
    "preset": "tiny",
    "seed": 0,
    "model": {"base_channels": 32, "channels": [32, 64]},
    "diffusion": {"T": 1000},
    "train": {"batch_size": 8, "lr": 0.0002, "warmup_steps": 100, "loader": "resident"},
    "sample": {"batch_size": 4, "steps": None, "eta": 0.0},
}
FACTS: dict[str, Any] = {
    "cpu_model": "Imaginary CPU",
    "cpu_logical": 2,
    "load1": 0.1,
    "python": "3.11.7",
    "version_torch": "2.14.1",
    "gpu_driver": None,
    "kernel": "6.1",
    "git_commit": "abc",
}
STARRED = ["cpu_model", "cpu_logical", "python", "version_torch", "gpu_driver"]
INFO = {
    "framework": "PyTorch", "version": "2.14.1", "device": "cpu", "device_name": "Imaginary CPU", "device_uuid": None,
    "dtype": "float32", "tf32": False, "threads": 2, "operators": {"attention": "sdpa"}, "flags": {"compile": "eager"},
}  # fmt: skip


@dataclass
class Light:
    """What a light run should look like.

    Attributes:
        arms: name -> step time in milliseconds, or time of a batch where there are cells.
        spread: relative spread of the arms' levels from block to block, each arm for itself.
        shared: the same of the machine's level, which all arms of a block share.
        cells: names of sampling cells; a run without any trains.
        dirty: disturbed blocks.
        unfinished: arms that failed in every block.
    """

    arms: Sequence[tuple[str, float]] = (("pytorch", 100.0), ("jittor", 150.0))
    seed: int = 0
    blocks: int = 8
    pairs: int = 6
    spread: float = 0.002
    shared: float = 0.0
    cells: Sequence[str] = ()
    dirty: Sequence[int] = ()
    unfinished: Sequence[str] = ()
    schedule: str = "resident"
    suite: str | None = None
    experiment: dict[str, Any] = field(default_factory=lambda: copy.deepcopy(EXPERIMENT))
    facts: dict[str, Any] = field(default_factory=lambda: dict(FACTS))
    info: dict[str, Any] = field(default_factory=lambda: dict(INFO))
    parameters: int = 1234
    data: tuple[str, str] | None = ("digits", "ab" * 32)
    parity: bool | None = True


def events(light: Light) -> list[Event]:
    """The lines of its journal."""
    rng = np.random.default_rng(light.seed)
    slots = "ABCDEFGH"[: len(light.arms)]
    suite = light.suite or ("sample-speed" if light.cells else "train-speed")
    found: list[Event] = [
        RunStarted(
            t_ns=1, run_id=f"light-{light.seed}", suite=suite, started_utc="2026-01-01T00:00:00+00:00",
            command=["python", "run_bench.py"], bench={"schedule": light.schedule}, experiment=light.experiment,
            arms=[{"slot": slot, "name": name} for slot, (name, _) in zip(slots, light.arms, strict=True)],
            config_sha256="c0", declared={"margin": 0.01, "alpha": 0.05, "cells": list(light.cells), "device": "cpu",
                                           "parts": ["sampling" if light.cells else "training"]},
        ),
        EnvironmentRecorded(t_ns=2, facts=light.facts, starred=STARRED),
    ]  # fmt: skip
    if light.data and not light.cells:
        name, sha256 = light.data
        found.append(DatasetRecorded(t_ns=3, name=name, images=9, shape=[32, 32, 3], sha256=sha256, why="test"))
    if light.parity is not None and len(light.arms) > 1 and not light.cells:
        found.append(ParityResult(
            t_ns=4, arm_a="A", arm_b="B", preset="tiny", batch_size=8, parameters_equal=True, forward_max_abs=0.0,
            gradient_worst_rel=0.0, gradient_worst_name=None, adam_max_abs=0.0, loss_rel_diff=[], control_rel_diff=[],
            tolerances={}, passed=light.parity, reason=None if light.parity else "gradient differs",
        ))  # fmt: skip
    now = 10
    for block in range(light.blocks):
        machine = np.exp(rng.normal(0, light.shared)) if light.shared else 1.0
        for slot, (name, typical_ms) in zip(slots, light.arms, strict=True):
            found.append(WorkerStarted(
                t_ns=now, arm=slot, block=block, pid=1, spawn_ns=1, import_ns=1, build_ns=1, first_step_ns=1,
                first_stamp_ns=1, parameter_count=light.parameters, info=light.info,
            ))  # fmt: skip
            level = typical_ms * MS * machine * np.exp(rng.normal(0, light.spread))
            for cell in light.cells or (None,):
                for pair in range(light.pairs):
                    ns = int(level * np.exp(rng.normal(0, 0.004)))
                    kind = "sample" if cell else "stepwise"
                    found.append(Window(
                        t_ns=now, kind=kind, arm=slot, block=block, pair=pair, position=0, start_ns=now,
                        end_ns=now + ns, steps=10 if cell else 1, step_ns=[] if cell else [ns], cell=cell,
                        images=4 if cell else None,
                    ))  # fmt: skip
                    now += ns
            status = "failed" if name in light.unfinished else "measured"
            found.append(Case(t_ns=now, case_id=f"block-{block}-{slot}", arm=slot, block=block, status=status))
        found.append(BlockState(t_ns=now, block=block, order_seed=block, dirty=block in light.dirty))
    return [*found, RunEnded(t_ns=now, status="complete", exit_code=0, wall_s=1.0)]


def recorded(light: Light) -> RecordedRun:
    """The run, as if read."""
    return RecordedRun(Path(f"light-{light.seed}"), tuple(events(light)))


def write(folder: Path, light: Light, change: Callable[[str], str] = lambda text: text) -> Path:
    """The run as a folder; `change` rewrites the text of its journal."""
    folder.mkdir(parents=True)
    text = "".join(event.model_dump_json() + "\n" for event in events(light))
    (folder / "journal.jsonl").write_text("\n".join([*sealed(change(text).splitlines()), ""]), encoding="utf-8")
    return folder


def altered(base: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """A copy of nested settings with `part__key` replaced."""
    data = copy.deepcopy(dict(base))
    for path, value in changes.items():
        *above, last = path.split("__")
        inner = data
        for key in above:
            inner = inner[key]
        inner[last] = value
    return data
