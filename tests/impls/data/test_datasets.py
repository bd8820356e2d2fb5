import gzip
import hashlib
import struct
import subprocess
import sys

import numpy as np
import pytest

from impls.data import array_cache, cifar, datasets, download, idx, synthetic
from impls.errors import DataError


def idx_file(images, magic=0x803):
    return struct.pack(">IIII", magic, *images.shape) + images.tobytes()


@pytest.fixture
def grey():
    return np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


@pytest.fixture
def fashion(monkeypatch, tmp_path, grey):
    """A tiny Fashion-MNIST of our own with its checksum, and no system folder."""
    monkeypatch.setattr(datasets, "FASHION_SYSTEM_FOLDER", tmp_path / "nothing")
    monkeypatch.setattr(datasets, "FASHION_SHA256", hashlib.sha256(idx_file(grey)).hexdigest())
    return idx_file(grey)


@pytest.fixture
def offline(monkeypatch):
    def fetch(*_):
        raise DataError("the server does not answer")

    monkeypatch.setattr(download, "fetch", fetch)


@pytest.fixture
def lines():
    return []


def test_digits_are_always_there(cache, lines):
    dataset = datasets.prepare("digits", cache_dir=cache, echo=lines.append)
    images = dataset.open()
    assert images.shape == (1797, 32, 32, 1) == (dataset.images, *dataset.shape)
    assert images.dtype == np.uint8
    assert (images.min(), images.max()) == (0, 255)
    assert dataset.sha256 == hashlib.sha256(dataset.path.read_bytes()).hexdigest()
    assert len(lines) == 1
    assert lines[0].startswith("data set digits: 1797 images 32x32x1; ")
    with pytest.raises(ValueError, match="read-only"):
        images[0] = 0


def test_synthetic_images_vary_and_are_the_same_everywhere(cache):
    dataset = datasets.prepare("synthetic", cache_dir=cache, echo=lambda _: None)
    images = dataset.open()
    assert images.shape == (synthetic.COUNT, 32, 32, 3)
    assert len(np.unique(images.reshape(len(images), -1), axis=0)) == len(images)
    assert images.std(axis=(1, 2)).mean() > 20
    assert hashlib.sha256(images[:8].tobytes()).hexdigest().startswith("b703046ce4d39d60")
    assert np.array_equal(synthetic.images(count=600), images[:600])
    assert not np.array_equal(synthetic.images(count=1, seed=1), images[:1])


@pytest.mark.parametrize("place", [
    "train-images-idx3-ubyte.gz", "train-images-idx3-ubyte", "FashionMNIST/raw/train-images-idx3-ubyte"])
def test_fashion_mnist_is_padded(root, cache, fashion, grey, place):
    path = root / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(fashion) if place.endswith(".gz") else fashion)
    dataset = datasets.prepare("fashion-mnist", root, cache, echo=lambda _: None)
    images = dataset.open()
    assert images.shape == (5, 32, 32, 1)
    assert np.array_equal(images[:, 2:30, 2:30, 0], grey)
    assert int(images.sum()) == int(grey.sum())
    assert str(path) in dataset.why


def test_grey_is_repeated_for_a_network_of_three_channels(cache, lines):
    own = datasets.prepare("digits", cache_dir=cache, echo=lines.append)
    three = datasets.prepare("digits", cache_dir=cache, echo=lines.append, channels=3)
    assert three.shape == (32, 32, 3) and "32x32x3, grey repeated" in lines[1]
    assert np.array_equal(three.open(), own.open().repeat(3, axis=3))
    # Each keeps its file; that of repeated images is the one that all trainings used once.
    assert three.path.name == "digits-9276907e21b71985.npy" and three.path != own.path
    assert datasets.prepare("digits", cache_dir=cache, echo=lines.append, channels=1) == own
    assert own.path.exists()


