"""What the user asks for: the options of `run_bench.py` from defaults, a JSON file, the command line, in that order."""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError
from tyro.conf import UseAppendAction

from impls.common.config import PRESETS, ExperimentConfig, Frozen, first_fault, merged, preset, read_json
from impls.errors import UsageError
from impls.registry import Arm, parse_arm, parse_arms

PROG = "run_bench.py"
SuiteName = Literal["train-speed", "parity", "all"]
DeviceChoice = Literal["auto", "cpu", "cuda"]
DatasetName = Literal["auto", "cifar10", "fashion-mnist", "digits", "synthetic"]
MIN_BLOCKS = 6
EXPERIMENT = "experiment"

Repeated = Annotated[tuple[str, ...], UseAppendAction]


class BenchConfig(Frozen):
    """Run one benchmark suite and write a report.

    Ranges are checked by `checked`, so that a fault names the option as the user wrote it.
    """

    suite: SuiteName = Field("train-speed", description="what to measure; 'all' runs every suite after another")
    arms: str = Field("pytorch,jittor", description="comma-separated arms, each backend[:option+option]; "
                                                    "the same one twice is an A/A test")
    preset: Literal["auto", "ddpm", "seed", "tiny"] = Field(
        "auto", description="network and recipe; auto: ddpm on CUDA, tiny on the CPU")
    dataset: DatasetName = Field("auto", description="images; auto takes the first that is there or can be had")
    data_root: str | None = Field(None, description="folder with the data set's original files")
    device: DeviceChoice = Field("auto", description="auto: CUDA only when every arm can use it")
    batch_size: int | None = Field(None, description="images per optimisation step (default: the preset's)")
    blocks: int | None = Field(
        None, description="fresh processes of each arm; at least 6 (default: 8, or 6 where time is short)")
    pairs: int = Field(40, description="alternating windows of each arm in a block")
    epochs: int | None = Field(
        None, description="whole epochs of each arm through the framework's own loader; 0: none "
                          "(default: 2, on the CPU over a part of the data)")
    steps: int | None = Field(
        None, description="train-speed: steps in a window (default: to fill 0.1 s); parity: matched steps (default 50)")
    loader: Literal["resident", "native"] = Field("resident", description="where measured windows get their batches")
    num_workers: int | None = Field(None, description="worker processes of the native loader (default: the preset's)")
    seed: int = Field(0, description="seed of data order, weights, and of the order of windows")
    time_limit: float | None = Field(None, description="minutes after which no new block is started")
    schedule: Literal["resident", "sequential"] = Field(
        "resident", description="resident: all arms in memory, alternating; sequential: one after another")
    interpreter: Repeated = Field((), strict=False, description="ARM=PYTHON: run this arm with that interpreter")
    cold_start: bool = Field(False, description="also start every arm once with empty compile caches (minutes)")
    selfcheck: bool = Field(False, description="also measure every arm against itself: the machine's noise floor")
    out: str = Field("results", description="folder of the run folders")
    config: str | None = Field(None, description="JSON file with these options and an 'experiment' object; "
                                                 "the command line wins")
    resume: str | None = Field(None, description="run folder to go on with; finished blocks are kept")
    dry_run: bool = Field(False, description="print the plan and the resolved configuration, measure nothing")
    quiet: bool = Field(False, description="no progress bars, only the result")


# What may differ when a run is resumed: it changes what is shown, not what is measured.
FREE_ON_RESUME = frozenset({"resume", "dry_run", "quiet", "config", "out"})
_AT_LEAST = {"batch_size": 1, "blocks": MIN_BLOCKS, "pairs": 2, "epochs": 0, "steps": 1, "num_workers": 0, "seed": 0}


def parse(argv: Sequence[str]) -> tuple[BenchConfig, dict[str, Any]]:
    """The options and the experiment overrides of a command line and its `--config` file.

    Raises:
        UsageError: anything wrong with either, in one line.
        SystemExit: `--help`, with status 0.
    """
    argv = [alias(word) for word in argv]
    file = _first_look(argv)
    base, overrides = (BenchConfig(), {}) if file is None else read_config(Path(file))
    return checked(command_line(argv, base)), overrides


def read_config(path: Path) -> tuple[BenchConfig, dict[str, Any]]:
    """The options and experiment overrides of a JSON file; dashes and underscores are the same in its keys.

    Raises:
        UsageError: unreadable, not JSON, an unknown key, or a wrong type.
    """
    data = {key.replace("-", "_"): value for key, value in read_json(path).items()}
    overrides = data.pop(EXPERIMENT, {})
    for key in ("config", "config_path", "resume", "dry_run"):
        if key in data:
            raise UsageError(f"{path}: {key!r} belongs on the command line, not into the file")
    # The overrides are checked here, against any preset, so that a fault is found before anything starts.
    merged(preset(PRESETS[0]), overrides, f"{path}: {EXPERIMENT}")
    try:
        return checked(BenchConfig.model_validate(data), f"{path}: "), overrides
    except ValidationError as error:
        known = ", ".join(name for name in BenchConfig.model_fields if name not in ("config", "resume", "dry_run"))
        more = f" (known: {known}, {EXPERIMENT})" if "unknown key" in first_fault(error) else ""
        raise UsageError(f"{path}: {first_fault(error)}{more}") from error


