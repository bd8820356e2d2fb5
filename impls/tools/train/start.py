"""Where a training begins: fresh, from weights of others, or from a checkpoint; and in which folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from impls.backend import BackendInfo, TrainerState
from impls.data.datasets import Dataset
from impls.devices import usable_cpus
from impls.recipe.config import ExperimentConfig
from impls.recipe.randomness import STREAMS
from impls.registry import Arm
from impls.store import trainlog
from impls.store.checkpoint import Note, load_state, read_note
from impls.store.trainfolder import TrainFolder, checkpoints, folder_of
from impls.store.weights import diffusers_folder, find_checkpoint, load_weights
from impls.tools.train.options import TrainOptions, changes, with_defaults
from messages import tell


@dataclass(frozen=True)
class Start:
    """Where a training goes on or begins, if not from fresh weights.

    Attributes:
        path: the file that was read.
        state: the training's state.
        config: its experiment.
        note: what else the checkpoint says.
        folder: the folder of its training, if this is the newest checkpoint there.
    """

    path: Path
    state: TrainerState
    config: ExperimentConfig
    note: Note
    folder: Path | None


def starting_point(model_path: str | None) -> Start | None:
    """What `--model_path` names, read and checked; None where it names nothing.

    Raises:
        CheckpointError: missing, damaged or foreign.
    """
    if model_path is None:
        return None
    path = Path(model_path)
    if diffusers_folder(path) is not None:
        weights = load_weights(path)
        config = with_defaults(weights.config)
        zeros = {name: np.zeros_like(array) for name, array in weights.params.items()}
        averaged = None if config.train.ema_decay is None else weights.params
        return Start(weights.path, TrainerState(0, weights.params, averaged, zeros, zeros), config, Note(), None)
    file = find_checkpoint(path)
    state, config = load_state(file)
    folder = folder_of(file)
    if folder is not None and checkpoints(file.parent)[-1].absolute() != file.absolute():
        # What came after this checkpoint is not thrown away.
        folder = None
    return Start(file, state, config, read_note(file), folder)


def open_folder(options: TrainOptions, config: ExperimentConfig, arm: Arm, data: Dataset, start: Start | None,
                say: Callable[[str], None]) -> tuple[TrainFolder, list[trainlog.Line]]:
    """The training's own folder where it goes on unchanged, else a new one that begins with its trace.

    Raises:
        UsageError: another process trains there, or it cannot be written.
    """
    root, name = Path(options.log_root), f"{arm.name.replace(':', '-')}-{config.preset}"
    if start is None:
        return TrainFolder.create(root, name), []
    different = [f"{place} {old} -> {new}" for place, old, new in changes(start.config, config)]
    different += [f"{what} {old} -> {new}" for what, old, new in (
        (tell("backend"), start.note.arm, arm.name), (tell("images"), start.note.dataset_sha256, data.sha256))
        if old is not None and old != new]
    if start.note.streams != STREAMS and config.train.randomness == "matched":
        different.append(tell("streams of noise, timesteps and flips {old} -> {new}, which draw other numbers from "
                              "here on", old=start.note.streams, new=STREAMS))
    step, origin = start.state.step, folder_of(start.path)
    if start.folder is not None and not different:
        folder = TrainFolder(start.folder)
    else:
        reason = f" ({', '.join(different)})" if different else ""
        say(tell("goes on from {path} in a new folder{reason}", path=start.path, reason=reason))
        folder = TrainFolder.create(root, name)
    if origin is None or not options.log:
        return folder, []
    return folder, trainlog.copy(origin / folder.log.name, folder.log, step)


def computed_by(info: BackendInfo, ranks: int) -> dict[str, Any]:
    """What decides about the last digits of a step on one arm, as a checkpoint's note keeps it."""
    return {"framework": f"{info.framework} {info.version}", "processor": info.device_name, "threads": info.threads,
            "ranks": ranks}


def drift(note: Note, arm: Arm, info: BackendInfo, exactly: str, ranks: int) -> str | None:
    """Why a training that goes on will not repeat an uninterrupted one bit for bit, in one line.

    None where it will, where the checkpoint does not say what it was computed by, and for another arm, of which nobody
    expects it.

    Args:
        note: of the checkpoint.
        arm: what goes on.
        info: what it runs on.
        exactly: what gives it as many threads as before.
        ranks: how many processes train together now.
    """
    if note.arm != arm.name:
        return None
    now = computed_by(info, ranks)
    if info.device != "cpu" or arm.spec.any_threads.intersection(arm.options):
        now["threads"] = None
    changed = [name for name, value in now.items() if None not in (value, before := getattr(note, name)) and
               value != before]
    if not changed:
        return None
    told = ", ".join(f"{tell(name)} {getattr(note, name)} -> {now[name]}" for name in changed)
    if "ranks" in changed:
        way_out = tell("so will dropout's masks; for bit-for-bit the same, start as many ranks as before")
    elif changed != ["threads"]:
        way_out = tell("for bit-for-bit the same, use the same framework and machine")
    elif note.threads is not None and note.threads > usable_cpus():
        way_out = tell("to go on exactly, give the process {threads} processors", threads=note.threads)
    else:
        way_out = tell("to go on exactly: {command}", command=exactly)
    return tell("{changes}: the last digits will differ from those of an uninterrupted training; {way_out}",
                changes=told, way_out=way_out)
