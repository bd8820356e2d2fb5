"""Typed, validated configuration and the named presets; JSON in and out, unknown keys are errors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticSerializationError

from impls.errors import UsageError
from messages import marked, recorded, shown, tell

PresetName = Literal["ddpm", "seed", "tiny"]
# What pydantic says of values, in the reader's language too.
PYDANTIC = (
    marked("Input should be a valid integer, got {value}"),
    marked("Input should be a valid integer, got a number with a fractional part, got {value}"),
    marked("Input should be a valid integer, unable to parse string as an integer, got {value}"),
    marked("Input should be a valid number, got {value}"),
    marked("Input should be a valid number, unable to parse string as a number, got {value}"),
    marked("Input should be a finite number, got {value}"),
    marked("Input should be a valid string, got {value}"),
    marked("Input should be a valid boolean, got {value}"),
    marked("Input should be a valid boolean, unable to interpret input, got {value}"),
    marked("Input should be a valid dictionary, got {value}"),
    marked("Input should be a valid list, got {value}"),
    marked("Input should be a valid tuple, got {value}"),
    marked("Input should be greater than {least}, got {value}"),
    marked("Input should be greater than or equal to {least}, got {value}"),
    marked("Input should be less than {most}, got {value}"),
    marked("Input should be less than or equal to {most}, got {value}"),
    marked("Input should be {choices}, got {value}"),
    marked("Field required, got {value}"),
)
PRESETS: tuple[PresetName, ...] = get_args(PresetName)
# In place of a preset's name: the models are a user's own, and nothing here describes them.
PAIR: Literal["pair"] = "pair"
Method = Literal["ddpm", "ddim"]
Spacing = Literal["uniform", "quad", "trailing", "diffusers-leading", "diffusers-trailing", "diffusers-linspace"]
# More diffusion steps would fill the memory with tables before anybody could wait for them.
MOST_T = 100_000


class Frozen(BaseModel):
    """Base of all configuration models: immutable, no unknown keys, no silent coercion of types, no NaN.

    Attributes:
        later: fields that older records lack. JSON leaves them out at their default, so that a configuration reads and
            hashes as the equal one that was recorded before there was such a setting.
    """

    later: ClassVar[frozenset[str]] = frozenset()

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, handler: SerializerFunctionWrapHandler, info: SerializationInfo) -> Any:
        data = handler(self)
        if info.mode != "json":
            return data
        return {key: value for key, value in data.items() if key not in self._left_out()}

    def _left_out(self) -> set[str]:
        """What JSON lacks."""
        return {name for name in self.later if getattr(self, name) == type(self).model_fields[name].default}


class ModelConfig(Frozen):
    """The U-Net's shape (Ho et al. 2020, appendix B)."""

    later = frozenset({"head_channels", "middle_attention", "middle_attention_groups", "time_frequency_shift",
                       "time_cosine_first", "time_scale_shift"})

    image_size: int = Field(32, gt=0, description="height and width of an image in pixels")
    image_channels: int = Field(3, gt=0, description="colour channels in and out")
    base_channels: int = Field(128, gt=0, description="width of the first convolution and of the time sinusoid")
    channels: tuple[PositiveInt, ...] = Field((128, 256, 256, 256), min_length=1, strict=False,
                                      description="channels of each resolution level, finest first")
    blocks_per_level: int = Field(2, gt=0, description="residual blocks per level going down; one more going up")
    attention_resolutions: tuple[int, ...] = Field(
        (16,), strict=False, description="feature-map sizes that get attention")
    attention_layout: Literal["conv", "linear"] = Field(
        "conv", description="q, k, v, output as 1x1 convolutions or linear layers")
    up_narrowing: Literal["first", "last"] = Field(
        "first", description="block going up that takes on the finer level's channels: its first, or the last before")
    upsample: Literal["nearest", "transposed"] = Field(
        "nearest", description="nearest x2 + 3x3 conv, or 4x4 transposed conv")
    downsample_padding: Literal["asymmetric", "symmetric"] = Field(
        "asymmetric", description="(0,1,0,1) as in the paper, or 1 on every side")
    groups: int = Field(32, gt=0, description="groups of every GroupNorm")
    group_norm_eps: float = Field(1e-6, gt=0, description="epsilon of every GroupNorm")
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout probability inside residual blocks")
    init: Literal["ddpm", "framework"] = Field(
        "ddpm", description="variance scaling with zero-init, or the framework's default")

    head_channels: int | None = Field(None, gt=0, description="channels of an attention head, or null for one head")
    middle_attention: bool = Field(True, description="attention between the two blocks of the coarsest level")
    middle_attention_groups: int | None = Field(
        None, ge=0, description="groups of the middle attention's GroupNorm: null for `groups`, 0 for no GroupNorm")
    time_frequency_shift: float = Field(1.0, description="sinusoid i of n has the frequency 10000^(-i / (n - shift))")
    time_cosine_first: bool = Field(False, description="cosines before sines in the time sinusoid")
    time_scale_shift: bool = Field(
        False, description="the timestep scales and shifts what the second GroupNorm of a block puts out, in place of "
                           "being added to what it takes in")

    def heads(self, channels: int) -> int:
        """Attention heads over so many channels; together they may be narrower than those."""
        return 1 if self.head_channels is None else channels // self.head_channels

    def attention_channels(self, channels: int) -> int:
        """Width of all heads over so many channels together."""
        return channels if self.head_channels is None else self.heads(channels) * self.head_channels

    def attention_groups(self, resolution: int) -> int | None:
        """Groups of the attention's GroupNorm at a feature-map size; None where there is no attention."""
        return self.groups if resolution in self.attention_resolutions else None

    @property
    def middle_groups(self) -> int | None:
        """Groups of the middle attention's GroupNorm, 0 where it has none; None where there is no such attention."""
        if not self.middle_attention:
            return None
        return self.groups if self.middle_attention_groups is None else self.middle_attention_groups

    def up_channels(self, level: int, block: int) -> int:
        """Output channels of residual block `block` (from 0) of `level` (0 is the finest) on the way up."""
        if self.up_narrowing == "last" and block == self.blocks_per_level:
            return self.channels[level - 1] if level > 0 else self.base_channels
        return self.channels[level]

    @model_validator(mode="after")
    def _shapes_fit(self) -> ModelConfig:
        half = self.base_channels // 2
        if half < 1:
            raise ValueError(recorded("base_channels must be 2 or more: half of it are sines, half cosines"))
        # One sinusoid has the frequency 1 whatever the shift; with the shift of the default there is no division.
        if self.time_frequency_shift >= half and (half, self.time_frequency_shift) != (1, 1.0):
            raise ValueError(recorded("time_frequency_shift {shift} is not below the {count} sinusoids",
                                      shift=self.time_frequency_shift, count=half))
        for name, width in [("base_channels", self.base_channels), *(("channels", c) for c in self.channels)]:
            if width % self.groups:
                raise ValueError(recorded("{name}: {width} is not a multiple of groups={groups}", name=name,
                                          width=width, groups=self.groups))
        if self.middle_groups and self.channels[-1] % self.middle_groups:
            raise ValueError(recorded("channels: {width} is not a multiple of middle_attention_groups={groups}",
                                      width=self.channels[-1], groups=self.middle_groups))
        narrowest = min(self._attended(), default=self.channels[-1])
        if self.head_channels is not None and self.head_channels > narrowest:
            raise ValueError(recorded("head_channels: {width} is more than the {narrowest} channels of an attention",
                                      width=self.head_channels, narrowest=narrowest))
        factor = 2 ** (len(self.channels) - 1)
        if self.image_size % factor:
            raise ValueError(recorded("image_size {size} cannot be halved {times} times", size=self.image_size,
                                      times=len(self.channels) - 1))
        return self

    def _attended(self) -> list[int]:
        """Widths that attention is over."""
        levels = [level for level in range(len(self.channels)) if self.attention_groups(self.image_size >> level)]
        return [*([self.channels[-1]] if self.middle_attention else []), *(self.channels[level] for level in levels),
                *(self.up_channels(level, self.blocks_per_level) for level in levels)]


