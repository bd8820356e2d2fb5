"""Feature networks by name, known without importing torch; outside packages join by entry points."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from impls.errors import UsageError
from impls.plugins import offered
from messages import tell

ENTRY_POINT_GROUP = "ddpm_bench.features"
Floats = NDArray[np.float32]
INCEPTION, EFFICIENTNET = "inception-v3-compat", "efficientnet-lite0"


@dataclass(frozen=True)
class FeatureSpec:
    """What is known of a feature network without importing it.

    Attributes:
        name: what `--features` calls it.
        module: module to import; it has `create(spec, request) -> FeatureNetwork`.
        feature_size: features of one image.
        input_size: side in pixels that the network sees, whatever the images' own.
        inception_score: whether it also gives the logits over which the Inception Score is defined.
    """

    name: str
    module: str
    feature_size: int
    input_size: int
    inception_score: bool = False


@dataclass(frozen=True)
class WeightsRequest:
    """Which weights a network should have.

    Attributes:
        path: their file; None for the network's own search.
        sha256: hash that this file must have, in place of the published one; None for the published one.
        say: told about a download.
    """

    path: Path | None = None
    sha256: str | None = None
    say: Callable[[str], None] = print


@dataclass(frozen=True)
class FeatureNetwork:
    """A feature network with its weights.

    Attributes:
        spec: its description.
        label: what the Fréchet distance over it is called.
        weights_sha256: SHA-256 of its weights' file.
        network: torch module, in evaluation mode: uint8 (N, 3, H, W) -> (features (N, feature_size),), and after them
            the logits where the specification promises them; float32.
    """

    spec: FeatureSpec
    label: str
    weights_sha256: str
    network: Any


@dataclass(frozen=True)
class Extracted:
    """What a network says of images.

    Attributes:
        features: (N, feature_size).
        logits: (N, classes), where the network gives them.
        images_per_s: how fast it was, everything included.
    """

    features: Floats
    logits: Floats | None
    images_per_s: float


BUILT_IN: tuple[FeatureSpec, ...] = (
    FeatureSpec(INCEPTION, "impls.evaluation.networks.inception", feature_size=2048, input_size=299,
                inception_score=True),
    FeatureSpec(EFFICIENTNET, "impls.evaluation.networks.efficientnet", feature_size=1280, input_size=96),
)


def specs() -> dict[str, FeatureSpec]:
    """Every known feature network by name: the built-in ones, then those of the group `ddpm_bench.features`.

    An entry point names a `FeatureSpec`.

    Raises:
        UsageError: an entry point cannot be loaded, or names something else or a name that is taken.
    """
    known = {spec.name: spec for spec in BUILT_IN}
    for spec, where in offered(ENTRY_POINT_GROUP):
        if not isinstance(spec, FeatureSpec) or spec.name in {*known, "auto"}:
            raise UsageError(tell("{where}: expected a FeatureSpec with a name of its own", where=where))
        known[spec.name] = spec
    return known


def find(name: str) -> FeatureSpec:
    """The feature network of this name.

    Raises:
        UsageError: there is none.
    """
    known = specs()
    if name not in known:
        raise UsageError(tell("--features {name}: unknown: choose auto or one of {known}", name=name,
                              known=", ".join(known)))
    return known[name]


def create(spec: FeatureSpec, request: WeightsRequest) -> FeatureNetwork:
    """Import the network and load its weights.

    Raises:
        UsageError: its package or its weights are missing, or the weights are not what they should be.
    """
    try:
        module = import_module(spec.module)
    except ImportError as error:
        raise UsageError(tell("--features {name}: {module} cannot be imported ({error}): install its package",
                              name=spec.name, module=spec.module, error=error)) from error
    network: FeatureNetwork = module.create(spec, request)
    return network
