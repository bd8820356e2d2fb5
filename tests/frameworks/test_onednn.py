"""Our C++ operators against the stock Jittor ones and closed forms, forward and backward."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest

from impls import devices
from impls.data.synthetic import images
from impls.errors import UnavailableError
from impls.recipe.config import ModelConfig, merged, preset
from impls.recipe.precision import COARSE, FINE, Measured
from impls.registry import parse_arm

BF16 = pytest.mark.skipif(not devices.bf16_units("cpu"), reason="this processor has no units for bfloat16")


@pytest.fixture(scope="module")
def ops(framework, fw):
    if framework != "jittor":
        pytest.skip("operators over oneDNN exist for Jittor alone")
    return import_module("impls.jittor.onednn.operators")


@pytest.fixture(scope="module")
def jt(ops):
    return ops.jt


def arrays(*shapes: tuple[int, ...], seed: int = 0) -> list[np.ndarray]:
    draw = np.random.default_rng(seed)
    return [draw.standard_normal(shape).astype(np.float32) for shape in shapes]


def agree(jt, ours, stock, *inputs: np.ndarray) -> None:
    """Value and every gradient of both functions agree to 1e-5 of their size."""
    got, want = ([], [])
    for function, found in ((ours, got), (stock, want)):
        given = [jt.array(x) for x in inputs]
        y = function(*given)
        (weights,) = arrays(tuple(y.shape), seed=1)
        found += [x.numpy().copy() for x in (y, *jt.grad((y * jt.array(weights)).sum(), given))]
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * max(1.0, np.abs(b).max()))


def kept(x: np.ndarray) -> np.ndarray:
    """What bfloat16 keeps of x, to the nearest, ties to even."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return (((bits + 0x7FFF + (bits >> 16 & 1)) >> 16) << 16).view(np.float32)


def sums(x, weight, g, stride, padding):
    """A convolution of x (N, H, W, C), and its gradients by x and by weight: their definitions, in float64."""
    x, weight, g = (each.astype(np.float64) for each in (x, weight, g))
    (top, left, bottom, right), (_, height, width, _) = padding, g.shape
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    y, by_padded, by_weight = np.zeros(g.shape), np.zeros(padded.shape), np.zeros(weight.shape)
    for i in range(weight.shape[2]):
        for j in range(weight.shape[3]):
            near = (slice(None), slice(i, i + stride * height, stride), slice(j, j + stride * width, stride))
            y += padded[near] @ weight[:, :, i, j].T
            by_padded[near] += g @ weight[:, :, i, j]
            by_weight[:, :, i, j] = np.tensordot(g, padded[near], ((0, 1, 2), (0, 1, 2)))
    return y, by_padded[:, top:top + x.shape[1], left:left + x.shape[2]], by_weight


@pytest.mark.parametrize("items", [1, 3])
def test_attention(ops, jt, items):
    def stock(q, k, v):
        return jt.nn.bmm(jt.nn.softmax(jt.nn.bmm(q, k.transpose(0, 2, 1)) * 16**-0.5, dim=-1), v)

    agree(jt, ops.attention, stock, *arrays((items, 9, 16), (items, 17, 16), (items, 17, 16)))


def test_attention_of_huge_scores_is_finite(ops, jt):
    q = jt.array(np.array([[[1e4]]], np.float32))
    k, v = (jt.array(np.array([[[a], [a], [-a]]], np.float32)) for a in (1e4, 3))
    np.testing.assert_allclose(ops.attention(q, k, v).numpy(), [[[3]]], atol=1e-6)


def first(x):
    """(N, C, H, W) of x (N, H, W, C)."""
    return x.transpose(0, 3, 1, 2)


def last(x):
    """(N, H, W, C) of x (N, C, H, W)."""
    return x.transpose(0, 2, 3, 1)


