"""What the user asks for: the options of `run_bench.py` from defaults, a JSON file, the command line, in that order."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator

from harness import PROG
from harness.part import Part, Timed
from harness.processes.ranks import Choice
from harness.suites.registry import SUITES
from impls.devices import default_threads, usable_cpus
from impls.errors import UsageError
from impls.recipe.config import (
    PAIR,
    PRESETS,
    ExperimentConfig,
    Frozen,
    PresetName,
    first_fault,
    merged,
    preset,
    read_json,
    require_text,
    unknown_key,
)
from impls.registry import Arm, Device, leading_arm, parse_arm, parse_arms
from impls.tools.cli import NameText, PathText, Shown, alias, command_line, option
from messages import marked, shown, tell

if TYPE_CHECKING:
    SuiteName = str
else:
    SuiteName = Literal[tuple(SUITES)]

DeviceChoice = Literal["auto", "cpu", "cuda"]
DatasetName = Literal["auto", "cifar10", "fashion-mnist", "digits", "synthetic"]
ABOUT = marked("Run one benchmark suite and write a report.")
# What `--arms auto` means, and what it adds where the GPU has TF32.
AUTO, STRICT_PAIR, TF32_PAIR = "auto", "pytorch,jittor", "pytorch:tf32,jittor:tf32"
MIN_BLOCKS, MOST_BLOCKS = 6, 1000
EXPERIMENT = "experiment"


def suite_lines() -> str:
    """Every suite on a line of its own."""
    return "\n" + "".join(f"{one.name}: {tell(one.summary)}\n" for one in SUITES.values())


class BenchConfig(Frozen):
    """Run one benchmark suite and write a report.

    Ranges are checked by `checked`, so that a fault names the option as the user wrote it.
    """

    suite: Annotated[SuiteName, Shown("|".join(SUITES), more=suite_lines)] = Field(
        next(iter(SUITES)), description=marked("what to measure:"))
    arms: Annotated[str, Shown("ARM,ARM")] = Field(
        AUTO, description=marked(
            "comma-separated arms, each backend[:option+option]; pytorch:best stands for the options that serve best "
            "here; each is compared with the first one of its number format, one alone in its format with the first "
            "of all; the same one twice is an A/A test; auto: pytorch,jittor, and on a GPU with TF32 a second pair, "
            "pytorch:tf32,jittor:tf32"))
    preset: Literal["auto", "ddpm", "seed", "tiny"] = Field(
        "auto", description=marked("network and recipe; auto: ddpm on CUDA, tiny on the CPU"))
    dataset: DatasetName = Field("auto", description=marked("images; auto takes the first that is there or can be had"))
    data_root: PathText | None = Field(None, description=marked("folder with the data set's original files"))
    device: DeviceChoice = Field("auto", description=marked("auto: CUDA only when every arm can use it"))
    batch_size: int | None = Field(None, description=marked(
        "images per optimisation step or per sampled batch (default: the preset's for steps; for samples 4 on the "
        "CPU, 128 on CUDA)"))
    blocks: int | None = Field(
        None, description=marked(
            "fresh processes of each arm; at least 6 (default: 3 where the verdict is sure then, up to 12 where it "
            "is not and time allows; for causes 4 to 6)"))
    pairs: int | None = Field(None, description=marked(
        "alternating windows of steps of each arm in a block (default: 40; 20 beside whole sampled batches)"))
    epochs: int | None = Field(
        None, description=marked(
            "whole epochs of each arm through the framework's own loader; 0: none (default: 2, on the CPU over a "
            "part of the data)"))
    steps: Annotated[str, Shown("N,N")] | None = Field(
        None, description=marked(
            "train-speed: steps in a window (as many as fill 0.1 s, where not given); parity: matched steps (50, "
            "where not given); sample-speed, quality, all: network calls of DDIM, and the word ddpm, e.g. 10,50,ddpm"))
    model_path: tuple[Annotated[str, Shown("[ARM=]PATH")], ...] = Field(
        (), strict=False, description=marked(
            "checkpoint or diffusers folder to sample from, of all arms or of one; without it quality trains first, "
            "and sample-speed takes random weights, which cost as much"))
    train_steps: Annotated[str, Shown("N,N")] | None = Field(
        None, description=marked(
            "quality: optimisation steps of the training, with earlier ones to look at in between, e.g. 200,800 "
            "(default: 100,400 on the CPU, 5000,20000,46800 on CUDA)"))
    num_images: int | None = Field(None, description=marked(
        "quality: images of every set (default: 256 on the CPU, 10000 on CUDA; papers use 50000)"))
    eta: float | None = Field(None, allow_inf_nan=True,
                              description=marked("quality: DDIM's noise level, 0 or more (default: 0)"))
    features: NameText = Field(
        "auto", description=marked(
            "quality: feature network; auto: inception-v3-compat (FID) where its weights are at hand, else "
            "efficientnet-lite0"))
    inception_weights: PathText | None = Field(None, description=marked("quality: file of the Inception weights"))
    inception_sha256: Annotated[str, Shown("HASH")] | None = Field(
        None, description=marked("quality: accept Inception weights of this hash; the figure is not called FID then"))
    reference_images: int | None = Field(None, description=marked(
        "quality: training images to hold the sets against (default: at most 5000 on the CPU, all on CUDA)"))
    pair: Annotated[str, Shown("FILE.py")] | None = Field(
        None, description=marked(
            "parity, train-speed, infer-speed, why: two models of your own in place of the U-Net, as functions in "
            "one file; python -m harness.pair init FILE.py writes one to start from"))
    loader: Literal["resident", "native"] = Field("resident", description=marked(
        "where measured windows get their batches"))
    num_workers: int | None = Field(None, description=marked(
        "worker processes of the native loader (default: the preset's)"))
    seed: int = Field(0, description=marked("seed of data order, weights, and of the order of windows"))
    time_limit: Annotated[float, Shown("MINUTES")] | None = Field(None, allow_inf_nan=True, description=marked(
        "minutes after which the run ends with its report, at the next pair of windows or step of parity; --resume "
        "goes on (only what compiles or starts then, a whole epoch, and the proofs beside it are not cut short)"))
    threads: int | None = Field(None, description=marked(
        "CPU threads of every arm (default: OMP_NUM_THREADS, else the CPUs that this process may use, which are the "
        "most)"))
    ranks: int | None = Field(None, description=marked(
        "scaling: the most processes that train one network together, its ranks; measured are 1, 2, 4, ... up to so "
        "many"))
    launcher: Choice = Field("auto", description=marked(
        "scaling: what starts the ranks of an arm; auto: torchrun for pytorch, mpirun for jittor; slurm: srun, "
        "inside a job; local: one process, as in every other suite"))
    nodes: int = Field(1, description=marked("scaling: hosts that the most ranks are spread over, by slurm or mpirun"))
    schedule: Literal["resident", "sequential"] = Field(
        "resident", description=marked("resident: all arms in memory, alternating; sequential: one after another"))
    interpreter: tuple[Annotated[str, Shown("ARM=PYTHON")], ...] = Field(
        (), strict=False, description=marked("run this arm with that interpreter; may be given again"))
    cold_start: bool = Field(False, description=marked("also start every arm once with empty compile caches (minutes)"))
    thorough: bool = Field(False, description=marked(
        "also time steps without attention, clipping, averaged weights: a second opinion on causes"))
    selfcheck: bool = Field(False, description=marked(
        "also measure every arm against itself: the machine's noise floor"))
    out: PathText = Field("results", description=marked("folder of the run folders"))
    share: Annotated[str, Shown("I/N")] | None = Field(
        None, description=marked(
            "part I, from 0, of N of one run, each into a journal of its own: measures blocks I, I+N, ... of "
            "--blocks; python -m reports merge makes one run of all parts"))
    sbatch: Annotated[str, Shown("FILE")] | None = Field(
        None, description=marked(
            "write a SLURM script for this run and measure nothing: an array of --tasks tasks, each of which "
            "measures its part of --blocks"))
    tasks: int = Field(2, description=marked("array tasks of --sbatch"))
    config: PathText | None = Field(None, description=marked(
        "JSON file with these options and an object \"experiment\" for network and recipe; the command line wins"))
    resume: Annotated[str, Shown("RUN")] | None = Field(
        None, description=marked("run folder to go on with; finished blocks are kept"))
    allow_env_change: bool = Field(False, description=marked(
        "with --resume: go on although the machine or its software has changed; every verdict says so"))
    dry_run: bool = Field(False, description=marked("print the plan and the resolved configuration, measure nothing"))
    doctor: bool = Field(False, description=marked(
        "look for what is wrong with this machine and the interpreters of --arms, try every arm, and say what mends "
        "it; measures and writes nothing"))
    quiet: bool = Field(False, description=marked("no progress bars, only the result"))

    @field_validator("steps", "train_steps", mode="before")
    @classmethod
    def _number_as_text(cls, value: Any) -> Any:
        """A JSON file may give one number as a number."""
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("model_path", mode="before")
    @classmethod
    def _one_as_several(cls, value: Any) -> Any:
        """A JSON file may give one path as a text, or null for none."""
        return () if value is None else (value,) if isinstance(value, str) else value

    @field_validator("pair")
    @classmethod
    def _wherever_it_goes_on(cls, value: str | None) -> str | None:
        """A run may go on from another folder."""
        if value is None:
            return None
        whole = os.path.abspath(value)
        require_text(whole)
        return whole

    @property
    def step_count(self) -> int | None:
        """`steps` where it is one number."""
        return None if self.steps is None else int(self.steps)

    @cached_property
    def compared(self) -> tuple[Arm, ...]:
        """The arms of `--arms`, in order; of `auto`, before a device is chosen, those that are there on any.

        Raises:
            UsageError: none, or one that there is not.
        """
        return parse_arms(STRICT_PAIR if self.arms == AUTO else self.arms, self.pair)

    @cached_property
    def part_of(self) -> tuple[int, int]:
        """Which part of how many of a run this is; the only one without `--share`.

        Raises:
            UsageError: `--share` is malformed, or there is no such part.
        """
        if self.share is None:
            return 0, 1
        found = re.fullmatch(r"(\d{1,4})/(\d{1,4})", self.share)
        number, of = (int(found[1]), int(found[2])) if found else (0, 0)
        if not number < of:
            raise UsageError(tell("--share {share}: expected I/N with I from 0 to N - 1, e.g. 0/2", share=self.share))
        return number, of

    @cached_property
    def interpreters(self) -> dict[str, str]:
        """Arm or backend name -> interpreter, from `--interpreter ARM=PYTHON`.

        Raises:
            UsageError: malformed, an arm that is not in the run, or no executable there.
        """
        names = {arm.name for arm in self.compared} | {arm.backend for arm in self.compared}
        chosen: dict[str, str] = {}
        for text in self.interpreter:
            name, equals, python = text.partition("=")
            if (named := leading_arm(text)) is not None:
                name, python = named[0].name, named[1]
            if not equals or not python:
                raise UsageError(tell("--interpreter {given}: expected ARM=PYTHON, e.g. jittor=/opt/jittor/bin/python",
                                      given=repr(text)))
            name = parse_arm(name).name
            if name not in names:
                raise UsageError(tell("--interpreter {given}: arm {arm} is not in --arms {arms}", given=repr(text),
                                      arm=repr(name), arms=self.arms))
            if not os.access(python, os.X_OK) or os.path.isdir(python):
                raise UsageError(tell("--interpreter {given}: {python} is not an executable file", given=repr(text),
                                      python=python))
            chosen[name] = os.path.abspath(python)
        return chosen

    @property
    def cpu_threads(self) -> int:
        """CPU threads of every arm, where it has ranks of each of them, and of every tool."""
        if self.threads is not None:
            return self.threads
        if self.ranks is None:
            return default_threads()
        return max(1, min(default_threads(), usable_cpus() // -(-self.ranks // self.nodes)))

    def python(self, arm: Arm) -> str:
        """The interpreter of one arm: chosen for the arm, else for its backend, else the one that runs this."""
        return self.interpreters.get(arm.name, self.interpreters.get(arm.backend, sys.executable))


# What may differ when a run is resumed: it changes what is shown or how long it goes on, not what is measured; the
# number of threads does, and is held against the recorded environment instead.
FREE_ON_RESUME = frozenset({"resume", "allow_env_change", "dry_run", "quiet", "config", "out", "threads",
                            "time_limit"})
COMMAND_LINE_ONLY = ("config", "resume", "allow_env_change", "dry_run", "doctor")
# What somebody who wants something measured says.
_NOT_WITH_DOCTOR = ("dry_run", "resume", "selfcheck", "cold_start", "thorough", "time_limit", "model_path", "pair",
                    "share", "sbatch")
_AT_LEAST = {"batch_size": 1, "blocks": MIN_BLOCKS, "pairs": 2, "epochs": 0, "num_workers": 0, "seed": 0,
             "num_images": 2, "reference_images": 2, "ranks": 1, "nodes": 1, "tasks": 1}
# Options that belong to some suites only, and why another refuses them.
_SOME_SUITES = {
    "model_path": marked("does not sample"), "selfcheck": marked("times nothing that could be held against itself"),
    "thorough": marked("looks for no causes"),
    "pair": marked("measures the U-Net"),
    **dict.fromkeys(("ranks", "launcher", "nodes"), marked("runs every arm in one process")),
    **dict.fromkeys(("train_steps", "num_images", "eta", "inception_weights", "inception_sha256", "reference_images",
                     "features"), marked("judges no images"))}
# What every other suite does, said aloud.
_EVERYWHERE: dict[str, object] = {"launcher": "local", "ranks": 1}
# Options that say what a pair's file says, or something about the U-Net.
_NOT_OF_A_PAIR = ("preset", "dataset", "data_root", "batch_size", "epochs", "loader", "num_workers", "thorough")


def parse(argv: Sequence[str]) -> tuple[BenchConfig, dict[str, Any]]:
    """The options and the experiment overrides of a command line and its `--config` file.

    Raises:
        UsageError: anything wrong with either, in one line.
        SystemExit: `--help`, with status 0.
    """
    argv = [alias(word) for word in argv]
    file = option(argv, "--config")
    base, overrides = (BenchConfig(), {}) if file is None else read_config(Path(file))
    config = checked(command_line(argv, base, PROG, ABOUT))
    if config.pair is not None and overrides:
        raise UsageError(tell("--pair: models of your own have no {section} settings: leave them out of {file}",
                              section=EXPERIMENT, file=file))
    return config, overrides


def read_config(path: Path) -> tuple[BenchConfig, dict[str, Any]]:
    """The options and experiment overrides of a JSON file; dashes and underscores are the same in its keys.

    Raises:
        UsageError: unreadable, not JSON, an unknown key, or a wrong type.
    """
    data = {key.replace("-", "_"): value for key, value in read_json(path).items()}
    overrides = data.pop(EXPERIMENT, {})
    for key in (*COMMAND_LINE_ONLY, "config_path"):
        if key in data:
            raise UsageError(tell("{path}: {key} belongs on the command line, not into the file", path=path,
                                  key=repr(key)))
    # The overrides are checked here, against any preset, so that a fault is found before anything starts.
    merged(preset(PRESETS[0]), overrides, f"{path}: {EXPERIMENT}")
    try:
        return checked(BenchConfig.model_validate(data), f"{path}: "), overrides
    except ValidationError as error:
        known = ", ".join(name for name in BenchConfig.model_fields if name not in COMMAND_LINE_ONLY)
        more = tell(" (known: {names})", names=f"{known}, {EXPERIMENT}") if unknown_key(error) else ""
        raise UsageError(f"{path}: {shown(first_fault(error))}{more}") from error


def checked(config: BenchConfig, where: str = "") -> BenchConfig:
    """`config` itself, when every number is in range and every arm and interpreter is known.

    Raises:
        UsageError: the first fault.
    """
    for name, least in _AT_LEAST.items():
        value = getattr(config, name)
        if value is not None and value < least:
            raise UsageError(
                tell("{where}--blocks: must be at least {low} (fewer give no verdict), got {value}", where=where,
                     low=least, value=value) if name == "blocks" else
                tell("{where}--{name}: must be at least {low}, got {value}", where=where, name=name.replace("_", "-"),
                     low=least, value=value))
    if config.blocks is not None and config.blocks > MOST_BLOCKS:
        raise UsageError(tell("{where}--blocks: must be at most {most}, got {value}", where=where, most=MOST_BLOCKS,
                              value=config.blocks))
    check_threads(config, where)
    _check_doctor(config, where)
    suite = SUITES[config.suite]
    samples = any(part.needs.weights for part in suite.parts)
    if not samples and config.steps is not None and not (
            re.fullmatch(r"\d{1,9}", config.steps) and int(config.steps) > 0):
        raise UsageError(tell("{where}--steps: suite {suite} takes one whole number of at least 1, got {value}",
                              where=where, suite=config.suite, value=config.steps))
    for name, why in _SOME_SUITES.items():
        usual = (BenchConfig.model_fields[name].default, _EVERYWHERE.get(name))
        if getattr(config, name) not in usual and not suite.takes(name):
            others = tell(" or ").join(one.name for one in SUITES.values() if len(one.parts) == 1 and one.takes(name))
            raise UsageError(tell("{where}--{name}: suite {suite} {why}: leave it out, or choose --suite {others}",
                                  where=where, name=name.replace("_", "-"), suite=config.suite, why=tell(why),
                                  others=others))
    _check_pair(config, where)
    _check_share(config, where)
    if config.allow_env_change and config.resume is None:
        raise UsageError(tell("{where}--allow-env-change: belongs to --resume RUN: name the run, or leave it out",
                              where=where))
    if config.eta is not None and not 0 <= config.eta < 1e6:
        raise UsageError(tell("{where}--eta: a number of 0 or more, got {value}", where=where, value=config.eta))
    if config.seed >= 2**63:
        raise UsageError(tell("{where}--seed: must be below 2**63, got {seed}", where=where, seed=config.seed))
    if config.time_limit is not None and not 0 < config.time_limit < 1e6:
        raise UsageError(tell("{where}--time-limit: minutes above 0, got {value}", where=where,
                              value=config.time_limit))
    try:
        config.interpreters  # noqa: B018
    except UsageError as error:
        raise UsageError(f"{where}{error}") from error
    return config


def _check_doctor(config: BenchConfig, where: str) -> None:
    """Refuse what asks for a measurement beside `--doctor`."""
    for name in _NOT_WITH_DOCTOR if config.doctor else ():
        if getattr(config, name) != BenchConfig.model_fields[name].default:
            raise UsageError(tell("{where}--{name}: --doctor measures nothing: leave one of them out", where=where,
                                  name=name.replace("_", "-")))


def _check_pair(config: BenchConfig, where: str) -> None:
    """Refuse beside a pair what describes the U-Net or its data."""
    if config.pair is None:
        return
    for name in _NOT_OF_A_PAIR:
        if getattr(config, name) != BenchConfig.model_fields[name].default:
            raise UsageError(tell("{where}--{name}: models and batches come from {pair}: leave it out", where=where,
                                  name=name.replace("_", "-"), pair=config.pair))
    if not all("pair" in part.takes for part in SUITES[config.suite].parts):
        raise UsageError(tell("{where}--pair: suite {suite} also measures what only the U-Net does: choose one part of "
                              "it", where=where, suite=config.suite))


def _check_share(config: BenchConfig, where: str) -> None:
    """Refuse parts of what cannot be measured in parts."""
    asked = "share" if config.share is not None else "sbatch" if config.sbatch is not None else None
    if asked is None:
        return
    of = config.part_of[1] if asked == "share" else config.tasks
    if config.sbatch is not None and (config.share is not None or config.resume is not None):
        raise UsageError(tell("{where}--sbatch: its tasks get --share and --resume by themselves: leave them out",
                              where=where))
    if not all(issubclass(part, Timed) for part in SUITES[config.suite].parts):
        raise UsageError(tell("{where}--{name}: suite {suite} has more than blocks, which alone can be shared: choose "
                              "a suite that measures times", where=where, name=asked, suite=config.suite))
    if config.blocks is None:
        raise UsageError(tell("{where}--{name}: give --blocks N, those of all parts together: no part could tell from "
                              "its own when there are enough", where=where, name=asked))
    if config.blocks < of:
        raise UsageError(tell("{where}--{name}: {blocks} blocks cannot be shared by {parts}: raise --blocks, or take "
                              "fewer parts", where=where, name=asked, blocks=config.blocks, parts=of))


def check_threads(config: BenchConfig, where: str = "") -> None:
    """Refuse threads that this process has no processors for: they would wait for one another.

    Raises:
        UsageError: fewer than one, or more than there are processors.
    """
    if config.threads is not None and not 1 <= config.threads <= usable_cpus():
        raise UsageError(tell("{where}--threads: from 1 to {most}, the CPUs that this process may use, got {value}",
                              where=where, most=usable_cpus(), value=config.threads))


def preset_name(config: BenchConfig, overrides: Mapping[str, Any], device: Device) -> PresetName:
    """The preset that the options, else the file, else the device name."""
    name = config.preset if config.preset != "auto" else overrides.get("preset")
    return name if name is not None else "ddpm" if device == "cuda" else "tiny"


def experiment(config: BenchConfig, overrides: Mapping[str, Any], device: Device,
               base: dict[str, Any] | None = None, parts: Sequence[type[Part]] | None = None) -> ExperimentConfig:
    """The experiment that the options, the file's overrides and the device amount to.

    Args:
        config: the options.
        overrides: the file's.
        device: where the arms run.
        base: laid over the preset, below everything that the user says.
        parts: what is measured, by default those of the suite; `--batch-size` is that of the first.

    Raises:
        UsageError: an override is unknown or of the wrong type.
    """
    own = config.pair is not None
    resolved = ExperimentConfig(preset=PAIR) if own else preset(preset_name(config, overrides, device))
    rest = {key: value for key, value in overrides.items() if key != "preset"}
    resolved = merged(resolved, base or {}, tell("defaults"))
    resolved = merged(resolved, rest, f"{config.config or '--config'}: {EXPERIMENT}")
    changes: dict[str, dict[str, Any]] = {"train": {"loader": config.loader}, "sample": {}}
    parts = SUITES[config.suite].parts if parts is None else parts
    for part in parts:
        for section, values in part.recipe(rest, device).items():
            changes[section].update(values)
    if config.batch_size is not None and parts:
        changes[parts[0].batch]["batch_size"] = config.batch_size
    if config.num_workers is not None:
        changes["train"]["num_workers"] = config.num_workers
    seed = {"seed": config.seed} if config.seed or "seed" not in rest else {}
    return merged(resolved, {**changes, **seed}, tell("command line"))
