"""Downloads: whatever a server or a proxy answers, one line says why there is no file, and nobody waits for ever."""

from __future__ import annotations

import itertools
import os
import socket
import struct
import sys
import threading
import time
import urllib.request
from types import SimpleNamespace

import pytest

from impls.data import datasets, download
from impls.errors import DataError
from impls.evaluation.networks import inception_file

OK = b"HTTP/1.1 200 OK\r\n"
PAGE = OK + b"Content-Type: text/html; charset=utf-8\r\n\r\n<html>please log in</html>"
GARBAGE = b"\x00\xffSSH-2.0\x1b[31m garbage\r\n"


class Server:
    """Gives one answer after the other, the last one for ever, to whoever connects to the loopback interface.

    Attributes:
        url: of a file there.
        asked: first lines of the requests.
        sent: set when an answer is out.
    """

    def __init__(self, *answers, reset=False, hold=False):
        self.answers, self.reset, self.hold = answers, reset, hold
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.place = f"127.0.0.1:{self.socket.getsockname()[1]}"
        self.url = f"http://{self.place}/file.tar.gz"
        self.asked, self.sent = [], threading.Event()
        self.thread = threading.Thread(target=self.serve)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        # Unlike close, it wakes the thread that waits for a connection.
        self.socket.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.socket.close()

    def serve(self):
        for number in itertools.count():
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            with connection:
                self.asked.append(connection.recv(65536).split(b"\r\n")[0].decode())
                connection.sendall(self.answers[min(number, len(self.answers) - 1)])
                self.sent.set()
                if self.hold:
                    assert connection.recv(1) == b""
                if self.reset:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    # It remembers the proxies of the first download in a process.
    urllib.request.install_opener(None)


def through(monkeypatch, proxy):
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, proxy)


def told(capsys, url, path):
    """What the child says of a failure: one line."""
    assert download.main(url, str(path)) == 1
    line, = capsys.readouterr().out.splitlines()
    return line


