"""Run a command and watch its whole process tree: CPU time and memory of every process, by the part it plays.

Wall time on a shared machine is noisy; CPU time (user + system) of the tree is much less so. Processes are sampled,
so what a process does in its last fraction of a second is missed.
"""

import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

INTERVAL_S = 0.2
_USS_EVERY = 5  # reading USS walks page tables, so once a second
_PARTS = (  # the first text found in a process's command line, most telling first
    ("EncodeUnits", "encoder"),
    ("read_units", "read/write"),
    ("write_units", "read/write"),
    ("raylet/raylet", "raylet+gcs"),
    ("gcs_server", "raylet+gcs"),
)
_RANK = {"driver": 0, "encoder": 1, "read/write": 2, "raylet+gcs": 3, "other": 4}


@dataclass(slots=True)
class _History:
    process: psutil.Process
    part: str
    samples: list[tuple[int, float, int, int]] = field(default_factory=list)  # tick, CPU s, RSS, USS (0: not read)


@dataclass(slots=True)
class Watched:
    """What a command did.

    Args:
        started: unix time at which it was started.
        ended: unix time at which it had ended.
        times: (N,) unix time of each sample.
        cpu_s: part -> (N,) CPU seconds of the tree so far.
        peak_rss: part -> largest sum of the resident sets of its processes in bytes, shared pages counted each time.
        peak_uss: part -> the same of what each process has for itself alone.
    """

    started: float
    ended: float
    times: np.ndarray
    cpu_s: dict[str, np.ndarray]
    peak_rss: dict[str, int]
    peak_uss: dict[str, int]

    def cpu_between(self, start: float, end: float) -> dict[str, float]:
        """CPU seconds of each part between two unix times."""
        return {
            part: float(np.interp(end, self.times, cpu_s) - np.interp(start, self.times, cpu_s))
            for part, cpu_s in self.cpu_s.items()
        }


def run_watched(command: Sequence[str], log: Path, cwd: Path, env: Mapping[str, str]) -> Watched:
    """Run a command to its end; its output goes to `log`.

    Raises:
        RuntimeError: it failed; says how its output ends.
    """
    started = time.time()
    with log.open("wb") as out:
        child = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, cwd=cwd, env=dict(env))
        watcher = _Watcher(child.pid)
        watcher.start()
        try:
            code = child.wait()
        finally:
            ended = time.time()
            _end(child)
            watcher.stop()
    if code != 0:
        tail = log.read_text(errors="replace")[-3000:]
        raise RuntimeError(f"{' '.join(command)} ended with {code}:\n{tail}")
    return watcher.result(started, ended)


def _end(child: subprocess.Popen[bytes]) -> None:
    """End a command that still runs because this process was told to stop; Ray's processes end with their driver."""
    if child.poll() is not None:
        return
    child.terminate()
    try:
        child.wait(timeout=15)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


class _Watcher(threading.Thread):
    def __init__(self, pid: int) -> None:
        super().__init__(name="watcher", daemon=True)
        self._root = psutil.Process(pid)
        self._halt = threading.Event()
        self._histories: dict[int, _History] = {pid: _History(self._root, "driver")}
        self._times: list[float] = []

    def run(self) -> None:
        tick = 0
        while not self._halt.is_set():
            self._sample(tick)
            tick += 1
            self._halt.wait(INTERVAL_S)

    def stop(self) -> None:
        self._halt.set()
        self.join()

    def _sample(self, tick: int) -> None:
        with suppress(psutil.Error):
            for process in self._root.children(recursive=True):
                self._histories.setdefault(process.pid, _History(process, "other"))
        self._times.append(time.time())
        for history in self._histories.values():  # those whose parent died included
            with suppress(psutil.Error):
                self._sample_process(history, tick)

    def _sample_process(self, history: _History, tick: int) -> None:
        process = history.process
        with process.oneshot():
            cpu, memory = process.cpu_times(), process.memory_info()
            title = " ".join(process.cmdline())
        uss = process.memory_full_info().uss if tick % _USS_EVERY == 0 else 0
        history.samples.append((tick, cpu.user + cpu.system, memory.rss, uss))
        part = next((part for text, part in _PARTS if text in title), "other")
        if _RANK[part] < _RANK[history.part]:
            history.part = part

    def result(self, started: float, ended: float) -> Watched:
        parts = sorted({history.part for history in self._histories.values()}, key=lambda part: _RANK[part])
        shape = (len(parts), len(self._times))
        cpu_s, rss, uss = np.zeros(shape), np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        for history in self._histories.values():
            row = parts.index(history.part)
            latest = np.zeros(len(self._times))
            for tick, cpu, resident, own in history.samples:
                latest[tick:] = cpu  # a process that has ended keeps what it used
                rss[row, tick] += resident
                uss[row, tick] += own
            cpu_s[row] += latest
        return Watched(
            started=started,
            ended=ended,
            times=np.array(self._times),
            cpu_s=dict(zip(parts, cpu_s, strict=True)),
            peak_rss={part: int(peak) for part, peak in zip(parts, rss.max(axis=1), strict=True)},
            peak_uss={part: int(peak) for part, peak in zip(parts, uss.max(axis=1), strict=True)},
        )