def checked(config: BenchConfig, where: str = "") -> BenchConfig:
    """`config` itself, when every number is in range and every arm and interpreter is known.

    Raises:
        UsageError: the first fault.
    """
    for name, least in _AT_LEAST.items():
        value = getattr(config, name)
        if value is not None and value < least:
            why = " (fewer give no verdict)" if name == "blocks" else ""
            raise UsageError(f"{where}--{name.replace('_', '-')}: must be at least {least}{why}, got {value}")
    if config.seed >= 2**63:
        raise UsageError(f"{where}--seed: must be below 2**63, got {config.seed}")
    if config.time_limit is not None and not 0 < config.time_limit < 1e6:
        raise UsageError(f"{where}--time-limit: minutes above 0, got {config.time_limit}")
    try:
        interpreters(config)
    except UsageError as error:
        raise UsageError(f"{where}{error}") from error
    return config


def interpreters(config: BenchConfig) -> dict[str, str]:
    """Arm or backend name -> interpreter, from `--interpreter ARM=PYTHON`.

    Raises:
        UsageError: malformed, an arm that is not in the run, or no executable there.
    """
    arms = parse_arms(config.arms)
    names = {arm.name for arm in arms} | {arm.backend for arm in arms}
    chosen: dict[str, str] = {}
    for text in config.interpreter:
        name, equals, python = text.partition("=")
        if not equals or not python:
            raise UsageError(f"--interpreter {text!r}: expected ARM=PYTHON, e.g. jittor=/opt/jittor/bin/python")
        name = parse_arm(name).name
        if name not in names:
            raise UsageError(f"--interpreter {text!r}: arm {name!r} is not in --arms {config.arms}")
        if not os.access(python, os.X_OK) or os.path.isdir(python):
            raise UsageError(f"--interpreter {text!r}: {python} is not an executable file")
        chosen[name] = os.path.abspath(python)
    return chosen


def interpreter_of(arm: Arm, chosen: dict[str, str], default: str) -> str:
    """The interpreter of one arm: chosen for the arm, else for its backend, else `default`."""
    return chosen.get(arm.name, chosen.get(arm.backend, default))


def experiment(config: BenchConfig, overrides: dict[str, Any], device: str) -> ExperimentConfig:
    """The experiment that the options, the file's overrides and the device amount to.

    Raises:
        UsageError: an override is unknown or of the wrong type.
    """
    name = config.preset if config.preset != "auto" else overrides.get("preset")
    resolved = preset(name if name is not None else "ddpm" if device == "cuda" else "tiny")
    rest = {key: value for key, value in overrides.items() if key != "preset"}
    resolved = merged(resolved, rest, f"{config.config or '--config'}: {EXPERIMENT}")
    train: dict[str, Any] = {"loader": config.loader}
    if config.batch_size is not None:
        train["batch_size"] = config.batch_size
    if config.num_workers is not None:
        train["num_workers"] = config.num_workers
    seed = {"seed": config.seed} if config.seed or "seed" not in rest else {}
    return merged(resolved, {"train": train, **seed}, "command line")


def alias(word: str) -> str:
    """`--config_path` is another name of `--config`; underscores and dashes are the same in option names."""
    if not word.startswith("--"):
        return word
    name, equals, value = word.partition("=")
    name = "--" + name[2:].replace("_", "-")
    return ("--config" if name == "--config-path" else name) + equals + value


def command_line(argv: Sequence[str], base: BenchConfig) -> BenchConfig:
    """`base` with the options of `argv` laid over it.

    Raises:
        UsageError: tyro refused an option; its box of lines becomes one.
    """
    import tyro

    noise = io.StringIO()
    try:
        with contextlib.redirect_stderr(noise):
            parsed: BenchConfig = tyro.cli(BenchConfig, prog=PROG, args=list(argv), default=base)
    except SystemExit as stop:
        if not stop.code:
            raise
        raise UsageError(one_line(noise.getvalue())) from stop
    return parsed


def one_line(box: str) -> str:
    """The message inside tyro's error box, without the frame, the help text and the line breaks."""
    words: list[str] = []
    for line in box.splitlines()[1:]:
        inner = line.strip("│╭╮╰╯ \t")
        if inner and not inner.strip("─"):
            break
        words += inner.split()
    text = " ".join(words) or "the command line cannot be understood"
    number = re.match(r"Error parsing (--\S+): no type matching \{None\}\|(\w+) could be \w+ from \[(.*?)\]", text)
    if number:
        kind = {"INT": "a whole number", "FLOAT": "a number"}.get(number[2], "a text")
        text = f"{number[1]}: expected {kind}, got {number[3]}"
    text = re.sub(r"^Error parsing (--\S+): ", r"\1: ", text)
    return f"{text.rstrip('.')} (see {PROG} --help)"


def _first_look(argv: Sequence[str]) -> str | None:
    """The last `--config` of a command line, before it is parsed: the file holds the defaults of the parsing."""
    found = None
    for word, following in zip(argv, [*argv[1:], None], strict=True):
        if word == "--config" and following is not None:
            found = following
        elif word.startswith("--config="):
            found = word.partition("=")[2]
    return found
