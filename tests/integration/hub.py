"""A folder as a dataset of the Hugging Face hub: the part of its HTTP API that reading needs, on this machine.

After the hub's OpenAPI description and what `huggingface_hub` asks for: repository info, trees page by page, infos of
paths, and files with ranges, whose etag is their blob id.
"""

import hashlib
import json
import re
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

NAME = "org/speech"
PAGE = 2  # entries, so that listings have pages
_API = f"/api/datasets/{NAME}"


def blob_id(path: Path) -> str:
    """As git has it."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def entry(root: Path, path: Path) -> dict[str, Any]:
    name = str(path.relative_to(root))
    if path.is_dir():
        return {"type": "directory", "path": name, "oid": "0" * 40, "size": 0}
    return {"type": "file", "path": name, "oid": blob_id(path), "size": path.stat().st_size}


class Hub(ThreadingHTTPServer):
    """Serves `root`; counts what it was asked for."""

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.root = root
        self.asked: list[str] = []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def serve(root: Path) -> Generator[Hub]:
    hub = Hub(root)
    thread = threading.Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        thread.join()
        hub.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        path, query = unquote(address.path), parse_qs(address.query)
        self.server.asked.append(path)
        if re.fullmatch(rf"{_API}(/revision/main)?", path):
            self._json({"id": NAME, "sha": "1" * 40, "private": False, "siblings": [], "tags": []})
        elif match := re.fullmatch(rf"{_API}/tree/main/?(.*)", path):
            self._tree(match[1], query)
        elif match := re.fullmatch(rf"/datasets/{NAME}/resolve/main/(.+)", path):
            self._file(self.server.root / match[1])
        else:
            self._missing("RepoNotFound")

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        size = int(self.headers["Content-Length"])
        asked = parse_qs(self.rfile.read(size).decode())
        found = [self.server.root / path for path in asked.get("paths", [])]
        self._json([entry(self.server.root, path) for path in found if path.exists()])

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on the console."""

    def _tree(self, folder: str, query: dict[str, list[str]]) -> None:
        at = self.server.root / folder
        if not at.is_dir():
            self._missing("EntryNotFound")
            return
        every = sorted(at.rglob("*") if query.get("recursive", ["false"])[0].lower() == "true" else at.iterdir())
        start = int(query.get("cursor", ["0"])[0])
        more = {}
        if start + PAGE < len(every):
            again = "&".join(f"{key}={values[0]}" for key, values in query.items() if key != "cursor")
            link = f"{self.server.endpoint}{urlsplit(self.path).path}?{again}&cursor={start + PAGE}"
            more = {"Link": f'<{link}>; rel="next"'}
        self._json([entry(self.server.root, path) for path in every[start : start + PAGE]], more)

    def _file(self, path: Path) -> None:
        if not path.is_file():
            self._missing("EntryNotFound")
            return
        content, status, headers = path.read_bytes(), 200, {"ETag": f'"{blob_id(path)}"', "X-Repo-Commit": "1" * 40}
        if match := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            first, last = int(match[1]), int(match[2] or len(content) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
            content, status = content[first : last + 1], 206
        self._send(status, content, headers)

    def _json(self, content: object, headers: dict[str, str] | None = None) -> None:
        self._send(200, json.dumps(content).encode(), {"Content-Type": "application/json", **(headers or {})})

    def _missing(self, code: str) -> None:
        self._send(404, b"", {"X-Error-Code": code, "X-Error-Message": "not found"})

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
