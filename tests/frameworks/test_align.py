"""Layers of PyTorch's networks held against a twin's in one process: planted faults are found, and nothing else.

More clean networks: `pytest tests/frameworks/test_align.py --framework pytorch -k clean_network --clean-networks 50`.
"""

from __future__ import annotations

import pytest


# Of the module, so that it comes before what imports PyTorch.
@pytest.fixture(scope="module", autouse=True)
def only_pytorch(framework):
    if framework != "pytorch":
        pytest.skip("two networks in one process are PyTorch's; Jittor's own are in test_align_processes")
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def traced(framework, tmp_path_factory):
    """References by their settings, each traced once."""
    from align_networks import Training, network, reference

    made = {}

    def get(seed=0, shape=(), **options):
        key = (seed, shape, tuple(options.items()))
        if key not in made:
            training = Training(network(seed, **dict(shape)), seed, **options)
            made[key] = training, reference(training, tmp_path_factory.mktemp("reference"))
        return made[key]

    return get


def one_pass(module):
    """The variance as E[x^2] - E[x]^2."""
    from torch import nn

    class OnePass(nn.GroupNorm):
        def forward(self, x):
            rows = x.reshape(len(x) * self.num_groups, -1)
            mean = rows.mean(1, keepdim=True)
            variance = ((rows * rows).mean(1, keepdim=True) - mean * mean).clamp(min=0)
            made = (rows - mean) / (variance + self.eps).sqrt()
            return made.reshape(x.shape) * self.weight[:, None, None] + self.bias[:, None, None]

    module.__class__ = OnePass


def replicated(module):
    module.padding_mode = "replicate"


def circular(module):
    module.padding_mode = "circular"


def narrower(module):
    from torch import nn

    class Narrower(nn.Conv2d):
        def forward(self, x):
            made = nn.functional.conv2d(x, self.weight, self.bias, self.stride, 0)
            return nn.functional.pad(made, (1, 1, 1, 1))

    module.__class__ = Narrower


def aligned(module):
    module.align_corners = True


def switched_off(module):
    module.eval()


def stopped(module):
    module.requires_grad_(False)


def tanh(module):
    module.approximate = "tanh"


def set_to(name, value):
    return lambda module: setattr(module, name, value)


def option(**value):
    return lambda training: training.options.update(value)


# Where the fault is planted and what it is, the settings; the stage, where it must be found, and the cause named.
FAULTS = [
    *(("norm1", f"blocks.{n}.norm1", one_pass, {"shape": (("groups", 8), ("far", 3000.0)), "seed": seed}, "forward",
       f"blocks.{n}.norm1 (", "E[x^2]") for n, seed in ((0, 0), (0, 1), (0, 2))),
    *((f"dropout-{name}", f"{name}.dropout", switched_off, {}, "forward", f"{name}.dropout (", "switched off")
      for name in ("blocks.0", "middle", "last")),
    *((f"stop-{name}", name, stopped, {}, "backward", f"{name} (", "no gradient")
      for name in ("blocks.1.conv2", "mlp.fc1", "last.norm2")),
    ("stop-code", "middle", set_to("stopped", True), {}, "backward", "middle (Block): its own code", "no gradient"),
    *((f"integers-{seed}", "scaled", set_to("whole", True), {"seed": seed}, "forward", "scaled (", "integer types")
      for seed in range(3)),
    ("padding-1", "blocks.0.conv1", replicated, {}, "forward", "blocks.0.conv1 (", "padding"),
    ("padding-2", "conv_out", circular, {}, "forward", "conv_out (", "padding"),
    ("padding-3", "middle.conv2", narrower, {}, "forward", "middle.conv2 (", "padding"),
    *((f"corners-{seed}", "up", aligned, {"seed": seed}, "forward", "up (", "align_corners") for seed in range(3)),
    *((f"momentum-{name}", f"{name}.norm2", set_to("momentum", value), {}, "forward", f"{name}.norm2 (", "momentum")
      for name, value in (("blocks.0", 0.9), ("middle", 0.01), ("last", 0.2))),
    ("gelu-1", "act", tanh, {}, "forward", "act (", "gelu"),
    ("gelu-2", "embed.1", tanh, {}, "forward", "embed.1 (", "gelu"),
    ("gelu-3", "mlp", set_to("form", "tanh"), {}, "forward", "mlp (Mlp): its own code behind mlp.fc1, before mlp.fc2",
     "gelu"),
    *((f"epsilon-{eps}", None, option(eps=eps), {}, "optimizer", "the optimiser", "epsilon")
      for eps in (3.16e-7, 1e-6, 1e-4)),
    *((f"rate-{kind}-{rate}", None, option(lr=rate),
       {"optimizer": kind, "lr": 1e-3}, "optimizer", "the optimiser", "learning rate")
      for kind, rate in (("adam", 1.1e-3), ("sgd", 1.1e-3), ("adam", 2e-3))),
    *((f"clip-{kind}-{least}", None, set_to("clip", least), {"optimizer": kind, "clip": 0.05}, "optimizer",
       "the optimiser", "clip") for kind, least in (("adam", None), ("sgd", None), ("adam", 0.1))),
    *((f"twice-{kind}-{momentum}", None, set_to("twice", True),
       {"optimizer": kind, "clip": None, **({"momentum": momentum} if momentum else {})}, "steps", "the training step",
       "twice" if kind == "sgd" else "") for kind, momentum in (("adam", None), ("sgd", None), ("sgd", 0.9))),
]


