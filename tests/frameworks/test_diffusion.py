"""The diffusion maths against closed forms: Gaussian data, for which every step of every sampler is affine in x."""

from __future__ import annotations

import numpy as np
import pytest
from small_training import device, trainer

from impls.recipe.schedule import Schedule, ddim_timesteps

LINEAR = Schedule.linear()
MU, S = 0.3, 0.5


@pytest.fixture(scope="module")
def tensor(fw):
    """Numpy -> the framework's own float64 (or float32) tensor."""
    if fw.name == "pytorch":
        import torch

        return lambda array: torch.from_numpy(np.asarray(array))
    import jittor as jt

    return lambda array: jt.array(np.asarray(array), dtype=str(np.asarray(array).dtype))


def full(value, dtype=np.float64):
    return np.full((1, 1, 1, 1), value, dtype)


def optimal_eps(x, t):
    """The best predictor for N(MU, S^2) data (closed form)."""
    alpha_bar = LINEAR.alphas_bar[t]
    variance = alpha_bar * S**2 + 1 - alpha_bar
    return np.sqrt(1 - alpha_bar) * (x - np.sqrt(alpha_bar) * MU) / variance


def ddpm(fw, tensor, variance, dtype=np.float64):
    def step(x, t, _t_prev, z):
        x = np.asarray(x, dtype)
        eps = optimal_eps(x, t).astype(dtype)
        return fw.diffusion.ddpm_step(LINEAR, tensor(x), tensor(eps), t, tensor(z.astype(dtype)), variance,
                                      clip=False).numpy().astype(np.float64)
    return step


def ddim(fw, tensor, eta, dtype=np.float64):
    def step(x, t, t_prev, z):
        x = np.asarray(x, dtype)
        eps = optimal_eps(x, t).astype(dtype)
        return fw.diffusion.ddim_step(LINEAR, tensor(x), tensor(eps), t, t_prev, eta, tensor(z.astype(dtype)),
                                      clip=False).numpy().astype(np.float64)
    return step


def affine(step, t, t_prev):
    """G, H and sigma of x -> G x + H + sigma z, read off the step itself: x = 0, x = 1 and z = 1 in one batch."""
    x = np.array([0.0, 1.0, 0.0]).reshape(3, 1, 1, 1)
    z = np.array([0.0, 0.0, 1.0]).reshape(3, 1, 1, 1)
    h, g, sigma = step(x, t, t_prev, z).reshape(3)
    return g - h, h, sigma - h


def formula(kind, t, t_prev):
    """The same three numbers from the papers' formulas, in another order of operations than the implementations."""
    ab, ab_prev = LINEAR.alpha_bar(t), LINEAR.alpha_bar(t_prev)
    eps_x, eps_1 = optimal_eps(1.0, t) - optimal_eps(0.0, t), optimal_eps(0.0, t)
    x0_x, x0_1 = (1 - np.sqrt(1 - ab) * eps_x) / np.sqrt(ab), -np.sqrt(1 - ab) * eps_1 / np.sqrt(ab)
    if isinstance(kind, str):
        alpha = ab / ab_prev
        to_x0, to_x = (1 - alpha) * np.sqrt(ab_prev) / (1 - ab), (1 - ab_prev) * np.sqrt(alpha) / (1 - ab)
        variance = 1 - alpha if kind == "fixedlarge" else (1 - alpha) * (1 - ab_prev) / (1 - ab)
        return to_x0 * x0_x + to_x, to_x0 * x0_1, np.sqrt(variance) * (t > 0)
    variance = kind**2 * (1 - ab_prev) / (1 - ab) * (1 - ab / ab_prev)
    to_eps = np.sqrt(max(1 - ab_prev - variance, 0))
    return (np.sqrt(ab_prev) * x0_x + to_eps * eps_x, np.sqrt(ab_prev) * x0_1 + to_eps * eps_1, np.sqrt(variance))


def chain(step, timesteps):
    """Mean and standard deviation of what the sampler draws from N(0, 1)."""
    mean, variance = 0.0, 1.0
    descending = list(timesteps[::-1])
    for t, t_prev in zip(descending, [*descending[1:], -1], strict=True):
        g, h, sigma = affine(step, int(t), int(t_prev))
        mean, variance = g * mean + h, g * g * variance + sigma**2
    return mean, np.sqrt(variance)


