"""How a process can fail, by name, and backends that fail before they exist."""

from __future__ import annotations

import ctypes
import os
import signal
import struct
from pathlib import Path

from impls.registry import BackendSpec


def segfault():
    ctypes.string_at(0)


def killed():
    os.kill(os.getpid(), signal.SIGKILL)


def hang():
    while True:
        signal.pause()


def babble():
    os.write(1, bytes(range(256)) * 8 + b"\nlast words\n")
    os._exit(5)


def sockets():
    """What this process is connected by: the runner's socket alone."""
    return [int(name) for name in os.listdir("/proc/self/fd")
            if os.path.exists(f"/proc/self/fd/{name}") and os.readlink(f"/proc/self/fd/{name}").startswith("socket:")]


def garbage():
    (fd,) = sockets()
    os.write(fd, b"garbage" * 100)
    # What it would say of a runner that has gone would be its last lines.
    hang()


def nonsense():
    (fd,) = sockets()
    os.write(fd, struct.pack("!i", 8) + b"nonsense")
    hang()


def stall():
    (fd,) = sockets()
    os.write(fd, struct.pack("!i", 1000) + b"{")
    hang()


def loaders():
    """Children that keep the socket open, as loader workers do; one of them has left for a session of its own."""
    for leaves in (False, True):
        if os.fork() == 0:
            if leaves:
                os.setsid()
            print("loader", os.getpid(), flush=True)
            hang()


def orphan():
    loaders()
    killed()


def segment():
    Path(f"/dev/shm/torch_{os.getpid()}_1_0").write_bytes(b"0" * 4096)
    killed()


FAULTS = {function.__name__: function for function in (
    segfault, killed, hang, babble, garbage, nonsense, stall, loaders, orphan, segment)}

EXITS = BackendSpec(name="exits", module="scripted_exits", options={})
UNIMPORTABLE = BackendSpec(name="unimportable", module="scripted_unimportable", options={})
UNCOMPILED = BackendSpec(name="uncompiled", module="scripted_unimportable", options={},
                         prepare_module="scripted_uncompiled")
SPECS = (EXITS, UNIMPORTABLE, UNCOMPILED)
