"""What a training keeps on disk: the log and its truncation, retention, the folder's lock, picture and event files."""

from __future__ import annotations

import json
import sys
import types

import numpy as np
import pytest

from impls.backend import TrainerState
from impls.errors import CheckpointError, UsageError
from impls.pictures import event_files
from impls.pictures.curve import MOST_POINTS, save_curve, thinned
from impls.recipe.config import preset
from impls.store import trainlog
from impls.store.checkpoint import Note, read_note, save_state
from impls.store.trainfolder import TrainFolder, best, checkpoints, folder_of, prune, remove_partial
from impls.store.trainlog import EpochLine, StepLine, TrainLog

STEPS = [StepLine(step, 1 + step // 4, 1 / step, 1e-4) for step in range(1, 9)]
EPOCHS = [EpochLine(4, 1, 0.5, 0.6, 100.0), EpochLine(8, 2, None, None, 100.0)]
LINES = [*STEPS[:4], EPOCHS[0], *STEPS[4:], EPOCHS[1]]


def save(folder, step, loss=None):
    arrays = {"w": np.zeros(2, np.float32)}
    path = folder / f"step-{step:08d}.safetensors"
    save_state(path, TrainerState(step, arrays, None, arrays, arrays), preset("tiny"), Note(validation_loss=loss))
    return path


def steps(folder):
    return [int(path.stem[5:]) for path in checkpoints(folder)]


def test_a_note_comes_back(tmp_path):
    arrays = {"w": np.zeros(2, np.float32)}
    state = TrainerState(3, arrays, None, arrays, arrays)
    note = Note(arm="jittor:onednn", dataset="digits", dataset_sha256="abc", validation_loss=0.125)
    save_state(tmp_path / "a", state, preset("tiny"), note)
    assert read_note(tmp_path / "a") == note
    assert read_note(save(tmp_path, 1)) == Note()
    (tmp_path / "a").write_bytes(b"\x05")
    with pytest.raises(CheckpointError, match="truncated"):
        read_note(tmp_path / "a")


def test_a_checkpoint_is_as_readable_as_other_files(tmp_path):
    (tmp_path / "other").touch()
    assert save(tmp_path, 1).stat().st_mode == (tmp_path / "other").stat().st_mode


@pytest.mark.parametrize(("keep_last", "keep_best", "left"), [
    (None, True, [5, 10, 15, 20, 100000000]), (1, False, [100000000]), (2, False, [20, 100000000]),
    (1, True, [10, 100000000]), (2, True, [10, 20, 100000000]), (9, True, [5, 10, 15, 20, 100000000]),
])
def test_the_newest_and_the_best_stay(tmp_path, keep_last, keep_best, left):
    for step, loss in ((5, 0.9), (10, 0.2), (15, None), (20, 0.3), (100000000, 0.4)):
        save(tmp_path, step, loss)
    (tmp_path / "step-notes.safetensors").write_text("mine")
    prune(tmp_path, keep_last, keep_best)
    assert steps(tmp_path) == left
    assert (tmp_path / "step-notes.safetensors").exists()


def test_of_two_equals_the_later_is_best_and_a_damaged_one_never(tmp_path):
    paths = [save(tmp_path, step, 0.5) for step in (1, 2, 3)]
    paths[2].write_bytes(b"damaged")
    assert best(paths) == paths[1]
    assert best([save(tmp_path, 9)]) is None
    assert best([]) is None


def test_a_loss_that_is_no_number_is_never_the_least(tmp_path):
    paths = [save(tmp_path, step, loss) for step, loss in ((1, float("nan")), (2, 0.5), (3, float("nan")), (4, None))]
    assert best(paths) == paths[1]
    prune(tmp_path, 1, keep_best=True)
    assert steps(tmp_path) == [2, 4]


def test_what_a_killed_process_left_goes(tmp_path):
    kept = save(tmp_path, 1)
    for name in (".step-00000002.safetensors.77.partial", ".tmp1foaOP"):
        (tmp_path / name).touch()
    remove_partial(tmp_path)
    assert list(tmp_path.iterdir()) == [kept]


def write(path, lines=LINES):
    log = TrainLog(path)
    log.add(lines)
    log.sync()
    log.close()


def test_the_log_comes_back_line_by_line(tmp_path):
    path = tmp_path / "log.jsonl"
    write(path, LINES[:3])
    write(path, LINES[3:])
    assert list(trainlog.read(path, 100)) == LINES
    assert json.loads(path.read_text().splitlines()[0]) == {"step": 1, "epoch": 1, "loss": 1.0, "lr": 1e-4}


def test_a_loss_scale_is_in_the_log_where_there_is_one(tmp_path):
    path = tmp_path / "log.jsonl"
    told = EpochLine(8, 2, None, None, 100.0, loss_scale=512.0, skipped=7)
    write(path, [EPOCHS[0], told])
    assert list(trainlog.read(path, 100)) == [EPOCHS[0], told]
    first, second = map(json.loads, path.read_text().splitlines())
    assert second == {**dict.fromkeys(first), "step": 8, "epoch": 2, "images_per_s": 100.0, "loss_scale": 512.0,
                      "skipped": 7}
    assert "loss_scale" not in first and "skipped" not in first


@pytest.mark.parametrize("step", [0, 3, 4, 8])
def test_lines_after_the_checkpoint_go(tmp_path, step):
    path = tmp_path / "log.jsonl"
    write(path)
    kept = [line for line in LINES if line.step <= step]
    assert trainlog.copy(path, path, step) == kept
    assert list(trainlog.read(path, 100)) == kept
    assert [found.name for found in tmp_path.iterdir()] == ["log.jsonl"]


@pytest.mark.parametrize("torn", [
    '{"step": 9, "epo', '{"step": 9}', "[]", "\x00\x00", '{"step": 9, "loss": 1, "x": 2}'])
def test_torn_lines_do_not_count(tmp_path, torn):
    path = tmp_path / "log.jsonl"
    write(path)
    with path.open("a") as file:
        file.write(torn)
    assert trainlog.copy(path, path, 100) == LINES
    assert list(trainlog.read(path, 100)) == LINES


def test_a_failed_truncation_keeps_the_log(tmp_path, monkeypatch):
    path = tmp_path / "log.jsonl"
    write(path)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("impls.store.files.os.replace", full)
    with pytest.raises(UsageError, match="log.jsonl: cannot be written: No space left on device"):
        trainlog.copy(path, path, 3)
    assert list(trainlog.read(path, 100)) == LINES
    assert [found.name for found in tmp_path.iterdir()] == ["log.jsonl"]


def test_no_log_is_an_empty_one(tmp_path):
    assert trainlog.copy(tmp_path / "none", tmp_path / "new", 5) == []
    assert (tmp_path / "new").read_text() == ""


def test_a_full_disk_is_one_line(tmp_path):
    log = TrainLog(tmp_path / "log.jsonl")
    log.close()
    with open("/dev/full", "w") as log._file, pytest.raises(UsageError, match="No space left on device"):
        log.add(LINES * 10)
    with pytest.raises(UsageError, match="cannot be written"):
        TrainLog(tmp_path / "none" / "log.jsonl")


def test_a_folder_belongs_to_one_process_at_a_time(tmp_path):
    folder = TrainFolder.create(tmp_path, "pytorch-tiny")
    assert folder.path.name.startswith("pytorch-tiny-2")
    with pytest.raises(UsageError, match="another process trains in this folder"):
        TrainFolder(folder.path)
    folder.close()
    TrainFolder(folder.path).close()
    with pytest.raises(UsageError, match="cannot be opened"):
        TrainFolder(tmp_path / "none")
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="--log-root"):
        TrainFolder.create(tmp_path / "file", "x")


def test_a_checkpoint_knows_its_folder(tmp_path):
    folder = tmp_path / "training"
    path = save(folder / "checkpoints", 3)
    assert folder_of(path) is None
    (folder / "config.json").write_text("{}")
    assert folder_of(path) == folder_of(path.parent) == folder_of(folder) == folder
    assert folder_of(save(tmp_path / "elsewhere", 3)) is None


def test_the_curve_is_a_picture_of_labelled_axes(tmp_path, monkeypatch):
    from matplotlib.figure import Figure
    from PIL import Image

    shown = []
    kept = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (shown.append(self), kept(self, *a, **k))[1])
    save_curve(tmp_path / "loss.png", [line.step for line in STEPS], [line.loss for line in STEPS], EPOCHS)
    with Image.open(tmp_path / "loss.png") as picture:
        assert picture.format == "PNG" and min(picture.size) > 400
    (axes,) = shown[0].axes
    assert "step" in axes.get_xlabel() and "loss" in axes.get_ylabel()
    training, raw, averaged = axes.get_lines()
    assert list(training.get_ydata()) == [line.loss for line in STEPS]
    assert (list(raw.get_ydata()), list(averaged.get_ydata())) == ([0.6], [0.5])
    assert [path.name for path in tmp_path.iterdir()] == ["loss.png"]


