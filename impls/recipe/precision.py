"""Which number format a device computes in, told by values that coarser formats cannot hold.

float32 keeps 23 bits behind the leading one, TF32 and float16 10, bfloat16 7; float16 has no numbers near 2^-26.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from impls.errors import UnavailableError, cause
from messages import marked, tell

Precision = Literal["float32", "tf32", "float16", "bfloat16"]
# A bit that only float32 has; one that bfloat16 has not; a size that float16 has not.
FINE, COARSE, SMALL = 1 + 2.0**-12, 1 + 2.0**-9, 2.0**-26
# Half of what is lost where the bit is lost; for the size, anything that is still a number.
TOLERANCES = {FINE: 2.0**-13, COARSE: 2.0**-10, SMALL: 0.5}
FORMATS: dict[tuple[bool, bool, bool], Precision] = {
    (True, True, True): "float32", (False, True, True): "tf32",
    (False, True, False): "float16", (False, False, True): "bfloat16"}
ADVICE = marked("check the driver and the CUDA libraries, or choose --device cpu")
# From the finest to the coarsest.
ORDER: tuple[Precision, ...] = ("float32", "tf32", "float16", "bfloat16")
# What a pair of arms of one format compares.
WORDS: dict[Precision, str] = {
    "float32": marked("strict float32"), "tf32": "TF32", "float16": "float16", "bfloat16": "bfloat16"}
# Options of arms whose network computes in half precision.
HALVES: dict[str, Precision] = {"bf16": "bfloat16", "fp16": "float16", "amp": "float16"}


def half(options: Collection[str]) -> Precision | None:
    """The half precision that an arm's options ask for; None where they ask for none."""
    return next((HALVES[option] for option in options if option in HALVES), None)


@dataclass(frozen=True)
class Measured:
    """The coarsest format that was seen in each kind of operation.

    Attributes:
        products: matrix products, where the network is in half precision those of attention too.
        convolutions: convolutions, forward and backward.
    """

    products: Precision
    convolutions: Precision

    @property
    def tf32(self) -> bool:
        """Whether anything was computed in TF32."""
        return "tf32" in (self.products, self.convolutions)

    @property
    def dtype(self) -> str:
        """The numbers that the network computes with; TF32 is a way of computing with float32."""
        return "float32" if self.products == "tf32" else self.products

    def require(self, options: Collection[str]) -> None:
        """Make sure that this is what the options ask for.

        Raises:
            UnavailableError: another format, or another in products than in convolutions.
        """
        wanted, found = half(options), {self.products, self.convolutions}
        if wanted is None and "tf32" in options and self.products != "tf32":
            raise UnavailableError(tell("option tf32: this GPU computes float32 products exactly: leave the option "
                                        "out"))
        if found - ({"float32", "tf32"} if wanted is None else {wanted}):
            option = next((option for option in options if option in HALVES), None)
            raise UnavailableError(
                tell("option {option}: products are computed in {products} and convolutions in {convolutions} here: "
                     "leave the option out", option=option, products=self.products, convolutions=self.convolutions)
                if option else
                tell("an arm in float32: products are computed in {products} and convolutions in {convolutions} here: "
                     "check what the environment asks CUDA for", products=self.products,
                     convolutions=self.convolutions))


def recognise(compute: Callable[[float], Sequence[float]], what: str) -> Precision:
    """The coarsest format of what an operation takes in.

    Args:
        compute: the operation on `value`, an identity, so that each of its results is `value` in exact arithmetic: no
            sum is in it whose own format would show instead.
        what: the operation, for the message.

    Raises:
        UnavailableError: what came back fits no format, or nothing came back: the device does not compute.
    """
    try:
        errors = [[result / value - 1 for result in compute(value)] for value in TOLERANCES]
    except RuntimeError as error:
        # What frameworks raise for a library or kernel that does not start.
        lines = (str(error) or repr(error)).splitlines()
        why = cause(lines)
        raise UnavailableError(
            tell("{what} fail on this device ({fault}): {advice}", what=tell(what), fault=lines[0][:200],
                 advice=tell(why.advice if why else ADVICE))) from error
    return coarsest(*(_format(of_one, what) for of_one in zip(*errors, strict=True)))


def _format(errors: Sequence[float], what: str) -> Precision:
    """The format of one result, from its relative error for each value of `TOLERANCES`."""
    kept = tuple(abs(error) < tolerance for error, tolerance in zip(errors, TOLERANCES.values(), strict=True))
    found = FORMATS.get(kept)  # type: ignore[arg-type]
    if found is None:
        wrong = ", ".join(f"{error:+.1e}" for error in errors)
        raise UnavailableError(tell("{what} give wrong numbers on this device (relative errors {errors}): {advice}",
                                    what=tell(what), errors=wrong, advice=tell(ADVICE)))
    return found


def coarsest(*found: Precision) -> Precision:
    """The one that limits the others."""
    return max(found, key=ORDER.index)
