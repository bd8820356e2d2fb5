"""The suites by name, each with the parts that it does one after another; outside packages join by entry points."""

from __future__ import annotations

from collections.abc import Mapping

from harness.part import Suite
from harness.record.plugins import offered
from harness.suites.align.part import Align
from harness.suites.inference import Inference
from harness.suites.parity.part import Parity
from harness.suites.quality.part import Quality
from harness.suites.sampling.part import Sampling
from harness.suites.scaling.part import Scaling
from harness.suites.training import GatedTraining, Training
from harness.suites.why.part import GatedWhy, Why
from impls.errors import UsageError
from messages import marked, tell

BUILT_IN: tuple[Suite, ...] = (
    Suite("train-speed", (Training,), marked("alternating step times, epochs, memory, cold start; parity as a gate")),
    Suite("infer-speed", (Inference,), marked(
        "with --pair: alternating forward passes without gradients of your own models; parity as a gate")),
    Suite("sample-speed", (Sampling,), marked(
        "alternating whole batches of DDIM and DDPM samples; equal images as a gate")),
    Suite("quality", (Quality,), marked(
        "FID and its companions of every sampler setting, from given weights or after a training")),
    Suite("why", (Why,), marked(
        "where the gap between two arms comes from: phases of a step, loader, waiting; four guesses")),
    Suite("parity", (Parity,), marked(
        "the same weights, batches and noise through every arm: outputs, gradients, steps")),
    Suite("align", (Align,), marked(
        "every layer side by side, forward, backward and in training: the first that differs")),
    Suite("scaling", (Scaling,), marked(
        "with --ranks N: what 1, 2, 4, ... N ranks bring, the batch shared or grown; equal losses as a gate")),
    Suite("all", (GatedTraining, GatedWhy, Sampling, Quality),
          marked("parity, train-speed, why, sample-speed and quality in one report")),
)


def suites() -> dict[str, Suite]:
    """Every known suite by name: the built-in ones, then the `SUITES` of installed packages.

    Raises:
        UsageError: what a package offers is no suite with a name of its own.
    """
    known = {suite.name: suite for suite in BUILT_IN}
    for suite, where in offered("SUITES"):
        if not isinstance(suite, Suite) or suite.name in known:
            raise UsageError(tell("{where}: each of its SUITES must be a Suite with a name of its own", where=where))
        known[suite.name] = suite
    return known


SUITES: Mapping[str, Suite] = suites()
