import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from impls.errors import UsageError
from impls.recipe.config import DiffusionConfig
from impls.recipe.schedule import Schedule, chain_remarks, ddim_timesteps, steps_down

schedules = st.one_of(
    st.builds(Schedule.linear, st.integers(1, 300), st.floats(1e-6, 0.01), st.floats(0.01, 0.99)),
    st.builds(Schedule.cosine, st.integers(1, 300)),
)


@st.composite
def schedule_lengths(draw):
    T = draw(st.integers(1, 1200))
    return T, draw(st.integers(1, T))


def test_linear_has_the_published_constants():
    schedule = Schedule.linear()
    assert schedule.T == 1000
    assert schedule.alphas_bar[0] == pytest.approx(0.9999, rel=1e-15)
    assert schedule.alphas_bar[999] == pytest.approx(4.035829765e-5, rel=1e-9)
    assert schedule.posterior_variance[:3] == pytest.approx([0, 5.45318766e-5, 8.54891152e-5], rel=1e-8)


def test_cosine_has_the_published_constants():
    schedule = Schedule.cosine()
    assert schedule.betas[0] == pytest.approx(4.12842248e-5, rel=1e-8)
    assert schedule.betas[999] == 0.999
    assert schedule.alphas_bar[999] == pytest.approx(2.42876707e-9, rel=1e-8)


def test_float32_would_not_do():
    # The trap that float64 tables avoid: 1 - alphas_bar[0] must still be beta_0.
    schedule = Schedule.linear()
    assert 1 - schedule.alphas_bar[0] == pytest.approx(1e-4, rel=1e-11)
    in_float32 = np.cumprod(schedule.alphas.astype(np.float32))
    assert abs((1 - in_float32[0]) / 1e-4 - 1) > 1e-4


def test_alpha_bar_is_one_before_the_first_step_and_never_wraps_around():
    schedule = Schedule.linear(T=10)
    assert schedule.alpha_bar(-1) == 1.0
    assert schedule.alpha_bar(9) == schedule.alphas_bar[9]
    for outside in (-2, 10):
        with pytest.raises(IndexError, match="outside -1..9"):
            schedule.alpha_bar(outside)


def test_tables_are_float64_and_read_only():
    schedule = Schedule.linear(T=5)
    for name in ("betas", "alphas", "alphas_bar", "alphas_bar_prev", "posterior_variance"):
        table = getattr(schedule, name)
        assert table.dtype == np.float64
        assert table.shape == (5,)
        with pytest.raises(ValueError, match="read-only"):
            table[0] = 0


@given(schedules)
def test_posterior_follows_from_bayes_rule(schedule):
    """q(x_{t-1} | x_t, x_0) from the product of two Gaussians, by precision weighting instead of the closed form."""
    ab, ab_prev, beta = schedule.alphas_bar[1:], schedule.alphas_bar_prev[1:], schedule.betas[1:]
    precision = 1 / (1 - ab_prev) + (1 - beta) / beta
    assert np.allclose(schedule.posterior_variance[1:], 1 / precision, rtol=1e-8)
    assert schedule.posterior_variance[0] == 0
    assert np.all(ab > 0)
    assert np.all(np.diff(schedule.alphas_bar) < 0)


def test_from_config_follows_every_field():
    assert np.array_equal(Schedule.from_config(DiffusionConfig()).betas, Schedule.linear().betas)
    other = DiffusionConfig(T=50, beta_start=1e-3, beta_end=0.1)
    assert np.array_equal(Schedule.from_config(other).betas, Schedule.linear(50, 1e-3, 0.1).betas)
    cosine = Schedule.from_config(DiffusionConfig(T=50, schedule="cosine"))
    assert np.array_equal(cosine.betas, Schedule.cosine(50).betas)


@pytest.mark.parametrize("betas", [[], [0.0], [0.5, 1.0], [float("nan")], [[0.1]]])
def test_impossible_betas_are_refused(betas):
    with pytest.raises(UsageError, match="strictly between 0 and 1"):
        Schedule(np.array(betas))


@given(schedule_lengths(), st.sampled_from(["uniform", "quad", "trailing"]))
def test_timesteps_are_ascending_unique_and_inside(lengths, spacing):
    T, steps = lengths
    timesteps = ddim_timesteps(T, steps, spacing)
    assert timesteps.dtype == np.int64
    assert np.all(np.diff(timesteps) > 0)
    assert timesteps[0] >= 0
    assert timesteps[-1] < T
    assert len(timesteps) == steps if spacing != "quad" else 1 <= len(timesteps) <= steps


@given(schedule_lengths())
def test_uniform_starts_clean_and_trailing_starts_from_noise(lengths):
    T, steps = lengths
    assert ddim_timesteps(T, steps, "uniform")[0] == 0
    assert ddim_timesteps(T, steps, "trailing")[-1] == T - 1


@given(st.integers(1, 60), st.integers(1, 20))
def test_uniform_is_the_papers_where_the_steps_divide_the_length(steps, stride):
    expected = np.arange(0, steps * stride, stride)
    assert np.array_equal(ddim_timesteps(steps * stride, steps, "uniform"), expected)