@pytest.mark.parametrize(("name", "channels", "line"), [
    ("synthetic", 1, "synthetic has images of 3 channels, the network is for 1: choose another data set"),
    ("digits", 2, "digits has images of 1 channel, the network is for 2"),
    ("synthetic", 4, "synthetic has images of 3 channels, the network is for 4"),
])
def test_other_channels_are_refused_before_anything_is_made(cache, name, channels, line):
    with pytest.raises(DataError, match=line):
        datasets.prepare(name, cache_dir=cache, echo=lambda _: None, channels=channels)
    assert not cache.exists()


def test_plain_mnist_under_the_same_name_is_refused(root, cache, fashion, grey):
    (root / "train-images-idx3-ubyte").write_bytes(idx_file(255 - grey))
    with pytest.raises(DataError, match="not Fashion-MNIST's training images"):
        datasets.prepare("fashion-mnist", root, cache)


@pytest.mark.parametrize(("damage", "line"), [
    (lambda data: gzip.compress(data)[:-9], "truncated or damaged gzip"),
    (lambda data: gzip.compress(data)[:30] + b"\xff" * 40, "truncated or damaged gzip|cannot be read"),
    (lambda data: data[:-1], "3919 bytes of pixels, its header says 3920"),
    (lambda data: data[:10], "10 bytes are too few"),
    (lambda data: b"", "0 bytes are too few"),
    (lambda data: b"PK" + data, "not an IDX file of images"),
])
def test_damaged_idx_files_are_refused_and_stay(root, cache, fashion, damage, line):
    path = root / "train-images-idx3-ubyte"
    path.write_bytes(damage(fashion))
    before = path.read_bytes()
    with pytest.raises(DataError, match=line) as fault:
        datasets.prepare("fashion-mnist", root, cache)
    assert str(path) in str(fault.value)
    assert path.read_bytes() == before
    assert not cache.exists()


def test_a_gzip_bomb_stops_at_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(idx, "MAX_BYTES", 1 << 20)
    (tmp_path / "bomb").write_bytes(gzip.compress(bytes(1 << 21)))
    with pytest.raises(DataError, match="larger than 1 MiB"):
        idx.read_bytes(tmp_path / "bomb")


def test_a_second_call_reads_only_the_cache(cache, monkeypatch):
    first = datasets.prepare("synthetic", cache_dir=cache, echo=lambda _: None)
    written = first.path.stat().st_mtime_ns
    monkeypatch.setattr(synthetic, "images", lambda: pytest.fail("built again"))
    assert datasets.prepare("synthetic", cache_dir=cache, echo=lambda _: None) == first
    assert first.path.stat().st_mtime_ns == written


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "no checksum", "wrong checksum"])
def test_a_damaged_cache_is_noticed_and_built_again(cache, lines, damage):
    first = datasets.prepare("digits", cache_dir=cache, echo=lambda _: None)
    good, checksum = first.path.read_bytes(), first.path.with_name(first.path.name + ".sha256")
    if damage == "flip":
        first.path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    elif damage == "truncate":
        first.path.write_bytes(good[:-1000])
    elif damage == "empty":
        first.path.write_bytes(b"")
    elif damage == "no checksum":
        checksum.unlink()
    else:
        checksum.write_bytes(b"\xff")
    assert datasets.prepare("digits", cache_dir=cache, echo=lines.append) == first
    assert "damaged: building them again" in lines[0]
    assert first.path.read_bytes() == good
    assert sorted(path.name for path in cache.iterdir()) == [first.path.name, checksum.name]


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="image cache cannot be used.*XDG_CACHE_HOME"):
        datasets.prepare("digits", cache_dir=tmp_path / "file", echo=lambda _: None)


def test_the_default_cache_is_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert datasets.prepare("digits", echo=lambda _: None).path.parent == tmp_path / "ddpm-bench"


def test_something_else_in_the_place_of_images_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(3))
    for name in ("a.npy", "nothing.npy"):
        with pytest.raises(DataError, match="prepare the data set again"):
            array_cache.open_images(tmp_path / name)


def test_unknown_names_and_folders_are_refused(tmp_path):
    with pytest.raises(DataError, match="unknown data set 'mnist': choose one of auto, cifar10"):
        datasets.prepare("mnist")
    with pytest.raises(DataError, match="nothing: no such folder"):
        datasets.prepare("digits", data_root=tmp_path / "nothing")