@pytest.mark.parametrize(("count", "points", "each"), [(0, 0, 1), (1, 1, 1), (1000, 1000, 1), (1001, 501, 2),
                                                       (99_999, 1000, 100)])
def test_a_long_curve_is_thinned_to_means(count, points, each):
    x, y, run = thinned(range(1, count + 1), [float(step) for step in range(1, count + 1)])
    assert (len(x), run) == (points, each) and x == y and points <= MOST_POINTS
    if count:
        assert x[0] == (1 + each) / 2


def test_without_tensorboard_one_line_says_so(tmp_path, monkeypatch):
    said = []
    monkeypatch.setitem(sys.modules, "tensorboard.summary", None)
    events = event_files.open_events(tmp_path, said.append)
    events.scalar("loss", 1.0, 1)
    events.flush()
    events.close()
    assert len(said) == 1 and "tensorboard" in said[0] and list(tmp_path.iterdir()) == []


def test_with_tensorboard_its_own_writer_writes(tmp_path, monkeypatch):
    calls = []

    class Writer:
        def __init__(self, folder):
            calls.append(folder)

        def add_scalar(self, name, value, step):
            calls.append((name, value, step))

        def flush(self):
            calls.append("flush")

        def close(self):
            calls.append("close")

    module = types.ModuleType("tensorboard.summary")
    module.Writer = Writer
    monkeypatch.setitem(sys.modules, "tensorboard", types.ModuleType("tensorboard"))
    monkeypatch.setitem(sys.modules, "tensorboard.summary", module)
    events = event_files.open_events(tmp_path, pytest.fail)
    events.scalar("loss", 0.5, 7)
    events.flush()
    events.close()
    assert calls == [str(tmp_path), ("loss", 0.5, 7), "flush", "close"]
