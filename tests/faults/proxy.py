"""A store that fails on purpose: an HTTP proxy on this machine, in front of a real S3 endpoint.

    with FaultyStore(endpoint, {"get": {"slow_down": 0.05, "corrupt": 0.01}, "*": {"hang": 0.02}}, seed=7) as store:
        ...  # use store.endpoint as endpoint_url
        print(store.counts)  # Counter({("get", "slow_down"): 12, ...})

What happens to a request depends on the seed, its kind and path, and how often that came before, not on the order in
which different requests arrive. From a shell: `python -m tests.faults.proxy http://127.0.0.1:9000 get.reset=0.05`.
"""

import argparse
import asyncio
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Collection, Mapping
from io import BytesIO
from typing import Any, Literal, get_args

from aiohttp import ClientSession, ClientTimeout, web
from yarl import URL

Kind = Literal["get", "head", "list", "put", "commit", "post", "delete", "*"]
"""`commit` is a PUT with If-None-Match, `post` all of POST (multipart, batch deletes), `*` the kinds not named."""

Fault = Literal["slow_down", "error", "reset", "hang", "cut", "torn", "short", "corrupt", "lost_reply", "hang_applied"]
"""Nothing is done: `slow_down` (503), `error` (500), `reset` (no reply), `hang` (a late reply).
Done, and then the reply never comes (`lost_reply`), comes late (`hang_applied`), is reset in the middle of its body
(`cut`), ends there without a reset (`torn`), ends there with a Content-Length that says so (`short`), or has 16 bytes
of its body changed (`corrupt`).
"""

_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "expect", "te", "upgrade"})
_TEXT = {
    "slow_down": (503, "SlowDown", "Please reduce your request rate."),
    "error": (500, "InternalError", "We encountered an internal error. Please try again."),
}


class FaultyStore:
    """A proxy in a thread of its own, for the length of a `with` block.

    Args:
        upstream: address of the real endpoint.
        faults: kind of request -> fault -> probability; may be replaced while it runs.
        seed: same seed, same faults.
        hang_s: how long a hang lasts.
        drop_headers: request headers that the real endpoint never sees; without `If-None-Match` it overwrites.
        port: 0 takes any that is free.
    """

    def __init__(
        self,
        upstream: str,
        faults: Mapping[Kind, Mapping[Fault, float]] = {},
        *,
        seed: int = 0,
        hang_s: float = 8.0,
        drop_headers: Collection[str] = (),
        port: int = 0,
    ) -> None:
        self.faults = faults
        self.hang_s = hang_s
        self.counts: Counter[tuple[str, str]] = Counter()
        self.num_requests = 0
        self._upstream = upstream.rstrip("/")
        self._seed = seed
        self._dropped = frozenset(name.lower() for name in drop_headers) | _HOP_BY_HOP
        self._port = port
        self._seen: Counter[tuple[str, str]] = Counter()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="faulty-store", daemon=True)

    def __enter__(self) -> "FaultyStore":
        self._thread.start()
        if not self._ready.wait(timeout=20):
            raise RuntimeError("the faulty store did not start")
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(timeout=20)

    @property
    def endpoint(self) -> str:
        """Address for clients."""
        return f"http://127.0.0.1:{self._port}"

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application(client_max_size=2**32)
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self._port)
        await site.start()
        self._port = runner.addresses[0][1]
        async with ClientSession(auto_decompress=False, timeout=ClientTimeout(total=120)) as self._session:
            self._ready.set()
            await self._stop.wait()
            await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        kind = kind_of(request)
        fault = self._draw(kind, request.path)
        body = await request.read()
        if fault in _TEXT:
            return _error(*_TEXT[fault])
        if fault == "reset":
            return _abort(request)
        if fault == "hang":
            await asyncio.sleep(self.hang_s)
        status, headers, reply = await self._forward(request, body)
        if fault == "hang_applied":
            await asyncio.sleep(self.hang_s)
        if fault == "lost_reply":
            return _abort(request)
        try:
            return await _reply(request, status, headers, reply, fault)
        except ConnectionResetError:  # the client did not wait
            return web.Response()

    def _draw(self, kind: str, path: str) -> str | None:
        self.num_requests += 1
        self._seen[kind, path] += 1
        chance = random.Random(f"{self._seed} {kind} {path} {self._seen[kind, path]}").random()
        for fault, probability in self.faults.get(kind, self.faults.get("*", {})).items():  # type: ignore[call-overload]
            chance -= probability
            if chance < 0:
                self.counts[kind, fault] += 1
                return fault
        return None

    async def _forward(self, request: web.Request, body: bytes) -> tuple[int, dict[str, str], bytes]:
        url = URL(self._upstream + request.raw_path, encoded=True)
        headers = {name: value for name, value in request.headers.items() if name.lower() not in self._dropped}
        headers["Content-Length"] = str(len(body))
        skipped = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")  # only what the client signed
        sent = self._session.request(
            request.method, url, headers=headers, data=BytesIO(body), allow_redirects=False, skip_auto_headers=skipped
        )
        async with sent as response:
            reply = await response.read()
            kept = {name: value for name, value in response.headers.items() if name.lower() not in _HOP_BY_HOP}
            return response.status, kept, reply


def kind_of(request: web.Request) -> str:
    """What a request is for."""
    match request.method:
        case "GET":
            in_bucket = request.path.strip("/").count("/") == 0
            return "list" if in_bucket or "list-type" in request.query else "get"
        case "PUT":
            return "commit" if "If-None-Match" in request.headers else "put"
        case method:
            return method.lower()


def _error(status: int, code: str, message: str) -> web.Response:
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>'
    return web.Response(status=status, text=text, content_type="application/xml")


def _abort(request: web.Request) -> web.Response:
    """Close the client's connection with a reset."""
    if request.transport is not None:
        connection = request.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.transport.abort()
    return web.Response()


async def _reply(
    request: web.Request, status: int, headers: dict[str, str], body: bytes, fault: str | None
) -> web.StreamResponse:
    if status >= 300 or not body:
        fault = None
    if fault == "short":
        body = body[: len(body) // 2]
    if fault == "corrupt":
        start = len(body) // 3
        body = body[:start] + bytes(byte ^ 0x55 for byte in body[start : start + 16]) + body[start + 16 :]
    if request.method != "HEAD":  # whose Content-Length is the object's
        headers = {**headers, "Content-Length": str(len(body))}
    response = web.StreamResponse(status=status, headers=headers)
    await response.prepare(request)
    if fault not in ("cut", "torn"):
        await response.write(body)
        await response.write_eof()
        return response
    await response.write(body[: len(body) // 2])
    if fault == "torn" and request.transport is not None:
        request.transport.close()
        return response
    await asyncio.sleep(0.05)  # let the first half go out: a reset takes back what is still in its buffers
    _abort(request)
    return response


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description="An S3 endpoint that fails on purpose, in front of a real one.")
    parser.add_argument("upstream", help="address of the real endpoint")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("faults", nargs="*", help=f"KIND.FAULT=PROBABILITY; faults: {', '.join(get_args(Fault))}")
    arguments = parser.parse_args()
    faults: dict[Any, dict[Any, float]] = {}
    for rule in arguments.faults:
        name, _, probability = rule.partition("=")
        kind, _, fault = name.partition(".")
        faults.setdefault(kind, {})[fault] = float(probability)
    with FaultyStore(arguments.upstream, faults, seed=arguments.seed, port=arguments.port) as store:
        print(store.endpoint, flush=True)  # noqa: T201
        threading.Event().wait()


if __name__ == "__main__":
    main()
