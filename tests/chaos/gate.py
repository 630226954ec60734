"""The faulty store of `tests.faults`, which can also hold one chosen write, before or after the store has it.

It tells log entries of Delta tables from data files by their names, and knows nothing else of what it carries.
"""

import asyncio
import re
import threading
from enum import Enum

from aiohttp import web

from tests.faults.proxy import FaultyStore

from .scenario import Moment

_KINDS = {"log": re.compile(r"/_delta_log/\d{20}\.json$"), "data": re.compile(r"/language=[^/]*/[^/]*\.parquet$")}


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


class Gate(FaultyStore):
    """A proxy in front of an S3 endpoint, in its own thread; see `FaultyStore` for the faults that come by chance."""

    _held: list[Held]

    def __enter__(self) -> "Gate":
        self._held = []
        super().__enter__()
        return self

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

    def _match(self, request: web.Request) -> Held | None:
        if request.method != "PUT":
            return None
        due = None
        for held in self._held:
            if _KINDS[held.moment.kind].search(request.path):
                held.left -= 1
                due = held if held.left == 0 else due
        return due

    async def _forward(self, request: web.Request, body: bytes) -> tuple[int, dict[str, str], bytes]:
        held = self._match(request)
        if held is None:
            return await super()._forward(request, body)
        verdict = await held.arrive() if held.moment.before else Verdict.PASS
        reply: tuple[int, dict[str, str], bytes] = (503, {}, b"")
        if verdict is Verdict.PASS:
            reply = await super()._forward(request, body)
        held.gone.set()
        if not held.moment.before:
            verdict = await held.arrive()
        if verdict is Verdict.DROP and request.transport is not None:
            request.transport.abort()
        return reply
