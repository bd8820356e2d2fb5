import dataclasses
import json
import pickle
import zipfile

import numpy as np
import pytest
from safetensors.numpy import save_file

from impls.backend import TrainerState
from impls.errors import CheckpointError
from impls.recipe.config import preset
from impls.recipe.scaling import LossScale
from impls.store import checkpoint

CONFIG = preset("tiny")
METADATA = {"format": checkpoint.FORMAT, "format_version": "1", "step": "1", "ema": "false",
            "config": CONFIG.model_dump_json()}


def make_state(step=12, ema=True):
    random = np.random.default_rng(0)

    def arrays():
        return {"conv.weight": random.standard_normal((2, 3, 3), dtype=np.float32),
                "conv.bias": np.zeros(0, np.float32), "scale": np.array(2.5, np.float32)}

    return TrainerState(step, arrays(), arrays() if ema else None, arrays(), arrays())


def assert_same(one, other):
    assert (one is None) == (other is None)
    if one is not None:
        assert one.keys() == other.keys()
        for name in one:
            assert one[name].shape == other[name].shape
            assert one[name].dtype == other[name].dtype
            assert np.array_equal(one[name], other[name])


@pytest.fixture
def path(tmp_path):
    return tmp_path / "step-12.safetensors"


@pytest.mark.parametrize("ema", [True, False])
def test_round_trip_is_exact(path, ema):
    state = make_state(ema=ema)
    checkpoint.save_state(path, state, CONFIG)
    again, config = checkpoint.load_state(path)
    assert (again.step, config) == (12, CONFIG)
    for group in ("params", "ema", "exp_avg", "exp_avg_sq"):
        assert_same(getattr(state, group), getattr(again, group))
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_loss_scale_comes_back_and_others_do_not_mention_any(path):
    told = LossScale(scale=2.0**-3, good_steps=5, skipped=12)
    checkpoint.save_state(path, dataclasses.replace(make_state(), loss_scale=told), CONFIG)
    assert checkpoint.load_state(path)[0].loss_scale == told
    checkpoint.save_state(path, make_state(), CONFIG)
    assert checkpoint.load_state(path)[0].loss_scale is None and b"loss_scale" not in path.read_bytes()


@pytest.mark.parametrize(("told", "line"), [
    ("{", "the loss scale inside is not readable: the file is damaged"),
    ('{"scale": "NaN"}', "the loss scale inside is not readable: the file is damaged"),
    ('{"scale": 1e39}', "the loss scale inside is not readable: the file is damaged"),
    ('{"good_steps": 2000}', "the loss scale inside is not readable: the file is damaged"),
    ('{"skipped": 2}', "2 of 1 steps were left out: the file is damaged")])
def test_a_damaged_loss_scale_is_one_line(path, told, line):
    save_file({}, path, {**METADATA, "loss_scale": told})
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load_state(path)
    assert str(caught.value) == f"{path}: {line}"


def test_views_that_are_not_contiguous_are_stored_right(path):
    arrays = {"a": np.arange(12, dtype=np.float32).reshape(3, 4).T, "b": np.arange(9, dtype=np.int64)[::-2]}
    checkpoint.save_arrays(path, arrays)
    assert_same(arrays, checkpoint.load_arrays(path))


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_behind(path, monkeypatch):
    checkpoint.save_state(path, make_state(step=1), CONFIG)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("impls.store.files.os.replace", full)
    with pytest.raises(CheckpointError, match="cannot write the checkpoint: No space left on device"):
        checkpoint.save_state(path, make_state(step=2), CONFIG)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert checkpoint.load_state(path)[0].step == 1


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot write"):
        checkpoint.save_state(tmp_path / "file" / "x.safetensors", make_state(), CONFIG)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_neither_written_nor_read(path, value):
    state = make_state()
    broken = dataclasses.replace(state, exp_avg={**state.exp_avg, "scale": np.array(value, np.float32)})
    with pytest.raises(CheckpointError, match=r"'exp_avg.scale' holds NaN or infinity"):
        checkpoint.save_state(path, broken, CONFIG)
    assert not path.exists()
    good = np.ones(1, np.float32)
    save_file({"params.w": good * value, "exp_avg.w": good, "exp_avg_sq.w": good}, path, METADATA)
    with pytest.raises(CheckpointError, match=r"'params.w' holds NaN or infinity"):
        checkpoint.load_state(path)


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 9, 100, -1])
def test_every_truncation_is_refused(path, keep):
    checkpoint.save_state(path, make_state(), CONFIG)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="truncated or not a safetensors file"):
        checkpoint.load_state(path)


