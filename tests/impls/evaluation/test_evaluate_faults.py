"""Bad input: one clear line, exit code 2, nothing written."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from small_evaluation import draw

from impls.errors import UsageError
from impls.tools.evaluate.options import parse


class Bomb:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def objects(path):
    array = np.empty(1, object)
    array[0] = Bomb(path.parent / "executed")
    np.savez(path, images=array)


def truncated(path):
    np.savez(path, images=draw(20))
    path.write_bytes(path.read_bytes()[:-200])


def torn_header(path):
    """A string in it does not end, at which Python's own tokenizer gives up."""
    np.savez(path, images=draw(20))
    path.write_bytes(path.read_bytes().replace(b"'shape': (20", b"'shape : (20"))


WRONG_FILES = {
    "text": (lambda path: path.write_text("no archive"), "not an npz or npy file"),
    "empty": (lambda path: path.write_bytes(b""), "not an npz or npy file"),
    "pickle": (lambda path: path.write_bytes(pickle.dumps(Bomb(path.parent / "executed"))), "not an npz or npy file"),
    "objects": (objects, "not an npz or npy file"),
    "truncated": (truncated, "not an npz or npy file"),
    "key": (lambda path: np.savez(path, samples=draw(20)), "has no array 'images' or 'arr_0', only samples"),
    "floats": (lambda path: np.savez(path, images=np.full((20, 8, 8, 3), np.nan, "f4")), "float32, expected uint8"),
    "channels first": (lambda path: np.savez(path, images=draw(20).transpose(0, 3, 1, 2)), "(20, 3, 8, 8), expected"),
    "one dimension": (lambda path: np.savez(path, images=np.zeros(8, np.uint8)), "shape (8,)"),
    "no images": (lambda path: np.savez(path, images=draw(20)[:0]), "holds 0 images"),
    "one image": (lambda path: np.savez(path, images=draw(1)), "holds 1 images"),
    "other size": (lambda path: np.savez(path, images=draw(20, size=4)), "4x4 pixels, those of real.npz have 8x8"),
    "no members": (lambda path: path.write_bytes(b"PK\x05\x06" + bytes(18)), "or 'arr_0', only nothing"),
    "torn header": (torn_header, "not an npz or npy file of plain arrays"),
    "absent": (lambda path: None, "no such file"),
    "folder": (lambda path: path.mkdir(), "holds 0 PNG or JPEG files"),
    "statistics": (lambda path: np.savez(path, mu=np.zeros(12), sigma=np.eye(12)), "can be a --reference only"),
}


@pytest.mark.parametrize("kind", WRONG_FILES)
def test_wrong_images(evaluated, images, tmp_path, cache, kind):
    make, wanted = WRONG_FILES[kind]
    path = tmp_path / "wrong.npz"
    make(path)
    code, found, out, errors = evaluated("--images", path, "--reference", images("real.npz", draw(200, 2)))
    assert (code, found, out) == (2, None, "") and len(errors) == 1
    assert errors[0].startswith(f"python -m impls.evaluate: error: {path}: ") and wanted in errors[0]
    assert not cache.exists() and not (tmp_path / "executed").exists()


@pytest.mark.parametrize("kind", ["text", "floats", "objects", "one image"])
def test_wrong_reference_files(evaluated, files, tmp_path, cache, kind):
    make, wanted = WRONG_FILES[kind]
    make(tmp_path / "wrong.npz")
    code, found, _, errors = evaluated(*files[:2], "--reference", tmp_path / "wrong.npz")
    assert (code, found, len(errors)) == (2, None, 1) and wanted in errors[0] and not cache.exists()


@pytest.mark.parametrize(("options", "wanted"), [
    (["--reference_images", 12], "12 reference images of real.npz are too few: quarters has 12 features"),
    (["--reference_images", 201], "--reference_images 201: real.npz has 200 images"),
    (["--reference_images", 1], "--reference_images: must be at least 2, got 1"),
    (["--reference", "cifar11"], "--reference cifar11: no such file or folder; the data sets are auto, cifar10"),
    (["--features", "vgg"], "--features vgg: unknown: choose auto or one of inception-v3-compat, efficientnet-lite0"),
    (["--resize", 0], "--resize: must be at least 1, got 0"),
    (["--resize", 5000], "--resize: must be at most 4096, got 5000"),
    (["--batch_size", 0], "--batch_size: must be at least 1, got 0"),
    (["--seed", -1], "--seed: must be at least 0"),
    (["--seed", 2**32], "--seed: must be below 2**32"),
    (["--nearest_images", 0], "--nearest_images: must be at least 1"),
    (["--inception_weights", "w.pth"], "mean nothing to --features quarters"),
    (["--inception_sha256", "ab"], "mean nothing to --features quarters"),
    (["--features", "auto", "--inception_sha256", "ab"], "expected 64 hexadecimal digits"),
    (["--device", "tpu"], "--device"),
    (["--data_root", "nowhere", "--reference", "digits"], "data folder nowhere: no such folder"),
    (["--json", "/proc/nothing/out.json"], "--json /proc/nothing/out.json: cannot be written"),
    (["--nearest", "/proc/nothing"], "--nearest /proc/nothing: cannot be written"),
    (["--colour"], "--colour"),
])
def test_wrong_options(evaluated, files, cache, options, wanted):
    code, found, out, errors = evaluated(*files, *options)
    assert (code, found, out, len(errors)) == (2, None, "", 1) and wanted in errors[0]
    assert not cache.exists()


def test_places_that_are_taken(evaluated, files, tmp_path):
    file, folder = tmp_path / "file", tmp_path / "folder"
    file.write_text("mine")
    folder.mkdir()
    for options, wanted in [(["--json", folder], "is a folder"), (["--nearest", file], "is a file"),
                            (["--json", file / "x" / "out.json"], "cannot be written")]:
        code, _, _, errors = evaluated(*files, *options)
        assert code == 2 and wanted in errors[0]
    assert file.read_text() == "mine"


def test_cuda_that_is_not_there(evaluated, files, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    code, found, _, errors = evaluated(*files, "--device", "cuda")
    assert (code, found) == (2, None) and "--device cuda: PyTorch finds no CUDA device" in errors[0]


def test_images_are_needed_unless_only_the_reference_is_wanted():
    with pytest.raises(UsageError, match="--images is missing"):
        parse([])
    assert parse(["--reference-only"]).reference_only
    with pytest.raises(UsageError, match="judges no images"):
        parse(["--reference-only", "--images", "a.npz"])


def test_images_may_be_given_in_any_way():
    words = ["--images", "a", "--seed", "1", "--images=b", "--quiet", "--images", "c", "d"]
    assert parse(words).images == ("a", "b", "c", "d")
    assert parse(["--images", "a", "--json", "o", "--images=b"]).images == ("a", "b")
