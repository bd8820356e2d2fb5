"""A diffusers `scheduler_config.json` as our forward process and sampling: each key honoured or refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from impls.errors import CheckpointError, UsageError
from impls.recipe.config import MOST_T, DiffusionConfig, Frozen, SampleConfig, first_fault, read_json, unknown_key
from impls.recipe.schedule import Schedule
from impls.store.diffusers_files import at_default
from messages import shown, tell

SCHEDULER_FILE = "scheduler_config.json"

CLASSES = ("DDPMScheduler", "DDPMParallelScheduler", "DDIMScheduler", "DDIMParallelScheduler")
SCHEDULES = {"linear": "linear", "scaled_linear": "scaled_linear", "squaredcos_cap_v2": "cosine", "sigmoid": "sigmoid"}
# The logarithm that a name speaks of cancels: both are the posterior's variance.
VARIANCES = {"fixed_small": "fixedsmall", "fixed_small_log": "fixedsmall", "fixed_large": "fixedlarge"}
# What a file may also hold without changing an image that these samplers draw.
HARMLESS = frozenset({
    "_class_name", "_diffusers_version", "_use_default_values", "_name_or_path",
    "dynamic_thresholding_ratio", "sample_max_value",  # companions of thresholding, which is refused
    "tensor_format", "skip_prk_steps",                 # of versions before 0.4, and of PNDM
})


class SchedulerFile(Frozen):
    """The keys that change an image, with diffusers' own defaults; what has one value here is all that we implement."""

    num_train_timesteps: int = Field(1000, gt=1, le=MOST_T)
    beta_start: float = Field(1e-4, gt=0, lt=1)
    beta_end: float = Field(0.02, gt=0, lt=1)
    beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid"] = "linear"
    trained_betas: None = None
    variance_type: Literal["fixed_small", "fixed_small_log", "fixed_large"] = "fixed_small"
    clip_sample: bool = True
    clip_sample_range: float = Field(1.0, gt=0, le=1e30)
    prediction_type: Literal["epsilon"] = "epsilon"
    thresholding: Literal[False] = False
    set_alpha_to_one: bool = True
    steps_offset: int = Field(0, ge=0)
    timestep_spacing: Literal["leading", "trailing", "linspace"] = "leading"
    rescale_betas_zero_snr: Literal[False] = False


def read_scheduler(path: Path) -> tuple[DiffusionConfig, SampleConfig]:
    """The forward process that a diffusers scheduler's file describes, and how diffusers' pipelines sample it.

    DDPM or DDIM is the user's choice, whichever class wrote the file: a key counts for the sampler that has it, as in
    diffusers' own `DDPMScheduler.from_config` and `DDIMScheduler.from_config`, and an absent one has their default.

    Raises:
        CheckpointError: unreadable, or a key or value that our samplers do not follow; the message names it.
    """
    try:
        raw: dict[str, Any] = read_json(path)
    except UsageError as error:
        raise CheckpointError(str(error)) from error
    name = raw.get("_class_name")
    if name not in CLASSES:
        raise CheckpointError(tell("{path}: _class_name is {name}, our samplers follow {classes}: save the scheduler "
                                   "that the network was trained with as one of these", path=path, name=f"{name!r:.80}",
                                   classes=", ".join(CLASSES)))
    left_out = HARMLESS | at_default(raw, path)
    try:
        file = SchedulerFile.model_validate({key: value for key, value in raw.items() if key not in left_out})
        diffusion = DiffusionConfig.model_validate({
            "T": file.num_train_timesteps, "schedule": SCHEDULES[file.beta_schedule],
            "beta_start": file.beta_start, "beta_end": file.beta_end, "variance": VARIANCES[file.variance_type]})
        sample = SampleConfig.model_validate({
            "spacing": f"diffusers-{file.timestep_spacing}", "clip": file.clip_sample,
            "clip_range": file.clip_sample_range, "recompute_eps": False, "steps_offset": file.steps_offset,
            "set_alpha_to_one": file.set_alpha_to_one})
        Schedule.from_config(diffusion).require_float32()
    except ValidationError as error:
        raise CheckpointError(f"{path}: {_refusal(error)}") from error
    except UsageError as error:
        raise CheckpointError(f"{path}: {error}") from error
    return diffusion, sample


def _refusal(error: ValidationError) -> str:
    fault = shown(first_fault(error))
    if unknown_key(error):
        return tell("{fault}: our samplers do not know what it changes: delete it from the file if it changes nothing",
                    fault=fault)
    return tell("{fault}: our samplers follow nothing else: correct the file, or sample this model with diffusers "
                "itself", fault=fault)
