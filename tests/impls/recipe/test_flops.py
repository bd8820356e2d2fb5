import math

import pytest

from impls.recipe import flops
from impls.recipe.config import ModelConfig, preset
from impls.recipe.operators import operators


@pytest.mark.parametrize(("name", "parameters"), [("ddpm", 35_746_307), ("seed", 201_373_315), ("tiny", 2_329_603)])
def test_parameter_counts_are_the_published_ones(name, parameters):
    weighted = [operator for operator in operators(preset(name).model) if operator.weight is not None]
    assert sum(math.prod(operator.weight) + math.prod(operator.bias) for operator in weighted) == parameters


@pytest.mark.parametrize(("name", "gflop"), [("ddpm", 12.44), ("seed", 17.65)])
def test_forward_cost_is_the_published_one(name, gflop):
    assert flops.forward_flop_per_image(preset(name).model) / 1e9 == pytest.approx(gflop, abs=0.005)


def test_ddpm_without_the_products_of_attention_is_the_lower_published_cost():
    products = sum(operator.flop for operator in operators(preset("ddpm").model) if operator.kind == "matmul")
    # Six attention blocks, two products each: five over 256 pixels and the middle one over 16, all with 256 channels.
    assert products == 2 * 2 * 256 * (5 * 256**2 + 16**2)
    total = flops.forward_flop_per_image(preset("ddpm").model)
    assert (total - products) / 1e9 == pytest.approx(12.1, abs=0.05)


def test_smallest_network_by_hand():
    """One level of one block, 2 channels, 2x2 pixels, no attention but the middle one."""
    config = ModelConfig(image_size=2, image_channels=1, base_channels=2, channels=(2,), blocks_per_level=1,
                         attention_resolutions=(), groups=1)
    pixels = 4
    conv3, conv1 = 9 * 2 * 2 * pixels, 2 * 2 * pixels
    plain = 2 * conv3 + 8 * 2
    with_shortcut = (4 * 2 * 9 * pixels + conv3 + 8 * 2 + 4 * 2 * pixels) * 2
    attention = 4 * conv1 + 2 * pixels * pixels * 2
    time = 2 * 8 + 8 * 8
    ends = 2 * (9 * 2 * pixels)
    mac = time + ends + plain + (plain + attention + plain) + with_shortcut
    assert flops.forward_flop_per_image(config) == 2 * mac


def test_a_training_step_is_three_forwards_per_image():
    config = preset("tiny").model
    assert flops.training_step_flop(config, 8) == 24 * flops.forward_flop_per_image(config)


def test_narrowing_last_moves_the_channels_one_block_earlier():
    config = preset("seed").model
    assert [config.up_channels(3, block) for block in range(3)] == [1024, 1024, 512]
    assert [config.up_channels(0, block) for block in range(3)] == [128, 128, 128]
    assert [preset("ddpm").model.up_channels(1, block) for block in range(3)] == [256, 256, 256]
