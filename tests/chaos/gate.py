"""A proxy in front of an S3 endpoint that can hold one chosen write: before the store has it, or before its reply.

Everything else passes unchanged. It tells log entries of Delta tables from data files by their names, and knows
nothing else of what it carries.
"""

import asyncio
import re
import threading
from enum import Enum

import aiohttp
from aiohttp import web
from yarl import URL

from .scenario import Moment

_KINDS = {"log": re.compile(r"/_delta_log/\d{20}\.json$"), "data": re.compile(r"/language=[^/]*/[^/]*\.parquet$")}
_PER_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "host", "content-length"}


class Verdict(Enum):
    """What becomes of a held write."""

    PASS = "pass"  # goes on as if nothing had been
    DROP = "drop"  # the connection breaks: never stored when held before the store, else stored and not confirmed
    REFUSE = "refuse"  # 503


class Held:
    """A write that the gate holds when it comes, until `let`."""

    def __init__(self, moment: Moment, loop: asyncio.AbstractEventLoop) -> None:
        self.moment = moment
        self.reached = threading.Event()
        self.gone = threading.Event()  # it has been stored, or never will be
        self.left = moment.number
        self._loop = loop
        self._verdict: asyncio.Future[Verdict] = loop.create_future()

    def let(self, verdict: Verdict) -> None:
        """Decide; from any thread, also before the write has come."""
        self._loop.call_soon_threadsafe(lambda: self._verdict.done() or self._verdict.set_result(verdict))

    async def arrive(self) -> Verdict:
        self.reached.set()
        return await self._verdict


class Gate:
    """The proxy, in its own thread.

    Args:
        upstream: address of the store.
    """

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream
        self._held: list[Held] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="gate", daemon=True)
        self._thread.start()
        self.address = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()

    def hold(self, moment: Moment) -> Held:
        """Hold the write of that kind that comes as number `moment.number` from now on."""
        held = Held(moment, self._loop)
        self._loop.call_soon_threadsafe(self._held.append, held)
        return held

    def forget(self) -> None:
        """Let everything pass, what is held now too."""
        for held in self._held:
            held.let(Verdict.PASS)
        self._loop.call_soon_threadsafe(self._held.clear)

    def close(self) -> None:
        self.forget()
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> str:
        timeout = aiohttp.ClientTimeout(total=120)
        self._session = aiohttp.ClientSession(auto_decompress=False, timeout=timeout)
        app = web.Application(client_max_size=2**30)
        app.router.add_route("*", "/{path:.*}", self._carry)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, shutdown_timeout=1).start()
        host, port = self._runner.addresses[0][:2]
        return f"http://{host}:{port}"

    async def _stop(self) -> None:
        await self._runner.cleanup()
        await self._session.close()

    def _match(self, request: web.Request) -> Held | None:
        if request.method != "PUT":
            return None
        due = None
        for held in self._held:
            if _KINDS[held.moment.kind].search(request.path):
                held.left -= 1
                due = held if held.left == 0 else due
        return due

    async def _carry(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        held = self._match(request)
        verdict = Verdict.PASS
        if held is not None and held.moment.before:
            verdict = await held.arrive()
        reply = await self._forward(request, body) if verdict is Verdict.PASS else web.Response(status=503)
        if held is not None:
            held.gone.set()
            if not held.moment.before:
                verdict = await held.arrive()
        if verdict is Verdict.DROP and request.transport is not None:
            request.transport.abort()
        return reply

    async def _forward(self, request: web.Request, body: bytes) -> web.Response:
        url = URL(self._upstream + request.raw_path, encoded=True)
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _PER_HOP}
        async with self._session.request(
            request.method, url, headers=headers, data=body or None, allow_redirects=False
        ) as answer:
            content = await answer.read()
            kept = [(name, value) for name, value in answer.headers.items() if name.lower() not in _PER_HOP]
            reply = web.Response(status=answer.status, body=content, headers=kept)
            if request.method == "HEAD" and "Content-Length" in answer.headers:
                reply.headers["Content-Length"] = answer.headers["Content-Length"]
            return reply
