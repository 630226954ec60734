"""Ray around the ledger: an actor that keeps it, stages that report to it, and the end of workers that hang.

The one who ends a hung worker stands outside of it. A thread in the worker would be stopped with it, by SIGSTOP, a
frozen container or a driver call that keeps the interpreter's lock, and the driver alone could not reach a process on
another node: so it sends a task there.
"""

import os
import signal
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import ray
from ray.exceptions import GetTimeoutError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from w2vb_ray.arrow import pc
from w2vb_ray.embed.holder import started_at
from w2vb_ray.embed.ledger import Ledger, Place, Standing
from w2vb_ray.embed.stage import Pulse, Watch, Work
from w2vb_ray.errors import UserError
from w2vb_ray.runtime.cluster import EncoderPool, nodes, shrunk

_BEAT_S = 5.0
_LOOK_S = 15.0
_ANSWER_TIMEOUT_S = 20.0
_QUIET_S = 60.0  # a node that is replaced sooner is worth the wait


@dataclass(frozen=True, slots=True)
class Watched:
    """Work of one stage, reported to the ledger.

    Args:
        ledger: its actor.
        stage: `read`, `encode` or `write`.
    """

    ledger: Any
    stage: str

    def __call__(self, packed: pa.Table, work: Work) -> pa.Table:
        """Work on the units that the ledger lets pass; one that it refuses does not come out."""
        units, place = packed["unit"].to_pylist(), _here()
        _show_life(self.ledger, place)
        admitted = ray.get(self.ledger.begin.remote(self.stage, units, place))
        if not admitted:
            return packed.slice(0, 0)
        if len(admitted) < len(units):
            packed = packed.filter(pc.is_in(packed["unit"], pa.array(admitted, pa.int64())))
        try:
            done = work(packed, self._pulse(admitted, place))
        except UserError as err:
            ray.get(self.ledger.note_error.remote(err))
            raise
        ray.get(self.ledger.end.remote(self.stage, admitted, place))
        return done

    def _pulse(self, units: list[int], place: Place) -> Pulse:
        due = time.monotonic() + _BEAT_S

        def pulse() -> None:
            nonlocal due
            if time.monotonic() >= due:
                due = time.monotonic() + _BEAT_S
                self.ledger.beat.remote(self.stage, units, place)

        return pulse


class Watchdog:
    """The driver's side: starts the ledger, looks at it, ends what hangs, and sees whether the encoders still fit.

    Args:
        timeout_s: how long a worker may be at a unit without finishing a recording or a micro-batch.
        pool: the encoders.
    """

    def __init__(self, timeout_s: float, pool: EncoderPool) -> None:
        self.pool = pool
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        actor: Any = ray.remote(_RayLedger)
        # Beside the driver: there is no node whose loss could take the one and leave the other.
        self._ledger = actor.options(
            num_cpus=0,
            max_restarts=-1,
            max_task_retries=-1,
            scheduling_strategy=here,
        ).remote(timeout_s)
        self._interval_s = min(_LOOK_S, timeout_s / 4)
        self._looked = time.monotonic()
        self._standing: Standing = Standing()

    def watched(self, stage: str) -> Watch:
        """What a stage calls its work with."""
        return Watched(self._ledger, stage)

    def shrink(self) -> None:
        """Make `pool` what the nodes hold that are left."""
        self.pool = shrunk(self.pool, nodes())

    def is_starved(self) -> bool:
        """Whether all stands still because the nodes that are left do not hold the encoders.

        Ray starts an encoder again wherever there is room, even on the last CPU that reading and writing need; what is
        in flight of one that finds no room waits with it.
        """
        return self._standing.quiet_s > _QUIET_S and shrunk(self.pool, nodes()).size < self.pool.size

    def look(self, *, now: bool = False) -> Standing:
        """The ledger as it is, or as it was a moment ago; whoever is overdue is ended."""
        if not now and time.monotonic() - self._looked < self._interval_s:
            return self._standing
        try:
            standing: Any = ray.get(self._ledger.standing.remote(), timeout=_ANSWER_TIMEOUT_S)
        except GetTimeoutError:
            return self._standing  # it starts, or starts again
        finally:
            self._looked = time.monotonic()
        self._standing = standing
        for place in standing.overdue:
            strategy = NodeAffinitySchedulingStrategy(place.node, soft=False)
            _end_hung.options(scheduling_strategy=strategy).remote(place, self._ledger)
        return self._standing


class _RayLedger(Ledger):
    def __init__(self, timeout_s: float) -> None:
        super().__init__(timeout_s, _living_nodes)


def _living_nodes() -> Collection[str]:
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}


def _here() -> Place:
    return Place(ray.get_runtime_context().get_node_id(), os.getpid(), started_at(os.getpid()))


_shown: set[Place] = set()


def _show_life(ledger: Any, place: Place) -> None:
    """Tell the ledger from now on that this process runs: it may be stopped between two units as well."""
    if place in _shown:
        return
    _shown.add(place)

    def tell() -> None:
        while True:
            ledger.alive.remote(place)
            time.sleep(_BEAT_S)

    threading.Thread(target=tell, name="life", daemon=True).start()


@ray.remote(num_cpus=0, max_retries=0)
def _end_hung(place: Place, ledger: Any) -> None:
    if place.started and started_at(place.pid) == place.started:
        ray.get(ledger.note_hung.remote())
        os.kill(place.pid, signal.SIGKILL)