@pytest.mark.parametrize("silu", [False, True])
@pytest.mark.parametrize(("groups", "channels"), [(4, 16), (16, 16), (32, 96), (4, 132)])
def test_group_norm(ops, jt, groups, channels, silu):
    def stock(x, weight, bias):
        norm = jt.nn.GroupNorm(groups, channels, eps=1e-5)
        norm.weight, norm.bias = weight, bias
        y = norm(first(x))
        return last(jt.nn.silu(y) if silu else y)

    agree(jt, lambda x, weight, bias: ops.group_norm(x, weight, bias, groups, 1e-5, silu), stock,
          *arrays((3, 5, 4, channels), (channels,), (channels,)))


@pytest.mark.parametrize("silu", [False, True])
@pytest.mark.parametrize(("groups", "channels"), [(4, 16), (16, 16), (4, 132)])
def test_group_norm_of_planes(ops, jt, groups, channels, silu):
    def stock(x, weight, bias):
        norm = jt.nn.GroupNorm(groups, channels, eps=1e-5)
        norm.weight, norm.bias = weight, bias
        return jt.nn.silu(norm(x)) if silu else norm(x)

    agree(jt, lambda x, weight, bias: ops.group_norm_planes(x, weight, bias, groups, 1e-5, silu), stock,
          *arrays((3, channels, 5, 4), (channels,), (channels,)))


def test_group_norm_of_a_shifted_input(ops, jt):
    def ours(x, shift, weight, bias):
        return ops.group_norm(x, weight, bias, 4, 1e-5, True, shift=3 * shift)

    def stock(x, shift, weight, bias):
        return ops.group_norm(x + 3 * shift.reshape(3, 1, 1, 16), weight, bias, 4, 1e-5, True)

    agree(jt, ours, stock, *arrays((3, 5, 4, 16), (3, 16), (16,), (16,)))


