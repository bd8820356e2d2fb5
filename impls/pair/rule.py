"""How a pair's weights are moved: the file's `optimizer`, by formulas that are the same in both frameworks."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationError, model_validator

from impls.errors import UsageError
from impls.recipe.config import Frozen, first_fault, unknown_key
from messages import recorded, shown, tell


class Rule(Frozen):
    """One update of the weights by PyTorch's formulas: epsilon outside the bias correction, AdamW's decay apart."""

    name: Literal["Adam", "AdamW", "SGD"] = Field("Adam", description="which formula")
    lr: float = Field(1e-3, gt=0, description="learning rate of every step")
    betas: tuple[float, float] = Field((0.9, 0.999), strict=False, description="Adam, AdamW: decay of the two moments")
    eps: float = Field(1e-8, gt=0, description="Adam, AdamW: added to the root of the second moment")
    weight_decay: float = Field(0.0, ge=0, description="Adam, SGD: added to the gradient; AdamW: taken off the weights")
    momentum: float = Field(0.0, ge=0, lt=1, description="SGD: decay of the gradients' sum")
    nesterov: bool = Field(False, description="SGD: look ahead by one more step of the momentum")
    grad_clip: float | None = Field(None, gt=0, description="global gradient norm, or None")
    ema_decay: float | None = Field(None, gt=0, lt=1, description="decay of averaged weights, or None")

    @model_validator(mode="after")
    def _fits(self) -> Rule:
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(recorded("betas {betas} are not between 0 and 1", betas=self.betas))
        if self.nesterov and not self.momentum:
            raise ValueError(recorded("nesterov needs a momentum"))
        return self


def rule_of(settings: object, where: str) -> Rule:
    """The rule that a pair's file gives; Adam's usual one for None.

    Args:
        settings: the file's `optimizer`.
        where: the file, for the error line.

    Raises:
        UsageError: no dict, an unknown key, or a wrong value.
    """
    if settings is None:
        return Rule()
    if not isinstance(settings, dict):
        raise UsageError(tell("{where}: optimizer: a dict such as {{'name': 'AdamW', 'lr': 0.001}}, got {kind}",
                              where=where, kind=type(settings).__name__))
    try:
        return Rule.model_validate(settings)
    except ValidationError as error:
        known = tell(" (known: {names})", names=", ".join(Rule.model_fields)) if unknown_key(error) else ""
        raise UsageError(f"{where}: optimizer: {shown(first_fault(error))}{known}") from error  # English

