"""Shards of different settings never mix, and a damaged one is drawn again."""

from __future__ import annotations

import json

import numpy as np
import pytest

from impls.errors import UsageError
from impls.pictures.images import save_npz
from impls.store.shards import first_difference, open_shards

SETTINGS = {"seed": 0, "diffusion": {"T": 20, "variance": "fixedlarge"}}
IMAGES = np.arange(4 * 2 * 2 * 3, dtype=np.uint8).reshape(4, 2, 2, 3)


def test_a_shard_is_read_back_by_the_same_settings_alone(tmp_path):
    shards = open_shards(tmp_path / "a", SETTINGS)
    assert shards.load(0, 4) is None
    shards.save(0, IMAGES)
    again = open_shards(tmp_path / "a", json.loads(json.dumps(SETTINGS)))
    np.testing.assert_array_equal(again.load(0, 4), IMAGES)
    np.testing.assert_array_equal(again.load(0, 2), IMAGES[:2])
    assert again.load(0, 5) is None
    with pytest.raises(UsageError, match=r"diffusion.T is 20 there and 10 here.*choose another"):
        open_shards(tmp_path / "a", {**SETTINGS, "diffusion": {"T": 10, "variance": "fixedlarge"}})


def test_a_shard_from_elsewhere_is_not_taken(tmp_path):
    shards, others = open_shards(tmp_path / "a", SETTINGS), open_shards(tmp_path / "b", {**SETTINGS, "seed": 1})
    others.save(0, IMAGES)
    shards.path(0).parent.mkdir()
    shards.path(0).write_bytes(others.path(0).read_bytes())
    assert shards.load(0, 4) is None


@pytest.mark.parametrize("damage", [
    lambda data: data[:-30], lambda data: b"", lambda data: b"text", lambda data: data[:200] + b"\0" + data[201:],
    lambda data: b"\x80\x04" + data])
def test_a_damaged_shard_is_not_taken(tmp_path, damage):
    shards = open_shards(tmp_path, SETTINGS)
    shards.save(0, IMAGES)
    shards.path(0).write_bytes(damage(shards.path(0).read_bytes()))
    assert shards.load(0, 4) is None


def test_other_arrays_are_not_taken(tmp_path):
    shards = open_shards(tmp_path, SETTINGS)
    identity = np.array(shards.identity)
    for images in (IMAGES.astype(np.float32), IMAGES[0], IMAGES):
        save_npz(shards.path(0), images, **({} if images is IMAGES else {"identity": identity}))
        assert shards.load(0, 2) is None


def test_a_folder_of_unknown_origin_is_refused(tmp_path):
    (tmp_path / "shards").mkdir()
    with pytest.raises(UsageError, match="holds shards but no manifest.json"):
        open_shards(tmp_path, SETTINGS)
    (tmp_path / "manifest.json").write_text("{", encoding="utf-8")
    with pytest.raises(UsageError, match="not JSON"):
        open_shards(tmp_path, SETTINGS)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match="cannot be written"):
        open_shards(tmp_path / "file", SETTINGS)


def test_differences_are_named_by_their_place():
    assert first_difference({"a": {"b": 1}}, {"a": {"b": "x"}}) == ("a.b", "1", '"x"')
    assert first_difference({"a": 1, "more": 2}, {"a": 1}) == ("more", "2", "at its default")
