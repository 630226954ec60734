"""Runs every row of a model, rows taking turns, and keeps what each repetition measured."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.encoder.models import SIZES
from benchmarks.encoder.pool import EngineMissing, Pool
from benchmarks.encoder.rows import Row
from benchmarks.encoder.workloads import Workload

_MUST_RUN = ("packed", "waveforms", "loaded-checkpoint", "loaded-int8")  # others may be missing, or run out of memory


@dataclass(frozen=True, slots=True)
class Task:
    """One run of one row.

    Args:
        model: a key of `models.SIZES`.
        workload: what is encoded.
        row: what encodes.
        threads: of the engine.
        optional: left out behind the deadline.
    """

    model: str
    workload: Workload
    row: Row
    threads: int = 1
    optional: bool = False

    @property
    def key(self) -> tuple[str, str, str]:
        """Which row of the report it belongs to."""
        return self.workload.name, self.model, self.row.name


@dataclass(slots=True)
class Bench:
    """Measures tasks.

    Args:
        folder: for results and logs.
        layers: conformer layers of each model.
        device: `cpu` or `cuda`.
        cache: folder of exported models.
        say: prints a line.
        deadline: on the monotonic clock, for optional tasks.
    """

    folder: Path
    layers: dict[str, int]
    device: str
    cache: Path
    say: Callable[[str], None]
    deadline: float = float("inf")
    measured: dict[tuple[tuple[str, str, str], int], list[dict[str, float]]] = field(default_factory=dict)
    missing: dict[tuple[str, str], str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, tasks: Sequence[Task], lanes: int = 1) -> None:
        """Every task; with several lanes as many at a time, each on a core of its own."""
        shares = _shares(tasks, lanes)
        pools = [Pool(self.folder) for _ in shares]
        try:
            for pool, share in zip(pools, shares, strict=True):
                for task in share:
                    pool.start(self._settings(task), self._bytes(task))
            for pool in pools:
                pool.wait()
            errors: list[BaseException] = []
            threads = [
                threading.Thread(target=self._lane, args=(pool, share, errors), daemon=True)
                for pool, share in zip(pools, shares, strict=True)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            if errors:
                raise errors[0]
        finally:
            for pool in pools:
                pool.stop()

    def ask_bare(self, commands: Sequence[dict[str, Any]]) -> list[Any]:
        """Answers of a worker without a model."""
        pool = Pool(self.folder)
        settings = self._worker("bare", "base", "fp32")
        try:
            return [pool.ask(settings, 0, command) for command in commands]
        finally:
            pool.stop()

    def result_path(self, key: tuple[str, str, str]) -> Path:
        """Where the first repetition of a row leaves what it made."""
        return self.folder / ("_".join(key) + ".npz")

    def _lane(self, pool: Pool, tasks: Sequence[Task], errors: list[BaseException]) -> None:
        try:
            for task in tasks:
                self._run_one(pool, task)
        except BaseException as err:  # noqa: BLE001 - raised again where the lanes meet
            errors.append(err)

    def _run_one(self, pool: Pool, task: Task) -> None:
        if (task.model, task.row.name) in self.missing:
            return
        if task.optional and time.monotonic() > self.deadline:
            self.say(f"  {task.model:5} {task.workload.name:10} {task.row.name:31} left out: no time left")
            return
        path = self.result_path(task.key)
        command = {
            "do": "run",
            "workload": str(task.workload.path),
            "lengths": task.workload.lengths,
            "variant": task.row.variant,
            "threads": task.threads,
            "warm_up": self.device == "cuda",
            "save": None if path.exists() else str(path),
        }
        try:
            found = pool.ask(self._settings(task), self._bytes(task), command)
        except EngineMissing as err:
            self._miss(task, str(err))
            return
        with self._lock:
            self.measured.setdefault((task.key, task.threads), []).append(found)
            speed = task.workload.audio_s / found["wall_s" if self.device == "cuda" or task.threads > 1 else "cpu_s"]
            self.say(
                f"  {task.model:5} {task.workload.name:10} {task.row.name:31} {task.threads} thread(s), "
                f"CPU {found['cpu_s']:6.2f} s, wall {found['wall_s']:6.2f} s, {speed:8.2f} audio-s/s"
            )

    def _miss(self, task: Task, reason: str) -> None:
        if task.row.kind in _MUST_RUN:
            raise RuntimeError(f"{task.model}, {task.workload.name}: {task.row.name} failed: {reason}")
        with self._lock:
            if (task.model, task.row.name) not in self.missing:
                self.missing[task.model, task.row.name] = reason
                self.say(f"  {task.model:5} {task.row.name}: skipped: {reason}")

    def _settings(self, task: Task) -> dict[str, Any]:
        return self._worker(task.row.kind, task.model, task.row.precision)

    def _worker(self, kind: str, model: str, precision: str) -> dict[str, Any]:
        return {
            "kind": kind,
            "model": model,
            "layers": self.layers[model],
            "precision": precision,
            "device": self.device,
            "cache": str(self.cache),
        }

    def _bytes(self, task: Task) -> float:
        return float(SIZES[task.model].parameters(self.layers[task.model]) * 4)


def _shares(tasks: Sequence[Task], lanes: int) -> list[list[Task]]:
    """Tasks of each lane, about equal in time, each lane in the order given."""
    shares: list[list[int]] = [[] for _ in range(lanes)]
    totals = [0.0] * lanes
    costs = [task.workload.audio_s / task.row.speed for task in tasks]
    for index in sorted(range(len(tasks)), key=lambda index: -costs[index]):
        lane = totals.index(min(totals))
        shares[lane].append(index)
        totals[lane] += costs[index]
    return [[tasks[index] for index in sorted(share)] for share in shares if share]
