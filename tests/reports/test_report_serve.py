"""The file server: this machine only, this folder only."""

from __future__ import annotations

import http.client
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from impls.errors import UsageError
from reports import serve


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    root = tmp_path / "results"
    (root / "run").mkdir(parents=True)
    (root / "run" / "report.html").write_text("hello")
    (tmp_path / "secret.txt").write_text("secret")
    (root / "escape").symlink_to(tmp_path)
    (root / "inside").symlink_to(root / "run")
    os.mkfifo(root / "pipe")
    (root / "to-pipe").symlink_to(root / "pipe")
    (root / "loop").symlink_to(root / "loop")
    for name, index in (("piped", root / "pipe"), ("leaking", tmp_path / "secret.txt")):
        (root / name).mkdir()
        (root / name / "index.html").symlink_to(index)
    with serve.server(root, 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield int(server.server_address[1])
        server.shutdown()
        thread.join()


def get(port: int, path: str, host: str = "127.0.0.1", method: str = "GET") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.putrequest(method, path, skip_host=True)
        connection.putheader("Host", host)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_files_of_the_folder_are_served(port: int) -> None:
    assert get(port, "/run/report.html") == (200, b"hello")
    assert get(port, "/inside/report.html") == (200, b"hello")


@pytest.mark.parametrize("path", ["/%00", "/run/%00/report.html", "/%ff", "/loop", f"/{'x' * 300}", "/none"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_an_address_that_names_nothing_is_not_found(
    port: int, path: str, method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert get(port, path, method=method)[0] == 404
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("path", ["/pipe", "/to-pipe", "/piped/", "/pipe/"])
def test_what_is_no_file_is_not_found(port: int, path: str) -> None:
    assert get(port, path)[0] == 404


def test_a_folder_is_listed_with_what_cannot_be_opened(port: int) -> None:
    status, body = get(port, "/")
    assert status == 200 and b"pipe" in body and b"report" not in body


@pytest.mark.parametrize(
    "path",
    ["/escape/secret.txt", "/../secret.txt", "/%2e%2e/secret.txt", "/run/../../secret.txt", "/escape/", "/leaking/"],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_nothing_outside_the_folder_is_served(port: int, path: str, method: str) -> None:
    status, body = get(port, path, method=method)
    assert status == 404 and b"secret" not in body


def test_a_foreign_host_name_is_refused(port: int) -> None:
    assert get(port, "/run/report.html", host="evil.example")[0] == 403
    assert get(port, "/run/report.html", host="localhost:1234")[0] == 200


def test_only_reading(port: int) -> None:
    assert get(port, "/run/report.html", method="PUT")[0] == 501


def test_it_binds_to_the_loopback_address(tmp_path: Path) -> None:
    with serve.server(tmp_path, 0) as server:
        assert server.server_address[0] == "127.0.0.1"


def test_bad_folders_and_ports_are_usage_faults(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such results folder"):
        serve.server(tmp_path / "none", 0)
    with serve.server(tmp_path, 0) as taken, pytest.raises(UsageError, match="cannot listen"):
        serve.server(tmp_path, int(taken.server_address[1]))
    with pytest.raises(UsageError, match="cannot listen"):
        serve.server(tmp_path, 70_000)
