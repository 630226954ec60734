"""What a worker of the encoder's benchmark encodes before it looks at the clock."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks.encoder.exported import ExportedEngine
from benchmarks.encoder.worker import Worker
from benchmarks.encoder.workloads import make_workload


def test_what_an_engine_prepares_for_each_length_does_not_count(tmp_path: Path) -> None:
    workload = make_workload("short", 3, tmp_path, seconds=6)
    lengths = list(workload.lengths)
    given: list[int] = []

    def make(_threads: int) -> Callable[[np.ndarray], np.ndarray]:
        def call(features: np.ndarray) -> np.ndarray:
            given.append(features.shape[1])
            return features

        return call

    worker = Worker(ExportedEngine(make), torch.device("cpu"))
    before: list[list[int]] = []
    for threads in (1, 1, 2, 2, 1):
        given.clear()
        worker.run(str(workload.path), lengths, "alone", threads, warm_up=False, save=None)
        assert given[-len(lengths) :] == lengths
        before.append(given[: -len(lengths)])
    first_second = [50]
    assert before == [lengths, first_second, lengths, first_second, lengths]  # other threads are a new session
