"""DDPM and DDIM, one step at a time, on Jittor variables. Coefficients are float64 scalars from the schedule."""

from __future__ import annotations

import math
from typing import Literal

import jittor as jt
import numpy as np
from jittor import Var

from impls.recipe.schedule import Schedule


def noise_scales(schedule: Schedule, like: Var) -> tuple[Var, Var]:
    """The tables sqrt(alpha_bar) and sqrt(1 - alpha_bar), each (T,), computed in float64, then of `like`'s kind."""
    signal, noise = schedule.alphas_bar**0.5, (1 - schedule.alphas_bar) ** 0.5
    return jt.array(signal, dtype=str(like.dtype)), jt.array(noise, dtype=str(like.dtype))


def add_noise(scales: tuple[Var, Var], x0: Var, t: Var, noise: Var) -> Var:
    """x_t of q(x_t | x_0) from `noise_scales`' tables, which a training makes once.

    Args:
        scales: sqrt(alpha_bar) and sqrt(1 - alpha_bar), each (T,).
        x0: images (N, C, H, W).
        t: timesteps (N,), integers in [0, T).
        noise: standard normal, shaped as x0.
    """
    signal, sigma = (table[t].reshape(-1, 1, 1, 1) for table in scales)
    return signal * x0 + sigma * noise


def q_sample(schedule: Schedule, x0: Var, t: Var, noise: Var) -> Var:
    """x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) noise (Ho et al. 2020, equation 4); see `add_noise`."""
    return add_noise(noise_scales(schedule, x0), x0, t, noise)


def predict_x0(schedule: Schedule, x_t: Var, eps: Var, t: int, clip: bool, clip_range: float = 1.0) -> Var:
    """x_0 = x_t / sqrt(alpha_bar_t) - sqrt(1 / alpha_bar_t - 1) eps, clipped to [-clip_range, clip_range] if wanted."""
    alpha_bar = schedule.alpha_bar(t)
    x0 = x_t * scalar(math.sqrt(1 / alpha_bar), x_t) - eps * scalar(math.sqrt(1 / alpha_bar - 1), x_t)
    return jt.clamp(x0, -clip_range, clip_range) if clip else x0


def ddpm_step(schedule: Schedule, x_t: Var, eps: Var, t: int, noise: Var | None,
              variance: Literal["fixedlarge", "fixedsmall"], clip: bool = True, *, clip_range: float = 1.0) -> Var:
    """x_{t-1} of p(x_{t-1} | x_t) (Ho et al. 2020, equations 6, 7 and 11).

    Args:
        schedule: the noise schedule.
        x_t: (N, C, H, W).
        eps: the predicted noise, shaped as x_t.
        t: timestep in [0, T).
        noise: standard normal, shaped as x_t; not used at t = 0, where it may be None.
        variance: beta_t ("fixedlarge") or the posterior's ("fixedsmall").
        clip: clip the predicted x_0 to [-clip_range, clip_range].
        clip_range: above 0.
    """
    x0 = predict_x0(schedule, x_t, eps, t, clip, clip_range)
    beta, alpha_bar, alpha_bar_prev = float(schedule.betas[t]), schedule.alpha_bar(t), schedule.alpha_bar(t - 1)
    of_x0 = beta * math.sqrt(alpha_bar_prev) / (1 - alpha_bar)
    of_x_t = (1 - alpha_bar_prev) * math.sqrt(1 - beta) / (1 - alpha_bar)
    mean = x0 * scalar(of_x0, x_t) + x_t * scalar(of_x_t, x_t)
    if t == 0:
        return mean
    assert noise is not None, "every step but the last adds noise"  # English
    sigma = math.sqrt(beta if variance == "fixedlarge" else float(schedule.posterior_variance[t]))
    return mean + noise * scalar(sigma, x_t)


def ddim_step(schedule: Schedule, x_t: Var, eps: Var, t: int, t_prev: int, eta: float, noise: Var | None,
              clip: bool = True, *, clip_range: float = 1.0, recompute_eps: bool = True) -> Var:
    """x_s for s = t_prev <= t (Song et al. 2021, equations 12 and 16).

    Args:
        schedule: the noise schedule.
        x_t: (N, C, H, W).
        eps: the predicted noise, shaped as x_t.
        t: timestep in [0, T).
        t_prev: the next timestep to visit; -1 ends at x_0.
        eta: 0 is deterministic, 1 has the DDPM posterior variance.
        noise: standard normal, shaped as x_t; not used where the step adds none, where it may be None.
        clip: clip the predicted x_0 to [-clip_range, clip_range].
        clip_range: above 0.
        recompute_eps: after clipping, go on with the eps that x_t and the clipped x_0 imply; else with the predicted.
    """
    x0 = predict_x0(schedule, x_t, eps, t, clip, clip_range)
    alpha_bar, alpha_bar_prev = schedule.alpha_bar(t), schedule.alpha_bar(t_prev)
    if clip and recompute_eps:
        eps = (x_t - x0 * scalar(math.sqrt(alpha_bar), x_t)) * scalar(1 / math.sqrt(1 - alpha_bar), x_t)
    variance = eta**2 * (1 - alpha_bar_prev) / (1 - alpha_bar) * (1 - alpha_bar / alpha_bar_prev)
    of_eps = math.sqrt(max(1 - alpha_bar_prev - variance, 0.0))
    mean = x0 * scalar(math.sqrt(alpha_bar_prev), x_t) + eps * scalar(of_eps, x_t)
    if variance <= 0:
        return mean
    assert noise is not None, "a step with a variance adds noise"  # English
    return mean + noise * scalar(math.sqrt(variance), x_t)


def scalar(value: float, like: Var) -> float | Var:
    """A coefficient for products with a variable: Jittor would round a Python number to float32 even beside float64."""
    return jt.array(np.float64(value), dtype="float64") if str(like.dtype) == "float64" else value
