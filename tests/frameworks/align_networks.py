"""Small networks of PyTorch, traced twice in one process: as they are, with another arithmetic, with a fault."""

from __future__ import annotations

import copy
import math
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

from harness.protocol.tracing import Trace
from harness.suites.align.compare import TWINS, Traces
from harness.suites.align.run import lines
from harness.worker.tracing import trace as trace_into
from impls.pytorch.trace import Traced, trace
from impls.store.traces import TraceFolder

COMMON = {"part": "align", "arm_a": "A", "arm_b": "B", "reference": "A", "batch_size": 2}


class Scaled(nn.Module):
    """Integers as fractions."""

    whole = False

    def forward(self, t):
        return (t // 350 if self.whole else t / 350).float()


class Block(nn.Module):
    """Two convolutions with a timestep between them, as in a U-Net; what is no module stands in its own code."""

    stopped = False

    def __init__(self, c_in, c_out, groups):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(groups, c_in), nn.Conv2d(c_in, c_out, 3, padding=1)
        self.time, self.norm2 = nn.Linear(8, c_out), nn.BatchNorm2d(c_out)
        self.dropout, self.conv2 = nn.Dropout(0.2), nn.Conv2d(c_out, c_out, 3, padding=1)
        self.shortcut = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()

    def forward(self, x, time):
        # In place, as users write it.
        h = self.conv1(nn.functional.silu(self.norm1(x))).add_(self.time(time)[:, :, None, None])
        h = h.detach() if self.stopped else h
        return self.conv2(self.dropout(nn.functional.relu(self.norm2(h)))) + self.shortcut(x)


class Mlp(nn.Module):
    """As in a transformer; its gelu is a function, not a module."""

    form = "none"

    def __init__(self, width):
        super().__init__()
        self.norm, self.fc1, self.fc2 = nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x):
        return x + self.fc2(nn.functional.gelu(self.fc1(self.norm(x)), approximate=self.form))


class Network(nn.Module):
    """Images and integer timesteps to images: convolutions, attention, resizing."""

    def __init__(self, channels=8, groups=4, blocks=2):
        super().__init__()
        self.scaled, self.embed = Scaled(), nn.Sequential(nn.Linear(1, 8), nn.GELU(), nn.Linear(8, 8))
        self.conv_in = nn.Conv2d(3, channels, 3, padding=1)
        self.blocks = nn.ModuleList(Block(channels, channels, groups) for _ in range(blocks))
        self.down = nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1)
        self.middle = Block(2 * channels, 2 * channels, groups)
        self.attention = nn.MultiheadAttention(2 * channels, 2, batch_first=True)
        self.mlp = Mlp(2 * channels)
        self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        self.last, self.act = Block(3 * channels, channels, groups), nn.GELU()
        self.norm_out, self.conv_out = nn.GroupNorm(groups, channels), nn.Conv2d(channels, 3, 3, padding=1)

    def forward(self, x, t):
        time = self.embed(self.scaled(t)[:, None])
        h = self.conv_in(x)
        for block in self.blocks:
            h = block(h, time)
        low = self.middle(self.down(h), time)
        flat = low.flatten(2).transpose(1, 2)
        flat = self.mlp(flat + self.attention(flat, flat, flat)[0])
        low = flat.transpose(1, 2).reshape(low.shape)
        h = self.last(torch.cat([h, self.up(low)], 1), time)
        return self.conv_out(self.act(self.norm_out(h)))