@pytest.mark.parametrize(("answer", "wanted"), [
    (GARBAGE, "no web server answers: ?\u00ffSSH-2.0"),
    (b"HTTP/1.1 200 " + b"x" * 70_000 + b"\r\n\r\n", "no web server answers: got more than 65536 bytes"),
    (b"", "the server does not answer: Remote end closed"),
    (b"HTTP/1.1 404 Gone\x1b[31m\r\n\r\n", "the server answers 404: Gone?[31m"),
    (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "the server answers 407: Proxy Authentication Required"),
    (b"HTTP/1.1 302 Found\r\nLocation: /again\r\n\r\n", "the server answers 302: The HTTP server returned a redirect"),
    (b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\n\r\n", "redirection to url 'file:///etc/passwd' is not"),
    (b"HTTP/1.1 302 Found\r\nLocation: http://[::bad/\r\n\r\n", "no web server answers: Invalid IPv6 URL"),
    (PAGE, "a web page came in place of the file, from http://127.0.0.1:"),
    (OK + b"Content-Length: 10\r\n\r\nweights", "the download broke off: 3 bytes are missing"),
    (OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", "the download broke off: IncompleteRead"),
], ids=range(11))
def test_strange_answers_are_told_in_one_line(tmp_path, capsys, answer, wanted):
    with Server(answer) as server:
        line = told(capsys, server.url, tmp_path / "x")
    assert wanted.lower() in line.lower() and line.isprintable() and len(line) <= 200


def test_a_login_page_behind_a_redirection_is_told(tmp_path, capsys, monkeypatch):
    with Server(b"HTTP/1.1 302 Found\r\nLocation: http://login.test/?to=x\r\n\r\n", PAGE) as proxy:
        through(monkeypatch, f"http://user:secret@{proxy.place}/")
        line = told(capsys, "http://example.org/x.tar.gz", tmp_path / "x")
    assert "from http://login.test/?to=x" in line and line.endswith(f"(through the proxy {proxy.place})")
    assert "secret" not in line and not (tmp_path / "x").exists()
    assert proxy.asked == ["GET http://example.org/x.tar.gz HTTP/1.1", "GET http://login.test/?to=x HTTP/1.1"]


@pytest.mark.parametrize("proxy", ["http://exa\u0301mple..org:80", "http://127.0.0.1:many", "socks5://127.0.0.1:9"])
def test_a_proxy_that_is_no_address_is_told(tmp_path, capsys, monkeypatch, proxy):
    through(monkeypatch, proxy)
    line = told(capsys, "http://example.org/x", tmp_path / "x")
    assert line.endswith(f"(through the proxy {proxy.partition('//')[2]})")


def test_a_host_that_no_proxy_stands_before_is_not_said_to_have_one(tmp_path, capsys, monkeypatch):
    through(monkeypatch, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server(b"HTTP/1.1 404 Gone\r\n\r\n") as server:
        assert told(capsys, server.url, tmp_path / "x") == "the server answers 404: Gone"


@pytest.mark.parametrize("answer", [b"", OK + b"Content-Length: 10\r\n\r\nweig"])
def test_a_connection_that_is_reset_is_told(tmp_path, capsys, answer):
    with Server(answer, reset=True) as server:
        line = told(capsys, server.url, tmp_path / "x")
    assert "does not answer" in line or "broke off" in line


@pytest.mark.parametrize("answer", [OK + b"Content-Length: 7\r\n\r\nweights and more", OK + b"\r\nweights",
                                    OK + b"Transfer-Encoding: chunked\r\n\r\n7\r\nweights\r\n0\r\n\r\n"])
def test_a_whole_file_is_written(tmp_path, answer):
    with Server(answer) as server:
        assert download.main(server.url, str(tmp_path / "x")) == 0
    assert (tmp_path / "x").read_bytes() == b"weights"


def test_a_server_that_nobody_answers_at_is_told(tmp_path, capsys):
    assert "the server does not answer" in told(capsys, "http://127.0.0.1:9/x", tmp_path / "x")


def test_a_trickle_is_stopped(tmp_path, monkeypatch):
    """The clock stands until something came, and then runs a minute at a look: so little is no progress."""
    minutes = itertools.count(step=60.0)
    with Server(OK + b"Content-Length: 1000000\r\n\r\nso little", hold=True) as server:
        monkeypatch.setattr(download, "time", SimpleNamespace(
            monotonic=lambda: next(minutes) if server.sent.is_set() else 0.0, sleep=time.sleep))
        with pytest.raises(DataError, match="nothing arrived for 45 s, or next to nothing"):
            download.fetch(server.url, tmp_path / "x")


def test_a_download_that_hangs_is_stopped(tmp_path):
    with pytest.raises(DataError, match="nothing arrived for 0 s"):
        download.watch([sys.executable, "-c", "import signal; signal.pause()"], tmp_path, stall_s=0)


def test_a_download_that_fails_gives_its_reason(tmp_path):
    with pytest.raises(DataError, match="^the reason$"):
        download.watch([sys.executable, "-c", "print('chatter\\nthe reason'); raise SystemExit(1)"], tmp_path, 60)
    with pytest.raises(DataError, match="ended with status 3"):
        download.watch([sys.executable, "-c", "raise SystemExit(3)"], tmp_path, 60)


@pytest.mark.parametrize("fetched", ["cifar10", "inception"])
def test_a_proxy_that_answers_garbage_costs_one_line(tmp_path, monkeypatch, capfd, fetched):
    """With the real child, and whatever encoding it would print in by itself."""
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    said: list[str] = []
    with Server(GARBAGE) as proxy:
        through(monkeypatch, f"http://{proxy.place}")
        with pytest.raises(DataError) as fault:
            if fetched == "inception":
                inception_file.download(said.append)
            else:
                datasets.prepare("cifar10", tmp_path, echo=said.append)
    line = str(fault.value)
    assert f"(no web server answers: ?\u00ffSSH-2.0?[31m garbage (through the proxy {proxy.place})): put " in line
    assert line.isprintable() and len(said) == 1
    assert proxy.asked[0].startswith("CONNECT ") and "Traceback" not in capfd.readouterr().err
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_auto_falls_back_behind_a_proxy_that_answers_garbage(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "FASHION_SYSTEM_FOLDER", tmp_path / "nothing")
    said: list[str] = []
    with Server(GARBAGE) as proxy:
        through(monkeypatch, f"http://{proxy.place}")
        assert datasets._automatic(tmp_path, said.append).name == "digits"
    assert any("no web server answers" in line and "\n" not in line for line in said)
