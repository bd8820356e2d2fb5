"""The arm `diffusers`: the public UNet2DModel and DDIMScheduler, trained and sampled by the same loops.

It is a yardstick for the arm `pytorch`, not part of the product. With this folder on PYTHONPATH any suite knows it:

    PYTHONPATH=tests/peers python run_bench.py --arms pytorch,diffusers --preset ddpm --batch-size 8

State-dict names and shapes are ours, so that the parity gate holds the two against each other.
"""

from __future__ import annotations

from unittest import mock

import torch
from diffusers import DDIMScheduler, UNet2DModel

from impls.pytorch import backend, network, optimizer, sampler, trainer
from impls.recipe.config import ModelConfig
from impls.recipe.schedule import sampling_timesteps
from impls.registry import BackendSpec
from impls.store.diffusers import modules

SPEC = BackendSpec(name="diffusers", module="diffusers_peer", options={})


def unet2d(config: ModelConfig) -> UNet2DModel:
    """Their network of our shape."""
    attention = [config.image_size // 2**level in config.attention_resolutions for level in range(len(config.channels))]
    assert config.channels[0] == config.base_channels
    return UNet2DModel(
        sample_size=config.image_size, in_channels=config.image_channels, out_channels=config.image_channels,
        block_out_channels=config.channels, layers_per_block=config.blocks_per_level, dropout=config.dropout,
        down_block_types=tuple("AttnDownBlock2D" if each else "DownBlock2D" for each in attention),
        up_block_types=tuple("AttnUpBlock2D" if each else "UpBlock2D" for each in reversed(attention)),
        norm_eps=config.group_norm_eps, norm_num_groups=config.groups, attention_head_dim=config.head_channels,
        downsample_padding=0 if config.downsample_padding == "asymmetric" else 1, add_attention=config.middle_attention,
        attn_norm_num_groups=config.middle_groups or None, freq_shift=config.time_frequency_shift,
        flip_sin_to_cos=config.time_cosine_first,
        resnet_time_scale_shift="scale_shift" if config.time_scale_shift else "default")


def outside(name, array):
    """A weight in our shape."""
    linear = ".attention." in name and name.endswith("weight") and ".norm." not in name
    return array[:, :, None, None] if linear else array


class PeerNetwork(network.Network):
    """See `impls.pytorch.network.Network`; their linear projections are 1x1 convolutions outside."""

    def __init__(self, config, device, options, operators, training):
        self.config, self.device, self.options = config, device, options
        self.memory_format = torch.contiguous_format
        self.unet = unet2d(config).to(device).train(training).requires_grad_(training)
        self.forward = lambda x, t: self.unet(x, t, return_dict=False)[0]
        theirs = dict(self.unet.named_parameters())
        self.params = {f"{own}.{kind}": theirs[f"{other}.{kind}"] for own, other in modules(config)
                       for kind in ("weight", "bias") if f"{other}.{kind}" in theirs}
        assert len(self.params) == len(theirs)

    @property
    def parameter_count(self):
        return sum(p.numel() for p in self.params.values())

    @property
    def shapes(self):
        return {name: tuple(outside(name, p).shape) for name, p in self.params.items()}

    @torch.no_grad()
    def load(self, params):
        for name, p in self.params.items():
            p.copy_(torch.tensor(params[name]).reshape(p.shape))

    def arrays(self):
        return {name: outside(name, array) for name, array in super().arrays().items()}


class PeerAdam(optimizer.Adam):
    """Our update over their weights."""

    def arrays(self, what):
        return {name: outside(name, array) for name, array in super().arrays(what).items()}

    def load_arrays(self, arrays, steps):
        inside = {what: given and {name: given[name].reshape(p.shape) for name, p in self.params.items()}
                  for what, given in arrays.items()}
        super().load_arrays(inside, steps)


class PeerTrainer(trainer.Trainer):
    """Our training step around their network."""

    def gradients(self):
        loss, found = super().gradients()
        return loss, {name: outside(name, array) for name, array in found.items()}


class PeerSampler(sampler.Sampler):
    """The loop of their DDIMPipeline; DDPM and native noise as ours."""

    def chain(self, n, seed, method, steps, eta, spacing, first=0, launch=True):
        T = self.schedule.T
        if method == "ddpm" or spacing != "uniform" or T % (steps or T):
            yield from super().chain(n, seed, method, steps, eta, spacing, first, launch)
            return
        scheduler = DDIMScheduler(num_train_timesteps=T, clip_sample=True, set_alpha_to_one=True, steps_offset=0)
        scheduler.set_timesteps(steps or T)
        assert scheduler.timesteps.tolist() == sampling_timesteps(T, method, steps, spacing)
        x = self.noise(n, seed, first)(T)
        for t in scheduler.timesteps:
            with torch.no_grad():
                eps = self.unet(x, t).sample
                self.predicted = eps
                x = scheduler.step(eps, t, x, eta=eta, use_clipped_model_output=True).prev_sample
            yield x

    @property
    def unet(self):
        return self.network.unet


def create(options, device, threads):
    """See `impls.registry.Arm.create`."""
    mock.patch.multiple(trainer, Network=PeerNetwork, Adam=PeerAdam).start()
    mock.patch.multiple(sampler, Network=PeerNetwork).start()
    mock.patch.multiple(backend, Trainer=PeerTrainer, Sampler=PeerSampler).start()
    return backend.create(options, device, threads)