class Training:
    """One way to train a network; see `impls.recipe.trace.Training`."""

    info = SimpleNamespace(framework="PyTorch")

    def __init__(self, network, seed=0, optimizer="adam", clip=1.0, mean=0.0, **options):
        self.network, self.clip, self.options, self.kind = network.train(), clip, options, optimizer
        rng = np.random.default_rng(seed)
        self.batches = [(torch.tensor(rng.standard_normal((2, 3, 12, 12), np.float32) + np.float32(mean)),
                         torch.tensor(rng.integers(0, 1000, 2)), torch.tensor(
                             rng.standard_normal((2, 3, 12, 12), np.float32))) for _ in range(6)]
        self.twice = False
        self.new()

    def new(self):
        kinds = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}
        self.optimizer = kinds[self.kind](self.network.parameters(), **{"lr": 1e-3, **self.options})
        self.steps = 0

    def loss_of_step(self):
        x, t, wanted = self.batches[self.steps]
        return nn.functional.mse_loss(self.network(x, t), wanted)

    def weights(self):
        return {name: p.detach().numpy().copy() for name, p in self.network.named_parameters()}

    def trained(self):
        return [name for name, _ in self.network.named_parameters()]

    @torch.no_grad()
    def begin(self, weights):
        for name, p in self.network.named_parameters():
            p.copy_(torch.tensor(weights[name]))
        self.new()

    def update(self, gradients):
        for name, p in self.network.named_parameters():
            p.grad = torch.tensor(gradients[name])
        self.moved()

    def moved(self):
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.clip)
        self.optimizer.step()

    def moments(self):
        found = {}
        for name, p in self.network.named_parameters():
            for what, value in self.optimizer.state.get(p, {}).items():
                if torch.is_tensor(value) and value.shape == p.shape:
                    found.setdefault(what, {})[name] = value.numpy().copy()
        return found

    def one_step(self):
        kept = {name: value.clone() for name, value in self.network.named_buffers()}
        drops = [(one, one.p) for one in self.network.modules() if isinstance(one, nn.Dropout)]
        for one, _ in drops:
            one.p = 0.0
        for _ in range(2 if self.twice else 1):
            loss = self.loss_of_step()
            self.optimizer.zero_grad()
            if loss.requires_grad:
                loss.backward()
            self.moved()
        self.steps += 1
        for one, p in drops:
            one.p = p
        for name, value in self.network.named_buffers():
            value.copy_(kept[name])
        return loss.item()

    def trace(self, twin, sink, feed, steps):
        return trace(Traced(self.network), self, twin, sink, feed, steps)


def network(seed=0, far=0.0, **shape):
    """A network with random weights, nothing zero or one; `far` moves what its first norm takes in from zero."""
    torch.manual_seed(seed)
    made = Network(**shape)
    with torch.no_grad():
        for p in made.parameters():
            p.add_(0.1 * torch.randn_like(p))
        made.conv_in.bias.add_(far)
    return made


def reference(training, folder):
    """Trace it, with its twins."""
    trace_into(training, Trace(output=str(folder), twin="plain"))
    for twin in ("plain", *TWINS):
        if twin != "plain":
            trace_into(training, Trace(output=str(folder), twin=twin))
        trace_into(training, Trace(output=str(folder), twin=twin, feed=str(folder), steps=3))
    return folder


def held_against(folder, training, own):
    """What is said of another training, held against a traced one."""
    trace_into(training, Trace(output=str(own), twin="plain"))
    trace_into(training, Trace(output=str(own), twin="plain", feed=str(folder), steps=3))
    return lines(Traces(TraceFolder(folder), TraceFolder(own), ("float32", "float32")), COMMON)


def copied(training, **changes):
    """The same training of a copy of the network."""
    made = copy.deepcopy(training)
    for name, value in changes.items():
        setattr(made, name, value)
    made.new()
    return made


def clean(seed):
    """A random training, and the same with another arithmetic."""
    rng = np.random.default_rng(seed)
    groups = int(rng.choice([1, 2, 4]))
    training = Training(network(seed, channels=groups * int(rng.integers(1, 4)) * 2, groups=groups,
                                blocks=int(rng.integers(1, 4))), seed, mean=float(rng.choice([0.0, 0.5, 3.0])),
                        optimizer=str(rng.choice(["adam", "sgd"])))
    return training, copied(training, network=otherwise(training.network))


