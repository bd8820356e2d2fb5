"""A small file server for a results folder: this machine only, this folder only, reading only."""

from __future__ import annotations

import io
import os
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import BinaryIO

from impls.errors import UsageError
from messages import tell

HOST = "127.0.0.1"
INDEX_FILES = ("index.html", "index.htm")
ALLOWED_HOSTS = ("127.0.0.1", "localhost")


class ResultsHandler(SimpleHTTPRequestHandler):
    """Serves files and folders whose real path lies inside the folder; links that lead out and pipes are not found."""

    def translate_path(self, path: str) -> str:
        """The file for a request; an address that leaves the folder becomes one that does not exist."""
        root = Path(self.directory).resolve()
        wanted = Path(super().translate_path(path))
        # A folder is shown by its index file where it has one, which the base class opens without asking again.
        shown = [wanted / name for name in INDEX_FILES if os.path.lexists(wanted / name)]
        if all(_inside(root, one) for one in (wanted, *shown)):
            return str(wanted)
        return str(root / ".outside-of-this-folder")

    def send_head(self) -> io.BytesIO | BinaryIO | None:
        """Answer a GET or a HEAD but for the content: of the file, or that there is none."""
        return super().send_head() if self._host_allowed() else None

    def end_headers(self) -> None:
        """Keep every page from being cached or read as something else."""
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Stay quiet: the terminal shows the address, not every request."""

    def _host_allowed(self) -> bool:
        """Refuse a foreign Host name: a page of somebody else could read local files through one (DNS rebinding)."""
        name = (self.headers.get("Host") or "").rsplit(":", 1)[0]
        if name in ALLOWED_HOSTS:
            return True
        self.send_error(403, "only served to this machine")  # English: it stands in the status line
        return False


def _inside(root: Path, path: Path) -> bool:
    """Whether it is a file or a folder that really lies in `root`; opening a pipe would wait for a writer."""
    # An address may hold a NUL, which no path does, or name a link to itself: these two are neither.
    return (os.path.isfile(path) or os.path.isdir(path)) and path.resolve().is_relative_to(root)


def server(results: Path, port: int) -> ThreadingHTTPServer:
    """A server bound to the loopback address.

    Raises:
        UsageError: no such folder, or the port is taken.
    """
    if not os.path.isdir(results):
        raise UsageError(tell("{folder}: no such results folder: give the folder that holds the runs", folder=results))
    try:
        return ThreadingHTTPServer((HOST, port), partial(ResultsHandler, directory=str(results.resolve())))
    except (OSError, OverflowError) as error:
        raise UsageError(tell("--port {port}: cannot listen there ({error}): choose another, e.g. --port 0", port=port,
                              error=error)) from error


def serve(results: Path, port: int) -> None:
    """Serve until interrupted."""
    with server(results, port) as running:
        address = f"http://{HOST}:{running.server_address[1]}/"
        print(tell("serving {folder} at {address}  (Ctrl-C ends it)", folder=results, address=address), flush=True)
        try:
            running.serve_forever()
        except KeyboardInterrupt:
            print(tell("ended"))
