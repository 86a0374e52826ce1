"""A directory of files is served, and nothing beside it."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from http import HTTPStatus
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

import pytest
import trio

from services.gateways.static_files import StaticFiles
from services.gateways.websocket_server import Client, WebSocketServer
from tests.gateways.talkers import PATIENCE, in_thread, talker

LARGE = bytes(range(256)) * 4096


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """The files, and some that are not to be seen."""
    root = tmp_path / "client"
    (root / "static" / "js").mkdir(parents=True)
    (root / "index.html").write_text("<title>chat</title>")
    (root / "static" / "js" / "main.js").write_text("let a = 1;")
    (root / "static" / "large.bin").write_bytes(LARGE)
    (root / "a name with spaces.txt").write_text("spaces")
    (root / "sheet.css.gz").write_bytes(b"zipped")
    (root / ".hidden").write_text("secret")
    (root / ".git").mkdir()
    (root / ".git" / "config").write_text("secret")
    (tmp_path / "secret.txt").write_text("secret")
    (root / "link.txt").symlink_to(tmp_path / "secret.txt")
    (root / "inside.txt").symlink_to(root / "index.html")
    (root / "circle").symlink_to(root / "circle")
    return root


async def say_hello(client: Client) -> None:
    client.send("hello")
    async for _ in client:
        pass


@pytest.fixture
async def port(directory: Path, nursery: trio.Nursery) -> AsyncIterator[int]:
    server = WebSocketServer("/ws", say_hello, serve_http=StaticFiles(directory))
    yield await nursery.start(server.run, "127.0.0.1", 0)
    nursery.cancel_scope.cancel()


async def ask(port: int, path: str, method: str = "GET") -> tuple[HTTPResponse, bytes]:
    def run() -> tuple[HTTPResponse, bytes]:
        connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            return response, response.read()
        finally:
            connection.close()

    return await in_thread(run)


@pytest.mark.parametrize(
    ("path", "kind", "body"),
    [
        ("/", "text/html; charset=utf-8", b"<title>chat</title>"),
        ("/?a=b", "text/html; charset=utf-8", b"<title>chat</title>"),
        ("/index.html", "text/html; charset=utf-8", b"<title>chat</title>"),
        ("/static/js/main.js", "text/javascript; charset=utf-8", b"let a = 1;"),
        ("/static/large.bin", "application/octet-stream", LARGE),
        ("/a%20name%20with%20spaces.txt", "text/plain; charset=utf-8", b"spaces"),
        ("/sheet.css.gz", "application/octet-stream", b"zipped"),
        ("/inside.txt", "text/html; charset=utf-8", b"<title>chat</title>"),
    ],
)
async def test_files_are_served(port: int, path: str, kind: str, body: bytes) -> None:
    response, got = await ask(port, path)
    assert (response.status, got) == (HTTPStatus.OK, body)
    assert response.getheader("Content-Type") == kind
    assert response.getheader("X-Content-Type-Options") == "nosniff"


async def test_head_is_get_without_a_body(port: int) -> None:
    response, got = await ask(port, "/static/large.bin", "HEAD")
    assert (response.status, got) == (HTTPStatus.OK, b"")
    assert response.getheader("Content-Length") == str(len(LARGE))
    response, got = await ask(port, "/nothing", "HEAD")
    assert (response.status, got) == (HTTPStatus.NOT_FOUND, b"")


@pytest.mark.parametrize(
    "path",
    [
        "/secret.txt",
        "/../secret.txt",
        "/static/../../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/static/..%2f..%2fsecret.txt",
        "/%2e%2e%5csecret.txt",
        "/..\\secret.txt",
        "//secret.txt",
        "/static//js/main.js",
        "/./index.html",
        "/link.txt",
        "/circle",
        "/.hidden",
        "/.git/config",
        "/static",
        "/static/",
        "/static/js/",
        "/index.html/",
        "/index.html%00.txt",
        "/%ff%fe",
        "/" + "a" * 5000,
        "/nothing",
    ],
)
async def test_nothing_else_is_served(port: int, path: str) -> None:
    response, got = await ask(port, path)
    assert response.status == HTTPStatus.NOT_FOUND
    assert got == b"there is no such file\n"


async def test_absolute_paths_lead_nowhere(port: int, directory: Path) -> None:
    outside = directory.parent / "secret.txt"
    for path in (str(outside), "/" + str(outside), str(outside).replace("/", "%2f")):
        response, _ = await ask(port, path if path.startswith("/") else f"/{path}")
        assert response.status == HTTPStatus.NOT_FOUND


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
async def test_there_is_only_get_and_head(port: int, method: str) -> None:
    response, _ = await ask(port, "/", method)
    assert response.status == HTTPStatus.METHOD_NOT_ALLOWED
    assert response.getheader("Allow") == "GET, HEAD"


async def test_the_websocket_is_beside_the_files(port: int) -> None:
    async with talker(port, "/ws") as client:
        assert await client.hear_raw() == "hello"
    response, _ = await ask(port, "/ws")
    assert response.status == HTTPStatus.UPGRADE_REQUIRED


async def test_whoever_does_not_read_a_file_holds_nobody_up(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as silent:
        silent.sendall(b"GET /static/large.bin HTTP/1.1\r\nHost: a\r\n\r\n")
        response, _ = await ask(port, "/")
        assert response.status == HTTPStatus.OK


def test_a_directory_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        StaticFiles(tmp_path / "nothing")
