"""Inception's weights: a file is trusted by its hash alone, nothing in it is executed, and a download is checked."""

from __future__ import annotations

import hashlib
import io

import pytest
import torch

from impls.errors import DataError, UsageError
from impls.evaluation import networks as extractors
from impls.evaluation.networks import WeightsRequest, inception, inception_file
from impls.evaluation.networks.weights import check_tensors, read_tensors

SPEC = extractors.find("inception-v3-compat")


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def created(path, named=True):
    digest = hashlib.sha256(path.read_bytes()).hexdigest() if named else None
    return inception.create(SPEC, WeightsRequest(path, digest))


def test_another_hash_is_refused_before_anything_is_read(tmp_path, monkeypatch):
    path = tmp_path / "w.pth"
    torch.save({"x": Bomb(tmp_path / "executed")}, path)
    monkeypatch.setattr(inception, "read_tensors", lambda *_: pytest.fail("read"))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(UsageError, match=f"w.pth: SHA-256 is {digest}, the published file has 6726825d.*"
                                         f"need --inception_sha256 {digest}"):
        created(path, named=False)
    with pytest.raises(UsageError, match=f"--inception_sha256 names {'0' * 64}"):
        inception.create(SPEC, WeightsRequest(path, "0" * 64))


@pytest.mark.parametrize("legacy", [False, True])
def test_a_malicious_file_is_not_executed(tmp_path, legacy):
    path = tmp_path / "w.pth"
    torch.save({"x": Bomb(tmp_path / "executed")}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UsageError, match="not a plain file of tensors") as fault:
        created(path)
    assert "\n" not in str(fault.value) and not (tmp_path / "executed").exists()


def test_the_bomb_would_go_off(tmp_path):
    path = tmp_path / "w.pth"
    torch.save({"x": Bomb(tmp_path / "executed")}, path)
    torch.load(path, weights_only=False)["x"].close()
    assert (tmp_path / "executed").exists()


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04", b"\x80\x02."])
def test_no_tensor_file_at_all(tmp_path, content):
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(UsageError, match="not a plain file of tensors"):
        created(tmp_path / "w.pth")


def test_something_else_than_named_tensors():
    file = io.BytesIO()
    torch.save([torch.zeros(1)], file)
    with pytest.raises(UsageError, match="w: holds something else than named tensors"):
        read_tensors(file.getvalue(), "w")


def test_weights_of_another_network(tmp_path):
    torch.save({"conv.weight": torch.zeros(3)}, tmp_path / "w.pth")
    with pytest.raises(UsageError, match="tensor Conv2d_1a_3x3.conv.weight is missing: these are weights of another"):
        created(tmp_path / "w.pth")


def test_every_difference_of_the_tensors_is_seen():
    wanted = {"a": torch.zeros(2, 3), "b.num_batches_tracked": torch.tensor(0)}
    good = {"a": torch.ones(2, 3), "b.num_batches_tracked": torch.tensor(5)}
    check_tensors(good, wanted, "w")
    check_tensors({"a": good["a"]}, wanted, "w")
    for more, message in [({"a": torch.ones(3, 2)}, r"\(3, 2\), expected torch.float32 \(2, 3\)"),
                          ({"a": torch.ones(2, 3).double()}, "float64"), ({"a": torch.full((2, 3), torch.nan)}, "NaN"),
                          ({"c": torch.ones(1)}, "tensor c is not part of the network")]:
        with pytest.raises(UsageError, match=message):
            check_tensors({**good, **more}, wanted, "w")
    with pytest.raises(UsageError, match="tensor a is missing"):
        check_tensors({}, wanted, "w")


def test_the_constructor_only_sees_what_we_wrote(tmp_path, monkeypatch):
    seen = []

    class Spy:
        def __init__(self, name, layers, feature_extractor_weights_path):
            seen.append(feature_extractor_weights_path)

    shapes = {"a": torch.zeros(2)}
    torch.save(shapes, tmp_path / "w.pth")
    monkeypatch.setattr(inception, "FeatureExtractorInceptionV3", Spy)
    monkeypatch.setattr(inception._Blank, "state_dict", lambda self: shapes)
    created(tmp_path / "w.pth")
    assert isinstance(seen[0], io.BytesIO) and seen[0].getvalue() != (tmp_path / "w.pth").read_bytes()
    assert list(torch.load(seen[0], weights_only=True)) == ["a"]


def test_where_it_is_looked_for(cache, tmp_path):
    assert inception_file.find() is None
    assert str(inception_file.hub_folder()) == f"{torch.hub.get_dir()}/checkpoints"
    hub, own = inception_file.hub_folder() / inception_file.NAME, cache / "inception" / inception_file.NAME
    for path in (hub, own):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x")
        assert inception_file.find() == path
    assert inception_file.find(hub) == hub
    with pytest.raises(UsageError, match="no such file"):
        inception_file.find(tmp_path / "absent.pth")


def fetched(content):
    def fetch(url, path):
        assert (url, path.name) == (inception_file.URL, inception_file.NAME)
        path.write_bytes(content)
    return fetch


def test_a_download_gets_its_name_when_its_hash_is_right(cache, monkeypatch):
    monkeypatch.setattr(inception_file, "fetch", fetched(b"good"))
    monkeypatch.setattr(inception_file, "SHA256", hashlib.sha256(b"good").hexdigest())
    path = inception_file.download(lambda _: None)
    assert path.read_bytes() == b"good" and list(path.parent.iterdir()) == [path] == [inception_file.find()]


def test_a_wrong_download_leaves_nothing(cache, monkeypatch):
    monkeypatch.setattr(inception_file, "fetch", fetched(b"a captive portal"))
    with pytest.raises(DataError, match="sent has SHA-256"):
        inception_file.download(lambda _: None)
    assert list(inception_file.own_folder().iterdir()) == []


def test_offline_the_line_says_where_to_get_it_and_where_to_put_it(cache, monkeypatch):
    def fetch(url, path):
        raise DataError("the server does not answer")

    monkeypatch.setattr(inception_file, "fetch", fetch)
    with pytest.raises(DataError) as fault:
        inception.create(SPEC, WeightsRequest(say=lambda _: None))
    for part in (inception_file.URL, str(inception_file.own_folder()), inception_file.NAME, "--inception_weights",
                 "does not answer"):
        assert part in str(fault.value)
