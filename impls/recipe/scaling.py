"""Loss scaling for training in float16 (Micikevicius et al. 2018, section 3.2): its numbers, and what is kept of it.

Gradients of a mean over a batch's pixels vanish in float16, which has nothing between 0 and 2^-24. So the loss is
multiplied before the backward pass and the gradients divided after it, by the rule of torch.amp.GradScaler: a step with
an infinite gradient or NaN is left out and the scale falls, and after many good steps it grows again.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

# Defaults of torch.amp.GradScaler.
INITIAL, GROWTH, BACKOFF, GROWTH_INTERVAL = 65536.0, 2.0, 0.5, 2000


class LossScale(BaseModel):
    """How a training scales its loss.

    Attributes:
        scale: what the loss is multiplied by.
        good_steps: steps in a row that were not left out, since the scale last grew.
        skipped: steps left out since the training began; Adam has not counted them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    # Both frameworks keep it in float32.
    scale: float = Field(INITIAL, ge=0, lt=2.0**128)
    # From there on the count would pass by the interval, and the scale never grow again.
    good_steps: int = Field(0, ge=0, lt=GROWTH_INTERVAL)
    skipped: int = Field(0, ge=0)
