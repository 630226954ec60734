"""A web server with one recording that costs whoever asks for it its life: SIGKILL, from outside the product."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil


class Killer(ThreadingHTTPServer):
    """Serves one file. A HEAD is answered, the process that sends a GET is killed.

    Args:
        file: what it would serve.
        lives: processes that are killed; those after them are answered.
    """

    def __init__(self, file: Path, lives: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.body = file.read_bytes()
        self.lives = lives
        self.killed: set[psutil.Process] = set()  # one that dies may have asked twice
        self.lock = threading.Lock()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/deadly.ogg"

    @property
    def num_killed(self) -> int:
        return len(self.killed)

    def handle_error(self, *_: object) -> None:
        """The client is gone, as intended."""


class _Handler(BaseHTTPRequestHandler):
    server: Killer

    def do_HEAD(self) -> None:
        self._answer(b"")

    def do_GET(self) -> None:
        with self.server.lock:
            if self.server.num_killed < self.server.lives:
                owner = _owner(self.client_address[1])
                owner.kill()
                self.server.killed.add(owner)
                return
        self._answer(self.server.body)

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.send_header("ETag", '"1"')
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def _owner(port: int) -> psutil.Process:
    """The process that has this local port."""
    (pid,) = {c.pid for c in psutil.net_connections("tcp") if c.laddr.port == port and c.pid}
    return psutil.Process(pid)


@contextmanager
def killer(file: Path, lives: int = 1_000_000) -> Iterator[Killer]:
    server = Killer(file, lives)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()
