"""Noise schedules in float64: betas, alpha-bar, posterior variance and the timesteps that a sampler visits."""

from __future__ import annotations

from functools import cached_property
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from impls.errors import UsageError
from impls.recipe.config import DiffusionConfig, Method, Spacing
from messages import recorded, tell

Float64Array = NDArray[np.float64]
# A chain that begins above this share of signal hardly changes what it begins with.
MOSTLY_SIGNAL = 0.5
# Where images are float32: 1 - alpha-bar and alpha-bar must be more than its rounding and its smallest number.
LEAST_NOISE, LEAST_SIGNAL = float(np.finfo(np.float32).eps) / 2, float(np.finfo(np.float32).tiny)


class Schedule:
    """The forward process of DDPM and what follows from it; knows nothing of networks.

    Index t runs over 0..T-1 and the empty product alpha-bar(-1) is 1. All tables are read-only float64 arrays of
    length T: a float32 cumulative product is already wrong by 1.7e-4 (relative) in 1 - alphas_bar[0].

    There is no table of log variances on purpose: the posterior variance at t = 0 is 0 and its logarithm -inf.

    Attributes:
        betas: variance added at step t, in (0, 1).
    """

    def __init__(self, betas: Float64Array) -> None:
        betas = np.array(betas, dtype=np.float64)
        if betas.ndim != 1 or betas.size == 0 or not np.all((betas > 0) & (betas < 1)):
            raise UsageError(tell("noise schedule: betas must be a non-empty list of numbers strictly between 0 and 1"))
        self.betas = _frozen(betas)

    @classmethod
    def linear(cls, T: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02) -> Schedule:
        """Betas evenly spaced from `beta_start` to `beta_end` (Ho et al. 2020, section 4)."""
        return cls(np.linspace(beta_start, beta_end, T, dtype=np.float64))

    @classmethod
    def cosine(cls, T: int = 1000, s: float = 0.008, max_beta: float = 0.999) -> Schedule:
        """Betas whose alpha-bar follows a squared cosine (Nichol and Dhariwal 2021, equation 17)."""
        angles = (np.arange(T + 1, dtype=np.float64) / T + s) / (1 + s) * (np.pi / 2)
        curve = np.cos(angles) ** 2
        return cls(np.minimum(1 - curve[1:] / curve[:-1], max_beta))

    @classmethod
    def scaled_linear(cls, T: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02) -> Schedule:
        """Betas whose roots are evenly spaced (Rombach et al. 2022, the public code)."""
        return cls(np.linspace(beta_start**0.5, beta_end**0.5, T, dtype=np.float64) ** 2)

    @classmethod
    def sigmoid(cls, T: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02) -> Schedule:
        """Betas between `beta_start` and `beta_end` along a logistic curve over -6..6 (Xu et al. 2022, GeoDiff)."""
        return cls(beta_start + (beta_end - beta_start) / (1 + np.exp(-np.linspace(-6, 6, T, dtype=np.float64))))

    @classmethod
    def from_config(cls, config: DiffusionConfig) -> Schedule:
        """The schedule that `config` names."""
        if config.schedule == "cosine":
            return cls.cosine(config.T)
        shape = {"linear": cls.linear, "scaled_linear": cls.scaled_linear, "sigmoid": cls.sigmoid}[config.schedule]
        return shape(config.T, config.beta_start, config.beta_end)

    def require_float32(self) -> None:
        """Refuse betas so small or so large that float32 images hold no noise at first, or no signal at last.

        Raises:
            UsageError: they are.
        """
        if self.betas[0] < LEAST_NOISE:
            raise UsageError(tell("noise schedule: the first beta is {beta}, less than float32 can add to an image: "
                                  "choose {least} or more", beta=f"{self.betas[0]:.3g}",
                                  least=f"{LEAST_NOISE:.0e}"))
        if self.alphas_bar[-1] < LEAST_SIGNAL:
            raise UsageError(tell("noise schedule: alpha-bar falls to {value}, less than float32 can hold: "
                                  "choose smaller betas or fewer steps", value=f"{self.alphas_bar[-1]:.3g}"))

    @property
    def T(self) -> int:  # noqa: N802 - the field's own name
        """Number of diffusion steps."""
        return len(self.betas)

    @cached_property
    def alphas(self) -> Float64Array:
        """1 - betas."""
        return _frozen(1 - self.betas)

    @cached_property
    def alphas_bar(self) -> Float64Array:
        """Cumulative product of the alphas: the signal's share of the variance at t."""
        return _frozen(np.cumprod(self.alphas))

    @cached_property
    def alphas_bar_prev(self) -> Float64Array:
        """alpha-bar(t - 1); 1 at t = 0."""
        return _frozen(np.concatenate([[1.0], self.alphas_bar[:-1]]))

    @cached_property
    def posterior_variance(self) -> Float64Array:
        """Variance of q(x_{t-1} | x_t, x_0); 0 at t = 0 (Ho et al. 2020, equation 7)."""
        return _frozen(self.betas * (1 - self.alphas_bar_prev) / (1 - self.alphas_bar))

    def alpha_bar(self, t: int) -> float:
        """alpha-bar at t in -1..T-1, where -1 is the clean image: 1.

        Raises:
            IndexError: t is outside; a smaller negative number never counts from the end.
        """
        if not -1 <= t < self.T:
            raise IndexError(f"timestep {t} is outside -1..{self.T - 1}")
        return 1.0 if t == -1 else float(self.alphas_bar[t])


