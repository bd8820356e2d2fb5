"""`python -m harness.worker` connects back to the runner and serves it: started by the runner, never by hand."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import sys
from multiprocessing.connection import Client, Connection
from typing import Any

from harness import protocol
from harness.protocol import life
from harness.worker.worker import Worker

PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Have the kernel end this process at once when the runner's main thread dies; the janitor ends what it started."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def serve(channel: Connection[Any, Any], worker: Worker) -> None:
    """Obey until told to stop, or until the runner is gone."""
    while True:
        try:
            command = protocol.decode_command(channel.recv_bytes(protocol.MAX_MESSAGE_BYTES))
        except EOFError:
            return
        channel.send_bytes(protocol.encode(worker.handle(command)))
        if isinstance(command, life.Stop):
            return


def main() -> int:
    """Connect to the runner named by the environment and serve it."""
    die_with_parent()
    # A crash inside a framework leaves the Python lines that led to it in the log.
    faulthandler.enable()
    missing = [name for name in (protocol.ADDRESS_VARIABLE, protocol.KEY_VARIABLE, protocol.TOKEN_VARIABLE)
               if name not in os.environ]
    if missing:
        print(f"harness.worker: {missing[0]} is not set: workers are started by run_bench.py", file=sys.stderr)
        return 2
    # Taken out of the environment so that the framework's own children do not inherit the key.
    address, key = os.environ.pop(protocol.ADDRESS_VARIABLE), os.environ.pop(protocol.KEY_VARIABLE)
    channel = Client(address, family="AF_UNIX", authkey=bytes.fromhex(key))
    channel.send_bytes(protocol.encode(life.Hello(token=os.environ.pop(protocol.TOKEN_VARIABLE), pid=os.getpid())))

    def note(text: str) -> None:
        channel.send_bytes(protocol.encode(life.Note(text=text)))

    serve(channel, Worker(note=note))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
