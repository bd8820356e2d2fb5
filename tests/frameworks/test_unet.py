"""The network: its size, its keys, its initialisation, and its agreement with diffusers' UNet2DModel."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from small_training import config, device, images, set_weights, trainer, weights

from impls.recipe.config import ModelConfig, preset
from impls.recipe.operators import operators
from impls.store.diffusers import load_diffusers

# Runs in a process of its own: diffusers imports PyTorch, which must not meet Jittor.
REFERENCE = """
import json, sys
import numpy as np, torch
from diffusers import UNet2DModel

for name, (options, saving) in json.loads(sys.argv[2]).items():
    torch.manual_seed(0)
    model = UNet2DModel(sample_size=16, layers_per_block=1, **options).eval()
    folder = f"{sys.argv[1]}/{name}"
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * torch.randn_like(p))  # biases and norms are not what they start as
        kind = torch.float16 if saving else torch.float32
        model.to(kind).save_pretrained(folder, **saving)
        model.float()
        x, t = torch.randn(3, options.get("in_channels", 3), 16, 16), torch.tensor([0, 17, 999])
        y = model(x, t).sample
    np.savez(folder + "/case.npz", x=x.numpy(), t=t.numpy(), y=y.numpy())
"""
# Options of UNet2DModel and of save_pretrained; what is not named has diffusers' own default: heads of 8 channels,
# cosines first, no shift of the frequencies, symmetric padding.
DDPM = {"block_out_channels": (32, 64), "norm_eps": 1e-6, "downsample_padding": 0, "flip_sin_to_cos": False,
        "freq_shift": 1, "attention_head_dim": None,
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D")}
PLACES = {name: DDPM[name] for name in ("down_block_types", "up_block_types")}
PUBLIC = {
    "ddpm": (DDPM, {}),
    "defaults": ({**PLACES, "block_out_channels": (32, 48), "in_channels": 1, "out_channels": 1,
                  "norm_num_groups": 16}, {}),
    # Odd widths, heads that do not fill them, no normalisation before the middle attention; shards of a variant.
    "scale and shift": ({**PLACES, "block_out_channels": (15, 35), "in_channels": 4, "out_channels": 4,
                         "norm_num_groups": 5, "attention_head_dim": 7, "freq_shift": 0.5,
                         "resnet_time_scale_shift": "scale_shift"}, {"variant": "fp16", "max_shard_size": "60KB"}),
    "no attention in the middle": ({**PLACES, "block_out_channels": (32, 32), "add_attention": False,
                                    "act_fn": "swish", "norm_num_groups": 8}, {}),
}


@pytest.fixture(scope="session")
def public(tmp_path_factory):
    """A folder with a diffusers model for every entry of PUBLIC, and what it predicts."""
    place = tmp_path_factory.mktemp("public")
    subprocess.run([sys.executable, "-c", REFERENCE, str(place), json.dumps(PUBLIC)], check=True, capture_output=True,
                   env={**os.environ, "HF_HUB_OFFLINE": "1"})
    return place


@pytest.mark.parametrize(("name", "count"), [("tiny", 2_329_603), ("ddpm", 35_746_307), ("seed", 201_373_315)])
def test_parameter_counts(fw, name, count):
    assert fw.unet.parameter_count(fw.unet.UNet(preset(name).model)) == count


def test_keys_and_shapes_are_the_documented_ones(fw):
    unet = fw.unet.UNet(preset("ddpm").model)
    shapes = {name: tuple(p.shape) for name, p in unet.named_parameters()}
    assert shapes["conv_in.weight"] == (128, 3, 3, 3)
    assert shapes["time1.weight"] == (512, 128)
    assert shapes["down.3.attention.q.weight"] == (256, 256, 1, 1)
    assert shapes["down.3.shortcut.weight"] == (256, 128, 1, 1)
    assert shapes["up.0.conv1.weight"] == (256, 512, 3, 3)
    assert shapes["norm_out.bias"] == (128,)
    assert set(shapes) == set(unet.state_dict())
    linear = fw.unet.UNet(ModelConfig(base_channels=32, channels=(32, 64), attention_layout="linear",
                                      upsample="transposed", init="framework"))
    shapes = {name: tuple(p.shape) for name, p in linear.named_parameters()}
    assert shapes["middle.0.attention.out.weight"] == (64, 64)
    assert shapes["up.3.conv.weight"] == (64, 64, 4, 4)


VARIANTS = {
    "ddpm-like": {},
    "seed-like": {"attention_layout": "linear", "upsample": "transposed", "downsample_padding": "symmetric",
                  "up_narrowing": "last"},
    "scale and shift": {"image_channels": 1, "base_channels": 15, "channels": [15, 35], "groups": 5,
                        "head_channels": 8, "time_scale_shift": True, "middle_attention_groups": 0}}


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_list_of_operators_has_every_parameter(fw, variant):
    model = config(model=VARIANTS[variant]).model
    listed = {}
    for operator in operators(model):
        if operator.weight is not None:
            listed |= {f"{operator.module}.weight": operator.weight, f"{operator.module}.bias": operator.bias}
    assert listed == {name: tuple(p.shape) for name, p in fw.unet.UNet(model).named_parameters()}


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_list_of_operators_is_what_runs(fw, variant):
    if fw.name != "pytorch":
        pytest.skip("Jittor's hooks change its classes for good; the twin has the same modules")
    import torch

    model = config(model={**VARIANTS[variant], "dropout": 0.1}).model
    unet, ran = fw.unet.UNet(model), []
    kinds = {torch.nn.Conv2d: "conv2d", torch.nn.ConvTranspose2d: "conv_transpose2d", torch.nn.Linear: "linear",
             torch.nn.Dropout: "dropout", fw.unet.GroupNorm: "group_norm"}
    for path, module in unet.named_modules():
        if type(module) in kinds:
            module.register_forward_hook(lambda module, args, out, path=path: ran.append(
                (path, kinds[type(module)], tuple(args[0].shape[1:]), tuple(out.shape[1:]))))
    unet(torch.zeros(2, model.image_channels, model.image_size, model.image_size), torch.tensor([0, 1]))
    assert ran == [(operator.module, operator.kind, operator.inputs[0], operator.output)
                   for operator in operators(model) if operator.kind in kinds.values()]


@pytest.mark.parametrize("name", PUBLIC)
def test_reproduces_diffusers_unet2dmodel(fw, public, name):
    found = load_diffusers(public / name)
    assert (found.stored == "float16") == found.file.name.endswith(".json") == (name == "scale and shift")
    case = np.load(public / name / "case.npz")
    assert np.abs(case["y"]).max() > 0.5
    data = images(size=16)[..., [0] * found.config.image_channels]
    for options in [(), ("onednn",)] if fw.name == "jittor" else [()]:
        subject = trainer(fw, data, options, model=found.config.model_dump())
        set_weights(subject, found.params)
        eps = subject.predict(case["x"], case["t"])
        np.testing.assert_allclose(eps, case["y"], rtol=0, atol=2e-5, err_msg=str(options))


@pytest.mark.parametrize("model", [
    {"attention_layout": "linear", "upsample": "transposed", "downsample_padding": "symmetric", "group_norm_eps": 1e-5,
     "up_narrowing": "last"}, {}], ids=["seed-like", "ddpm-like"])
def test_every_parameter_matters(fw, model):
    """A gradient of exactly zero means a layer that is not wired in (apart from biases that a GroupNorm removes)."""
    subject = trainer(fw, model={**model, "groups": 8})
    set_weights(subject, weights(subject, seed=3))
    _, gradients = subject.gradients()
    dead = [name for name, gradient in gradients.items() if not np.abs(gradient).max() > 0]
    assert [name for name in dead if not name.endswith(".attention.k.bias")] == []


def test_initialisation_follows_ddpm(fw):
    arrays = trainer(fw, model={"init": "ddpm", "channels": [64, 64]}).state().params
    for name, array in arrays.items():
        if name.endswith("bias"):
            assert not array.any(), name
    conv = arrays["middle.1.conv1.weight"]
    bound = np.sqrt(3 / ((conv.shape[0] + conv.shape[1]) * 9 / 2))
    assert 0.98 * bound < np.abs(conv).max() <= bound
    assert abs(conv.std() / (bound / np.sqrt(3)) - 1) < 0.02
    assert np.abs(arrays["middle.1.conv2.weight"]).max() < 1e-5
    assert np.abs(arrays["conv_out.weight"]).max() < 1e-5
    assert np.abs(arrays["middle.0.attention.out.weight"]).max() < 1e-5


def test_timestep_embedding_closed_form(fw):
    subject = trainer(fw)
    t = np.array([0, 1, 500, 999])
    got = np.asarray(fw.unet.timestep_embedding(fw.data.to_device(t, *device(subject)), 8).numpy())
    angles = t[:, None] * 10000.0 ** (-np.arange(4) / 3)
    np.testing.assert_allclose(got, np.concatenate([np.sin(angles), np.cos(angles)], axis=1), atol=1e-4)


def test_group_norm_survives_a_large_mean(fw):
    rng = np.random.default_rng(0)
    x = (1000 + rng.standard_normal((2, 8, 4, 4))).astype(np.float32)
    weight, bias = np.linspace(0.5, 2, 8, dtype=np.float32), np.linspace(-1, 1, 8, dtype=np.float32)
    place = device(trainer(fw))
    got = fw.ops.STOCK.group_norm(*(fw.data.to_device(a, *place) for a in (x, weight, bias)), 2, 1e-5).numpy()
    grouped = x.astype(np.float64).reshape(2, 2, -1)
    z = (grouped - grouped.mean(-1, keepdims=True)) / np.sqrt(grouped.var(-1, keepdims=True) + 1e-5)
    want = z.reshape(x.shape) * weight[:, None, None] + bias[:, None, None]
    np.testing.assert_allclose(got, want, atol=5e-4)


def test_dropout_drops_in_training_only(fw):
    def prediction(dropout):
        subject = trainer(fw, model={"dropout": dropout})
        set_weights(subject, weights(subject, seed=1))
        x = np.ones((2, 3, 16, 16), np.float32)
        first, second = subject.predict(x, np.array([3, 4])), subject.predict(x, np.array([3, 4]))
        np.testing.assert_array_equal(first, second)
        loss, _ = subject.gradients()
        return first, loss

    (without, loss_without), (with_dropout, loss_with) = prediction(0.0), prediction(0.5)
    np.testing.assert_allclose(without, with_dropout, atol=1e-6)
    assert abs(loss_with - loss_without) > 1e-4 * loss_without


def test_predict_leaves_training_alive(fw):
    subject = trainer(fw)
    subject.predict(images(2).transpose(0, 3, 1, 2).astype(np.float32), np.array([1, 2]))
    before = subject.state().params
    subject.step()
    after = subject.state().params
    assert sum(np.abs(after[name] - before[name]).max() > 0 for name in after) > len(after) // 2