@pytest.mark.parametrize("kind", ["fixedlarge", "fixedsmall", 0.0, 0.5, 1.0])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-10), (np.float32, 1e-5)])
def test_steps_are_the_formulas(fw, tensor, kind, dtype, tolerance):
    step = ddpm(fw, tensor, kind, dtype) if isinstance(kind, str) else ddim(fw, tensor, kind, dtype)
    pairs = [(0, -1), (1, 0), (2, 1), (500, 499), (999, 998)]
    if not isinstance(kind, str):
        pairs += [(20, 0), (980, 960), (500, -1)]
    for t, t_prev in pairs:
        got, want = affine(step, t, t_prev), formula(kind, t, t_prev)
        # float32 rounds x_0, which is 1/sqrt(alpha_bar) = 157 times larger than x at t = 999.
        scale = 1 if dtype == np.float64 else max(1, LINEAR.alpha_bar(t) ** -0.5)
        np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * scale, err_msg=f"{t} -> {t_prev}")


DDIM_TABLE = [
    (0.0, "uniform", [10, 20, 50, 100], [0.298155, 0.298660, 0.298911, 0.298986],
     [0.3741284938, 0.4337344222, 0.4724391130, 0.4859805673]),
    (1.0, "uniform", [10, 20, 50, 100], [0.29998, 0.29999, 0.29999, 0.30000],
     [0.3332631135, 0.3914644532, 0.4441228580, 0.4682558755]),
    (0.0, "quad", [10, 20, 50, 100], [0.295055, 0.294609, 0.294348, 0.294261],
     [0.4245208920, 0.4627818098, 0.4852743184, 0.4926956357]),
]


@pytest.mark.parametrize(("eta", "spacing", "steps", "means", "stds"), DDIM_TABLE, ids=["eta0", "eta1", "quad"])
def test_ddim_reaches_the_known_mean_and_deviation(fw, tensor, eta, spacing, steps, means, stds):
    for count, want_mean, want_std in zip(steps, means, stds, strict=True):
        mean, std = chain(ddim(fw, tensor, eta), ddim_timesteps(1000, count, spacing))
        assert mean == pytest.approx(want_mean, abs=1e-5)
        assert std == pytest.approx(want_std, abs=1e-9)


@pytest.mark.parametrize(("kind", "want_mean", "want_std"), [
    ("fixedlarge", 0.2999969730, 0.5007515102), ("fixedsmall", 0.2999969730, 0.4961100799),
    (0.0, 0.299050, 0.4984952830), (1.0, 0.2999969730, 0.4961100799)])
def test_all_thousand_steps_reach_the_known_mean_and_deviation(fw, tensor, kind, want_mean, want_std):
    step = ddpm(fw, tensor, kind) if isinstance(kind, str) else ddim(fw, tensor, kind)
    mean, std = chain(step, np.arange(1000))
    assert mean == pytest.approx(want_mean, abs=1e-9 if kind != 0.0 else 1e-6)
    assert std == pytest.approx(want_std, abs=1e-9)


def test_ddim_with_eta_1_is_ddpm_fixedsmall(fw, tensor):
    rng = np.random.default_rng(1)
    x, eps, z = (tensor(rng.standard_normal((2, 3, 4, 4))) for _ in range(3))
    for t in (0, 1, 2, 400, 999):
        for clip in (True, False):
            one = fw.diffusion.ddim_step(LINEAR, x, eps, t, t - 1, 1.0, z, clip=clip).numpy()
            other = fw.diffusion.ddpm_step(LINEAR, x, eps, t, z, "fixedsmall", clip=clip).numpy()
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


def test_no_noise_at_the_end_and_none_needed(fw, tensor):
    x, eps = tensor(full(0.4)), tensor(full(-0.2))
    ended = fw.diffusion.ddpm_step(LINEAR, x, eps, 0, None, "fixedlarge").numpy()
    np.testing.assert_array_equal(ended, fw.diffusion.ddpm_step(LINEAR, x, eps, 0, x, "fixedlarge").numpy())
    x0 = (0.4 - np.sqrt(1 - LINEAR.alphas_bar[300]) * -0.2) / np.sqrt(LINEAR.alphas_bar[300])
    for eta in (0.0, 1.0):
        got = fw.diffusion.ddim_step(LINEAR, x, eps, 300, -1, eta, None, clip=False).numpy()
        np.testing.assert_allclose(got, full(x0), rtol=1e-12)


