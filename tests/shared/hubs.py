"""A server that answers what huggingface_hub's file system asks of a hub, for the files of a folder as one dataset."""

from __future__ import annotations

import json
import re
from contextlib import AbstractContextManager
from hashlib import sha1, sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from web_servers import running

__all__ = ["Hub", "hub_of"]

DATASET = "/datasets/lab/atlas"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """Serves the files of a folder to whoever has the token, as the dataset ``lab/atlas``."""

    daemon_threads = True

    def __init__(self, folder: Path, token: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.token, self.log = folder, token, list[tuple[str, str, str]]()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def told(self, path: Path) -> dict[str, Any]:
        """What the hub says of a file or folder."""
        name = path.relative_to(self.folder).as_posix()
        if path.is_dir():
            return {"type": "directory", "path": name, "oid": sha1(name.encode(), usedforsecurity=False).hexdigest()}
        content = path.read_bytes()
        blob = sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
        return {"type": "file", "path": name, "oid": blob, "size": len(content)}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *_: object) -> None: ...

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        server, path = self.server, unquote(urlsplit(self.path).path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        server.log.append((self.command, path, self.headers.get("Range", "")))
        if self.headers.get("Authorization") != f"Bearer {server.token}":
            return self._send(401, b"", {"X-Error-Code": "GatedRepo", "X-Error-Message": "no access"})
        if (found := re.fullmatch(rf"{DATASET}/resolve/[^/]+/(.+)", path)) is not None:
            return self._file(server.folder / found[1])
        if path in (f"/api{DATASET}", f"/api{DATASET}/revision/main"):
            return self._json({"id": "lab/atlas", "sha": COMMIT, "siblings": [], "tags": [], "private": True})
        if re.fullmatch(rf"/api{DATASET}/paths-info/[^/]+", path):
            wanted = [server.folder / name for name in json.loads(body)["paths"]]
            return self._json([server.told(one) for one in wanted if one.exists()])
        if (found := re.fullmatch(rf"/api{DATASET}/tree/[^/]+/?(.*)", path)) is not None:
            top = server.folder / found[1]
            if not top.is_dir():
                return self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Error-Message": "no such folder"})
            inside = top.rglob("*") if "recursive=true" in self.path.lower() else top.iterdir()
            return self._json([server.told(one) for one in sorted(inside)])
        return self._send(404, b"", {"X-Error-Code": "RepoNotFound", "X-Error-Message": "no such repository"})

    def _file(self, path: Path) -> None:
        if not path.is_file():
            return self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Error-Message": "no such file"})
        content = path.read_bytes()
        more = {"ETag": f'"{sha256(content).hexdigest()}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if asked is None:
            return self._send(200, content, more)
        first, last = int(asked[1]), min(int(asked[2]), len(content) - 1)
        return self._send(
            206, content[first : last + 1], {**more, "Content-Range": f"bytes {first}-{last}/{len(content)}"}
        )

    def _json(self, said: Any) -> None:
        self._send(200, json.dumps(said).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, more: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **more}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def hub_of(folder: Path, token: str) -> AbstractContextManager[Hub]:
    """A hub with the files of a folder, until the block ends."""
    return running(Hub(folder, token))
