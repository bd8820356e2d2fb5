"""The options of `python -m impls.evaluate`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from impls.errors import UsageError
from impls.evaluation import networks as extractors
from impls.evaluation.networks import inception_file
from impls.recipe.config import Frozen
from impls.tools.cli import NameText, PathText, Shown, alias, command_line
from messages import marked, tell

PROG = "python -m impls.evaluate"
ABOUT = marked("Hold sets of drawn images against real ones: Fréchet distance, KID, precision, recall, with intervals.")


class EvaluateOptions(Frozen):
    """Hold sets of drawn images against real ones: Fréchet distance, KID, precision, recall, with intervals."""

    images: tuple[PathText, ...] = Field(
        (), description=marked("npz with images or arr_0, or npy: uint8 (N, H, W, C); or a folder of PNG and JPEG "
                               "files; further sets are compared with the first"))
    reference: Annotated[str, Shown("NAME|PATH")] = Field(
        "auto", description=marked("the real images: auto, cifar10, fashion-mnist, digits, synthetic, or a file or "
                                   "folder like those of --images, or an npz of statistics (mu, sigma)"))
    reference_images: int | None = Field(
        None, description=marked("only the first so many; by default all on CUDA, at most 5000 on the CPU"))
    resize: int | None = Field(None, description=marked("bring images of another size to so many pixels a side: the "
                                                        "centre square, bicubic; it changes every figure"))
    data_root: PathText | None = Field(None, description=marked("folder of the data sets"))
    features: NameText = Field(
        "auto", description=marked("the network that looks: inception-v3-compat (FID), efficientnet-lite0, or auto: "
                                   "Inception where its weights are, else EfficientNet"))
    inception_weights: PathText | None = Field(None, description=marked("file of Inception's weights"))
    inception_sha256: Annotated[str, Shown("HASH")] | None = Field(
        None, description=marked("hash of that file where it is not the published one; the distance is then not "
                                 "called FID"))
    batch_size: int = Field(64, description=marked("images the network sees at once"))
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description=marked("auto: CUDA where PyTorch can use it"))
    nearest: PathText | None = Field(
        None, description=marked("folder for pictures of drawn images beside the nearest real ones"))
    nearest_images: int = Field(8, description=marked("how many drawn images these show"))
    # A pydantic model has a method of this name.
    json_path: Annotated[str | None, Shown("PATH", name="json")] = Field(
        None, description=marked("also write everything into this file"))
    reference_only: bool = Field(False, description=marked("only check the network and compute the real images' "
                                                           "features, so that a fault shows before any image is "
                                                           "drawn; without --images"))
    seed: int = Field(2020, description=marked("of random subsets; the default is torch-fidelity's"))
    quiet: bool = Field(False, description=marked("nothing but the table"))


MOST_SIDE = 4096
_LEAST = {"reference_images": 2, "resize": 1, "batch_size": 1, "nearest_images": 1, "seed": 0}


def parse(argv: Sequence[str]) -> EvaluateOptions:
    """The options of a command line.

    Raises:
        UsageError: anything wrong with them, in one line.
        SystemExit: `--help`, with status 0.
    """
    options = command_line([alias(word) for word in argv], EvaluateOptions(), PROG, ABOUT)
    for name, least in _LEAST.items():
        value = getattr(options, name)
        if value is not None and value < least:
            raise UsageError(tell("--{name}: must be at least {least}, got {value}", name=name, least=least,
                                  value=value))
    if options.resize is not None and options.resize > MOST_SIDE:
        raise UsageError(tell("--{name}: must be at most {most}, got {value}", name="resize", most=MOST_SIDE,
                              value=options.resize))
    if options.seed >= 2**32:
        raise UsageError(tell("--seed: must be below 2**32, got {seed}", seed=options.seed))
    if options.reference_only and options.images:
        raise UsageError(tell("--reference_only judges no images: leave --images out"))
    if not options.images and not options.reference_only:
        raise UsageError(tell("--images is missing: name an npz or npy file or a folder of images, for example "
                              "images.npz of python -m impls.sample --test"))
    named = options.inception_weights or options.inception_sha256
    if options.features != "auto":
        extractors.find(options.features)
    if named and options.features not in ("auto", extractors.INCEPTION):
        raise UsageError(tell("--inception_weights and --inception_sha256 mean nothing to --features {features}",
                              features=options.features))
    if options.inception_sha256 and not re.fullmatch(r"[0-9a-fA-F]{64}", options.inception_sha256):
        raise UsageError(tell("--inception_sha256 {value}: expected 64 hexadecimal digits",
                              value=options.inception_sha256))
    if options.inception_weights:
        inception_file.find(Path(options.inception_weights))
    return options

