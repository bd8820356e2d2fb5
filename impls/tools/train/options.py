"""The options of `python -m impls.train`: typed, from the command line over a JSON file over a training's own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from impls.data.datasets import DatasetName
from impls.devices import usable_cpus
from impls.errors import CheckpointError, UsageError
from impls.recipe.config import PRESETS, ExperimentConfig, Frozen, is_text, merged, preset
from impls.registry import parse_arm
from impls.store.trainfolder import SETTINGS, folder_of
from impls.tools.cli import (
    COMMAND_LINE_ONLY,
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
from messages import marked, tell

PROG = "python -m impls.train"
ABOUT = marked("Train a diffusion model, or go on with a training exactly where it stopped.")
BATCH_SIZE, NUM_WORKERS = 128, 4


class TrainOptions(Frozen):
    """Train a diffusion model, or go on with a training exactly where it stopped.

    Options without a default of their own are the checkpoint's where a training goes on.
    """

    backend: Annotated[str, Shown("ARM")] | None = Field(
        None, description=marked("pytorch, pytorch:best, jittor:onednn ...: backend, or backend:option+option "
                                 "(default: pytorch, or what trained before)"))
    model_path: PathText | None = Field(
        None, description=marked("go on from a checkpoint or from the newest one in a training's folder; or start "
                                 "from the weights of a diffusers UNet2DModel"))
    config: PathText | None = Field(
        None, description=marked('JSON file with these options and an object "experiment" for network and recipe; the '
                                 "command line wins (also --config-path)"))
    data_root: PathText | None = Field(None, description=marked("folder with the data set's original files"))
    dataset_name: DatasetName = Field("auto", description=marked("images; auto takes the first that is there or can "
                                                                 "be had"))
    num_epochs: int = Field(500, description=marked("epochs in total"))
    batch_size: int | None = Field(None, description=marked(
        "images per optimisation step (default: {value})").format(value=BATCH_SIZE))
    num_workers: int | None = Field(
        None, description=marked("worker processes of the native loader (default: {value})").format(value=NUM_WORKERS))
    loader: Literal["resident", "native"] | None = Field(
        None, description=marked("resident: the data set on the device, every step keyed by (seed, step), so that a "
                                 "training goes on exactly; native: the framework's own loader, whose order is not "
                                 "(default: resident)"))
    T: int | None = Field(None, description=marked("diffusion steps (default: 1000)"))
    lr: float | None = Field(None, allow_inf_nan=True, description=marked("Adam's learning rate after warm-up "
                                                                          "(default: the preset's)"))
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description=marked("auto: CUDA where the backend can use it"))
    threads: int | None = Field(None, description=marked("CPU threads of an operator (default: OMP_NUM_THREADS, else "
                                                         "the CPUs that may be used)"))
    log: bool = Field(True, description=marked("write log.jsonl, loss.png, samples and TensorBoard files; without it "
                                               "only config.json and checkpoints"))
    log_root: PathText = Field("logs", description=marked("folder of the trainings' folders"))
    checkpoint: int = Field(5, description=marked("epochs between checkpoints; 0: only at the end"))
    checkpoint_steps: int | None = Field(None, description=marked("steps between further checkpoints"))
    checkpoint_minutes: float = Field(10.0, allow_inf_nan=True, description=marked("minutes since the last checkpoint "
                                                                                   "after which there is a further "
                                                                                   "one; 0: none"))
    only_checkpoint_max: bool = Field(False, description=marked("keep only the newest checkpoint"))
    keep_last: int = Field(1, description=marked("keep so many of the newest checkpoints, and the one with the least "
                                                 "loss on the held-out images; 0: keep all"))
    preset: Literal["auto", "ddpm", "seed", "tiny"] = Field(
        "auto", description=marked("network and recipe; auto: ddpm on CUDA, tiny on the CPU"))
    seed: int | None = Field(None, description=marked("seed of weights, order, noise and dropout (default: 0)"))
    max_steps: int | None = Field(None, description=marked("end after so many optimisation steps in total"))
    sample_every: int | None = Field(None, description=marked("epochs between grids of samples (DDIM, 50 steps); 0: "
                                                              "none (default: as --checkpoint)"))


_LEAST = {"num_epochs": 1, "batch_size": 1, "num_workers": 0, "T": 2, "checkpoint": 0, "checkpoint_steps": 1,
          "keep_last": 0, "seed": 0, "max_steps": 1, "sample_every": 0}
# What the experiment holds, once it is resolved.
_IN_EXPERIMENT = frozenset({"batch_size", "num_workers", "loader", "T", "lr", "preset", "seed"})


def parse(argv: Sequence[str]) -> tuple[TrainOptions, dict[str, Any]]:
    """The options and the experiment overrides of a command line and its `--config` file.

    A training that goes on has, below both, the options that it was started with.

    Raises:
        UsageError: anything wrong with them, in one line.
        SystemExit: `--help`, with status 0.
    """
    argv = [alias(word) for word in argv]
    file = option(argv, "--config")
    data, overrides = ({}, {}) if file is None else _read(Path(file))
    model_path = option(argv, "--model-path") or data.get("model_path")
    folder = folder_of(Path(model_path)) if isinstance(model_path, str) else None
    # Network and recipe of a training that goes on are in its checkpoint.
    # One that does not say how many checkpoints stay was promised all of them, and none by time.
    started_with = {} if folder is None else {"keep_last": 0, "checkpoint_minutes": 0.0, **_read(folder / SETTINGS)[0]}
    if isinstance(threads := started_with.get("threads"), int) and threads > usable_cpus():
        # A machine with fewer processors must not lock a training out; what it changes is said where it begins.
        del started_with["threads"]
    base = validated(TrainOptions, {**started_with, **data}, file)
    options = _checked(command_line(argv, base, PROG, ABOUT))
    if options.backend is not None:
        parse_arm(options.backend)
    return options, overrides


def experiment(options: TrainOptions, overrides: dict[str, Any], device: str) -> ExperimentConfig:
    """The experiment of a new training.

    Raises:
        UsageError: an override is unknown, of the wrong type or out of range.
    """
    chosen = options.preset if options.preset != "auto" else overrides.get("preset")
    base = preset(chosen if chosen is not None else "ddpm" if device == "cuda" else "tiny")
    return _laid_over(with_defaults(base), options, overrides)


def with_defaults(config: ExperimentConfig) -> ExperimentConfig:
    """A recipe with this tool's own defaults: the batch size, and keyed streams so that a training goes on exactly."""
    train = {"batch_size": BATCH_SIZE, "num_workers": NUM_WORKERS, "loader": "resident", "randomness": "matched"}
    return merged(config, {"train": train}, "defaults")