def test_missing_data_say_what_from_where_and_where_to_put_it(root, cache, fashion, offline):
    for name, wanted in [("cifar10", cifar.RELEASE.archive), ("fashion-mnist", "train-images-idx3-ubyte.gz")]:
        with pytest.raises(DataError) as fault:
            datasets.prepare(name, root, cache, echo=lambda _: None)
        line = str(fault.value)
        assert f"put {wanted} from https://" in line
        assert f"into {root}" in line
        assert "\n" not in line
    assert list(root.iterdir()) == []


def test_auto_falls_back_step_by_step_and_says_why(root, cache, fashion, offline, lines):
    digits = datasets.prepare("auto", root, cache, echo=lines.append)
    assert digits.name == "digits"
    assert "cifar10 is not in" in digits.why
    assert "fashion-mnist is neither there nor" in digits.why
    assert any("the server does not answer" in line for line in lines)
    (root / "train-images-idx3-ubyte").write_bytes(fashion)
    found = datasets.prepare("auto", root, cache, echo=lines.append)
    assert (found.name, found.images) == ("fashion-mnist", 5)
    assert "cifar10 is not in" in found.why


def published(content, monkeypatch):
    """Make `content` the published archive of two 32x32 images, all black: reading is tested in test_cifar."""
    release = cifar.Release("https://example.org/x", "x.tar.gz", "x", hashlib.md5(content).hexdigest(), (), 2)
    monkeypatch.setattr(cifar, "RELEASE", release)
    monkeypatch.setattr(cifar, "read", lambda *_: np.zeros((2, 32, 32, 3), np.uint8))
    return release


def test_auto_takes_cifar10_from_the_folder_without_asking_the_network(root, cache, monkeypatch):
    published(b"archive", monkeypatch)
    monkeypatch.setattr(download, "fetch", lambda *_: pytest.fail("downloaded"))
    (root / "x.tar.gz").write_bytes(b"archive")
    dataset = datasets.prepare("auto", root, cache, echo=lambda _: None)
    assert (dataset.name, dataset.images) == ("cifar10", 2)
    assert str(root / "x.tar.gz") in dataset.why


def test_a_tampered_archive_is_refused_even_after_a_good_one_was_cached(root, cache, monkeypatch):
    published(b"archive", monkeypatch)
    (root / "x.tar.gz").write_bytes(b"archive")
    datasets.prepare("cifar10", root, cache, echo=lambda _: None)
    (root / "x.tar.gz").write_bytes(b"archivf")
    for name in ("cifar10", "auto"):
        with pytest.raises(DataError, match="truncated or changed"):
            datasets.prepare(name, root, cache, echo=lambda _: None)
    assert (root / "x.tar.gz").read_bytes() == b"archivf"


def test_a_download_appears_in_the_folder_only_when_complete(root, cache, monkeypatch, lines):
    published(b"archive", monkeypatch)

    def fetch(content):
        monkeypatch.setattr(download, "fetch", lambda _, path: path.write_bytes(content))

    fetch(b"arch")
    with pytest.raises(DataError, match="could not be downloaded .*truncated or changed"):
        datasets.prepare("cifar10", root, cache, echo=lines.append)
    assert list(root.iterdir()) == []
    fetch(b"archive")
    assert datasets.prepare("cifar10", root, cache, echo=lines.append).name == "cifar10"
    assert [path.name for path in root.iterdir()] == ["x.tar.gz"]
    assert "downloading CIFAR-10 (170 MB) from https://example.org/x" in lines[0]


@pytest.mark.slow
def test_our_checksums_are_torchvisions():
    program = ("from torchvision.datasets import CIFAR10 as C; from impls.data.cifar import RELEASE as R; "
               "assert (R.url, R.archive, R.folder, R.md5) == (C.url, C.filename, C.base_folder, C.tgz_md5); "
               "assert [list(b) for b in R.batches] == C.train_list")
    subprocess.run([sys.executable, "-c", program], check=True)
