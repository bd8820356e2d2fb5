"""The cells of a sampling suite: which sampler with how many network calls, which batch sizes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from impls.errors import UsageError
from impls.recipe.config import DiffusionConfig, Method, Spacing
from impls.recipe.schedule import chain_remarks, ddim_timesteps
from impls.registry import Device
from messages import tell

# On the CPU DDPM's T calls of one batch would take minutes; `--steps 10,50,ddpm` adds them.
DEFAULT_STEPS: dict[Device, str] = {"cpu": "10,20,50", "cuda": "10,50,250,1000,ddpm"}
DEFAULT_BATCH: dict[Device, int] = {"cpu": 4, "cuda": 128}
SWEEP: dict[Device, tuple[int, ...]] = {"cpu": (1, 2, 4, 8, 16), "cuda": (1, 8, 32, 64, 128, 256, 512)}
# The batch of images by which the arms are held against each other.
SHOWN_STEPS = 50


@dataclass(frozen=True)
class Cell:
    """One sampler setting.

    Attributes:
        method: "ddpm" or "ddim".
        steps: as the sampler is asked for.
        calls: network calls of a batch (NFE) where they are fewer; None where they are `steps`.
    """

    method: Method
    steps: int
    calls: int | None = None

    @property
    def name(self) -> str:
        """As in the journal, by its network calls, e.g. "ddim-50"."""
        return f"{self.method}-{self.calls or self.steps}"


def cells(text: str, T: int, spacing: Spacing = "uniform", offset: int = 0) -> tuple[Cell, ...]:
    """The cells of `--steps`: numbers are DDIM's steps, "ddpm" is DDPM over all T.

    Raises:
        UsageError: a part is neither, outside 1..T, not possible with the spacing, or there twice.
    """
    found: list[Cell] = []
    if not text.strip(" ,"):
        raise UsageError(tell("--steps is empty: give DDIM steps and 'ddpm', e.g. --steps 10,50,ddpm"))
    for part in (part.strip() for part in text.split(",")):
        if part.lower() == "ddpm":
            cell = Cell("ddpm", T)
        elif re.fullmatch(r"\d{1,9}", part) and 1 <= int(part) <= T:
            steps = int(part)
            calls = len(ddim_timesteps(T, steps, spacing, offset))
            cell = Cell("ddim", steps, None if calls == steps else calls)
        elif not part:
            raise UsageError(tell("--steps {text}: a number is missing beside a comma", text=text))
        else:
            raise UsageError(tell("--steps {text}: {part} is neither a number of DDIM steps from 1 to {T} nor 'ddpm'",
                                  text=text, part=repr(part), T=T))
        if cell.name in (other.name for other in found):
            raise UsageError(
                tell("--steps {text}: {part} is there twice, with {calls} network calls", text=text, part=part,
                     calls=cell.calls) if cell.calls else
                tell("--steps {text}: {part} is there twice", text=text, part=part))
        found.append(cell)
    return tuple(found)


def cell_notes(chosen: Sequence[Cell], diffusion: DiffusionConfig, eta: float = 0.0, spacing: Spacing = "uniform",
               offset: int = 0) -> list[str]:
    """What is allowed in these cells and rarely meant, a line each."""
    return [f"{cell.name}: {remark}" for cell in chosen
            for remark in chain_remarks(diffusion, cell.method, cell.steps, eta, spacing, offset)]


def cheapest(chosen: Sequence[Cell]) -> Cell:
    """The cell with the fewest network calls."""
    return min(chosen, key=lambda cell: cell.steps)


def shown(chosen: Sequence[Cell]) -> Cell:
    """The cell whose images are drawn and compared: the longest with at most 50 calls, else the cheapest."""
    short = [cell for cell in chosen if cell.steps <= SHOWN_STEPS]
    return max(short, key=lambda cell: cell.steps) if short else cheapest(chosen)
