"""Jittor's arms on the device "cuda" without a GPU: every kernel is compiled and launched, nothing is computed.

Run on the stand-in by test_jittor.py, as `python jittor_path.py ARM`; prints what it found as JSON.
"""

from __future__ import annotations

import ctypes
import json
import sys
from pathlib import Path
from unittest.mock import patch

import numpy as np

from impls.errors import UnavailableError
from impls.jittor import runtime
from impls.recipe.config import ExperimentConfig, preset
from impls.recipe.precision import Measured
from impls.registry import parse_arm

IMAGES = np.zeros((16, 32, 32, 3), np.uint8)


def config(randomness: str) -> ExperimentConfig:
    base = preset("tiny")
    return base.model_copy(update={
        "train": base.train.model_copy(update={"batch_size": 4, "randomness": randomness}),
        "sample": base.sample.model_copy(update={"batch_size": 2, "randomness": randomness})})


def called() -> dict:
    """What the stand-in was asked for so far."""
    told = ctypes.create_string_buffer(1 << 16)
    ctypes.CDLL("libcuda.so.1").stand_in_told(told, len(told))
    return json.loads(told.value)


def train(backend, randomness: str) -> None:
    made = backend.trainer(config(randomness), IMAGES)
    # The second step has moments and averages to go on from.
    for _ in range(2):
        made.step()
        made.synchronize()
    made.losses()
    made.load_state(made.state())
    if randomness == "matched":
        made.gradients()
        made.predict(np.zeros((2, 3, 32, 32), np.float32), np.array([1, 2]))
    made.close()


def sample(backend, randomness: str) -> None:
    made = backend.sampler(config(randomness))
    for method, steps, eta in (("ddim", 2, 0.0), ("ddim", 2, 1.0), ("ddpm", None, 0.0)):
        for calls, x in enumerate(made.chain(2, 1, method, steps, eta, "uniform"), start=1):
            if calls == 2:
                assert tuple(x.shape) == (2, 3, 32, 32) and made.to_host(x).dtype == np.float32
                break
    made.close()


def main(name: str) -> None:
    arm = parse_arm(name)
    try:
        arm.create("cuda", 1)
        refused = "nothing"
    except UnavailableError as error:
        refused = str(error)
    from impls.jittor import precision

    before = called()["calls"]
    with patch.object(precision, "measured", lambda *_: Measured(arm.precision, arm.precision)):
        backend = arm.create("cuda", 1)
    for randomness in ("matched", "native"):
        train(backend, randomness)
        sample(backend, randomness)
    told = called()
    told["calls"] = {what: times - before.get(what, 0) for what, times in told["calls"].items()}
    import jittor

    libraries = sorted(str(path) for path in Path(jittor.flags.cache_path).glob("**/*.so"))
    print(json.dumps({"refused": refused, "info": {**backend.info.flags}, "compiled": runtime.compiled_files(),
                      "libraries": libraries, "told": told}))


if __name__ == "__main__":
    main(sys.argv[1])
