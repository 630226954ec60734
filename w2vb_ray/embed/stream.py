"""Descriptors as Ray Data delivers them, without ever blocking the driver: it must renew its claim and hear Ctrl-C."""

import logging
import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import pyarrow as pa
from ray.data import Dataset


@dataclass(frozen=True, slots=True)
class _End:
    error: Exception | None


def descriptors(dataset: Dataset, tick_s: float = 0.5) -> Iterator[dict[str, Any] | None]:
    """Rows of a dataset as they stream out, and None whenever `tick_s` pass without one.

    The dataset runs in its own thread; an exception in it is raised here. Whoever stops before the end leaves that
    thread behind, until the process ends.
    """
    results: queue.Queue[dict[str, Any] | _End] = queue.Queue()

    def consume() -> None:
        error: Exception | None = None
        try:
            for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                for row in cast(pa.Table, batch).to_pylist():
                    results.put(row)
        except Exception as err:  # noqa: BLE001 - handed over to the driver's thread, which raises it
            error = err
        results.put(_End(error))

    threading.Thread(target=consume, name="descriptors", daemon=True).start()
    try:
        while True:
            try:
                item = results.get(timeout=tick_s)
            except queue.Empty:
                yield None
                continue
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item
    except GeneratorExit:
        # It finds Ray gone under it, which is how this run wants it, and would print a page about that.
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        raise
