"""Formats are told apart by what they cannot hold; a device that does not compute is noticed."""

import math

import numpy as np
import pytest

from impls.errors import UnavailableError
from impls.recipe.precision import Measured, coarsest, half, recognise


def rounded(value: float, bits: int) -> float:
    """To nearest, with `bits` behind the leading one."""
    mantissa, exponent = math.frexp(value)
    return math.ldexp(round(mantissa * 2 ** (bits + 1)) / 2 ** (bits + 1), exponent)


def product(through):
    """What a device does that rounds its inputs, with an identity."""
    return lambda value: [float(np.sum(np.float32(through(value)) * np.eye(8, dtype=np.float32)[3]))]


@pytest.mark.parametrize(("through", "found"), [
    (np.float32, "float32"), (lambda v: rounded(v, 10), "tf32"), (np.float16, "float16"),
    (lambda v: rounded(v, 7), "bfloat16"), (lambda v: float(np.float32(v)) * (1 + 2e-6), "float32"),
    # Cut off instead of rounded, as some matrix units do.
    (lambda v: float((np.float32(v).view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)), "tf32")])
def test_formats_are_recognised_by_their_rounding(through, found):
    assert recognise(product(through), "products") == found


@pytest.mark.parametrize("through", [lambda v: 0.0, lambda v: 2 * v, lambda v: math.nan, lambda v: 1.0])
def test_a_device_that_computes_nothing_is_refused(through):
    with pytest.raises(UnavailableError, match="^products give wrong numbers on this device"):
        recognise(product(through), "products")


@pytest.mark.parametrize(("error", "told", "advice"), [
    (RuntimeError("CUDA error: no kernel image\nand pages more"), "CUDA error: no kernel image", "check the driver"),
    (RuntimeError(), r"RuntimeError\(\)", "check the driver"),
    # Nothing is wrong with the driver of a GPU that others fill.
    (RuntimeError("CUDA out of memory. Tried to allocate.\nmore"), r"CUDA out of memory\. Tried to allocate\.",
     "choose a smaller batch, or end what else holds the memory$")])
def test_a_library_that_does_not_start_is_one_line(error, told, advice):
    def compute(value):
        raise error

    with pytest.raises(UnavailableError, match=rf"^products fail on this device \({told}\): {advice}") as refused:
        recognise(compute, "products")
    assert "\n" not in str(refused.value)


def test_the_coarsest_of_several_counts():
    one, other = product(np.float32), product(lambda v: rounded(v, 10))
    assert recognise(lambda value: [*one(value), *other(value), *one(value)], "convolutions") == "tf32"
    with pytest.raises(UnavailableError, match=r"^convolutions give wrong numbers .*\(relative errors -1"):
        recognise(lambda value: [*one(value), 0.0], "convolutions")
    assert coarsest("float32", "tf32", "float32") == "tf32"
    assert coarsest("float32", "float32") == "float32"


@pytest.mark.parametrize(("options", "products", "convolutions", "dtype"), [
    ((), "float32", "float32", "float32"), (("tf32",), "tf32", "tf32", "float32"), ((), "float32", "tf32", "float32"),
    (("bf16", "tf32"), "bfloat16", "bfloat16", "bfloat16"), (("compile", "fp16"), "float16", "float16", "float16"),
    (("amp",), "float16", "float16", "float16")])
def test_the_number_type_is_what_was_seen(options, products, convolutions, dtype):
    found = Measured(products, convolutions)
    found.require(options)
    assert found.dtype == dtype and found.tf32 == ("tf32" in (products, convolutions))
    assert (half(options) or "float32") == dtype


@pytest.mark.parametrize(("options", "products", "convolutions", "line"), [
    (("tf32",), "float32", "tf32", "option tf32: this GPU computes float32 products exactly: leave the option out"),
    (("amp",), "float16", "tf32",
     "option amp: products are computed in float16 and convolutions in tf32 here: leave the option out"),
    (("fp16",), "bfloat16", "bfloat16",
     "option fp16: products are computed in bfloat16 and convolutions in bfloat16 here: leave the option out"),
    ((), "float16", "float32", "an arm in float32: products are computed in float16 and convolutions in float32 here: "
     "check what the environment asks CUDA for")])
def test_another_format_than_asked_for_is_refused(options, products, convolutions, line):
    with pytest.raises(UnavailableError) as caught:
        Measured(products, convolutions).require(options)
    assert str(caught.value) == line
