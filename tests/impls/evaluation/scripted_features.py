"""A feature network of another package: the mean colours of an image's quarters, times a weight."""

import torch

from impls.evaluation.networks import FeatureNetwork, FeatureSpec

SPEC = FeatureSpec("quarters", "scripted_features", feature_size=12, input_size=2)


class Quarters(torch.nn.Module):
    def __init__(self, weight=0.1):
        super().__init__()
        self.weight = weight
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        assert x.dtype == torch.uint8 and x.shape[1] == 3
        return (torch.nn.functional.adaptive_avg_pool2d(x.float() * self.weight, 2).flatten(1),)


NETWORK = Quarters()


def create(spec, request):
    return FeatureNetwork(spec, f"FD {spec.name}", "5c" * 32, NETWORK)