def test_timesteps_of_the_papers():
    assert ddim_timesteps(1000, 4, "uniform").tolist() == [0, 250, 500, 750]
    assert ddim_timesteps(1000, 4, "trailing").tolist() == [249, 499, 749, 999]
    assert ddim_timesteps(1000, 10, "quad").tolist() == [0, 9, 39, 88, 158, 246, 355, 483, 632, 800]
    assert ddim_timesteps(10, 10, "quad").tolist() == [0, 1, 2, 3, 4, 6, 8]
    assert len(ddim_timesteps(1000, 300, "uniform")) == 300


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_impossible_numbers_of_steps_are_refused(steps):
    with pytest.raises(UsageError, match="choose 1 to 1000"):
        ddim_timesteps(1000, steps, "uniform")


def test_diffusers_spacings():
    """Lin et al. 2024, table 2, in diffusers' own rounding; only the leading one knows an offset."""
    assert ddim_timesteps(1000, 7, "diffusers-leading", 1).tolist() == [1, 143, 285, 427, 569, 711, 853]
    assert ddim_timesteps(1000, 7, "diffusers-trailing", 1).tolist() == [142, 285, 428, 570, 713, 856, 999]
    assert ddim_timesteps(1000, 7, "diffusers-linspace", 1).tolist() == [0, 166, 333, 500, 666, 832, 999]
    for spacing in ("leading", "trailing", "linspace"):
        assert ddim_timesteps(50, 50, f"diffusers-{spacing}").tolist() == list(range(50))
    with pytest.raises(UsageError, match="steps_offset 1 would visit timestep 50, outside 0..49: choose another"):
        ddim_timesteps(50, 50, "diffusers-leading", 1)
    # Its floating-point range has one element more than asked for.
    with pytest.raises(UsageError, match="sampling steps 61: spacing diffusers-trailing would visit timestep -1"):
        ddim_timesteps(1000, 61, "diffusers-trailing")


def test_steps_end_where_the_next_begins_or_as_diffusers_counts():
    assert steps_down(10, "ddim", 3, "uniform") == [(6, 3), (3, 0), (0, -1)]
    assert steps_down(10, "ddim", 3, "uniform", set_alpha_to_one=False) == [(6, 3), (3, 0), (0, 0)]
    assert steps_down(10, "ddim", 3, "diffusers-leading", 2) == [(8, 5), (5, 2), (2, -1)]
    assert steps_down(10, "ddim", 3, "diffusers-linspace") == [(9, 6), (4, 1), (0, -1)]
    assert steps_down(10, "ddim", 3, "diffusers-trailing", set_alpha_to_one=False) == [(9, 6), (6, 3), (2, 0)]
    # DDPM goes through all of them, whatever DDIM would visit.
    everything = [(t, t - 1) for t in range(9, -1, -1)]
    assert steps_down(10, "ddpm", None, "diffusers-leading", 2, set_alpha_to_one=False) == everything


def test_schedules_by_their_closed_forms():
    T, first, last = 1000, 0.00085, 0.012
    scaled = Schedule.from_config(DiffusionConfig(schedule="scaled_linear", beta_start=first, beta_end=last))
    assert scaled.betas[[0, -1]] == pytest.approx([first, last], rel=1e-12)
    assert np.diff(np.sqrt(scaled.betas)) == pytest.approx(np.full(T - 1, (last**0.5 - first**0.5) / (T - 1)))
    sigmoid = Schedule.from_config(DiffusionConfig(schedule="sigmoid", beta_start=first, beta_end=last))
    share = (sigmoid.betas - first) / (last - first)
    assert np.log(share / (1 - share)) == pytest.approx(np.linspace(-6, 6, T), abs=1e-9)


@pytest.mark.parametrize(("change", "message"), [
    ({"beta_start": 1e-12}, "first beta is 1e-12, less than float32"),
    ({"beta_end": 0.9}, "alpha-bar falls to .*: choose smaller betas or fewer steps")])
def test_schedules_that_float32_images_cannot_follow_are_refused(change, message):
    with pytest.raises(UsageError, match=message):
        Schedule.from_config(DiffusionConfig(**change)).require_float32()


def test_a_schedule_of_ours_goes_where_float32_hardly_follows():
    """A training of 10,000 timesteps was possible before diffusers' files were read with more care."""
    assert Schedule.from_config(DiffusionConfig(T=10_000)).alphas_bar[-1] < 1e-43


def test_chains_that_are_rarely_meant_get_a_remark():
    config = DiffusionConfig()
    (one,) = chain_remarks(config, "ddim", 1, 0.0, "uniform")
    assert "first timestep visited is 0" in one and "start noise, clipped" in one and "choose" in one
    (three,) = chain_remarks(config, "ddim", 50, 3.0, "uniform")
    assert three.startswith("eta 3: adds more noise than DDPM")
    assert len(chain_remarks(config, "ddim", 1, 1.5, "quad")) == 2
    for quiet in (("ddim", 1, 0.0, "trailing"), ("ddim", 2, 1.0, "uniform"), ("ddpm", None, 0.0, "uniform")):
        assert chain_remarks(config, *quiet) == []


def test_unknown_spacing_is_refused():
    with pytest.raises(UsageError, match="choose uniform, quad, trailing, diffusers-leading"):
        ddim_timesteps(1000, 10, "cubic")