class DiffusionConfig(Frozen):
    """The forward process and the variance of the reverse one."""

    T: int = Field(1000, gt=1, le=MOST_T, description="number of diffusion steps")
    schedule: Literal["linear", "cosine", "scaled_linear", "sigmoid"] = Field(
        "linear", description="shape of the noise schedule")
    beta_start: float = Field(1e-4, gt=0, lt=1, description="first beta; the cosine has its own")
    beta_end: float = Field(0.02, gt=0, lt=1, description="last beta; the cosine has its own")
    variance: Literal["fixedlarge", "fixedsmall"] = Field(
        "fixedlarge", description="reverse variance: beta or its posterior")


class TrainConfig(Frozen):
    """One optimisation step and how its batch is made."""

    batch_size: int = Field(128, gt=0, description="images per step")
    lr: float = Field(2e-4, gt=0, description="Adam's learning rate after warm-up")
    warmup_steps: int = Field(5000, ge=0, description="steps of linear learning-rate warm-up")
    grad_clip: float | None = Field(1.0, gt=0, description="global gradient norm, or null for none")
    ema_decay: float | None = Field(0.9999, gt=0, lt=1, description="decay of the averaged weights, or null for none")
    flip: bool = Field(True, description="horizontal flips with probability one half")
    loader: Literal["resident", "native"] = Field(
        "resident", description="the whole data set on the device, or the framework's own loader")
    num_workers: int = Field(2, ge=0, description="worker processes of the native loader")
    randomness: Literal["native", "matched"] = Field(
        "native", description="the framework's own generator, or keyed streams that are the same for both frameworks")

    def learning_rate(self, step: int) -> float:
        """Adam's rate at `step` (from 0): linear from lr / warmup_steps up to lr, then constant."""
        return self.lr * min(1.0, (step + 1) / max(self.warmup_steps, 1))


