import errno
import os
import subprocess
import time

import pytest

from impls.errors import UsageError
from impls.store import files
from impls.store.files import remove_abandoned, replacement, whole_file


@pytest.fixture
def old(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    return path


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("durable", [False, True])
def test_the_new_file_is_there_when_the_block_ends(old, durable):
    with replacement(old, durable) as scratch:
        scratch.write_text("new")
        assert old.read_text() == "old" and scratch.parent == old.parent
    assert old.read_text() == "new" and list(old.parent.iterdir()) == [old]


@pytest.mark.parametrize("fault", [OSError(errno.EIO, "sick"), ValueError("ours"), KeyboardInterrupt()])
def test_a_failed_block_keeps_the_old_file_and_leaves_nothing_behind(old, fault):
    with pytest.raises(type(fault)) as raised, replacement(old) as scratch:
        scratch.write_text("half")
        raise fault
    assert raised.value is fault
    assert old.read_text() == "old" and list(old.parent.iterdir()) == [old]


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_full_disk_at_the_end_does_neither(old, monkeypatch, function):
    monkeypatch.setattr(files.os, function, full)
    with pytest.raises(OSError, match="No space left"), replacement(old, durable=True) as scratch:
        scratch.write_text("new")
    assert old.read_text() == "old" and list(old.parent.iterdir()) == [old]


def test_what_a_killed_process_left_is_removed_after_an_hour(old):
    gone = subprocess.Popen(["true"])
    gone.wait()
    names = [f".file.{gone.pid}.partial", f".file.{os.getpid()}.partial", f".other.{gone.pid}.partial",
             ".file.x.partial"]
    for name in names:
        left = old.with_name(name)
        left.mkdir()
        (left / "half").write_text("new")
        os.utime(left, (time.time() - 4000,) * 2)
    remove_abandoned(old)
    assert {path.name for path in old.parent.iterdir()} == {"file", *names[1:]}
    fresh = old.with_name(f".file.{gone.pid}.partial")
    fresh.write_text("another machine's, perhaps")
    remove_abandoned(old)
    assert fresh.exists()
    os.utime(fresh, (0, 0))
    remove_abandoned(old)
    assert not fresh.exists() and old.read_text() == "old"


def test_only_what_must_last_waits_for_the_disk(old, monkeypatch):
    monkeypatch.setattr(files.os, "fsync", full)
    with replacement(old) as scratch:
        scratch.write_text("new")
    assert old.read_text() == "new"


def test_a_whole_file_makes_its_folder_and_its_faults_are_one_line(tmp_path, monkeypatch):
    path = tmp_path / "a" / "b" / "file"
    with whole_file(path) as scratch:
        scratch.write_text("new")
    assert path.read_text() == "new"
    monkeypatch.setattr(files.os, "replace", full)
    with pytest.raises(UsageError, match="file: cannot be written: No space left on"), whole_file(path) as scratch:
        scratch.write_text("newer")
    assert path.read_text() == "new" and list(path.parent.iterdir()) == [path]
