"""One arm tried for real: a product, then a training step of the smallest network, which has all that others have."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from harness.bench import SLOW_LIMIT_S
from harness.doctor.machine import Ailment
from harness.machine.files import ROOT
from harness.processes.session import WorkerFailedError
from harness.processes.workers import LocalSessions
from harness.protocol import life, timing, training
from harness.run.resolve import opened
from impls.errors import UsageError, cause
from impls.recipe.config import merged, preset
from impls.registry import Arm, Device
from messages import shown, tell

BATCH, IMAGES, PRODUCT = 2, 8, 128
# Mean squared error of predicted noise of variance 1 before anything is learned: 1, give or take a small batch.
PLAUSIBLE = (0.2, 5.0)


def tried(sessions: LocalSessions, arm: Arm, device: Device, threads: int, python: str) -> tuple[str, list[Ailment]]:
    """Start an arm, multiply, and train one step.

    Args:
        sessions: starts its process.
        arm: the arm.
        device: where.
        threads: CPU threads.
        python: its interpreter, for the advice.

    Returns:
        framework and version, empty where it does not start; and what is wrong.
    """
    recipe = merged(preset("tiny"), {"train": {"batch_size": BATCH}}, "doctor")
    found = ""
    try:
        runs = arm.spelled_out(device)
    except UsageError as error:
        return found, [Ailment(arm.name, str(error).removeprefix(f"{arm.name}: "))]
    try:
        with sessions.folder("doctor") as folder, \
                opened(sessions, arm, device, threads, folder, runs.name) as (session, created):
            found = f"{created.info['framework']} {created.info['version']}"
            ill = list(_fallen_back(runs, device, created.info))
            session.ask(timing.Matmul(n=PRODUCT, repeats=1), SLOW_LIMIT_S)
            images = folder / "images.npy"
            np.save(images, np.random.default_rng(0).integers(0, 256, (IMAGES, 32, 32, 3), np.uint8))
            session.ask(life.Build(experiment=recipe.model_dump(mode="json"), data_path=str(images), images=IMAGES),
                        SLOW_LIMIT_S)
            session.ask(timing.Stepwise(steps=1), SLOW_LIMIT_S)
            (loss,) = session.ask(training.ReadLosses(), SLOW_LIMIT_S).losses
    except WorkerFailedError as error:
        return found, [Ailment(arm.name, shown(error.message.removeprefix(f"{arm.name}: ")) + _advice(error, python))]
    if not (math.isfinite(loss) and PLAUSIBLE[0] < loss < PLAUSIBLE[1]):
        ill.append(Ailment(arm.name, tell("its first training step loses {loss}, where 1 is right",
                                          loss=f"{loss:.3g}") + _again(python)))
    return found, ill


def _fallen_back(arm: Arm, device: Device, info: dict[str, Any]) -> Iterator[Ailment]:
    """What runs, but not as it was asked for, which no error tells of."""
    if info["device"] != device:
        yield Ailment(arm.name, tell("it runs on {found} instead of {device}: see docs/gpu.md", found=info["device"],
                                     device=device))
    if device == "cpu" and info["flags"].get("mkldnn") == "False":
        yield Ailment(arm.name, tell("its convolutions run without oneDNN, about 20 times slower: unset use_mkl"))


def _advice(error: WorkerFailedError, python: str) -> str:
    """What mends a failure that does not say so itself."""
    known = cause([error.message])
    if error.cause == "usage" or (known is not None and known.advice in error.message):
        return ""
    return (tell(": end other programs (free -h tells what is left)") if error.cause == "memory" else
            _again(python))


def _again(python: str) -> str:
    return tell(": {python} -m pip install --force-reinstall -c {constraints} -e {root}", python=python, root=ROOT,
                constraints=ROOT / "constraints.txt")