class SampleConfig(Frozen):
    """How images are drawn from a trained network."""

    later = frozenset({"clip", "clip_range", "recompute_eps", "steps_offset", "set_alpha_to_one"})

    batch_size: int = Field(64, gt=0, description="images drawn at once")
    steps: int | None = Field(None, gt=0, description="network calls of DDIM; null means DDPM over all T")
    eta: float = Field(0.0, ge=0, description="DDIM's noise level; 1 is the DDPM posterior variance")
    spacing: Spacing = Field("uniform", description="which timesteps DDIM visits")
    randomness: Literal["native", "matched"] = Field(
        "matched", description="a keyed stream per image, the same for both frameworks, or the framework's generator")
    clip: bool = Field(True, description="clip the predicted x_0 at every step")
    clip_range: float = Field(1.0, gt=0, le=1e30, description="largest absolute value of a clipped x_0")
    recompute_eps: bool = Field(True, description="DDIM: after clipping x_0, go on with the eps that x_t and it imply")
    steps_offset: int = Field(0, ge=0, description="added to every timestep of spacing diffusers-leading")
    set_alpha_to_one: bool = Field(
        True, description="DDIM: the last step ends at x_0, where alpha-bar is 1; else at timestep 0")


class ExperimentConfig(Frozen):
    """Everything that defines one training or sampling experiment."""

    preset: PresetName | Literal["pair"] = Field(description="the named recipe that the settings started from")
    seed: int = Field(0, ge=0, lt=2**63, description="seed of every random stream")
    model: ModelConfig = Field(default_factory=ModelConfig)
    diffusion: DiffusionConfig = Field(default_factory=DiffusionConfig)
    train: TrainConfig = Field(default_factory=TrainConfig)
    sample: SampleConfig = Field(default_factory=SampleConfig)

    @property
    def is_pair(self) -> bool:
        """Whether the models are a user's own, so that of these settings only the seed and the randomness count."""
        return self.preset == PAIR

    def _left_out(self) -> set[str]:
        """Of a pair what describes the U-Net, where it is as ever: it describes nothing that runs."""
        groups = ("model", "diffusion", "train", "sample") if self.is_pair else ()
        return {name for name in groups if getattr(self, name) == type(self).model_fields[name].get_default(
            call_default_factory=True)}

    def sha256(self) -> str:
        """Hash of the canonical JSON: equal exactly when every setting is equal."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


def with_later(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """A recorded experiment with the later settings that its record leaves out at their default (`Frozen.later`)."""
    groups: dict[str, type[Frozen]] = {
        "model": ModelConfig, "diffusion": DiffusionConfig, "train": TrainConfig, "sample": SampleConfig}
    data = dict(recorded)
    for part, group in groups.items():
        if isinstance(data.get(part), dict):
            data[part] = {**{name: group.model_fields[name].default for name in sorted(group.later)}, **data[part]}
    return data


def preset(name: PresetName) -> ExperimentConfig:
    """The named recipe: `ddpm` (Ho et al. 2020), `seed` (the wider network), `tiny` (CPU-sized).

    Raises:
        UsageError: no preset has this name.
    """
    if name == "ddpm":
        return ExperimentConfig(preset="ddpm")
    if name == "seed":
        return ExperimentConfig(
            preset="seed",
            model=ModelConfig(channels=(128, 256, 512, 1024), attention_resolutions=(16, 8), attention_layout="linear",
                              up_narrowing="last", upsample="transposed", downsample_padding="symmetric",
                              group_norm_eps=1e-5, init="framework"),
            train=TrainConfig(lr=1e-4, ema_decay=None))
    if name == "tiny":
        return ExperimentConfig(
            preset="tiny",
            model=ModelConfig(base_channels=32, channels=(32, 64, 64, 64), attention_resolutions=(16, 8)),
            train=TrainConfig(batch_size=2, warmup_steps=100, ema_decay=0.995),
            sample=SampleConfig(batch_size=16))
    raise UsageError(tell("unknown preset {name}: choose one of {presets}", name=repr(name),
                          presets=", ".join(PRESETS)))


def merged(config: ExperimentConfig, overrides: dict[str, Any], source: str) -> ExperimentConfig:
    """`config` with the (nested) `overrides` laid over it and validated again.

    Args:
        config: the lower-priority settings.
        overrides: a nested dict such as {"train": {"lr": 1e-4}}.
        source: where the overrides come from, for the error line.

    Raises:
        UsageError: an unknown key or a wrong type, named with its place.
    """
    if not isinstance(overrides, dict):
        raise UsageError(tell("{source}: expected a JSON object of settings, found {kind}", source=source,
                              kind=type(overrides).__name__))
    data = config.model_dump()
    for key, value in overrides.items():
        if isinstance(value, dict) and isinstance(data.get(key), dict):
            data[key] = {**data[key], **value}
        else:
            data[key] = value
    return validated(data, source)


def validated(data: dict[str, Any], source: str) -> ExperimentConfig:
    """An `ExperimentConfig` from plain data; the first fault becomes one `UsageError` line."""
    try:
        return ExperimentConfig.model_validate(data)
    except ValidationError as error:
        raise UsageError(f"{source}: {shown(first_fault(error))}") from error


def first_fault(error: ValidationError) -> str:
    """The first fault of a pydantic error in one line, in English: where, what, and what was given."""
    fault = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in fault["loc"]) or "settings"
    if fault["type"] == "extra_forbidden":
        return recorded("unknown key {key}", key=repr(place))
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""  # English
    if fault["type"] == "value_error":
        return f"{place}: {fault['ctx']['error']}{more}"
    given = fault["input"]
    # As the file has it: null, not None.
    value = repr(given) if isinstance(given, str) else json.dumps(given, default=repr)
    return f"{place}: {fault['msg']}, got {value:.80}{more}"  # English


def unknown_key(error: ValidationError) -> bool:
    """Whether the first fault of a pydantic error is a key that is not known."""
    return error.errors(include_url=False)[0]["type"] == "extra_forbidden"


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        UsageError: no such file, not JSON, or not an object.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(tell("{path}: cannot read the configuration: {reason}", path=path,
                              reason=error.strerror or error)) from error
    except (ValueError, RecursionError) as error:
        # Not only a fault of its grammar: also bytes that are no UTF-8, and numbers of thousands of digits.
        raise UsageError(tell("{path}: not JSON: {error}", path=path, error=error)) from error
    if not isinstance(data, dict):
        raise UsageError(tell("{path}: expected a JSON object, found {kind}", path=path, kind=type(data).__name__))
    if not is_text(json.dumps(data, ensure_ascii=False).replace(r"\u0000", "\0")):
        raise UsageError(tell("{path}: holds a NUL or half a surrogate pair, which no setting can", path=path))
    return data


def as_json(model: BaseModel) -> bytes:
    """A model as JSON in UTF-8; what is no Unicode in its texts is spelt out.

    A file's name, of another program too, need not be Unicode.
    """
    try:
        return model.model_dump_json().encode()
    except PydanticSerializationError:
        return model.model_validate(_legible(model.model_dump())).model_dump_json().encode()


def legible(text: str) -> str:
    r"""A text with what is no Unicode spelt out: a byte of a file's name as `\xe9`."""
    try:
        raw = text.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        raw = text.encode(errors="backslashreplace")
    return raw.decode(errors="backslashreplace")


def _legible(value: Any) -> Any:
    if isinstance(value, str):
        return legible(value)
    if isinstance(value, Mapping):
        return {_legible(key): _legible(one) for key, one in value.items()}
    return [_legible(one) for one in value] if isinstance(value, (list, tuple)) else value


def is_text(value: str) -> bool:
    """Whether a text can be a file name and be written as UTF-8: no NUL, no half of a surrogate pair."""
    return "\0" not in value and not any("\ud800" <= character <= "\udfff" for character in value)


def require_text(place: str, variable: str | None = None) -> None:
    """Refuse a place that cannot be told to a worker, a journal or a script, which are UTF-8.

    Args:
        place: of a file or folder.
        variable: of the environment, which names another one; without it there is only renaming.

    Raises:
        UsageError: its name is no UTF-8.
    """
    if is_text(place):
        return
    raise UsageError(
        tell("{word}: holds bytes that are no UTF-8: rename the file or folder", word=legible(place))
        if variable is None else
        tell("{folder}: holds bytes that are no UTF-8: set {variable} to another folder", folder=legible(place),
             variable=variable))
