"""The options of `python -m impls.sample`: typed, from the command line over a JSON file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from impls.errors import UsageError
from impls.pictures.images import gif_durations
from impls.recipe.config import ExperimentConfig, Frozen, SampleConfig, Spacing, merged
from impls.registry import parse_arm
from impls.tools.cli import (
    EXPERIMENT,
    PathText,
    Shown,
    alias,
    check_ranges,
    command_line,
    option,
    option_file,
    validated,
)
from impls.tools.sample.loop import Request, moments
from messages import marked, tell

PROG = "python -m impls.sample"
ABOUT = marked("Draw images from a trained network, with DDPM or DDIM, in either framework.")


class SampleOptions(Frozen):
    """Draw images from a trained network, with DDPM or DDIM, in either framework."""

    backend: Annotated[str, Shown("ARM")] = Field(
        "pytorch", description=marked("backend, or backend:option+option: pytorch, pytorch:best, jittor, "
                                      "jittor:onednn ..."))
    model_path: PathText | None = Field(
        None, description=marked("checkpoint file, folder of a training, or diffusers model folder"))
    weights: Literal["ema", "raw"] | None = Field(
        None, description=marked("averaged weights or those of the optimiser; by default averaged where there are any"))
    steps: int | None = Field(None, description=marked("DDIM with so many network calls; without it, DDPM over all T"))
    eta: float = Field(0.0, allow_inf_nan=True, description=marked("DDIM's noise level, 0 or more"))
    spacing: Spacing | None = Field(
        None, description=marked("which timesteps DDIM visits; by default as the weights' configuration says, mostly "
                                 "uniform"))
    clipped_eps: Literal["recomputed", "predicted"] | None = Field(
        None, description=marked("DDIM: after clipping x_0, go on with the eps that x_t and it imply, or with the "
                                 "predicted one; by default as the weights' configuration says: recomputed, for a "
                                 "diffusers folder predicted"))
    num_images: int = Field(64, description=marked("how many images"))
    batch_size: int = Field(64, description=marked("images drawn at once; the images do not depend on it"))
    seed: int = Field(0, description=marked("seed of the noise; image i depends on it, the weights and i alone"))
    show_denoised: bool = Field(False, description=marked("also a GIF of the images while noise is removed"))
    frames: int = Field(16, description=marked("frames of that GIF, evenly spaced from the start noise to the final "
                                               "images"))
    gif_time: int = Field(8000, description=marked("its total time in ms, rounded to GIF's 10 ms"))
    test: bool = Field(False, description=marked("for evaluation: images.npz (key images) and images.npy, uint8 NHWC, "
                                                 "straight into --sample-root; the same command goes on after a kill"))
    sample_root: PathText = Field("samples", description=marked("where the folder of this sampling is made"))
    num_workers: int = Field(2, description=marked("threads that write images; 0 writes in between"))
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description=marked("auto: CUDA where the backend can use it"))
    threads: int | None = Field(None, description=marked("CPU threads of an operator (default: OMP_NUM_THREADS, else "
                                                         "the CPUs that may be used)"))
    log: bool = Field(True, description=marked("also write what is said to a file"))
    log_root: PathText = Field("logs", description=marked("folder of these files"))
    config: PathText | None = Field(
        None, description=marked('JSON file with these options and an object "experiment" laid over the '
                                 "checkpoint's configuration; the command line wins"))


_LEAST = {"num_images": 1, "batch_size": 1, "seed": 0, "num_workers": 0}


def parse(argv: Sequence[str]) -> tuple[SampleOptions, dict[str, Any]]:
    """The options and the experiment overrides of a command line and its `--config` file.

    Raises:
        UsageError: anything wrong with either, in one line.
        SystemExit: `--help`, with status 0.
    """
    argv = [alias(word) for word in argv]
    file = option(argv, "--config")
    data, overrides = ({}, {}) if file is None else option_file(Path(file))
    options = command_line(argv, validated(SampleOptions, data, file), PROG, ABOUT)
    check_ranges(options, _LEAST)
    parse_arm(options.backend)
    if options.model_path is None:
        raise UsageError(tell("--model_path is missing: name a checkpoint, the folder of a training, or a diffusers "
                              "folder"))
    if options.show_denoised:
        if options.test:
            raise UsageError(tell("--show_denoised and --test exclude each other: a resumed run has not seen every "
                                  "step"))
        moments(1, options.frames)
    return options, overrides


def request_of(options: SampleOptions, sample: SampleConfig) -> Request:
    """The chain that the options ask for; what they leave open is as in `sample`.

    Raises:
        UsageError: DDPM, which knows no other eps than the predicted one, is told which one to take.
    """
    if options.steps is None and options.clipped_eps is not None:
        raise UsageError(tell("--clipped-eps belongs to DDIM: give the number of steps too"))
    if options.steps is None:
        return Request("ddpm", None, options.eta, options.spacing or "uniform", options.seed)
    return Request("ddim", options.steps, options.eta, options.spacing or sample.spacing, options.seed)


def experiment(options: SampleOptions, overrides: dict[str, Any], trained: ExperimentConfig) -> ExperimentConfig:
    """The experiment that was trained, with the overrides of the file and the sampling of the options.

    Raises:
        UsageError: an override is unknown, of the wrong type or out of range.
    """
    resolved = merged(trained, overrides, f"{options.config or '--config'}: {EXPERIMENT}")
    # First, because the configuration would refuse the same numbers in its own words.
    request = request_of(options, resolved.sample)
    request.nfe(resolved.diffusion.T, resolved.sample.steps_offset)
    # Keyed noise: the same images whatever the batch size and the framework.
    sample = {"batch_size": options.batch_size, "steps": options.steps, "eta": options.eta, "spacing": request.spacing,
              "randomness": "matched"}
    if options.clipped_eps is not None:
        sample["recompute_eps"] = options.clipped_eps == "recomputed"
    return merged(resolved, {"seed": options.seed, "sample": sample}, tell("command line"))


def film(options: SampleOptions, nfe: int) -> list[int]:
    """The moments that the GIF shows; none where none is wanted.

    Raises:
        UsageError: its time is too short or too long for its frames.
    """
    if not options.show_denoised:
        return []
    shown = moments(nfe, options.frames)
    gif_durations(len(shown), options.gif_time)
    return shown