def kinked(name, seed=0):
    """The same two, a number that this norm gives to a ReLU lying on both sides of 0, but on one in all twins."""
    training = Training(network(seed), seed)
    other = copied(training, network=otherwise(training.network))
    norms = [one.network.get_submodule(name) for one in (training, other)]
    bias = norms[0].bias.detach().clone()
    made = [given(one, name) for one in (training, other)]
    for place in np.argsort(-np.abs(made[0] - made[1]), axis=None):
        at = np.unravel_index(place, made[0].shape)
        with torch.no_grad():
            for norm in norms:
                norm.bias.copy_(bias)
                norm.bias[at[1]] -= float(made[0][at] + made[1][at]) / 2
        own, *twins = (given(training, name, twin)[at] > 0 for twin in ("plain", *TWINS))
        if twins == [own] * len(TWINS) and own != (given(other, name)[at] > 0):
            return training, other
    raise AssertionError("both have the same arithmetic")


def given(training, name, twin="plain"):
    """What a module gives in a trace."""
    groups = {}
    calls = training.trace(twin, groups.__setitem__, None, 1)
    number = next(call.number for call in calls if call.name == name)
    return groups[f"out {number}"]["output 0"]


def added(x, dims):
    """A sum as a loop has it that adds one number after another."""
    x = x.movedim(dims, tuple(range(len(dims)))).flatten(0, len(dims) - 1)
    total = torch.zeros_like(x[0])
    for part in x.split(max(1, len(x) // 97)):
        total = total + part.flip(0).sum(0)
    return total


class OtherLinear(nn.Linear):
    def forward(self, x):
        half = self.in_features // 2
        return (x[..., half:] @ self.weight[:, half:].T + self.bias) + x[..., :half] @ self.weight[:, :half].T


class OtherConv(nn.Conv2d):
    def forward(self, x):
        columns = nn.functional.unfold(x, self.kernel_size, padding=self.padding, stride=self.stride).flip(1)
        made = self.weight.flatten(1).flip(1) @ columns + self.bias[:, None]
        size = [(n + 2 * p - k) // s + 1 for n, p, k, s in zip(
            x.shape[2:], self.padding, self.kernel_size, self.stride, strict=True)]
        return made.reshape(len(x), -1, *size)


class OtherGroupNorm(nn.GroupNorm):
    def forward(self, x):
        rows = x.reshape(len(x) * self.num_groups, -1)
        centred = rows - added(rows, (1,))[:, None] / rows.shape[1]
        variance = added(centred**2, (1,))[:, None] / rows.shape[1]
        return (centred / torch.sqrt(variance + self.eps)).reshape(x.shape) * self.weight[:, None, None] + self.bias[
            :, None, None]


class OtherLayerNorm(nn.LayerNorm):
    def forward(self, x):
        centred = x - x.flip(-1).mean(-1, keepdim=True)
        return centred * torch.rsqrt((centred**2).mean(-1, keepdim=True) + self.eps) * self.weight + self.bias


class OtherBatchNorm(nn.BatchNorm2d):
    def forward(self, x):
        count = x.numel() // x.shape[1]
        mean = added(x, (0, 2, 3)) / count
        centred = x - mean[:, None, None]
        variance = added(centred**2, (0, 2, 3)) / count
        with torch.no_grad():
            self.running_mean += self.momentum * (mean - self.running_mean)
            self.running_var += self.momentum * (variance * count / (count - 1) - self.running_var)
        return centred / torch.sqrt(variance + self.eps)[:, None, None] * self.weight[:, None, None] + self.bias[
            :, None, None]


class OtherGelu(nn.GELU):
    def forward(self, x):
        return x * (torch.erf(x * math.sqrt(0.5)) + 1) * 0.5


OTHERS = {nn.Linear: OtherLinear, nn.Conv2d: OtherConv, nn.GroupNorm: OtherGroupNorm, nn.LayerNorm: OtherLayerNorm,
          nn.BatchNorm2d: OtherBatchNorm, nn.GELU: OtherGelu}


def otherwise(made):
    """The same network with its sums in another order: what another framework does."""
    made = copy.deepcopy(made)
    for module in made.modules():
        module.__class__ = OTHERS.get(type(module), type(module))
    return made