def test_clipped_ddim_keeps_x_t_consistent(fw, tensor):
    """With a clipped x_0, eps must be the one that x_t and this x_0 imply."""
    ab, ab_prev = LINEAR.alpha_bar(600), LINEAR.alpha_bar(580)
    got = fw.diffusion.ddim_step(LINEAR, tensor(full(2.0)), tensor(full(-1.0)), 600, 580, 0.0, None).numpy()
    want = np.sqrt(ab_prev) + np.sqrt(1 - ab_prev) * (2.0 - np.sqrt(ab)) / np.sqrt(1 - ab)
    np.testing.assert_allclose(got, full(want), rtol=1e-12)


def test_q_sample_mixes_signal_and_noise(fw, tensor):
    rng = np.random.default_rng(2)
    x0, noise = rng.standard_normal((2, 4, 3, 2, 2))
    t = np.array([0, 7, 500, 999])
    place = device(trainer(fw))
    got = fw.diffusion.q_sample(LINEAR, tensor(x0), fw.data.to_device(t, *place), tensor(noise)).numpy()
    ab = LINEAR.alphas_bar[t].reshape(4, 1, 1, 1)
    np.testing.assert_allclose(got, np.sqrt(ab) * x0 + np.sqrt(1 - ab) * noise, rtol=1e-12)


def test_finite_data_is_reached(fw, tensor):
    """With the optimal predictor of a data set of two images, DDIM lands on one of them."""
    data = np.array([-0.6, 0.7])

    def eps(x, t):
        ab = LINEAR.alphas_bar[t]
        logits = -((x - np.sqrt(ab) * data) ** 2) / (2 * (1 - ab))
        share = np.exp(logits - logits.max(axis=-1, keepdims=True))
        mean = (share / share.sum(axis=-1, keepdims=True) * data).sum(axis=-1, keepdims=True)
        return (x - np.sqrt(ab) * mean) / np.sqrt(1 - ab)

    x = np.linspace(-2, 2, 8).reshape(8, 1, 1, 1)
    descending = [int(t) for t in ddim_timesteps(1000, 50, "uniform")[::-1]]
    for t, t_prev in zip(descending, [*descending[1:], -1], strict=True):
        x = fw.diffusion.ddim_step(LINEAR, tensor(x), tensor(eps(x, t)), t, t_prev, 0.0, None).numpy()
    assert np.abs(x - data).min(axis=-1).max() < 1e-3
    assert {float(round(v, 1)) for v in x.reshape(-1)} == {-0.6, 0.7}


@pytest.mark.parametrize("clip", [True, False])
def test_agrees_with_diffusers_schedulers(fw, tensor, clip):
    if fw.name != "pytorch":
        pytest.skip("diffusers needs PyTorch, which does not share a process with Jittor")
    import torch
    from diffusers import DDIMScheduler, DDPMScheduler

    rng = np.random.default_rng(3)
    x, eps = (tensor(rng.standard_normal((2, 3, 4, 4))) for _ in range(2))
    # Diffusers keeps its tables in float32.
    close = {"rtol": 2e-3, "atol": 2e-4} if not clip else {"rtol": 1e-3, "atol": 1e-4}
    schedulers = DDIMScheduler(clip_sample=clip, set_alpha_to_one=True, timestep_spacing="leading", steps_offset=0)
    schedulers.set_timesteps(50)
    for t in (980, 500, 20, 0):
        for eta in (0.0, 0.7):
            z = torch.zeros_like(x)
            theirs = schedulers.step(eps, t, x, eta=eta, variance_noise=z, use_clipped_model_output=True).prev_sample
            ours = fw.diffusion.ddim_step(LINEAR, x, eps, t, t - 20 if t else -1, eta, z, clip=clip)
            np.testing.assert_allclose(ours.numpy(), theirs.numpy(), **close)
    for kind, name in (("fixedlarge", "fixed_large"), ("fixedsmall", "fixed_small")):
        scheduler = DDPMScheduler(clip_sample=clip, variance_type=name)
        for t in (999, 500, 1, 0):
            theirs = scheduler.step(eps, t, x, generator=torch.Generator().manual_seed(t)).prev_sample
            z = torch.randn(x.shape, generator=torch.Generator().manual_seed(t), dtype=x.dtype)
            ours = fw.diffusion.ddpm_step(LINEAR, x, eps, t, z, kind, clip=clip)
            np.testing.assert_allclose(ours.numpy(), theirs.numpy(), **close)