class Bomb:
    def __reduce__(self):
        return pytest.fail, ("the pickle was executed",)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_is_named_and_never_executed(path, protocol):
    path.write_bytes(pickle.dumps(Bomb(), protocol=protocol))
    with pytest.raises(CheckpointError, match="a pickle, which can run any code"):
        checkpoint.load_state(path)


def test_foreign_files_are_named(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.pkl", pickle.dumps(Bomb()))
    with pytest.raises(CheckpointError, match="a zip archive"):
        checkpoint.load_state(path)
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(CheckpointError, match="a numpy file"):
        checkpoint.load_state(path)
    with pytest.raises(CheckpointError, match="No such file"):
        checkpoint.load_state(path.with_name("nothing"))
    with pytest.raises(CheckpointError, match="Is a directory"):
        checkpoint.load_state(path.parent)


def test_safetensors_of_another_program_are_refused_as_a_state_but_read_as_arrays(path):
    arrays = {"w": np.ones(2, np.float16)}
    save_file(arrays, path)
    with pytest.raises(CheckpointError, match="of another program"):
        checkpoint.load_state(path)
    assert_same(arrays, checkpoint.load_arrays(path))


def test_a_header_as_long_as_a_pickles_magic_is_still_safetensors(path):
    # 0x80 as the low byte of the header's length is no pickle.
    for filler in range(256):
        save_file({"w": np.ones(2, np.float32)}, path, {"filler": "x" * filler})
        if path.read_bytes()[0] == 0x80:
            assert checkpoint.load_arrays(path)["w"].tolist() == [1, 1]
            return
    pytest.fail("no header of this length was made")


@pytest.mark.parametrize(("changes", "line"), [
    ({"format_version": "2"}, "checkpoint format '2', this program reads '1'"),
    ({"step": "-1"}, "step '-1' is not a step number"),
    ({"step": "9" * 30}, "is not a step number"),
    ({"step": "²"}, "is not a step number"),
    ({"config": "{"}, "is not JSON"),
    ({"config": "[1]"}, "configuration: "),
    ({"config": json.dumps({"preset": "tiny", "extra": 1})}, "unknown key 'extra'"),
    ({"ema": "true"}, "ema.w does not match the weights"),
])
def test_damaged_metadata_are_one_line(path, changes, line):
    tensors = {f"{group}.w": np.ones(2, np.float32) for group in ("params", "exp_avg", "exp_avg_sq")}
    save_file(tensors, path, {**METADATA, **changes})
    with pytest.raises(CheckpointError) as fault:
        checkpoint.load_state(path)
    assert line in str(fault.value)
    assert str(path) in str(fault.value)
    assert "\n" not in str(fault.value)


@pytest.mark.parametrize(("tensors", "line"), [
    ({"params.w": np.ones(2, np.float32)}, "exp_avg.w does not match"),
    ({"params.w": np.ones(2, np.float32), "exp_avg.w": np.ones(3, np.float32)}, "exp_avg.w does not match"),
    ({"weights.w": np.ones(2, np.float32)}, "unknown tensor 'weights.w'"),
    ({"params.": np.ones(2, np.float32)}, "unknown tensor 'params.'"),
    ({"params.w": np.ones(2, np.float64)}, "is F64, expected F32"),
])
def test_tensors_that_do_not_belong_together_are_refused(path, tensors, line):
    save_file(tensors, path, METADATA)
    with pytest.raises(CheckpointError, match=line):
        checkpoint.load_state(path)


def test_a_number_type_that_numpy_lacks_is_refused(path):
    header = json.dumps({"w": {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 2)
    with pytest.raises(CheckpointError, match="number type|not a safetensors file"):
        checkpoint.load_arrays(path)
