"""Who holds the tables: a process, and whether it is still there.

A claim that lies in the log of a dead driver must not block the next run for a whole lease, and a live one must never
be taken. On the same machine (same boot, same process namespace) the kernel answers at once; from elsewhere only the
lease can tell.
"""

import json
import os
import socket
import time
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Holder:
    """One process, identified beyond the reuse of its number."""

    host: str
    boot: str
    pid: int
    started: str

    @classmethod
    def this_process(cls) -> "Holder":
        """The holder that a claim of this process names."""
        return cls(socket.gethostname(), _namespace(), os.getpid(), started_at(os.getpid()))

    @classmethod
    def from_json(cls, text: str) -> "Holder":
        """Inverse of `to_json`."""
        return cls(**json.loads(text))

    def to_json(self) -> str:
        """Plain JSON, for the commit metadata."""
        return json.dumps(asdict(self))

    def is_alive(self, expires_ms: int) -> bool:
        """Whether the process may still be writing, given the end of its lease (Unix time, ms)."""
        if self.boot and self.boot == _namespace():
            return bool(self.started) and started_at(self.pid) == self.started
        return time.time() * 1000 < expires_ms


def _namespace() -> str:
    """Boot and process namespace, inside which a pid means the same process; empty where the system has none."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def started_at(pid: int) -> str:
    """Start time of a running process in clock ticks since boot; empty when there is none (a zombie is none)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    state, started = fields[0], fields[19]
    return "" if state in "ZX" else started
