"""The moment at which a fault strikes: seen in a folder, held at the gate, or by the clock."""

import subprocess
import time
from pathlib import Path

from .gate import Gate, Held, Verdict
from .scenario import Moment

_GLOBS = {"log": "*/_delta_log/*.json", "data": "*/language=*/*.parquet"}
_TICK_S = 0.002


class Watch:
    """Waits for a moment of a run that is about to start.

    Args:
        moment: what to wait for.
        sink: folder of the tables, where they are local files.
        gate: what the writes pass, where they do.
    """

    def __init__(self, moment: Moment, sink: Path | None, gate: Gate | None) -> None:
        self._moment = moment
        self._started = time.monotonic()
        self._sink = sink
        self.held: Held | None = None
        if moment.kind != "start" and gate is not None:
            self.held = gate.hold(moment)
        self._known = self._count()

    def wait(self, driver: "subprocess.Popen[bytes]", timeout_s: float = 300.0) -> bool:
        """Whether the moment came before the driver ended."""
        deadline = time.monotonic() + timeout_s
        while not self._came():
            if driver.poll() is not None or time.monotonic() > deadline:
                return False
        return True

    def let(self, verdict: Verdict) -> None:
        """Decide about the write that is held, if one is."""
        if self.held is not None:
            self.held.let(verdict)

    def _came(self) -> bool:
        if self.held is not None:
            return self.held.reached.wait(0.05)
        time.sleep(_TICK_S)
        if self._moment.kind == "start":
            return time.monotonic() - self._started >= self._moment.number / 10
        return self._count() - self._known >= self._moment.number

    def _count(self) -> int:
        if self._sink is None or self._moment.kind == "start":
            return 0
        return sum(1 for _ in self._sink.glob(_GLOBS[self._moment.kind]))
