"""Workers of the encoder's benchmark that do not fit into memory together."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmarks.encoder import pool as pools
from benchmarks.encoder.pool import Pool

PEAK = {"do": "peak", "precision": "fp32", "budget_s": 0.001}
ENOUGH = 2**40


def settings(kind: str, layers: int) -> dict[str, Any]:
    return {"kind": kind, "model": "base", "layers": layers, "precision": "fp32", "device": "cpu", "cache": "unused"}


def workers() -> list[psutil.Process]:
    found = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
    return [child for child in found if "benchmarks.encoder.worker" in child.cmdline()]


@pytest.fixture
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pool]:
    monkeypatch.setattr(pools, "available_bytes", lambda: ENOUGH)
    made = Pool(tmp_path)
    yield made
    made.stop()
    assert workers() == []


def test_a_worker_that_the_system_ended_for_its_memory_starts_again(pool: Pool) -> None:
    assert pool.ask(settings("bare", 1), 0, PEAK)
    (first,) = workers()
    os.kill(first.pid, signal.SIGKILL)
    first.wait(10)
    assert pool.ask(settings("bare", 1), 0, PEAK)
    (second,) = workers()
    assert second.pid != first.pid


def test_where_memory_is_short_the_smallest_makes_room(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    large, small, asked = settings("transformers", 4), settings("bare", 1), settings("bare", 2)
    for one in (large, small):
        pool.start(one, 0)
    pool.wait()
    before = {worker.pid: worker.memory_info().rss for worker in workers()}
    monkeypatch.setattr(pools, "available_bytes", lambda: ENOUGH if len(workers()) < 2 else 0)
    pool.start(asked, 0)
    assert {worker.pid for worker in workers()} == set(before)  # a start makes no room, but waits for it
    assert pool.ask(asked, 0, PEAK)
    left = {worker.pid for worker in workers()} & set(before)
    assert left == {max(before, key=lambda pid: before[pid])}


def test_a_worker_that_is_asked_is_not_stopped_itself(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pool.ask(settings("bare", 1), 0, PEAK)
    (first,) = workers()
    monkeypatch.setattr(pools, "available_bytes", lambda: 0)
    assert pool.ask(settings("bare", 1), 0, PEAK)
    assert [worker.pid for worker in workers()] == [first.pid]
