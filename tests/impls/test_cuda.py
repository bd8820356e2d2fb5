"""What only a GPU can show: numbers, formats, seeds and a training of each arm, each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from impls.devices import cuda_driver_fault

pytestmark = [pytest.mark.gpu, pytest.mark.slow,
              pytest.mark.skipif(cuda_driver_fault() is not None, reason=f"no GPU: {cuda_driver_fault()}")]
ROOT = Path(__file__).parents[2]
START = """
import json, sys
import numpy as np
from impls.recipe.config import preset
from impls.registry import parse_arm
backend = parse_arm(sys.argv[1]).create("cuda", 2)
base = preset("tiny")
train = base.train.model_copy(update={"batch_size": 4, "randomness": "matched", "warmup_steps": 0})
config = base.model_copy(update={"train": train})
images = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), dtype=np.uint8)
"""
TRAIN = START + """
trainer = backend.trainer(config, images)
for _ in range(3):
    trainer.step()
trainer.synchronize()
info = {**vars(backend.info), "flags": dict(backend.info.flags)}
scale = trainer.loss_scale()
print(json.dumps({"info": info, "losses": trainer.losses(), "scale": scale and scale.model_dump()}, default=str))
"""
DRAW = START + """
from importlib import import_module
data = import_module(f"impls.{sys.argv[1]}.data")
if sys.argv[1] == "jittor":
    import jittor
    draw = lambda: jittor.randn(1001).numpy()
else:
    import torch
    draw = lambda: torch.randn(1001, device="cuda").cpu().numpy()
drawn = []
for seed in (1, 1, 2):
    data.start_generator(seed)
    drawn.append(draw().tobytes().hex())
print(json.dumps(drawn))
"""
TRANSPOSE = START + """
import jittor as jt
from impls.jittor.ops import transpose
x = np.random.default_rng(1).standard_normal((3, 5, 7)).astype(np.float32)
weight = np.random.default_rng(2).standard_normal((3, 7, 5)).astype(np.float32)
v = jt.array(x)
y = transpose(v)
grad = jt.grad((y * jt.array(weight)).sum(), v)
print(json.dumps([bool((y.numpy() == x.transpose(0, 2, 1)).all()),
                  bool(np.allclose(grad.numpy(), weight.transpose(0, 2, 1)))]))
"""


def answer(program: str, arm: str) -> object:
    done = subprocess.run([sys.executable, "-c", program, arm], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


SCALE = START + """
from impls.recipe.scaling import LossScale
from dataclasses import replace
trainer = backend.trainer(config, images)
start = trainer.state()
# No gradient in float16 stands this.
trainer.load_state(replace(start, loss_scale=LossScale(scale=2.0**40)))
seen = []
for _ in range(40):
    trainer.step()
    seen.append(trainer.loss_scale().model_dump())
first = next(i for i, one in enumerate(seen) if one["good_steps"])
one = backend.trainer(config, images)
one.load_state(replace(start, loss_scale=LossScale(scale=2.0**40)))
one.step()
left = one.state()
same = all(np.array_equal(left.params[name], array) for name, array in start.params.items())
same &= all(np.array_equal(left.ema[name], array) for name, array in start.ema.items())
same &= not any(array.any() for array in left.exp_avg.values())
state = trainer.state()
print(json.dumps({"seen": seen, "first": first, "same": bool(same), "step": state.step,
                  "scale": state.loss_scale.model_dump(), "losses": trainer.losses()}))
"""


@pytest.mark.parametrize(("arm", "products", "dtype"), [
    ("pytorch", "float32", "float32"), ("pytorch:tf32", "tf32", "float32"), ("pytorch:bf16", "bfloat16", "bfloat16"),
    ("pytorch:fp16", "float16", "float16"), ("jittor", "float32", "float32"), ("jittor:tf32", "tf32", "float32"),
    ("jittor:amp", "float16", "float16")])
def test_an_arm_trains_and_tells_what_it_computes_in(arm, products, dtype):
    told = answer(TRAIN, arm)
    info, flags = told["info"], told["info"]["flags"]
    assert (flags["products"], info["dtype"], info["tf32"]) == (products, dtype, products == "tf32")
    if products != "tf32":
        assert flags["convolutions"] == products
    assert all(0.5 < loss < 2 for loss in told["losses"]) and len(told["losses"]) == 3
    assert (told["scale"] is not None) == (dtype == "float16")
    if told["scale"]:
        assert told["scale"]["scale"] == 65536 / 2 ** told["scale"]["skipped"]


@pytest.mark.parametrize("arm", ["pytorch:fp16", "jittor:amp"])
def test_steps_that_overflow_are_left_out_on_the_device(arm):
    told = answer(SCALE, arm)
    assert told["same"] and told["first"] > 0 and told["step"] == 40
    for number, one in enumerate(told["seen"][:told["first"]], start=1):
        assert one == {"scale": 2.0 ** (40 - number), "good_steps": 0, "skipped": number}
    end = told["scale"]
    assert end["scale"] == 2.0 ** (40 - end["skipped"]) and end["good_steps"] > 0
    assert all(0.2 < loss < 2 for loss in told["losses"])


@pytest.mark.parametrize("framework", ["pytorch", "jittor"])
def test_a_seed_names_the_whole_sequence(framework):
    first, again, other = answer(DRAW, framework)
    assert first == again != other


def test_jittor_transposes_by_a_kernel_and_so_does_the_gradient():
    assert answer(TRANSPOSE, "jittor") == [True, True]
