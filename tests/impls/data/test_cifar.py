import gzip
import hashlib
import io
import pickle
import struct
import tarfile

import numpy as np
import pytest

from impls.data import cifar
from impls.errors import DataError

IMAGES_PER_BATCH = 3


class Python2Pickler(pickle._Pickler):
    """Writes bytes the way Python 2, which made the published batches, wrote its strings."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_string(self, value):
        data = value if isinstance(value, bytes) else value.encode("ascii")
        self.write(b"T" + struct.pack("<i", len(data)) + data)
        self.memoize(value)

    dispatch[bytes] = save_string
    dispatch[str] = save_string


def batch(seed, **extra):
    pixels = np.random.default_rng(seed).integers(0, 256, (IMAGES_PER_BATCH, 3072), dtype=np.uint8)
    content = {"batch_label": "training batch", "labels": [1, 2, 3], "data": pixels, "filenames": ["a"], **extra}
    out = io.BytesIO()
    Python2Pickler(out, protocol=2).dump(content)
    return out.getvalue(), pixels


def release(batches, archive=b""):
    return cifar.Release(
        url="https://example.org/cifar.tar.gz", archive="cifar.tar.gz", folder="batches",
        md5=hashlib.md5(archive).hexdigest(), images_per_batch=IMAGES_PER_BATCH,
        batches=tuple((f"data_batch_{i}", hashlib.md5(data).hexdigest()) for i, data in enumerate(batches, 1)))


def tar(members):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
            else:
                info.type, info.linkname = content
                archive.addfile(info)
    return out.getvalue()


def archive_of(root, batches, more=()):
    content = tar([*((f"batches/data_batch_{i}", data) for i, data in enumerate(batches, 1)), *more])
    (root / "cifar.tar.gz").write_bytes(content)
    return release(batches, content)


def expected(pixels):
    """Channel planes of 32x32 one after another, by plain indexing."""
    planes = [[row[c * 1024 : (c + 1) * 1024].reshape(32, 32) for c in range(3)] for row in pixels]
    return np.stack([np.stack(colours, axis=-1) for colours in planes])


@pytest.fixture
def batches():
    return [batch(0)[0], batch(1)[0]]


def test_archive_and_folder_give_the_same_images(tmp_path, batches):
    published = archive_of(tmp_path, batches, more=[("batches/test_batch", b"not read")])
    found = cifar.find(tmp_path, published)
    assert found == tmp_path / "cifar.tar.gz"
    images = cifar.read(found, published)
    assert images.dtype == np.uint8
    assert np.array_equal(images, np.concatenate([expected(batch(0)[1]), expected(batch(1)[1])]))

    folder = tmp_path / "unpacked" / "batches"
    folder.mkdir(parents=True)
    for i, data in enumerate(batches, 1):
        (folder / f"data_batch_{i}").write_bytes(data)
    assert cifar.find(folder.parent, published) == folder
    assert np.array_equal(cifar.read(folder, published), images)


def test_nothing_there_is_not_a_fault(tmp_path):
    assert cifar.find(tmp_path) is None


@pytest.mark.parametrize("damage", [
    lambda data: data[:-1], lambda data: b"", lambda data: data[:100] + bytes([data[100] ^ 1]) + data[101:]])
def test_a_damaged_archive_is_refused_and_stays(tmp_path, batches, damage):
    published = archive_of(tmp_path, batches)
    path = tmp_path / "cifar.tar.gz"
    damaged = damage(path.read_bytes())
    path.write_bytes(damaged)
    with pytest.raises(DataError, match="truncated or changed: its MD5 is"):
        cifar.read(path, published)
    assert path.read_bytes() == damaged


def test_a_damaged_or_missing_batch_is_refused(tmp_path, batches):
    published = archive_of(tmp_path, batches)
    folder = tmp_path / "batches"
    folder.mkdir()
    (folder / "data_batch_1").write_bytes(batches[0])
    with pytest.raises(DataError, match="data_batch_2: missing"):
        cifar.check(folder, published)
    (folder / "data_batch_2").write_bytes(batches[1] + b"x")
    with pytest.raises(DataError, match="data_batch_2: truncated or changed"):
        cifar.read(folder, published)


@pytest.mark.parametrize("more", [
    ("/etc/passwd", b"x"), ("../outside", b"x"), ("batches/../../outside", b"x"),
    ("batches/link", (tarfile.SYMTYPE, "/etc/passwd")), ("batches/hard", (tarfile.LNKTYPE, "batches/data_batch_1")),
    ("batches/device", (tarfile.CHRTYPE, ""))])
def test_members_that_reach_outside_are_refused(tmp_path, batches, more):
    published = archive_of(tmp_path, batches, more=[more])
    with pytest.raises(DataError, match="is a link, a device or outside the folder"):
        cifar.read(tmp_path / "cifar.tar.gz", published)


def test_an_archive_without_a_batch_is_refused(tmp_path, batches):
    content = tar([("batches/data_batch_1", batches[0])])
    (tmp_path / "cifar.tar.gz").write_bytes(content)
    with pytest.raises(DataError, match="data_batch_2 is missing"):
        cifar.read(tmp_path / "cifar.tar.gz", release(batches, content))


# Named, because gzip puts the time into its bytes, and tests that run side by side must have the same names.
@pytest.mark.parametrize("content", [b"no archive at all", gzip.compress(b"no tar"), gzip.compress(b"x" * 9999)[:-20]],
                         ids=["text", "no tar", "cut short"])
def test_files_with_the_right_checksum_that_are_no_archive_are_refused(tmp_path, batches, content):
    (tmp_path / "cifar.tar.gz").write_bytes(content)
    with pytest.raises(DataError, match="not a readable archive|cannot be read"):
        cifar.read(tmp_path / "cifar.tar.gz", release(batches, content))


class Bomb:
    def __reduce__(self):
        return pytest.fail, ("the pickle was executed",)


@pytest.mark.parametrize("data", [
    pickle.dumps(Bomb()), pickle.dumps({"data": Bomb()}, protocol=4), b"cos\nsystem\n(S'true'\ntR.", b"", b"\x80\x02.",
    pickle.dumps({"data": 1}), pickle.dumps([1]), batch(0, data=np.zeros((3, 3072), np.int64))[0],
    batch(0, data=np.zeros((2, 3072), np.uint8))[0]])
def test_a_batch_that_is_anything_but_images_is_refused_even_with_the_right_checksum(tmp_path, data):
    published = archive_of(tmp_path, [data])
    with pytest.raises(DataError, match="not a CIFAR-10 batch"):
        cifar.read(tmp_path / "cifar.tar.gz", published)
