"""The list of operators by itself; tests/frameworks/test_unet.py holds it against the networks."""

import math

import pytest

from impls.recipe.config import PRESETS, ModelConfig, preset
from impls.recipe.operators import operators


@pytest.mark.parametrize("name", PRESETS)
def test_every_operator_has_a_name_of_its_own_that_begins_with_its_module(name):
    found = list(operators(preset(name).model))
    assert len({operator.name for operator in found}) == len(found)
    assert [operator.name for operator in found if not operator.name.startswith(operator.module)] == []


@pytest.mark.parametrize("name", PRESETS)
def test_whatever_is_read_was_written_before(name):
    config = preset(name).model
    written = {(), (config.image_channels, config.image_size, config.image_size)}
    for operator in operators(config):
        # Attention sees pixels (C, H, W) as tokens (H W, C).
        tokens = {(math.prod(shape[1:]), shape[0]) for shape in written if len(shape) == 3}
        images = {shape for shape in operator.inputs if len(shape) == 2} & tokens
        assert set(operator.inputs) - images <= written, operator
        written |= {operator.output, *images}


def test_attention_by_hand():
    config = ModelConfig(image_size=8, base_channels=32, channels=(32, 64), attention_resolutions=(4,))
    found = [operator for operator in operators(config) if operator.module.startswith("down.3.attention")]
    assert [(operator.name.rpartition(".")[2], operator.kind, operator.inputs, operator.output, operator.flop)
            for operator in found] == [
        ("norm", "group_norm", ((64, 4, 4),), (64, 4, 4), 0),
        *((name, "conv2d", ((64, 4, 4),), (64, 4, 4), 2 * 64 * 64 * 16) for name in "qkv"),
        ("scores", "matmul", ((16, 64), (16, 64)), (16, 16), 2 * 16 * 16 * 64),
        ("softmax", "softmax", ((16, 16),), (16, 16), 0),
        ("values", "matmul", ((16, 16), (16, 64)), (16, 64), 2 * 16 * 16 * 64),
        ("out", "conv2d", ((64, 4, 4),), (64, 4, 4), 2 * 64 * 64 * 16),
        ("add_input", "add", ((64, 4, 4), (64, 4, 4)), (64, 4, 4), 0),
    ]


def test_heads_share_the_products_of_attention():
    """Of 15 channels two heads of 7 leave one out; scale and shift are twice as many numbers of the timestep."""
    config = ModelConfig(image_size=8, base_channels=15, channels=(15,), groups=5, attention_resolutions=(8,),
                         blocks_per_level=1, head_channels=7, time_scale_shift=True, middle_attention_groups=0)
    found = {operator.name: operator for operator in operators(config)}
    assert found["down.0.attention.q"].weight == (14, 15, 1, 1)
    assert found["down.0.attention.out"].weight == (15, 14, 1, 1)
    assert (found["down.0.attention.scores"].output, found["down.0.attention.scores"].flop) == (
        (2, 64, 64), 2 * 64 * 64 * 14)
    assert "down.0.attention.norm" in found and "middle.0.attention.norm" not in found
    assert found["down.0.time"].weight == (30, 60)
    assert not any(name.startswith("middle.0.attention") for name in (
        operator.name for operator in operators(config.model_copy(update={"middle_attention": False}))))


def test_dropout_is_there_only_where_something_is_dropped():
    kinds = [{operator.kind for operator in operators(ModelConfig(dropout=rate))} for rate in (0.0, 0.1)]
    assert kinds[1] - kinds[0] == {"dropout"}
