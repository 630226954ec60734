"""Descriptors as Ray Data delivers them, without ever blocking the driver: it must renew its claim and hear Ctrl-C.

A stream that loses what it cannot replace, and units that it gave up, are followed by another one (see `rounds`).
"""

import logging
import queue
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, cast

import pyarrow as pa
import ray
from ray.data import Dataset
from ray.data.exceptions import ExecutionTimeoutError
from ray.exceptions import RayActorError, RayError, RaySystemError, RayTaskError, UserCodeException

from w2vb_ray.embed.rounds import Rounds
from w2vb_ray.embed.tables import first_line
from w2vb_ray.embed.watch import Watchdog
from w2vb_ray.errors import ClusterError, W2vbError

Descriptor = dict[str, Any]
Say = Callable[[str], None]

_LEAVE_S = 10.0  # for Ray Data to stop its stages; it needs one or two, and Kubernetes kills after 30


class StreamAbandoned(W2vbError):
    """The stream stood still, and another one can go on; or nobody wants more of it."""


_abandoned = threading.Event()  # of the module, because Ray makes the callbacks itself, from their class


class Abandonable:
    """Ray Data's execution callbacks, of which one ends the stream from within: there is no other way from outside."""

    def on_execution_step(self, executor: Any) -> None:
        """Called at each step of Ray's scheduling loop."""
        if _abandoned.is_set():
            raise StreamAbandoned("all stands still, and the nodes that are left do not hold all encoders")

    def before_execution_starts(self, executor: Any) -> None:
        """Nothing to do."""

    def after_execution_succeeds(self, executor: Any) -> None:
        """Nothing to do."""

    def after_execution_fails(self, executor: Any, error: Exception) -> None:
        """Nothing to do."""


def leave_ray() -> None:
    """Disconnect, maybe in the middle of a stream: threads of Ray Data that are left then find no Ray, to no harm."""
    tell = threading.excepthook

    def tell_others(args: Any) -> None:
        if not issubclass(args.exc_type, RaySystemError):
            tell(args)

    threading.excepthook = tell_others
    ray.shutdown()


def is_loss(error: Exception) -> bool:
    """Whether Ray lost a worker, a node, an object or its way; what our own code raised would come again."""
    if isinstance(error, RayActorError) and error.actor_init_failed:
        return False
    if isinstance(error, RayTaskError | UserCodeException):
        return False
    return isinstance(error, RayError | ExecutionTimeoutError | StreamAbandoned)


@dataclass(frozen=True, slots=True)
class _End:
    error: Exception | None


def stream(
    rounds: Rounds, watchdog: Watchdog, build: Callable[[Sequence[int]], Dataset], say: Say
) -> Generator[Descriptor | None]:
    """Descriptors of all rounds, and None between them.

    Args:
        rounds: the units of the run.
        watchdog: looks at the workers.
        build: units of `rounds` -> the dataset of their descriptors.
        say: is told about every round after the first.

    Raises:
        ClusterError: workers die whatever they work on.
        UserError: a stage says that it cannot go on.
        RayError: the cluster loses things again and again, and nothing comes out.
    """
    while units := rounds.next():
        if rounds.retries.rounds:
            say(rounds.describe())
        _abandoned.clear()
        loss: Exception | None = None
        try:
            with closing(descriptors(build(units))) as found:
                for descriptor in found:
                    if descriptor is not None:
                        rounds.came_out(descriptor["units"])
                    rounds.check(watchdog.look())
                    if watchdog.is_starved():
                        _abandoned.set()
                    yield descriptor
        except (RayError, ExecutionTimeoutError, StreamAbandoned) as err:
            if not is_loss(err):
                if (told := watchdog.look(now=True).error) is not None:
                    raise told from err
                raise
            loss = err
            say(f"the stream broke, and what did not come out of it runs again: {first_line(err)}")
            watchdog.shrink()
        if not rounds.close(watchdog.look(now=True)):
            raise loss or ClusterError("units go into the cluster and do not come out; look at Ray's logs on the nodes")


def descriptors(dataset: Dataset, tick_s: float = 0.5) -> Generator[Descriptor | None]:
    """Rows of a dataset as they stream out, and None whenever `tick_s` pass without one.

    The dataset runs in its own thread; an exception in it is raised here. Whoever closes this before the end waits for
    that thread: if it asked Ray for something after `ray.shutdown`, Ray would end the process, with its own exit code.
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

    consumer = threading.Thread(target=consume, name="descriptors", daemon=True)
    consumer.start()
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
        # Ray Data would print a page about being stopped, which is how this run wants it.
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        _abandoned.set()
        consumer.join(_LEAVE_S)
        raise