def continued(options: TrainOptions, overrides: dict[str, Any], base: ExperimentConfig, path: Path) -> ExperimentConfig:
    """The experiment of a training that goes on from `base`: what was asked for explicitly is laid over it.

    Raises:
        CheckpointError: another network or another diffusion was asked for.
        UsageError: an override is unknown, of the wrong type or out of range.
    """
    asked = options.preset if options.preset != "auto" else overrides.get("preset", base.preset)
    if asked != base.preset:
        raise CheckpointError(tell("{path}: has preset {preset}, {asked} was asked for: leave the preset out, or "
                                   "start anew without --model-path", path=path, preset=base.preset, asked=asked))
    config = _laid_over(base, options, overrides)
    for place, old, new in changes(base, config):
        if place.startswith(("model.", "diffusion.")) and place != "model.dropout":
            raise CheckpointError(tell("{path}: has {place} {old}, {new} was asked for: leave that setting out, or "
                                       "start anew without --model-path", path=path, place=place, old=old, new=new))
    return config


def changes(old: ExperimentConfig, new: ExperimentConfig) -> list[tuple[str, Any, Any]]:
    """Where two experiments differ, with both values."""
    flat_old, flat_new = _flat(old), _flat(new)
    return [(place, value, flat_new[place]) for place, value in flat_old.items() if flat_new[place] != value]


def as_file(options: TrainOptions, dataset: str, arm: str, config: ExperimentConfig) -> str:
    """Everything resolved, as a file for `--config`."""
    data = options.model_dump(mode="json", exclude={*_IN_EXPERIMENT, *COMMAND_LINE_ONLY, "model_path"})
    if options.data_root is not None:
        whole = str(Path(options.data_root).absolute())
        # A folder above may have a name that no file of settings can hold.
        data["data_root"] = whole if is_text(whole) else options.data_root
    data = {name: value for name, value in data.items() if value is not None}
    data |= {"backend": arm, "dataset_name": dataset, EXPERIMENT: config.model_dump(mode="json")}
    return json.dumps(data, indent=2) + "\n"


def _laid_over(base: ExperimentConfig, options: TrainOptions, overrides: dict[str, Any]) -> ExperimentConfig:
    source = f"{options.config or '--config'}: {EXPERIMENT}"
    config = merged(base, {key: value for key, value in overrides.items() if key != "preset"}, source)
    train = {name: value for name in ("batch_size", "num_workers", "loader", "lr")
             if (value := getattr(options, name)) is not None}
    if options.loader is not None and "randomness" not in overrides.get("train", {}):
        # A framework's own loader shuffles by itself.
        train["randomness"] = "matched" if options.loader == "resident" else "native"
    more: dict[str, Any] = {"train": train}
    if options.T is not None:
        more["diffusion"] = {"T": options.T}
    if options.seed is not None:
        more["seed"] = options.seed
    return merged(config, more, tell("command line"))


def _flat(config: ExperimentConfig) -> dict[str, Any]:
    parts: dict[str, Any] = {}
    for name, value in config.model_dump(exclude={"sample"}).items():
        parts |= {f"{name}.{key}": inner for key, inner in value.items()} if isinstance(value, dict) else {name: value}
    return parts


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options and experiment overrides of a JSON file."""
    data, overrides = option_file(path)
    # Checked here, against any preset, so that a fault is found before anything starts.
    merged(preset(PRESETS[0]), overrides, f"{path}: {EXPERIMENT}")
    _checked(validated(TrainOptions, data, path), f"{path}: ")
    return data, overrides


def _checked(options: TrainOptions, where: str = "") -> TrainOptions:
    check_ranges(options, _LEAST, where)
    if options.lr is not None and not 0 < options.lr < float("inf"):
        raise UsageError(tell("{where}--lr: a number above 0, got {value}", where=where, value=options.lr))
    if not 0 <= options.checkpoint_minutes < float("inf"):
        raise UsageError(tell("{where}--checkpoint-minutes: a number of minutes, or 0 for none, got "
                              "{value}", where=where, value=options.checkpoint_minutes))
    return options