def test_dropout_drops_and_scales_the_same_elements_both_ways(ops, jt):
    x, weight, bias = (jt.array(a) for a in arrays((4, 16, 16, 32), (32,), (32,)))

    def run(seed, p):
        np.random.seed(seed)
        return ops.group_norm(x, weight, bias, 32, 1e-5, True, dropout=p)

    plain, y, again, other = run(0, 0.0).numpy(), run(1, 0.1), run(1, 0.1).numpy(), run(2, 0.1).numpy()
    dropped = y.numpy() == 0
    assert dropped.mean() == pytest.approx(0.1, abs=5 * np.sqrt(0.09 / dropped.size))
    np.testing.assert_allclose(y.numpy()[~dropped], plain[~dropped] / 0.9, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(y.numpy(), again)
    assert np.mean((other == 0) & dropped) == pytest.approx(0.01, abs=5 * np.sqrt(0.01 / dropped.size))
    # A dropped element passes no gradient: the bias collects SiLU's derivative of the kept ones alone.
    got = jt.grad((y * jt.array(dropped.astype(np.float32))).sum(), bias).numpy()
    np.testing.assert_array_equal(got, np.zeros(32))


def test_group_norm_keeps_its_accuracy_at_a_large_mean(ops, jt):
    """Mean 1000 and deviation 1: the textbook E[x^2] - E[x]^2 is wrong by thousands in float32."""
    (x,) = arrays((2, 16, 16, 8))
    x += 1000
    want = x.astype(np.float64).reshape(2, 256, 2, 4)
    want = (want - want.mean((1, 3), keepdims=True)) / np.sqrt(want.var((1, 3), keepdims=True) + 1e-6)
    got = ops.group_norm(jt.array(x), jt.ones(8), jt.zeros(8), 2, 1e-6).numpy()
    np.testing.assert_allclose(got, want.reshape(x.shape), atol=1e-3)
    planes = ops.group_norm_planes(first(jt.array(x)), jt.ones(8), jt.zeros(8), 2, 1e-6)
    np.testing.assert_allclose(last(planes).numpy(), want.reshape(x.shape), atol=1e-3)


CONVOLUTIONS = {  # channels in and out, kernel, stride, padding above, left, below, right
    "3x3": (16, 32, 3, 1, (1, 1, 1, 1)),
    "1x1": (32, 16, 1, 1, (0, 0, 0, 0)),
    "image in": (3, 32, 3, 1, (1, 1, 1, 1)),
    "image out": (32, 3, 3, 1, (1, 1, 1, 1)),
    "strided, padded on every side": (16, 16, 3, 2, (1, 1, 1, 1)),
    "strided, padded below and right": (16, 16, 3, 2, (0, 0, 1, 1)),
}


@pytest.mark.parametrize("case", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_conv2d(ops, jt, case):
    ci, co, kernel, stride, padding = case
    top, left, bottom, right = padding

    def stock(x, weight, bias):
        return last(jt.nn.conv2d(jt.nn.pad(first(x), (left, right, top, bottom)), weight, bias, stride))

    agree(jt, lambda x, w, b: ops.conv2d(x, w, b, stride, padding), stock,
          *arrays((2, 8, 6, ci), (co, ci, kernel, kernel), (co,)))


FILTERED = {  # images, height, width, channels in and out: enough tiles for minimal filtering
    "odd sides": (2, 31, 29, 32, 40),
    "more images than are filtered at once": (3, 64, 62, 32, 32),
}


@pytest.mark.parametrize("case", FILTERED.values(), ids=FILTERED)
def test_conv2d_by_minimal_filtering(ops, jt, case):
    """As exact as float32 allows: against the sums of its definition in float64."""
    n, height, width, ci, co = case
    x, weight, bias, g = arrays((n, height, width, ci), (co, ci, 3, 3), (co,), (n, height, width, co))
    given = [jt.array(each) for each in (x, weight, bias)]
    y = ops.conv2d(*given, 1, (1, 1, 1, 1))
    got = [each.numpy() for each in (y, *jt.grad((y * jt.array(g)).sum(), given))]
    want = sums(x, weight, g, 1, (1, 1, 1, 1))
    for a, b in zip(got, [want[0] + bias, *want[1:], g.sum((0, 1, 2), dtype=np.float64)], strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-6 * np.abs(b).max())


def within_the_format(got, want, of_kept) -> None:
    """As exact as float32, of what bfloat16 keeps of the operands; that alone sets it apart from the exact result."""
    for a, exact, rounded in zip(got, want, of_kept, strict=True):
        np.testing.assert_allclose(a, rounded, rtol=0, atol=3e-6 * np.abs(rounded).max())
        assert 1e-5 < np.abs(a - exact).max() / np.abs(exact).max() < 2.0**-7


@BF16
@pytest.mark.parametrize("case", [(2, 9, 6, *case) for case in CONVOLUTIONS.values()] + [
    (n, height, width, ci, co, 3, 1, (1, 1, 1, 1)) for n, height, width, ci, co in FILTERED.values()])
def test_conv2d_of_bfloat16(ops, jt, case):
    n, height, width, ci, co, kernel, stride, padding = case
    top, left, bottom, right = padding
    shape = n, (height + top + bottom - kernel) // stride + 1, (width + left + right - kernel) // stride + 1, co
    x, weight, g, bias = arrays((n, height, width, ci), (co, ci, kernel, kernel), shape, (co,))
    given = [jt.array(each) for each in (x, weight, bias)]
    y = ops.conv2d(*given, stride, padding, bf16=True)
    got = [each.numpy() for each in (y, *jt.grad((y * jt.array(g)).sum(), given))]

    def exactly(x, weight, g):
        value, *gradients = sums(x, weight, g, stride, padding)
        return [value + bias, *gradients, g.sum((0, 1, 2), dtype=np.float64)]

    within_the_format(got, exactly(x, weight, g), exactly(kept(x), kept(weight), kept(g)))


@BF16
def test_conv_transpose2d_of_bfloat16(ops, jt):
    x, weight, g, bias = arrays((2, 4, 3, 16), (16, 32, 4, 4), (2, 8, 6, 32), (32,))
    given = [jt.array(each) for each in (x, weight)]
    y = ops.conv_transpose2d(*given, jt.array(bias), stride=2, padding=1, bf16=True)
    got = [each.numpy() for each in (y, *jt.grad((y * jt.array(g)).sum(), given))]

    def exactly(x, weight, g):
        by_x, value, by_weight = sums(g, weight, x, 2, (1, 1, 1, 1))
        return value + bias, by_x, by_weight

    within_the_format(got, exactly(x, weight, g), exactly(kept(x), kept(weight), kept(g)))


@BF16
def test_a_linear_layer_of_bfloat16(fw, ops, jt):
    x, g = arrays((5, 48), (5, 24))
    layer = fw.network.as_run(jt.nn.Linear(48, 24), {"onednn", "bf16"})
    weight, bias, given = layer.weight.numpy(), layer.bias.numpy(), jt.array(x)
    y = layer(given)
    got = [each.numpy() for each in (y, *jt.grad((y * jt.array(g)).sum(), [given, layer.weight]))]

    def exactly(x, weight, g):
        return x @ weight.T + bias, g @ weight, g.T @ x

    wide = [each.astype(np.float64) for each in (x, weight, g)]
    within_the_format(got, exactly(*wide), exactly(*(kept(each).astype(np.float64) for each in (x, weight, g))))
    assert type(given.numpy().flat[0]) is type(layer.weight.numpy().flat[0]) is np.float32


@BF16
def test_attention_of_bfloat16(ops, jt):
    q, k, v, g = arrays((3, 9, 16), (3, 17, 16), (3, 17, 16), (3, 9, 16))
    given = [jt.array(each) for each in (q, k, v)]
    o = ops.attention(*given, bf16=True)
    got = [each.numpy() for each in (o, *jt.grad((o * jt.array(g)).sum(), given))]

    def exactly(q, k, v, g, kept=lambda x: x):
        q, k, v, g = (kept(each).astype(np.float64) for each in (q, k, v, g))
        scores = np.exp(q @ k.swapaxes(1, 2) / 4)
        p = scores / scores.sum(-1, keepdims=True)
        wanted = g @ v.swapaxes(1, 2)
        s = kept(p * (wanted - (wanted * p).sum(-1, keepdims=True)) / 4)
        return kept(p) @ v, s @ k, s.swapaxes(1, 2) @ q, kept(p).swapaxes(1, 2) @ g

    for a, exact, rounded in zip(got, exactly(q, k, v, g), exactly(q, k, v, g, kept), strict=True):
        # Probabilities so near to the middle of two numbers that float32 rounds them otherwise are few.
        assert np.median(np.abs(a - rounded)) < 1e-6 and np.abs(a - rounded).max() < 2.0**-8 * np.abs(exact).max()
        assert 1e-4 < np.abs(a - exact).max() / np.abs(exact).max() < 2.0**-6


@BF16
def test_bfloat16_is_proven_by_the_arms_own_layers(fw, ops):
    options = frozenset({"onednn", "bf16"})
    own, plain = (fw.swaps.chosen(each) for each in (options, {"onednn"}))
    found = fw.precision.measured(options, own)
    assert found == Measured("bfloat16", "bfloat16") and found.dtype == "bfloat16"
    found.require(options)
    for value in (FINE, COARSE):
        assert fw.precision.attention(own, value) == (1.0,)
        assert fw.precision.attention(plain, value) == (value,)
    with pytest.raises(UnavailableError, match="option bf16: .* convolutions in float32 here: leave the option out"):
        Measured("bfloat16", "float32").require(options)


def test_bfloat16_without_units_is_refused(fw, ops, monkeypatch, tmp_path):
    (tmp_path / "cpuinfo").write_text("flags\t\t: fpu avx512f\n")
    monkeypatch.setattr(devices, "CPUINFO", tmp_path / "cpuinfo")
    with pytest.raises(UnavailableError) as refused:
        parse_arm("jittor:onednn+bf16").create("cpu", 1)
    assert str(refused.value) == "option bf16 needs a processor with avx512_bf16 or amx_bf16: leave it out"


@BF16
@pytest.mark.slow
def test_a_training_in_bfloat16_goes_as_one_in_float32(fw, ops):
    """Means of 50 losses of `tiny` lie nearer to float32 of the same seed than float32's seeds lie apart.

    The first 200 steps of the 400 of docs/performance.md. Not always within their band: its edge may be that seed.
    """
    data = images(512)
    curves = {}
    for options, seed in ((("onednn",), 0), (("onednn",), 1), (("onednn",), 2), (("bf16", "onednn"), 0)):
        chosen = merged(preset("tiny"), {"seed": seed, "train": {
            "batch_size": 2, "lr": 1e-3, "warmup_steps": 20, "randomness": "matched"}}, "test")
        trained = fw.backend.create(options, "cpu", 1).trainer(chosen, data)
        losses = []
        for _ in range(200):
            trained.step()
            losses += trained.losses()
        curves[options, seed] = np.array(losses).reshape(4, 50).mean(axis=1)
        print(options, seed, curves[options, seed].round(4))  # noqa: T201 - figures for docs/performance.md
        trained.close()
    *seeds, rounded = curves.values()
    low, high = np.min(seeds, axis=0), np.max(seeds, axis=0)
    assert rounded[-1] < rounded[0] / 3
    assert np.all(np.abs(rounded - seeds[0]) < high - low)


def test_conv_transpose2d(ops, jt):
    agree(jt, lambda x, w, b: ops.conv_transpose2d(x, w, b, stride=2, padding=1),
          lambda x, w, b: last(jt.nn.conv_transpose2d(first(x), w, b, stride=2, padding=1)),
          *arrays((2, 4, 3, 16), (16, 32, 4, 4), (32,)))


def test_concat(ops, jt):
    agree(jt, ops.concat, lambda a, b: jt.concat([a, b], dim=3), *arrays((2, 3, 4, 5), (2, 3, 4, 7)))


def test_upsample(ops, jt):
    agree(jt, ops.upsample, lambda x: x.reindex([2, 6, 8, 5], ["i0", "i1/2", "i2/2", "i3"]), *arrays((2, 3, 4, 5)))


SHAPES = {
    "paper's layout": {},
    "wide layout": {"attention_layout": "linear", "upsample": "transposed", "downsample_padding": "symmetric"},
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_network_is_the_plain_one(fw, ops, jt, shape):
    model = ModelConfig(image_size=8, base_channels=32, channels=(32, 64), attention_resolutions=(4,), dropout=0.0,
                        blocks_per_level=1, **shape)
    plain, ours = fw.unet.UNet(model), import_module("impls.jittor.onednn.unet").OneDNNUNet(model)
    draw = np.random.default_rng(0)
    for (name, p), (other, q) in zip(plain.named_parameters(), ours.named_parameters(), strict=True):
        assert name == other
        value = (draw.standard_normal(p.shape) * 0.1).astype(np.float32)
        p.update(jt.array(value))
        q.update(jt.array(value))
    x, weights = arrays((2, 3, 8, 8), (2, 3, 8, 8))
    results = []
    for network in (plain, ours):
        network.train()
        eps = network(jt.array(x), jt.array(np.array([3, 900])))
        grads = jt.grad((eps * jt.array(weights)).sum(), list(network.parameters()))
        results.append((eps.numpy().copy(), [g.numpy().copy() for g in grads]))
    (want, want_grads), (got, got_grads) = results
    assert np.abs(want).max() > 0.1
    np.testing.assert_allclose(got, want, atol=1e-5)
    largest = max(np.abs(g).max() for g in want_grads)
    for a, b in zip(got_grads, want_grads, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5 * largest)


def reference_adam(params, gradient, steps, lr, grad_clip, ema_decay):
    """Kingma & Ba 2015, algorithm 1, in float64, with clipping and averaging around it."""
    params = {name: p.astype(np.float64) for name, p in params.items()}
    m, v = ({name: np.zeros_like(p) for name, p in params.items()} for _ in range(2))
    ema = {name: p.copy() for name, p in params.items()}
    for step in range(1, steps + 1):
        grads = {name: gradient(p) for name, p in params.items()}
        norm = np.sqrt(sum((g**2).sum() for g in grads.values()))
        scale = min(1.0, grad_clip / (norm + 1e-6)) if grad_clip else 1.0
        for name, g in grads.items():
            m[name] = 0.9 * m[name] + 0.1 * scale * g
            v[name] = 0.999 * v[name] + 0.001 * (scale * g) ** 2
            params[name] -= lr * (m[name] / (1 - 0.9**step)) / (np.sqrt(v[name] / (1 - 0.999**step)) + 1e-8)
            ema[name] = ema_decay * ema[name] + (1 - ema_decay) * params[name]
    return params, m, v, ema, norm


@pytest.mark.parametrize("grad_clip", [None, 1.0])
def test_adam_follows_the_paper(jt, grad_clip):
    start = dict(zip("abc", arrays((3, 5, 2), (70000,), (1,)), strict=True))
    params = {name: jt.array(p) for name, p in start.items()}
    adam = import_module("impls.jittor.onednn.adam").OneDNNAdam(params, grad_clip, ema_decay=0.9)
    for _ in range(3):
        norm = adam.update([3 * p * p for p in params.values()], lr=1e-2)
        # One of `jt.code` would be written anew by each process that starts: 12 s with several hundred parameters.
        operators = " ".join(jt.dump_all_graphs().nodes_info)
        assert ",ddpm_adam->" in operators and ",code->" not in operators
    want, m, v, ema, want_norm = reference_adam(start, lambda p: 3 * p * p, 3, 1e-2, grad_clip, 0.9)
    assert norm.item() == pytest.approx(want_norm, rel=1e-5)
    for name in start:
        np.testing.assert_allclose(params[name].numpy(), want[name], atol=2e-6)
        np.testing.assert_allclose(adam.arrays("ema")[name], ema[name], atol=2e-6)
        np.testing.assert_allclose(adam.arrays("exp_avg")[name], m[name], rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(adam.arrays("exp_avg_sq")[name], v[name], rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_adam_goes_on_exactly_from_its_arrays(jt, ema_decay):
    start = dict(zip("ab", arrays((3, 5), (7,)), strict=True))

    def run(params, adam, steps):
        for _ in range(steps):
            adam.step(sum((p * p).sum() for p in params.values()), lr=1e-2)

    params = {name: jt.array(p) for name, p in start.items()}
    adam = import_module("impls.jittor.onednn.adam").OneDNNAdam(params, None, ema_decay)
    run(params, adam, 2)
    middle = {name: p.numpy().copy() for name, p in params.items()}
    saved = {what: adam.arrays(what) for what in adam.flat}
    run(params, adam, 2)
    again = {name: jt.array(p) for name, p in middle.items()}
    resumed = import_module("impls.jittor.onednn.adam").OneDNNAdam(again, None, ema_decay)
    resumed.load_arrays(saved, 2)
    run(again, resumed, 2)
    for name in start:
        assert np.abs(params[name].numpy() - middle[name]).max() > 1e-3
        np.testing.assert_array_equal(again[name].numpy(), params[name].numpy())
        for what in saved:
            np.testing.assert_array_equal(resumed.arrays(what)[name], adam.arrays(what)[name])


def test_without_onednn_the_option_is_refused(ops, jt, monkeypatch):
    monkeypatch.setattr(jt.compile_extern, "use_mkl", False)
    with pytest.raises(UnavailableError, match="use_mkl"):
        ops.load.__wrapped__()
