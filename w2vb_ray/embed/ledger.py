"""Who is at which unit, and which units have cost workers. It lives outside the workers, so it outlives them.

A stage says when it begins a batch of units and when it has ended. When a unit begins again elsewhere, an attempt that
has not ended was the death of its worker: a crash, an out-of-memory kill, a hang that was ended. A unit that has cost
`MAX_DEATHS` workers is refused, so that it leaves the stream and everything else goes on. Workers that went with their
whole node do not count: machines that are taken away say nothing about the audio.

Knows no Ray. What it knows may be lost at any time; then the count begins again.
"""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from w2vb_ray.errors import UserError

MAX_DEATHS = 2
MAX_ATTEMPTS = 8
"""Of a stage at one unit, on nodes that are still there: a worker may also die of handing its result over."""


@dataclass(frozen=True, slots=True)
class Place:
    """One process on one node, identified beyond the reuse of its number."""

    node: str
    pid: int
    started: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a unit was not tried once more.

    Args:
        stage: the stage that it cost workers.
        num_attempts: how often that stage has begun it.
    """

    stage: str
    num_attempts: int


@dataclass(frozen=True, slots=True)
class Standing:
    """What the ledger has seen so far.

    Args:
        refused: units that are not tried again.
        num_deaths: workers that died at a unit, of whatever cause.
        num_hung: workers that were ended because nothing moved.
        overdue: where nothing has moved for too long.
        quiet_s: how long nobody has begun, moved or ended anything.
        error: what a stage has to say to the person at the keyboard; Ray would only hand over its text.
    """

    refused: dict[int, Refusal] = field(default_factory=dict[int, Refusal])
    num_deaths: int = 0
    num_hung: int = 0
    overdue: list[Place] = field(default_factory=list[Place])
    quiet_s: float = 0.0
    error: UserError | None = None


@dataclass(slots=True)
class _Attempt:
    place: Place
    seen: float
    ended: bool = False


class Ledger:
    """The record of one run.

    Args:
        timeout_s: how long an attempt may show no progress.
        living_nodes: ids of the nodes that are alive now.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        timeout_s: float,
        living_nodes: Callable[[], Collection[str]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._timeout_s = timeout_s
        self._living_nodes = living_nodes
        self._clock = clock
        self._attempts: dict[tuple[str, int], list[_Attempt]] = {}
        self._at_work: dict[tuple[str, int], _Attempt] = {}
        self._alive: dict[Place, float] = {}
        self._refused: dict[int, Refusal] = {}
        self._num_deaths = self._num_hung = 0
        self._moved = clock()
        self._error: UserError | None = None

    def begin(self, stage: str, units: Sequence[int], place: Place) -> list[int]:
        """A worker is about to work on units; returns those that it may. Safe to say twice."""
        return [unit for unit in units if self._begin(stage, unit, place)]

    def _begin(self, stage: str, unit: int, place: Place) -> bool:
        before = self._at_work.pop((stage, unit), None)
        attempts = self._attempts.setdefault((stage, unit), [])
        if before is not None and before.place == place:
            attempts.remove(before)  # the same worker says it again: it lives
        elif before is not None:
            self._num_deaths += 1
        if len(attempts) >= MAX_DEATHS and self._costs_too_much(attempts):
            self._refused[unit] = Refusal(stage, len(attempts))
            return False
        self._moved = self._clock()
        attempt = _Attempt(place, self._moved)
        attempts.append(attempt)
        self._at_work[stage, unit] = attempt
        return True

    def _costs_too_much(self, attempts: Sequence[_Attempt]) -> bool:
        nodes = self._living_nodes()
        counted = [attempt for attempt in attempts if attempt.place.node in nodes]
        return sum(not attempt.ended for attempt in counted) >= MAX_DEATHS or len(counted) >= MAX_ATTEMPTS

    def beat(self, stage: str, units: Sequence[int], place: Place) -> None:
        """Something moved."""
        for attempt in self._attempts_at(stage, units, place):
            attempt.seen = self._moved = self._clock()

    def end(self, stage: str, units: Sequence[int], place: Place) -> None:
        """The work on units is done."""
        for attempt in self._attempts_at(stage, units, place):
            attempt.ended = True
            self._moved = self._clock()
        for unit in units:
            if (attempt := self._at_work.get((stage, unit))) is not None and attempt.ended:
                del self._at_work[stage, unit]

    def _attempts_at(self, stage: str, units: Sequence[int], place: Place) -> list[_Attempt]:
        found = [attempt for unit in units for attempt in self._attempts.get((stage, unit), [])]
        return [attempt for attempt in found if attempt.place == place]

    def alive(self, place: Place) -> None:
        """A process runs, whatever it does."""
        self._alive[place] = self._clock()

    def note_hung(self) -> None:
        """A worker is being ended because nothing moved."""
        self._num_hung += 1

    def note_error(self, error: UserError) -> None:
        """A stage cannot go on; the first one counts."""
        self._error = self._error or error

    def standing(self) -> Standing:
        """All of it. A place is overdue once; after another `timeout_s` it is again."""
        now = self._clock()
        late = [attempt for attempt in self._at_work.values() if now - attempt.seen > self._timeout_s]
        for attempt in late:
            attempt.seen = now
        silent = [place for place, seen in self._alive.items() if now - seen > self._timeout_s]
        for place in silent:
            del self._alive[place]  # most of them are just gone
        overdue = list(dict.fromkeys([*(attempt.place for attempt in late), *silent]))
        quiet_s = now - self._moved
        return Standing(dict(self._refused), self._num_deaths, self._num_hung, overdue, quiet_s, self._error)
