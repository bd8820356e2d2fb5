"""Operators alone: together they are the network's, and each runs forward and backward, nothing left out."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from small_training import config

from impls.devices import bf16_units
from impls.recipe.isolated import isolated
from impls.recipe.operators import operators

MODELS = {
    "ddpm-like": {"dropout": 0.1},
    "seed-like": {"attention_layout": "linear", "upsample": "transposed", "downsample_padding": "symmetric"},
    "scale and shift": {"base_channels": 16, "channels": [16, 32], "head_channels": 8, "time_scale_shift": True}}


def arms(fw):
    rounded = [("bf16", "onednn")] if bf16_units("cpu") else []
    return {"pytorch": [(), ("channels_last",)], "jittor": [(), ("onednn",), *rounded]}[fw.name]


@pytest.mark.parametrize("name", MODELS)
def test_every_operator_of_the_network_runs_alone(fw, name):
    model = config(model=MODELS[name]).model
    covered = Counter(cover for one in isolated(model) for cover in one.covers)
    assert covered == Counter(one.name for one in operators(model) if one.kind != "sinusoid")
    for options in arms(fw):
        backend = fw.backend.create(options, "cpu", 1)
        for one in isolated(model):
            alone = backend.operator(one.spec, 2, True)
            if alone is None:
                assert "onednn" in options and one.spec.kind in ("dropout", "pad", "add")
                continue
            alone.run(2)
            last = (*one.spec.output[1:], one.spec.output[0]) if "onednn" in options else one.spec.output
            assert np.prod(alone.forward().shape) == 2 * np.prod(last), one.names[0]
        assert backend.operator(next(iter(isolated(model))).spec, 2, False) is not None


def test_what_a_run_computes_is_outputs_and_all_gradients(fw):
    """Counted by what the framework runs: a convolution and its two gradients, each once, none folded or left out."""
    convolution = next(one for one in isolated(config().model) if one.spec.kind == "conv2d" and not one.spec.first)
    alone = fw.backend.create((), "cpu", 1).operator(convolution.spec, 2, True)
    alone.run(2)
    if fw.name == "pytorch":
        import torch

        with torch.profiler.profile() as profile:
            alone.run(3)
        counts = {event.key: event.count for event in profile.key_averages()}
        assert counts["aten::conv2d"] == counts["aten::convolution_backward"] == 3
        return
    import jittor as jt

    with jt.profile_scope() as report:
        alone.run(3)
    counts = Counter()
    for name, _, count, *_ in report[1:]:
        # The profiler begins a row with the operator's name, that of fused loops apart.
        counts[name.split("«")[0]] += int(count)
    assert [counts[kernel] for kernel in ("mkl_conv", "mkl_conv_backward_x", "mkl_conv_backward_w")] == [3, 3, 3]
