"""The Inception network of the FID: torch-fidelity's own, with weights that were checked before it sees them."""

from __future__ import annotations

import io

import torch
from torch_fidelity import FeatureExtractorInceptionV3

from impls.evaluation.networks import FeatureNetwork, FeatureSpec, WeightsRequest, inception_file
from impls.evaluation.networks.weights import Tensors, check_tensors, read_tensors

FEATURES, LOGITS = "2048", "logits_unbiased"


class _Blank(FeatureExtractorInceptionV3):  # type: ignore[misc, unused-ignore]
    """The network without weights, to know the shapes."""

    def load_state_dict(self, *args: object, **kwargs: object) -> None:
        """Load nothing."""


def create(spec: FeatureSpec, request: WeightsRequest) -> FeatureNetwork:
    """The network with the published weights, or those that `request` names with their hash.

    Raises:
        UsageError: the file is missing, has another hash, or holds something else than this network's tensors.
    """
    path = inception_file.find(request.path) or inception_file.download(request.say)
    content, digest = inception_file.read_checked(path, request.sha256)
    tensors = read_tensors(content, str(path))
    with torch.device("meta"):
        shapes = _Blank(spec.name, [FEATURES], feature_extractor_weights_path=_saved({})).state_dict()
    check_tensors(tensors, shapes, str(path))
    # The constructor unpickles what it is given without restraint: it gets what we wrote ourselves.
    network = FeatureExtractorInceptionV3(spec.name, [FEATURES, LOGITS], feature_extractor_weights_path=_saved(tensors))
    return FeatureNetwork(spec, label(digest), digest, network)


def label(digest: str) -> str:
    """What the distance over weights with this SHA-256 is called: FID is reserved for the published ones."""
    return "FID" if digest == inception_file.SHA256 else f"FD inception-v3-compat (weights {digest[:8]})"  # English


def _saved(tensors: Tensors) -> io.BytesIO:
    file = io.BytesIO()
    torch.save(tensors, file)
    file.seek(0)
    return file
