"""PyTorch's arms on the device "cuda" without a GPU: shapes, types and devices of every operator, and no numbers.

Run on the stand-in by test_pytorch.py, as `python pytorch_path.py`; prints what it found as JSON.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from itertools import combinations, islice
from unittest.mock import patch

import numpy as np
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from impls.errors import UnavailableError, UsageError
from impls.pytorch import data, diffusion, precision, trainer
from impls.recipe.config import ExperimentConfig, preset, validated
from impls.recipe.precision import Measured, half
from impls.registry import BUILT_IN, parse_arm

SPEC = next(spec for spec in BUILT_IN if spec.name == "pytorch")
# Compiled code would need the numbers.
OPTIONS = sorted(set(SPEC.options) - {"autotune", "compile", "freeze"})
IMAGES = np.zeros((16, 8, 8, 3), np.uint8)


def arms() -> list[str]:
    """Every set of options that an arm may have; `tf32`, two switches of the libraries, alone."""
    names = []
    for size in range(len(OPTIONS) + 1):
        for chosen in combinations(OPTIONS, size):
            try:
                names.append(parse_arm("pytorch" + (":" + "+".join(chosen) if chosen else "")).name)
            except UsageError:
                # Options that exclude one another.
                continue
    return [name for name in names if "tf32" not in name or "+" not in name]


def small(randomness: str) -> ExperimentConfig:
    """Every kind of block once: two levels, attention, dropout."""
    base = preset("tiny")
    model = base.model.model_copy(update={
        "channels": (32, 64), "base_channels": 32, "blocks_per_level": 1, "image_size": 8,
        "attention_resolutions": (4,), "attention_layout": "linear"})
    train = base.train.model_copy(update={"batch_size": 4, "randomness": randomness})
    sample = base.sample.model_copy(update={"batch_size": 2, "randomness": randomness})
    return validated(base.model_copy(update={"model": model, "train": train, "sample": sample}).model_dump(), "here")


def train(backend, config: ExperimentConfig) -> list[str]:
    """A training step, a second one for the plain arm; what is not on the device afterwards."""
    steps = 1 if backend.options or config.train.randomness == "matched" else 2
    with FakeTensorMode(allow_non_fake_inputs=True):
        made = backend.trainer(config, IMAGES)
        for _ in range(steps):
            made.step()
        params, adam = made.network.params, made.optimizer
        held = {"loss": made.unread_losses[-1], **params,
                **{f"average of {name}": value for name, value in adam.ema.items()},
                **{f"{what} {index}": value for index, state in enumerate(adam.optimizer.state.values())
                   for what, value in state.items()}}
        if adam.scaler:
            held |= {"loss scale": adam.scaler._scale, "good steps": adam.scaler._growth_tracker,
                     "skipped steps": adam.skipped}
        made.close()
    assert len(held) == 1 + 5 * len(params) + (3 if adam.scaler else 0), (
        "weights, averages, Adam's two moments and count of steps, and what scales a loss")
    return [name for name, tensor in held.items() if tensor.device.type != "cuda"]


def sample(backend, config: ExperimentConfig) -> list[str]:
    """The first steps of DDIM without and with noise, and of DDPM; what is not on the device."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        made = backend.sampler(config)
        found = {}
        for method, steps, eta in (("ddim", 2, 0.0), ("ddim", 2, 1.0), ("ddpm", None, 0.0)):
            chain = made.chain(2, 1, method, steps, eta, "uniform")
            # The second step goes on from what the first one made.
            found[f"{method} {eta}"] = list(islice(chain, 2 if method == "ddpm" else 1))[-1]
        made.close()
    assert all(tuple(x.shape) == (2, 3, 8, 8) and x.dtype == torch.float32 for x in found.values())
    return [name for name, x in found.items() if x.device.type != "cuda"]


def outcome(run, backend, config: ExperimentConfig) -> str:
    try:
        wrong = run(backend, config)
    except Exception as error:  # whatever an operator says of what it is given
        return f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"
    return f"not on the device: {', '.join(wrong[:4])}" if wrong else "ok"


def create(arm: str, known: Measured | None = None):
    """The arm's backend; its probe of numbers answers `known`, or speaks for itself."""
    with ExitStack() as stack:
        if known:
            stack.enter_context(patch.object(precision, "measured", lambda *_: known))
        return parse_arm(arm).create("cuda", 1)


def pinned(self, *_args, **_kwargs):
    return self


def moved(self, *args, **kwargs):
    """Module.to without the exchange of a tensor's inside, which fake ones do not allow."""
    for module in self.modules():
        for name, p in module._parameters.items():
            if p is not None:
                shape = {} if p.dim() == 4 else {"memory_format": torch.preserve_format}
                module._parameters[name] = torch.nn.Parameter(p.detach().to(*args, **{**kwargs, **shape})
                                                              if args or p.dim() == 4 else p.detach(), p.requires_grad)
    return self


def mutants(backend) -> dict[str, str]:
    """The code with a wrong device planted; a check that does not fail here would prove nothing."""
    scales, normal = diffusion.noise_scales, torch.randn

    def on_the_host(schedule, like):
        return scales(schedule, torch.empty(0))

    def drawn_on_the_host(shape, generator, device):
        return normal(shape, generator=None, device="cpu")

    with patch.object(trainer, "noise_scales", on_the_host):
        tables = outcome(train, backend, small("native"))
    with patch.object(data.torch, "randn", drawn_on_the_host):
        noise = outcome(sample, backend, small("native"))
    return {"the schedule's tables stay on the host": tables, "a sampler's noise is drawn on the host": noise}


def main() -> None:
    try:
        create("pytorch")
        refused = "nothing"
    except UnavailableError as error:
        refused = str(error)
    found = {}
    with patch.object(torch.Tensor, "pin_memory", pinned), patch.object(torch.nn.Module, "to", moved):
        names = arms()
        for arm in names:
            format_ = half(parse_arm(arm).options) or ("tf32" if "tf32" in arm else "float32")
            backend = create(arm, Measured(format_, format_))
            # Where numbers are drawn has nothing to do with an arm's options.
            for randomness in ("matched", "native") if arm == names[0] else ("native",):
                for run in (train, sample):
                    found[f"{arm} {run.__name__} {randomness}"] = outcome(run, backend, small(randomness))
        caught = mutants(create(names[0], Measured("float32", "float32")))
    print(json.dumps({"refused": refused, "found": found, "mutants": caught}))


if __name__ == "__main__":
    main()
