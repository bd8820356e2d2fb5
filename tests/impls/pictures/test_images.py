"""Pictures: what a file holds when it is read back, exact GIF times, and that no file is ever half written."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageSequence

from impls.errors import UsageError
from impls.pictures import images as subject
from impls.pictures.images import gif_durations, grid, save_gif, save_grid, save_npy, save_npz, save_png, to_uint8


def some(n, size=5, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, channels), dtype=np.uint8)


def read(path):
    with Image.open(path) as picture:
        return np.asarray(picture)


def test_every_uint8_value_survives_the_round_trip():
    values = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    x = values.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(127.5) - np.float32(1)
    np.testing.assert_array_equal(to_uint8(x), values)
    np.testing.assert_array_equal(to_uint8(np.array([-1.2, 1.2, 0.0]).reshape(1, 1, 1, 3)).ravel(), [0, 255, 128])


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_no_picture(wrong):
    x = np.zeros((5, 3, 2, 2), np.float32)
    x[[1, 3], 0, 1, 0] = wrong
    with pytest.raises(UsageError, match="images 11, 13 of this batch: NaN or infinity after network call 3: .*choose"):
        to_uint8(x, first=10, when=" after network call 3")
    x[:] = wrong
    with pytest.raises(UsageError, match="images 0, 1, 2 and 2 more of this batch"):
        to_uint8(x)


@pytest.mark.parametrize(("n", "rows", "columns"), [(1, 1, 1), (2, 1, 2), (5, 2, 3), (16, 4, 4), (17, 4, 5)])
def test_a_grid_is_near_square_and_holds_every_image(n, rows, columns):
    images = some(n)
    picture = grid(images)
    assert picture.shape == (rows * 7 + 2, columns * 7 + 2, 3)
    cells = [picture[2 + 7 * (i // columns) :, 2 + 7 * (i % columns) :][:5, :5] for i in range(rows * columns)]
    np.testing.assert_array_equal(np.stack(cells[:n]), images)
    assert all((cell == 255).all() for cell in cells[n:])


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_read_back_as_written(tmp_path, channels):
    images = some(3, channels=channels)
    save_png(tmp_path / "one.png", images[0])
    np.testing.assert_array_equal(read(tmp_path / "one.png").reshape(images[0].shape), images[0])
    save_grid(tmp_path / "deep" / "grid.png", images)
    np.testing.assert_array_equal(read(tmp_path / "deep" / "grid.png").reshape(16, 16, channels), grid(images))
    save_npz(tmp_path / "images.npz", images)
    with np.load(tmp_path / "images.npz") as arrays:
        np.testing.assert_array_equal(arrays["images"], images)
    save_npy(tmp_path / "images.npy", images)
    np.testing.assert_array_equal(np.load(tmp_path / "images.npy", mmap_mode="r"), images)


@pytest.mark.parametrize("images", [some(0), some(2)[..., :2], some(2).astype(np.int64), some(2)[0]])
def test_what_is_no_picture_is_refused(tmp_path, images):
    with pytest.raises(UsageError, match="needs uint8"):
        save_grid(tmp_path / "grid.png", images)
    assert list(tmp_path.iterdir()) == []


@given(st.integers(1, 60), st.integers(0, 655_350))
def test_gif_times_add_up(frames, total_ms):
    if (total_ms + 5) // 10 < 2 * frames:
        with pytest.raises(UsageError, match="too short"):
            gif_durations(frames, total_ms)
        return
    durations = gif_durations(frames, total_ms)
    assert sum(durations) == (total_ms + 5) // 10 * 10
    assert len(durations) == frames
    assert len(set(durations[:-1])) <= 1
    assert all(ms % 10 == 0 and 20 <= ms <= durations[-1] for ms in durations)


@pytest.mark.parametrize("total_ms", [8000, 1230, 330])
def test_a_gif_takes_exactly_its_time(tmp_path, total_ms):
    save_gif(tmp_path / "a.gif", some(16), total_ms)
    with Image.open(tmp_path / "a.gif") as gif:
        assert (gif.n_frames, gif.info["loop"]) == (16, 0)
        assert sum(frame.info["duration"] for frame in ImageSequence.Iterator(gif)) == total_ms


def test_equal_frames_keep_their_time(tmp_path):
    """Pillow makes one frame of equal neighbours; that one must be shown for as long as they."""
    still, end = some(2)
    save_gif(tmp_path / "a.gif", [still] * 5 + [end], 1000)
    with Image.open(tmp_path / "a.gif") as gif:
        assert [frame.info["duration"] for frame in ImageSequence.Iterator(gif)] == [800, 200]


@pytest.mark.parametrize(("frames", "total_ms", "message"), [
    (16, 310, "too short for 16 frames: choose 320 ms"), (16, 0, "too short"), (16, -5, "too short"),
    (2, 655_360, "too long"), (0, 8000, "at least one frame")])
def test_impossible_gif_times_are_refused(tmp_path, frames, total_ms, message):
    with pytest.raises(UsageError, match=message):
        save_gif(tmp_path / "a.gif", some(frames), total_ms)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("save", [
    lambda path: save_png(path, some(1)[0]), lambda path: save_gif(path, some(2), 1000),
    lambda path: save_npz(path, some(1)), lambda path: save_npy(path, some(1))])
def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch, save):
    path = tmp_path / "old"
    path.write_bytes(b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("impls.store.files.os.replace", full)
    with pytest.raises(UsageError, match="old: cannot be written: No space left on device"):
        save(path)
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("old", b"old")]


def test_a_name_that_cannot_be_a_folder_is_one_line(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match="cannot be written"):
        subject.save_png(tmp_path / "file" / "a.png", some(1)[0])