@pytest.mark.parametrize(("name", "module", "fault", "options", "stage", "where", "cause"), FAULTS,
                         ids=[f"{number}-{one[0]}" for number, one in enumerate(FAULTS)])
def test_a_planted_fault_is_located_and_its_cause_named(traced, tmp_path, name, module, fault, options, stage, where,
                                                        cause):
    from align_networks import copied, held_against

    training, folder = traced(**options)
    other = copied(training)
    fault(other if module is None else other.network.get_submodule(module))
    other.new()
    *_, found = held_against(folder, other, tmp_path / "other")
    assert found.word == "differ" and found.culprit.stage == stage, found.culprit
    assert found.culprit.where.startswith(where), found.culprit
    # Of Adam's two steps nothing is told but where they are: the second gradient is another one.
    assert not cause or any(cause in hint for hint in found.hints), found.hints


def pytest_generate_tests(metafunc):
    if "clean" in metafunc.fixturenames:
        metafunc.parametrize("clean", range(metafunc.config.getoption("--clean-networks")))


def test_a_clean_network_with_another_arithmetic_raises_no_alarm(tmp_path, framework, clean):
    from align_networks import clean as random_pair
    from align_networks import held_against, reference

    training, other = random_pair(clean)
    *layers, found = held_against(reference(training, tmp_path / "reference"), other, tmp_path / "other")
    apart = [one for layer in layers for one in layer.differences if one.fed and one.max_abs]
    assert len(apart) > 50, "another arithmetic must not give the same numbers"
    assert found.word == "agree", (found.culprit, found.further)


@pytest.fixture(scope="module")
def at_a_kink(tmp_path_factory):
    from align_networks import kinked, reference

    training, other = kinked("blocks.1.norm2")
    return reference(training, tmp_path_factory.mktemp("kinked")), other


def test_a_number_on_both_sides_of_a_kink_is_no_alarm(at_a_kink, tmp_path):
    from align_networks import held_against

    *_, found = held_against(*at_a_kink, tmp_path / "other")
    assert found.word == "agree", (found.culprit, found.further)
    assert any(one.startswith("the gradient of what blocks.1.norm2 (BatchNorm2d) gives differs at 1 of 2304 elements")
               for one in found.kinks), found.kinks


@pytest.mark.parametrize(("module", "fault", "stage", "where"), [
    ("blocks.0", set_to("stopped", True), "backward", "blocks.0 (Block): its own code"),
    ("blocks.0.conv2", stopped, "backward", "blocks.0.conv2 ("),
    (None, option(lr=1.1e-3), "optimizer", "the optimiser"),
    (None, set_to("twice", True), "steps", "the training step")], ids=["code", "module", "rate", "twice"])
def test_a_kink_hides_no_fault_behind_it(at_a_kink, tmp_path, module, fault, stage, where):
    from align_networks import copied, held_against

    folder, other = at_a_kink
    other = copied(other)
    fault(other if module is None else other.network.get_submodule(module))
    other.new()
    *_, found = held_against(folder, other, tmp_path / "other")
    assert found.word == "differ" and found.culprit.stage == stage, (found.culprit, found.kinks)
    assert found.culprit.where.startswith(where), found.culprit
