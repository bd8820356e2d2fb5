"""The numbers that tell a format apart go through each framework unharmed, and show what an arm really computes in."""

from __future__ import annotations

from importlib import import_module

import pytest

from impls.errors import UnavailableError
from impls.recipe.precision import Measured

HALF = {"pytorch": ("fp16", "bf16"), "jittor": ("amp",)}
DTYPES = {"fp16": "float16", "bf16": "bfloat16", "amp": "float16"}


def measured(fw, *options: str) -> Measured:
    if fw.name == "pytorch":
        return fw.precision.measured(import_module("torch").device("cpu"), options, fw.ops.STOCK)
    return fw.precision.measured(options, fw.ops.HALF if options else fw.ops.STOCK)


def test_products_and_convolutions_of_the_cpu_are_float32(fw):
    assert measured(fw) == Measured("float32", "float32")


def test_half_precision_is_proven_by_the_arms_own_layers(fw, monkeypatch):
    # Jittor's loops for float16 on the CPU are plain ones.
    for name, size in (("SIDE", 32), ("BATCH", 2), ("CHANNELS", 8), ("PIXELS", 8)):
        monkeypatch.setattr(fw.precision, name, size)
    for option in HALF[fw.name]:
        found = measured(fw, option)
        assert found == Measured(DTYPES[option], DTYPES[option]) and found.dtype == DTYPES[option]
        found.require((option,))
        # Layers that stay in float32 are no half precision, whatever the arm is called.
        with monkeypatch.context() as patch:
            patch.setattr(fw.precision, "as_run", lambda layer, *_: layer)
            plain = measured(fw, option)
        assert plain.convolutions == "float32"
        with pytest.raises(UnavailableError, match=f"option {option}: .* convolutions in float32 here: leave the opt"):
            plain.require((option,))


def test_half_precision_with_tf32_adds_up_as_without(fw, monkeypatch):
    if fw.name != "jittor":
        pytest.skip("one switch of Jittor is both TF32 in products of float32 and float16 sums in products of float16")
    import jittor as jt

    monkeypatch.setattr(fw.backend, "require_available", lambda options, device: None)
    monkeypatch.setattr(fw.backend, "measured", lambda options, device, operators: None)
    try:
        found = {}
        for options in ((), ("tf32",), ("amp",), ("amp", "tf32")):
            fw.backend.create(options, "cpu", 1)
            found[options] = jt.flags.use_tensorcore
    finally:
        jt.flags.use_tensorcore = 0
    assert found == {(): 0, ("tf32",): 1, ("amp",): 0, ("amp", "tf32"): 0}
