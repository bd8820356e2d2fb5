"""Where Jittor keeps what it compiles, and what stands in its way there: rights, owners, a lock that is held."""

from __future__ import annotations

import fcntl
import json
import os
import pwd
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from impls.errors import UnavailableError
from messages import marked, tell

ADVICE = marked("set HOME to a writable folder")
# Who holds the lock and compiles uses the processor all the time.
IDLE_S = 2.0


def places() -> tuple[Path, Path]:
    """Jittor's folder below HOME, and the home that holds its cache: JITTOR_HOME, else the remembered one, else HOME.

    Raises:
        UnavailableError: what it remembered cannot be read.
    """
    own = Path.home() / ".cache" / "jittor"
    remembered = own / "config.json"
    try:
        settings = json.loads(remembered.read_text(encoding="utf-8")) if remembered.exists() else {}
    except (OSError, ValueError) as error:
        raise _unwritable(own, error) from error
    return own, Path(os.environ.get("JITTOR_HOME") or settings.get("JITTOR_HOME") or Path.home()).absolute()


def jittor_home() -> Path:
    """The folder whose .cache/jittor Jittor writes to, which is made where it is missing.

    Raises:
        UnavailableError: Jittor could not write there.
    """
    own, home = places()
    folders = own, home / ".cache" / "jittor"
    try:
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(own, error) from error
    for folder in folders:
        if not os.access(folder, os.W_OK):
            raise UnavailableError(tell("Jittor needs a writable home folder: {folder} is read-only: {advice}",
                                        folder=folder, advice=tell(ADVICE)))
    return home


def check_writable() -> None:
    """See whether `jittor_home` would work, and make no folder.

    Raises:
        UnavailableError: it would not.
    """
    own, home = places()
    for folder in (own, home / ".cache" / "jittor"):
        there = next(path for path in (folder, *folder.parents) if path.exists())
        try:
            with tempfile.TemporaryFile(dir=there):
                pass
        except OSError as error:
            raise UnavailableError(tell("Jittor needs a writable home folder: {path}: {reason}: export "
                                        "HOME=/a/writable/folder", path=there,
                                        reason=error.strerror or error)) from error


def check_owner() -> None:
    """Files of another user, as `sudo` leaves them: compiling into them fails in its middle.

    Raises:
        UnavailableError: there are some that this user cannot write.
    """
    me = os.geteuid()
    for folder in _caches():
        for path in (folder, *_below(folder)):
            owner = path.lstat().st_uid
            if me not in (owner, 0) and not os.access(path, os.W_OK):
                raise UnavailableError(tell("Jittor's cache holds files of another user ({path} belongs to {owner}): "
                                            "sudo chown -R {me} {folder}", path=path, owner=_name(owner), me=me,
                                            folder=folder))


def check_lock() -> None:
    """The lock that every start of Jittor waits for: held by who does nothing, it looks like a hang.

    Raises:
        UnavailableError: a process holds it and is idle, or it cannot be taken at all.
    """
    for folder in _caches():
        for lock in folder.glob("jt*/**/jittor.lock"):
            _check_lock(lock)


def _check_lock(lock: Path) -> None:
    try:
        handle = os.open(lock, os.O_RDWR)
    except OSError as error:
        raise UnavailableError(tell("Jittor's lock cannot be opened ({reason}): rm -f {lock}", reason=error.strerror,
                                    lock=lock)) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = _holder(os.fstat(handle).st_ino)
        if holder is not None and not _busy(holder):
            raise UnavailableError(tell("process {holder} holds Jittor's lock {lock} and does nothing, so that every "
                                        "start waits for it: kill {holder}", holder=holder, lock=lock)) from None
    except OSError as error:
        raise UnavailableError(tell("{lock}: its file system has no locks ({reason}): export "
                                    "JITTOR_HOME=/a/folder/on/a/local/disk", lock=lock,
                                    reason=error.strerror)) from error
    finally:
        os.close(handle)


def _holder(inode: int) -> int | None:
    """The process that took a lock; None where the system does not tell."""
    try:
        lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    for line in lines:
        kind = line.split()
        if kind[1] == "FLOCK" and kind[5].rpartition(":")[2] == str(inode) and int(kind[4]) > 0:
            return int(kind[4])
    return None


def _busy(pid: int) -> bool:
    """Whether a process, or one that it started, computes; True for one that has gone."""
    import psutil

    def used_s() -> float:
        process = psutil.Process(pid)
        return sum(sum(one.cpu_times()[:4]) for one in (process, *process.children(recursive=True)))

    try:
        before = used_s()
        time.sleep(IDLE_S)
        return used_s() > before
    except psutil.Error:
        return True


def _caches() -> list[Path]:
    own, home = places()
    return [folder for folder in dict.fromkeys((own, home / ".cache" / "jittor")) if folder.is_dir()]


def _below(folder: Path) -> Iterator[Path]:
    """Everything below a folder, but for what links lead to."""
    for place, folders, files in os.walk(folder):
        yield from (Path(place) / name for name in (*folders, *files) if not (Path(place) / name).is_symlink())


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return tell("user {number}", number=uid)


def _unwritable(folder: Path, error: Exception) -> UnavailableError:
    return UnavailableError(tell("Jittor needs a writable home folder: {folder}: {error}: {advice}", folder=folder,
                                 error=error, advice=tell(ADVICE)))
