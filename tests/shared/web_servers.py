"""A web server that knows ranges and versions, waits before it answers, and fails when it is told to."""

from __future__ import annotations

import itertools
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

import torch

__all__ = ["FAULTS", "WebServer", "running", "seen", "serving"]

Server = TypeVar("Server", bound=ThreadingHTTPServer)

FAULTS = ("503", "dropped", "short", "429")


class WebServer(ThreadingHTTPServer):
    """Serves the files of a folder.

    ``fault`` is what befalls every ``period``-th request for bytes; ``delay`` is how long each waits;
    ``log`` has the method, path and range of all.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.log = folder, list[tuple[str, str, str]]()
        self.numbers = itertools.count(1)
        self.fault, self.period, self.delay, self.ranges = "", 3, 0.0, True
        self.denied, self.compressed = False, False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def calm(self) -> None:
        """No faults, no delay, and nothing logged."""
        self.fault, self.period, self.delay, self.ranges = "", 3, 0.0, True
        self.denied, self.compressed = False, False
        self.log.clear()
        self.numbers = itertools.count(1)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: WebServer

    def log_message(self, *_: object) -> None: ...

    def do_HEAD(self) -> None:
        self._answer(False)

    def do_GET(self) -> None:
        self._answer(True)

    def _answer(self, wanted: bool) -> None:
        server, asked = self.server, self.headers.get("Range", "")
        server.log.append((self.command, self.path, asked))
        time.sleep(server.delay)
        fault = server.fault if wanted and next(server.numbers) % server.period == 0 else ""
        path = server.folder / unquote(self.path.partition("?")[0]).lstrip("/")
        if server.denied:
            return self._send(403)
        if fault in ("503", "429"):
            return self._send(int(fault))
        if fault == "dropped":
            return self._drop()
        if not path.is_file():
            return self._send(404)
        content = path.read_bytes()
        told = {"Content-Length": str(len(content) // 2)} if server.compressed and not wanted else {}
        etag = f'"{sha256(content).hexdigest()}"'
        if self.headers.get("If-Match") not in (None, etag):
            return self._send(412)
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", asked) if server.ranges else None
        if found is None:
            return self._send(200, content, wanted, {"ETag": etag, **told})
        first, last = int(found[1]), min(int(found[2]), len(content) - 1)
        where = {"Content-Range": f"bytes {first}-{last}/{len(content)}", "ETag": etag}
        return self._send(206, content[first : last + 1], wanted, where, cut=fault == "short")

    def _send(
        self,
        status: int,
        body: bytes = b"",
        wanted: bool = False,
        more: dict[str, str] | None = None,
        cut: bool = False,
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(more or {})}.items():
            self.send_header(name, value)
        self.send_header("Last-Modified", "Mon, 26 Oct 2026 10:00:00 GMT")
        self.end_headers()
        if wanted and body:
            self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self._drop()

    def _drop(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)


def serving(folder: Path) -> AbstractContextManager[WebServer]:
    """A server of the files in a folder, until the block ends."""
    return running(WebServer(folder))


@contextmanager
def running(server: Server) -> Iterator[Server]:
    """A server that answers until the block ends."""
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def seen(batches: Any) -> list[Any]:
    """Batches as lists, to be compared."""
    return [{key: value.tolist() if torch.is_tensor(value) else value for key, value in one.items()} for one in batches]
