"""The samplers: whole chains against closed forms, keyed images, laziness, memory, what is refused."""

from __future__ import annotations

import gc
import weakref
from collections import deque

import numpy as np
import psutil
import pytest
from small_sampling import last, numpy, oracle, sampler
from small_training import device, set_weights, trainer, weights

from impls.errors import CheckpointError, UsageError
from impls.pictures.images import to_uint8
from impls.recipe import randomness
from impls.recipe.schedule import Schedule, sampling_timesteps


def close_images(one, other):
    """Equal but for roundings at the edge between two levels."""
    difference = np.abs(one.astype(int) - other.astype(int))
    assert difference.max() <= 1 and (difference == 0).mean() >= 0.999


def probed(fw, subject, method, steps, eta, spacing):
    """Mean and standard deviation of what the chain makes of N(0, 1), exactly: it is affine in x_T and every noise.

    One pixel sees no noise at all, one x_T = 1, and for every step down one sees the noise 1 in this step alone.
    """
    T = subject.schedule.T
    moments = [T, *sampling_timesteps(T, method, steps, spacing)]
    size = subject.config.model.image_size
    per_image = 3 * size * size
    count = -(-(len(moments) + 1) // per_image)

    def noise(t):
        pixels = np.zeros(count * per_image, np.float32)
        pixels[1 + moments.index(t)] = 1
        return fw.data.to_device(pixels.reshape(count, 3, size, size), *device(subject))

    subject.noise = lambda n, seed, first: noise
    subject.network = oracle(subject.schedule)
    ended = last(subject.chain(count, 0, method, steps, eta, spacing)).astype(np.float64).reshape(-1)
    responses = ended[1 : len(moments) + 1] - ended[0]
    return ended[0], np.sqrt(np.sum(responses**2))


@pytest.mark.parametrize(("method", "variance", "steps", "eta", "spacing", "mean", "std"), [
    ("ddpm", "fixedlarge", None, 0.0, "uniform", 0.2999969730, 0.5007515102),
    ("ddpm", "fixedsmall", None, 0.0, "uniform", 0.2999969730, 0.4961100799),
    ("ddim", "fixedlarge", 10, 0.0, "uniform", 0.298155, 0.3741284938),
    ("ddim", "fixedlarge", 20, 0.0, "uniform", 0.298660, 0.4337344222),
    ("ddim", "fixedlarge", 50, 0.0, "uniform", 0.298911, 0.4724391130),
    ("ddim", "fixedlarge", 100, 0.0, "uniform", 0.298986, 0.4859805673),
    ("ddim", "fixedlarge", 10, 1.0, "uniform", 0.29998, 0.3332631135),
    ("ddim", "fixedlarge", 100, 1.0, "uniform", 0.30000, 0.4682558755),
    ("ddim", "fixedlarge", None, 1.0, "uniform", 0.2999969730, 0.4961100799),
    ("ddim", "fixedlarge", 10, 0.0, "quad", 0.295055, 0.4245208920),
    ("ddim", "fixedlarge", 50, 0.0, "quad", 0.294348, 0.4852743184),
])
def test_chains_have_the_moments_of_the_closed_form(fw, method, variance, steps, eta, spacing, mean, std):
    got = probed(fw, sampler(fw, variance=variance, loaded=False), method, steps, eta, spacing)
    np.testing.assert_allclose(got, [mean, std], rtol=0, atol=1e-5)


def test_full_ddim_with_eta_one_is_ddpm_fixedsmall(fw):
    subject = sampler(fw, T=100, variance="fixedsmall", loaded=False)
    subject.network = oracle(subject.schedule)
    pairs = zip(subject.chain(2, 8, "ddpm", None, 0.0, "uniform"), subject.chain(2, 8, "ddim", None, 1.0, "uniform"),
                strict=True)
    for one, other in pairs:
        np.testing.assert_allclose(numpy(one), numpy(other), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("method", "steps", "eta"), [("ddpm", None, 0.0), ("ddim", 7, 0.0), ("ddim", 7, 0.6)])
def test_an_image_depends_on_its_number_alone(fw, method, steps, eta):
    subject = sampler(fw, T=15)
    whole = subject.sample(5, 4, method, steps, eta)
    assert whole.shape == (5, 16, 16, 3) and whole.dtype == np.uint8
    assert len({image.tobytes() for image in whole}) == 5
    close_images(whole, np.concatenate([subject.sample(2, 4, method, steps, eta),
                                        subject.sample(3, 4, method, steps, eta, first=2)]))
    assert not np.array_equal(whole, subject.sample(5, 5, method, steps, eta))


def test_one_step_is_the_clipped_x0_of_the_trained_network(fw):
    """DDIM in one step ends at x_0 of x_T: the sampler's network is the trainer's, without dropout."""
    taught = trainer(fw)
    arrays = weights(taught, seed=6)
    set_weights(taught, arrays)
    subject = sampler(fw, loaded=False)
    subject.load(arrays)
    x = randomness.image_noise(9, range(2, 5), 1000, (3, 16, 16))
    ab = Schedule.linear().alphas_bar[0]
    eps = taught.predict(x, np.zeros(3, np.int64))
    want = np.clip(x / np.sqrt(ab) - np.sqrt(1 / ab - 1) * eps, -1, 1)
    np.testing.assert_allclose(last(subject.chain(3, 9, "ddim", 1, 0.0, "uniform", 2)), want, atol=1e-5)
    close_images(subject.sample(3, 9, "ddim", 1, first=2), to_uint8(want))


@pytest.mark.parametrize(("method", "steps", "spacing", "nfe"), [
    ("ddpm", None, "uniform", 15), ("ddim", 4, "uniform", 4), ("ddim", None, "trailing", 15), ("ddim", 9, "quad", 7)])
def test_on_step_counts_network_calls_and_reads_only_when_asked(fw, method, steps, spacing, nfe):
    subject = sampler(fw, T=15)
    calls, network = [], subject.network
    subject.network = lambda x, t: calls.append(0) or network(x, t)
    seen, read_at = [], {}

    def on_step(call, read):
        seen.append(call)
        if call in (2, nfe):
            read_at[call] = read()

    images = subject.sample(2, 0, method, steps, on_step=on_step, spacing=spacing)
    assert seen == list(range(1, nfe + 1)) and len(calls) == nfe
    np.testing.assert_array_equal(read_at[nfe], images)
    chain = list(map(numpy, subject.chain(2, 0, method, steps, 0.0, spacing)))
    close_images(read_at[2], to_uint8(chain[1]))


def test_native_randomness_is_a_function_of_the_seed(fw):
    subject = sampler(fw, T=6, randomness="native")
    one = subject.sample(2, 3)
    np.testing.assert_array_equal(one, subject.sample(2, 3))
    assert not np.array_equal(one, subject.sample(2, 4)) and not np.array_equal(one, subject.sample(2, 3, first=2))
    assert not np.array_equal(one, sampler(fw, T=6).sample(2, 3))


def test_sampling_between_two_draws_of_a_training_changes_nothing(fw):
    """Else every grid of samples would have a training with native randomness repeat its timesteps and its noise."""
    if fw.name == "pytorch":
        import torch as framework
    else:
        import jittor as framework

    def draws(between):
        fw.data.start_generator(3)
        first = framework.randn((4,)).numpy().copy()
        between()
        return np.concatenate([first, framework.randn((4,)).numpy(), framework.rand((4,)).numpy()])

    def sampling():
        subject = sampler(fw, T=6, randomness="native", loaded=False)
        chain = subject.chain(1, 1, "ddpm", None, 0.0, "uniform")
        next(chain)
        subject.sample(2, 4, "ddim", 3, 0.5)
        next(chain)

    np.testing.assert_array_equal(draws(sampling), draws(lambda: None))
    # Nor do chains of one process change each other.
    one = sampler(fw, T=6, randomness="native", loaded=False)
    whole = [numpy(x) for x in one.chain(1, 1, "ddpm", None, 0.0, "uniform")]
    for x, y in zip(whole, one.chain(1, 1, "ddpm", None, 0.0, "uniform"), strict=True):
        one.sample(1, 9, "ddim", 1)
        np.testing.assert_array_equal(numpy(y), x)


@pytest.mark.parametrize(("method", "steps"), [("ddpm", None), ("ddim", 3)])
@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_images_that_are_not_finite_are_refused(fw, method, steps, wrong):
    """Whatever clipping makes of them: a comparison with NaN may go either way, and Jittor's kernels assume none."""
    subject = sampler(fw, T=6, loaded=False)
    place = device(subject)

    def network(x, t):
        eps = np.zeros(x.shape, np.float32)
        if int(np.asarray(t.numpy()).reshape(-1)[0]) > 2:
            eps[1, 0, 3, 4] = wrong
        return fw.data.to_device(eps, *place)

    subject.network = network
    with pytest.raises(UsageError, match="image 8 .*NaN or infinity.*choose") as caught:
        subject.sample(3, 1, method, steps, first=7)
    assert "\n" not in str(caught.value)
    # A film stops where it happened.
    with pytest.raises(UsageError, match="image 8 .*after network call 1: "):
        subject.sample(3, 1, method, steps, on_step=lambda _calls, read: read(), first=7)


def test_every_network_call_gets_tensors_of_one_kind(fw):
    """Else torch.compile compiles the first call of every chain apart from the others."""
    if fw.name != "pytorch":
        pytest.skip("PyTorch alone has tensors of two kinds")
    for randomness_kind in ("matched", "native"):
        subject, kinds, network = sampler(fw, T=6, loaded=False, randomness=randomness_kind), [], None
        network = subject.network
        subject.network = lambda x, t, kinds=kinds, network=network: (
            kinds.append((x.is_inference(), t.is_inference(), x.stride(), t.stride())) or network(x, t))
        subject.sample(2, 1, "ddim", 4, 0.5)
        assert len(kinds) == 4 and len(set(kinds)) == 1


@pytest.mark.parametrize("options", [(), ("fp16",)])
def test_what_a_sampler_calls_is_compiled_once(fw, options):
    if fw.name != "pytorch":
        pytest.skip("compile is an option of PyTorch")
    import torch
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counters.clear()
    subject = sampler(fw, T=6, loaded=False, randomness="native")
    # Counted is how often a network is traced; tracing ours, and generating its code, would take a minute.
    layer = torch.nn.Conv2d(3, 3, 1).requires_grad_(False)
    compiled = torch.compile(lambda x, t: layer(x) * t.reshape(-1, 1, 1, 1), backend="eager")
    subject.network.forward = fw.network.as_run(compiled, *device(subject), options)
    for seed in (1, 2):
        subject.sample(2, seed, "ddim", 4, 0.5)
    assert counters["stats"]["unique_graphs"] == 1
    torch._dynamo.reset()


def test_a_half_precision_sampler_casts_its_weights_once(fw):
    subject = sampler(fw, T=6, loaded=False)
    place, model, rng = device(subject), subject.config.model, np.random.default_rng(2)
    x, t = (fw.data.to_device(array, *place) for array in (
        rng.standard_normal((2, 3, 16, 16)).astype(np.float32), np.array([3, 5])))
    options = {"pytorch": {"bf16": "bfloat16", "fp16": "float16"}, "jittor": {"amp": "float16"}}[fw.name]
    for option, kind in options.items():
        operators = fw.ops.HALF if fw.name == "jittor" else fw.ops.STOCK
        sampling, training = (fw.network.Network(model, *place, frozenset({option}), operators, training=wanted)
                              for wanted in (False, True))
        arrays = {name: rng.standard_normal(shape).astype(np.float32) * np.float32(0.1)
                  for name, shape in sampling.shapes.items()}
        for network in (sampling, training):
            network.load(arrays)
            network.switch_dropout(False)
        with subject.no_grad():
            # Jittor would compile a whole network in float16 for the CPU, which takes minutes.
            once, anew = (network(x, t) if fw.name == "pytorch" else network.unet.conv_in(x)
                          for network in (sampling, training))
            np.testing.assert_array_equal(numpy(once), numpy(anew))
        kinds = {name: str(p.dtype).removeprefix("torch.") for name, p in sampling.params.items()}
        assert {name for name, found in kinds.items() if found == kind} == {
            name for name in kinds if "norm" not in name and not (fw.name == "jittor" and name.endswith("bias"))}
        assert {str(p.dtype).removeprefix("torch.") for p in training.params.values()} == {"float32"}


def test_steps_walk_along_an_endless_chain(fw):
    subject = sampler(fw, T=50, steps=4, eta=0.5)
    wanted = list(map(numpy, subject.chain(3, subject.config.seed, "ddim", 4, 0.5, "uniform")))
    phases = []
    for call in range(9):
        # A step that is cut into phases is the same step.
        if call % 2:
            subject.step_in_phases(phases.append)
        else:
            subject.step()
        subject.synchronize()
        np.testing.assert_allclose(numpy(subject.latest), wanted[call % 4], atol=1e-5)
    assert phases == ["network", "update"] * 4
    subject.enqueue(2, 1, 5)
    subject.synchronize()
    np.testing.assert_allclose(numpy(subject.latest), last(subject.chain(2, 1, "ddim", 5, 0.5, "uniform")), atol=1e-5)


def test_enqueued_work_is_pending_until_synchronize(fw):
    subject = sampler(fw, T=50, steps=4)
    subject.enqueue(2, 1, 4)
    subject.synchronize()
    if fw.name == "pytorch":
        assert subject.pending_work() is None
        return
    idle = subject.pending_work()
    subject.enqueue(2, 1, 8)
    # Nothing was launched: the operations of eight whole network calls wait.
    assert subject.pending_work() > idle + 8 * 50
    subject.synchronize()
    assert subject.pending_work() == idle


def test_no_gradient_graph_is_kept(fw):
    subject = sampler(fw, T=50)
    x = deque(subject.chain(2, 0, "ddim", 3, 0.0, "uniform"), maxlen=1).pop()
    if fw.name == "pytorch":
        assert not x.requires_grad and x.grad_fn is None
        assert not any(p.requires_grad for p in subject.network.params.values())
    else:
        assert x.is_stop_grad() and all(p.is_stop_grad() for p in subject.network.params.values())


def test_memory_does_not_grow_over_the_steps(fw):
    subject = sampler(fw, T=1000, eta=1.0, steps=500)
    process = psutil.Process()

    def after(calls):
        for _ in range(calls):
            subject.step()
        subject.synchronize()
        gc.collect()
        return process.memory_info().rss

    def tensors():
        return [thing for thing in gc.get_objects() if issubclass(type(thing), type(subject.latest))]

    early = after(50)
    if fw.name == "pytorch":
        known = [weakref.ref(tensor) for tensor in tensors()]
        late = after(150)
        # What tests before this one left may go meanwhile; of what is new there are fewer than steps.
        assert len(tensors()) - sum(one() is not None for one in known) < 50
    else:
        import jittor as jt

        counts = jt.liveness_info()
        late = after(150)
        assert jt.liveness_info() == counts
    assert late <= 1.02 * early


def test_wrong_weights_are_refused_and_the_old_ones_stay(fw):
    subject = sampler(fw, T=10)
    before, good = subject.sample(1, 0, "ddim", 2), subject.network.arrays()
    name = "conv_in.weight"
    for change, message in (({name: good[name][:1]}, "has shape"), ({"more": good[name]}, "is not in this network"),
                            ({name: np.full_like(good[name], np.nan)}, "NaN or infinity")):
        with pytest.raises(CheckpointError, match=message):
            subject.load({**good, **change})
    with pytest.raises(CheckpointError, match="conv_in.weight is missing"):
        subject.load({key: array for key, array in good.items() if key != name})
    np.testing.assert_array_equal(subject.sample(1, 0, "ddim", 2), before)
    subject.load({key: array * np.float32(0.9) for key, array in good.items()})
    assert not np.array_equal(subject.sample(1, 0, "ddim", 2), before)


@pytest.mark.parametrize("wrong", [
    {"n": 0}, {"first": -1}, {"method": "ddim", "steps": 0}, {"method": "ddim", "steps": 11},
    {"method": "ddpm", "steps": 5}, {"method": "ddim", "steps": 5, "eta": -0.1},
    {"method": "ddim", "steps": 5, "eta": float("nan")}, {"method": "ddim", "steps": 5, "eta": float("inf")},
    {"method": "ddim", "steps": 5, "spacing": "cubic"}])
def test_numbers_out_of_range_are_refused(fw, wrong):
    with pytest.raises(UsageError):
        sampler(fw, T=10, loaded=False).sample(**{"n": 1, "seed": 0, **wrong})
