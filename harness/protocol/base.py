"""What every message between the runner and a worker shares."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Message(BaseModel):
    """Base of everything that crosses the channel."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")
