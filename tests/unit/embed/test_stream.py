import threading
import time
from functools import partial

import pyarrow as pa
import pytest
from ray.data.exceptions import ExecutionTimeoutError
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RaySystemError,
    RayTaskError,
    WorkerCrashedError,
)

from w2vb_ray.config.embed import PlanSection
from w2vb_ray.embed.ledger import Refusal, Standing
from w2vb_ray.embed.plan import make_plan
from w2vb_ray.embed.rounds import Rounds
from w2vb_ray.embed.stream import Abandonable, is_loss, leave_ray, stream
from w2vb_ray.errors import SinkError

from .rows import batches, inventory, live

BUG = RayTaskError("read_units", "Traceback ...", ValueError("a bug"))


@pytest.mark.parametrize(
    "error",
    [
        WorkerCrashedError(),
        ActorDiedError(),
        ActorUnavailableError("socket closed", None),
        NodeDiedError("gone"),
        ObjectLostError("00" * 28, None, ""),
        OutOfMemoryError("killed by the monitor"),
        ExecutionTimeoutError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_the_cluster_lost_is_run_again(error):
    assert is_loss(error)


@pytest.mark.parametrize("error", [ValueError(), BUG, BUG.as_instanceof_cause(), ActorDiedError.from_task_error(BUG)])
def test_what_our_own_code_raised_is_not(error):
    assert not is_loss(error)


class Streams:
    """In the place of Ray Data: each stream lets some units out and then ends, or breaks, as scripted.

    Args:
        script: of each stream, the number of units that come out, and what it raises then.
    """

    def __init__(self, *script):
        self.script = list(script)
        self.units = []
        self.standing = Standing()
        self.num_shrunk = 0

    def __call__(self, units):
        self.units.append(list(units))
        return self

    def iter_batches(self, **_):
        num, error = self.script.pop(0)
        for unit in self.units[-1][:num]:
            yield pa.table({"units": [[unit]]})
        if error:
            raise error

    def look(self, *, now=False):
        return self.standing

    def is_starved(self):
        return False

    def shrink(self):
        self.num_shrunk += 1


def start(streams, say):
    rows = [{"id": f"u{index}", "duration": 1.0} for index in range(6)]
    plan = make_plan(batches(inventory(rows)), live(), PlanSection(unit_utterances=2))
    return stream(Rounds(plan), streams, streams, say)


def run(streams):
    said = []
    found = [d["units"] for d in start(streams, said.append) if d is not None]
    return found, said


def test_a_stream_that_ends_is_all():
    streams = Streams((3, None))
    assert run(streams) == ([[0], [1], [2]], [])


class Endless(Streams):
    """Lets one unit out, and then only looks whether it shall end, as Ray Data does."""

    def iter_batches(self, **_):
        yield pa.table({"units": [[0]]})
        while True:
            Abandonable().on_execution_step(None)
            time.sleep(0.01)


def test_a_stream_that_is_closed_leaves_no_thread_that_would_ask_for_ray():
    descriptors = start(Endless(), print)
    assert next(descriptors)["units"] == [0]
    descriptors.close()
    assert "descriptors" not in [thread.name for thread in threading.enumerate()]


def test_a_stream_that_breaks_is_followed_by_another_for_what_is_left():
    streams = Streams((1, WorkerCrashedError()), (0, ActorDiedError()), (1, None), (1, None))
    found, said = run(streams)
    assert found == [[0], [1], [2]]
    assert streams.units == [[0, 1, 2], [1, 2], [1, 2], [2]]
    assert streams.num_shrunk == 2, "what broke a stream may have taken nodes along"
    assert said[0].startswith("the stream broke, and what did not come out of it runs again: WorkerCrashedError")
    assert said[1].startswith("round 2: 2 units run again")


def test_streams_that_bring_nothing_end_with_what_broke_them():
    with pytest.raises(WorkerCrashedError):
        run(Streams((1, None), (0, WorkerCrashedError()), (0, WorkerCrashedError())))


def test_what_our_own_code_raised_ends_the_run_at_once():
    with pytest.raises(RayTaskError):
        run(Streams((1, BUG)))


def test_what_a_stage_told_the_person_is_raised_as_it_was():
    streams = Streams((1, BUG))
    streams.standing = Standing(error=SinkError("no space"))
    with pytest.raises(SinkError, match="no space"):
        run(streams)


def test_refused_units_come_back_in_pieces():
    streams = Streams((3, None), (4, None))
    streams.script[0] = (2, None)
    streams.standing = Standing({2: Refusal("encode", 2)}, 2)
    found, said = run(streams)
    assert found == [[0], [1], [3], [4], [5]], "an empty unit, and two of one utterance"
    assert "1 have cost two workers" in said[0]


def test_threads_that_find_no_ray_any_more_are_silent_and_others_are_not(monkeypatch):
    told = []
    monkeypatch.setattr(threading, "excepthook", lambda args: told.append(args.exc_type))
    leave_ray()
    for error in (RaySystemError("Ray has not been started yet"), ValueError("ours")):
        thread = threading.Thread(target=partial(_raise, error))
        thread.start()
        thread.join()
    assert told == [ValueError]


def _raise(error: Exception) -> None:
    raise error
