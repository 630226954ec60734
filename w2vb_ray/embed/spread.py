"""Reading what very large tables hold on the nodes of a cluster: workers hash, the driver gets 29 bytes a row."""

from collections.abc import Callable, Iterator, Sequence

import ray

from w2vb_ray.embed.live import Held
from w2vb_ray.embed.tables import DataFile

MIN_ROWS = 10_000_000
"""Of all tables. The driver alone takes a second for each million; joining a cluster takes several, and a run that
finds nothing to do should rather not."""

_TASK_ROWS = 1_000_000
_RETRIES = 2


def in_tasks(read: Callable[[DataFile], list[Held]], files: Sequence[DataFile]) -> Iterator[list[Held]]:
    """Call a function with each file, in Ray tasks of about a million rows; see `live.Each`."""
    task = ray.remote(num_cpus=1, max_retries=_RETRIES)(_read_all)
    waiting = [task.remote(read, part) for part in _parts(files)]
    for results in waiting:
        yield from ray.get(results)


def _read_all(read: Callable[[DataFile], list[Held]], files: Sequence[DataFile]) -> list[list[Held]]:
    return [read(file) for file in files]


def _parts(files: Sequence[DataFile]) -> Iterator[list[DataFile]]:
    part: list[DataFile] = []
    for file in files:
        part.append(file)
        if sum(one.num_rows for one in part) >= _TASK_ROWS:
            yield part
            part = []
    if part:
        yield part
