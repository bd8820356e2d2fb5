"""How far two arms that compute the same may be apart, by the coarsest number format that either of them computes in.

float32: what two frameworks' summation orders were seen to give, with room. The others: four times the largest error
of a network whose convolutions and products round their inputs to the format's bits, forward and backward, against the
same network in float32 (`tests/frameworks/coarse.py`; the figures are in docs/method.md). Twice, because both arms
round and the errors may be opposite; twice again for other weights and images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from impls.recipe.precision import Precision


@dataclass(frozen=True)
class Tolerances:
    """The most that is allowed.

    Attributes:
        forward: of the largest absolute difference of the network's outputs.
        gradient: of the worst difference of a gradient, relative to its tensor's largest.
        adam: of the largest absolute difference of a weight after one step of Adam.
        loss_tiny: of the relative difference of matched losses in the preset `tiny`.
        loss: the same in larger networks.
    """

    forward: float
    gradient: float
    adam: float
    loss_tiny: float
    loss: float

    def of(self, preset: str) -> dict[str, float]:
        """Those of a preset, by the name under which they are recorded."""
        return {"forward": self.forward, "gradient": self.gradient, "adam": self.adam,
                "loss": self.loss_tiny if preset == "tiny" else self.loss}


TOLERANCES: Mapping[Precision, Tolerances] = {
    "float32": Tolerances(forward=2e-5, gradient=1e-4, adam=1e-6, loss_tiny=1e-4, loss=5e-3),
    "tf32": Tolerances(forward=3e-3, gradient=6e-2, adam=1e-6, loss_tiny=1e-3, loss=1e-2),
    "float16": Tolerances(forward=3e-3, gradient=2e-1, adam=1e-6, loss_tiny=1e-3, loss=1e-2),
    "bfloat16": Tolerances(forward=3e-2, gradient=5e-1, adam=1e-6, loss_tiny=5e-2, loss=5e-2),
}
