"""`python -m harness.worker` connects back to the runner and serves it: started by the runner, never by hand."""

from __future__ import annotations

import faulthandler
import os
import select
import socket
import sys
import threading
from multiprocessing.connection import Client, Connection
from pathlib import Path
from typing import Any

from harness import protocol
from harness.protocol import life
from harness.worker.worker import Worker
from impls.errors import UsageError
from impls.ranks import end_with_parent, own_ranks
from messages import tell


def end_with_runner(channel: Connection[Any, Any]) -> None:
    """Have this process end as soon as the runner is gone, whatever it is at: a rank may wait for others for ever."""
    hung_up = select.poll()
    hung_up.register(channel.fileno(), select.POLLRDHUP)

    def watch() -> None:
        hung_up.poll()
        os._exit(1)

    threading.Thread(target=watch, name="runner-watch", daemon=True).start()


def connected() -> Connection[Any, Any]:
    """The channel to the runner that the environment names; nothing of the key stays there.

    A framework's own children would inherit it.
    """
    address, file = os.environ.pop(protocol.ADDRESS_VARIABLE), os.environ.pop(protocol.KEY_FILE_VARIABLE, None)
    key = os.environ.pop(protocol.KEY_VARIABLE, None) or Path(str(file)).read_text(encoding="ascii")
    if address.startswith(protocol.TCP):
        host, _, port = address.removeprefix(protocol.TCP).rpartition(":")
        return Client((host, int(port)), family="AF_INET", authkey=bytes.fromhex(key))
    return Client(address, family="AF_UNIX", authkey=bytes.fromhex(key))


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
    # With the runner's main thread, or the launcher; the janitor ends what it started.
    end_with_parent()
    # A crash inside a framework leaves the Python lines that led to it in the log.
    faulthandler.enable()
    missing = [name for name in (protocol.ADDRESS_VARIABLE, protocol.TOKEN_VARIABLE) if name not in os.environ]
    if not {protocol.KEY_VARIABLE, protocol.KEY_FILE_VARIABLE} & os.environ.keys():
        missing.append(protocol.KEY_VARIABLE)
    if missing:
        print(tell("harness.worker: {name} is not set: workers are started by run_bench.py", name=missing[0]),
              file=sys.stderr)
        return 2
    try:
        ranks = own_ranks()
    except UsageError as error:
        print(f"harness.worker: {error}", file=sys.stderr)
        return 2
    channel = connected()
    channel.send_bytes(protocol.encode(life.Hello(token=os.environ.pop(protocol.TOKEN_VARIABLE), pid=os.getpid(),
                                                  rank=ranks.rank, host=socket.gethostname())))
    if ranks.size > 1:
        end_with_runner(channel)

    def note(text: str) -> None:
        channel.send_bytes(protocol.encode(life.Note(text=text)))

    serve(channel, Worker(note=note, ranks=ranks))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
