"""What of the network can be timed alone: its operators as an arm calls them, alike ones once, with cost and number."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from impls.recipe.config import ModelConfig
from impls.recipe.operators import Operator, Shape
from impls.recipe.operators import operators as listed

OperatorClass = Literal["attention", "norm", "convolution", "linear", "other"]
Isolable = Literal["attention", "group_norm", "group_norm_silu", "conv2d", "conv_transpose2d", "linear", "silu", "add",
                   "multiply", "dropout", "concat", "upsample", "pad"]

CLASSES: dict[str, OperatorClass] = {
    "attention": "attention", "group_norm": "norm", "group_norm_silu": "norm", "conv2d": "convolution",
    "conv_transpose2d": "convolution", "linear": "linear"}
# Beside them: a sum of large arrays, which shows what memory can do.
COPY = "copy"
# Operations on a value by the formula, an exponential and a root as one each: where a roofline puts what memory bounds.
GROUP_NORM, SILU = 8, 4
PER_VALUE = {"group_norm": GROUP_NORM, "group_norm_silu": GROUP_NORM + SILU, "silu": SILU, "add": 1, "multiply": 1,
             "dropout": 2}
# Their backward pass needs nothing that the forward pass read.
FORGETFUL = frozenset({"add", "concat", "upsample", "pad"})


class Spec(BaseModel):
    """One operator, for one image: no shape counts the batch.

    `attention` is all between the projections: splitting into heads, both products, the softmax, joining.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Isolable
    inputs: tuple[Shape, ...] = Field(description="what it reads, its weights left out")
    output: Shape
    weight: Shape | None = Field(None, description="beside which stands a bias of one value a channel")
    groups: int = Field(0, description="of a GroupNorm")
    eps: float = Field(0.0, description="of a GroupNorm")
    heads: int = Field(1, description="of an attention")
    rate: float = Field(0.0, description="of dropout")
    first: bool = Field(False, description="reads what needs no gradient: the images, the timestep's sinusoids")
    flop: int = Field(0, description="2 x multiply-accumulate of a forward pass")

    @property
    def operator_class(self) -> OperatorClass:
        """What it is counted among."""
        return CLASSES.get(self.kind, "other")

    @property
    def stride(self) -> int:
        """Of a convolution."""
        return self.inputs[0][1] // self.output[1]

    @property
    def padding(self) -> int:
        """Zeros on each side of what a convolution reads."""
        assert self.weight is not None, "a convolution has a weight"  # English
        return ((self.output[1] - 1) * self.stride + self.weight[2] - self.inputs[0][1] + 1) // 2

    @property
    def width(self) -> int:
        """Channels of what it writes."""
        return self.output[-1] if len(self.output) == 2 else self.output[0]

    @property
    def config(self) -> ModelConfig:
        """A network's settings, of which a layer takes those that this is about."""
        return ModelConfig(base_channels=self.width, channels=(self.width,), groups=self.groups or 1,
                           group_norm_eps=self.eps or 1e-6, head_channels=self.width // self.heads,
                           attention_layout="linear" if len(self.output) == 2 else "conv")

    def operations(self, batch: int, training: bool) -> int:
        """Floating-point operations: the backward pass costs twice the forward one, half of it for the input."""
        forward = batch * (self.flop or PER_VALUE.get(self.kind, 0) * math.prod(self.output))
        return forward * ((2 if self.first else 3) if training else 1)

    def bytes(self, batch: int, training: bool) -> int:
        """What must be read and written at least, in float32: everything once in each pass that needs it."""
        read = batch * sum(map(math.prod, self.inputs))
        written = batch * math.prod(self.output)
        weights = 0 if self.weight is None else math.prod(self.weight)
        values = read + weights + written
        if training:
            gradients = (0 if self.first else read) + weights
            values += written + gradients + (0 if self.kind in FORGETFUL else read + weights)
        return 4 * values


@dataclass(frozen=True)
class Counted:
    """An operator, and where the network has it.

    Attributes:
        spec: the operator.
        names: in the list of operators, of each time that it runs; where it stands for several, of the first.
        covers: names of all that it stands for.
    """

    spec: Spec
    names: tuple[str, ...]
    covers: tuple[str, ...]


def isolated(config: ModelConfig) -> list[Counted]:
    """Every operator of the network, alike ones once, in the order in which they first run.

    Left out: the timestep's sinusoids, which are a few hundred numbers.
    """
    found: dict[Spec, list[tuple[Operator, ...]]] = {}
    rest = [one for one in listed(config) if one.kind != "sinusoid"]
    while rest:
        size = _together(rest)
        taken, rest = rest[:size], rest[size:]
        found.setdefault(_spec(taken, config), []).append(tuple(taken))
    return [Counted(spec, tuple(taken[0].name for taken in places),
                    tuple(one.name for taken in places for one in taken)) for spec, places in found.items()]


def _together(rest: list[Operator]) -> int:
    """How many of the next operators are one call."""
    if rest[0].kind == "matmul":
        return 3
    return 2 if rest[0].kind == "group_norm" and rest[1].kind == "silu" else 1


def _spec(taken: list[Operator], config: ModelConfig) -> Spec:
    head, last = taken[0], taken[-1]
    shapes = {"inputs": head.inputs, "output": last.output, "weight": head.weight, "flop": sum(o.flop for o in taken)}
    match head.kind:
        case "matmul":
            return _attention(taken, config)
        case "group_norm":
            kind = "group_norm_silu" if last is not head else "group_norm"
            groups = config.middle_groups if head.name == "middle.0.attention.norm" else config.groups
            return Spec(kind=kind, groups=groups or config.groups, eps=config.group_norm_eps, **shapes)
        case "add" | "multiply" if len(head.inputs[1]) == 1:
            # A value for each channel; of a layer that gives scale and shift, each takes its half.
            return Spec.model_validate({**shapes, "kind": head.kind, "inputs": (head.output, head.output[:1])})
        case "dropout":
            return Spec(kind="dropout", rate=config.dropout, **shapes)
        case _:
            return Spec.model_validate({**shapes, "kind": head.kind, "first": head.name in ("time1", "conv_in")})


def _attention(taken: list[Operator], config: ModelConfig) -> Spec:
    pixels, width = taken[-1].output
    heads = 1 if len(taken[0].output) == 2 else taken[0].output[0]
    side = math.isqrt(pixels)
    shape = (pixels, width) if config.attention_layout == "linear" else (width, side, side)
    return Spec(kind="attention", inputs=(shape, shape, shape), output=shape, heads=heads,
                flop=sum(one.flop for one in taken))
