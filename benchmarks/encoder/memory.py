"""Peak memory of a process, resettable where Linux allows it."""

import ctypes
import gc
import resource
from contextlib import suppress
from pathlib import Path

_MIB = 1024**2


class PeakMemory:
    """Peak of the resident set between construction and `read`.

    Where `/proc/self/clear_refs` cannot be written, the peak is that of the whole life of the process.
    """

    def __init__(self) -> None:
        gc.collect()
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)  # what glibc keeps from before would count as used
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
        self._before = _status("VmRSS")

    def read(self) -> tuple[float, float]:
        """MiB: the peak, and how far it is above what was resident at the start."""
        peak = _status("VmHWM")
        return peak / _MIB, max(0.0, (peak - self._before) / _MIB)


def available_bytes() -> float:
    """Memory that new processes can have; infinite where the system does not say."""
    try:
        return _field(Path("/proc/meminfo"), "MemAvailable")
    except OSError:
        return float("inf")


def resident_bytes(pid: int) -> float:
    """What a process holds in memory; 0 where the system does not say, or the process has ended."""
    try:
        return _field(Path(f"/proc/{pid}/status"), "VmRSS")
    except OSError:
        return 0.0


def _status(field: str) -> float:
    try:
        return _field(Path("/proc/self/status"), field)
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


def _field(path: Path, name: str) -> float:
    for line in path.read_text().splitlines():
        if line.startswith(name + ":"):
            return float(line.split()[1]) * 1024
    raise OSError(f"{path} has no {name}")
