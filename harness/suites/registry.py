"""The suites by name, each with the parts that it does one after another; outside packages join by entry points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points

from harness.part import Part
from harness.suites.parity.part import Parity
from harness.suites.quality.part import Quality
from harness.suites.sampling.part import Sampling
from harness.suites.training import GatedTraining, Training
from impls.errors import UsageError

ENTRY_POINT_GROUP = "ddpm_bench.suites"


@dataclass(frozen=True)
class Suite:
    """One entry of `--suite`.

    Attributes:
        name: as on the command line.
        parts: what is done one after another, each with a plan of its own.
        summary: one line for people.
    """

    name: str
    parts: tuple[type[Part], ...]
    summary: str

    @property
    def samples(self) -> bool:
        """Whether images are drawn."""
        return any(part.needs.weights for part in self.parts)

    def takes(self, option: str) -> bool:
        """Whether one of its parts knows an option that belongs to some suites only."""
        return any(option in part.takes for part in self.parts)


BUILT_IN: tuple[Suite, ...] = (
    Suite("train-speed", (Training,), "alternating step times, epochs, memory, cold start; parity as a gate"),
    Suite("sample-speed", (Sampling,), "alternating whole batches of DDIM and DDPM samples; equal images as a gate"),
    Suite("quality", (Quality,), "FID and its companions of every sampler setting, from given weights or after a "
                                 "training"),
    Suite("parity", (Parity,), "the same weights, batches and noise through every arm: outputs, gradients, steps"),
    Suite("all", (GatedTraining, Sampling, Quality), "parity, train-speed, sample-speed and quality in one report"),
)


def suites() -> dict[str, Suite]:
    """Every known suite by name: the built-in ones, then those of the entry-point group `ddpm_bench.suites`.

    An entry point names a module whose `SUITES` are entries like those here.

    Raises:
        UsageError: it names something else, or a suite that there is already.
    """
    known = {suite.name: suite for suite in BUILT_IN}
    for point in entry_points(group=ENTRY_POINT_GROUP):
        for suite in getattr(point.load(), "SUITES", (None,)):
            if not isinstance(suite, Suite) or suite.name in known:
                raise UsageError(f"entry point {point.name!r} ({point.value}): expected a module with SUITES, each a "
                                 "Suite with a name of its own")
            known[suite.name] = suite
    return known


SUITES: Mapping[str, Suite] = suites()