def ddim_timesteps(T: int, steps: int, spacing: Spacing, offset: int = 0) -> NDArray[np.int64]:
    """The timesteps that a strided sampler visits, ascending and without repeats.

    Args:
        T: diffusion steps of the training.
        steps: how many timesteps to visit, 1..T.
        spacing: "uniform" is 0, T/S, 2T/S, ... rounded down; "trailing" the same distances counted down from T-1;
            "quad" the squares of S evenly spaced numbers up to sqrt(0.8 T) (Song et al. 2021, appendix D.2).
            "diffusers-leading", "diffusers-trailing" and "diffusers-linspace" are the values of `timestep_spacing` in
            diffusers (Lin et al. 2024, table 2) with its rounding, which is another where S does not divide T.
        offset: added to every timestep of "diffusers-leading", its `steps_offset`; the others have none.

    Returns:
        int64 timesteps in 0..T-1: exactly `steps` of them; only "quad" drops the repeats among its small squares, so
        it may visit fewer.

    Raises:
        UsageError: `steps` is outside 1..T, a timestep would lie outside 0..T-1, or the spacing is unknown.
    """
    if not 1 <= steps <= T:
        raise UsageError(tell("sampling steps {steps}: choose 1 to {most}, the number of diffusion steps", steps=steps,
                              most=T))
    if spacing == "uniform":
        return np.arange(steps, dtype=np.int64) * T // steps
    if spacing == "trailing":
        return (T - 1 - np.arange(steps, dtype=np.int64) * T // steps)[::-1].copy()
    if spacing == "quad":
        squares: Float64Array = np.linspace(0, np.sqrt(0.8 * T), steps) ** 2
        return np.unique(squares.astype(np.int64))
    if spacing == "diffusers-leading":
        found = np.arange(steps, dtype=np.int64) * (T // steps) + offset
    elif spacing == "diffusers-trailing":
        # Their own expression: the rounding of its steps decides how many there are.
        found = np.round(np.arange(T, 0, -T / steps))[::-1].astype(np.int64) - 1
    elif spacing == "diffusers-linspace":
        found = np.linspace(0, T - 1, steps).round().astype(np.int64)
    else:
        raise UsageError(tell("unknown timestep spacing {spacing}: choose {choices}", spacing=repr(spacing),
                              choices=", ".join(get_args(Spacing))))
    if found[0] < 0 or found[-1] >= T:
        outside = int(found[0] if found[0] < 0 else found[-1])
        with_offset = tell(" and steps_offset {offset}", offset=offset) if spacing == "diffusers-leading" else ""
        raise UsageError(tell("sampling steps {steps}: spacing {spacing}{with_offset} would visit timestep {outside}, "
                              "outside 0..{last}: choose another number of steps, or spacing uniform", steps=steps,
                              spacing=spacing, with_offset=with_offset, outside=outside, last=T - 1))
    return found


def sampling_timesteps(T: int, method: Method, steps: int | None, spacing: Spacing, offset: int = 0) -> list[int]:
    """The timesteps that a sampler visits, descending; one network call at each.

    Raises:
        UsageError: `steps` is outside 1..T, or DDPM is given other steps than T; see also `ddim_timesteps`.
    """
    if method == "ddpm":
        if steps not in (None, T):
            raise UsageError(tell("sampling steps {steps}: DDPM visits all {count} timesteps; leave the steps out or "
                                  "use DDIM", steps=steps, count=T))
        return list(range(T - 1, -1, -1))
    return [int(t) for t in ddim_timesteps(T, T if steps is None else steps, spacing, offset)[::-1]]


def steps_down(T: int, method: Method, steps: int | None, spacing: Spacing, offset: int = 0,
               set_alpha_to_one: bool = True) -> list[tuple[int, int]]:
    """The steps of a sampler: (t, s) goes from timestep t to s, where -1 is the clean image.

    Every step ends where the next begins. Only with diffusers' spacings DDIM counts T // S down from t, wherever the
    next timestep is: the two differ where S does not divide T.

    Args:
        T: diffusion steps of the training.
        method: the sampler.
        steps: timesteps to visit.
        spacing: which ones; see `ddim_timesteps`.
        offset: see `ddim_timesteps`.
        set_alpha_to_one: DDIM's last step ends at the clean image, otherwise at timestep 0.

    Raises:
        UsageError: as `sampling_timesteps`.
    """
    visited = sampling_timesteps(T, method, steps, spacing, offset)
    ends = [*visited[1:], -1]
    if method == "ddpm":
        return list(zip(visited, ends, strict=True))
    if spacing.startswith("diffusers-"):
        ends = [t - T // len(visited) for t in visited]
    least = -1 if set_alpha_to_one else 0
    return [(t, max(end, least)) for t, end in zip(visited, ends, strict=True)]


def chain_remarks(config: DiffusionConfig, method: Method, steps: int | None, eta: float, spacing: Spacing,
                  offset: int = 0) -> list[str]:
    """What somebody who asks for this chain should know, a line each: settings that are allowed and rarely meant.

    Raises:
        UsageError: as `sampling_timesteps`.
    """
    visited = sampling_timesteps(config.T, method, steps, spacing, offset)
    if method == "ddpm":
        return []
    found, alpha_bar = [], Schedule.from_config(config).alpha_bar(visited[0])
    if alpha_bar > MOSTLY_SIGNAL:
        found.append(recorded("steps {steps}: the first timestep visited is {first}, where the network takes "
                              "its input for an image with little noise (alpha-bar {alpha_bar}): what comes out is "
                              "about the start noise, clipped: choose more steps, or spacing trailing, which starts "
                              "from noise", steps=len(visited), first=visited[0], alpha_bar=f"{alpha_bar:.4g}"))
    if eta > 1:
        found.append(recorded("eta {eta}: adds more noise than DDPM (eta 1), and more than the steps take away: the "
                              "images stay noisy: choose 0 to 1", eta=f"{eta:g}"))
    return found


def _frozen(table: Float64Array) -> Float64Array:
    table.flags.writeable = False
    return table
