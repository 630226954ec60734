"""Which units are still to come out of a run: round after round, until the one file that kills its workers is found.

A round is one stream of units. What did not come out of it is run again in the next one. A unit that was refused,
because it cost workers, is cut into `PIECES`; its innocent pieces come out, the guilty one is cut again, down to a
single utterance (or recording, where reading it was what killed). That becomes a reject if it costs workers alone as
well, in a round in which an empty unit comes through: a cluster that kills whatever runs on it rejects nothing.

Knows no Ray.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from w2vb_ray.arrow import pc
from w2vb_ray.embed.ledger import Refusal, Standing
from w2vb_ray.embed.plan import Plan
from w2vb_ray.errors import ClusterError, RejectReason

PIECES = 8
"""A round costs a start of the encoders, and two workers for each guilty unit: 512 utterances are 3 rounds of eighths,
but 9 of halves."""

TOO_MANY = 16
"""Refused units, from which on their being the majority means that something else is wrong."""

_MAX_IDLE_ROUNDS = 2
_MAX_ROUNDS = 32  # a unit takes five or six; each of the others needs a stream that broke


@dataclass(frozen=True, slots=True)
class Retries:
    """What a run had to try again, for its report.

    Args:
        worker_deaths: workers that died at a unit, of whatever cause.
        hung_workers: workers that were ended because nothing moved.
        units_split: units that were cut in search of one recording.
        rounds: streams after the first.
    """

    worker_deaths: int = 0
    hung_workers: int = 0
    units_split: int = 0
    rounds: int = 0


class Rounds:
    """The units of a run that have not come out, and those that they were cut into.

    Args:
        plan: whose units they are, numbered as there.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._cut: dict[int, pa.Table] = {}
        self._cut_s: dict[int, float] = {}
        self._standing = Standing()
        self._open = set(range(len(plan.units)))
        self._next = len(plan.units)
        self._control: int | None = None
        self._out_before = 0  # what had come out when the round began
        self._num_idle = 0
        self.expected = set(self._open)  # that must come out once each, in the end
        self._num_rounds = self._num_split = 0

    def next(self) -> list[int]:
        """Units that the next round is to run, in the order of the plan; none when all has come out."""
        self._num_rounds += bool(self._open)
        self._out_before = self._num_out
        return sorted(self._open)

    def rows(self, unit: int) -> pa.Table:
        """The utterances of a unit, made when they are asked for."""
        return self._cut[unit] if unit in self._cut else self._plan.units[unit]

    def came_out(self, units: Iterable[int]) -> None:
        """Note units that came out."""
        self._open -= set(units)

    def seconds(self, units: Iterable[int]) -> float:
        """Audio of units, as it was planned."""
        return sum(self._cut_s[unit] if unit in self._cut_s else self._plan.unit_s[unit] for unit in units)

    @property
    def retries(self) -> Retries:
        """What was tried again so far."""
        deaths, hung = self._standing.num_deaths, self._standing.num_hung
        return Retries(deaths, hung, self._num_split, max(0, self._num_rounds - 1))

    def describe(self) -> str:
        """One line before a round that is not the first."""
        return (
            f"round {self._num_rounds}: {len(self._open):,} units run again; {len(self._standing.refused):,} have cost "
            "two workers each so far, and are cut until the one recording is found"
        )

    @property
    def _num_out(self) -> int:
        return len(self.expected) - len(self._open)

    def check(self, standing: Standing) -> None:
        """Whether it is some units that kill workers, or workers that die whatever they do.

        Args:
            standing: the ledger's, of all rounds.

        Raises:
            ClusterError: most of what was tried was refused.
        """
        self._standing, refused = standing, standing.refused
        if len(refused) >= TOO_MANY and len(refused) > self._num_out:
            raise ClusterError(
                f"workers die whatever they work on: {len(refused)} units were given up after two dead workers each, "
                f"and {self._num_out} came out. Nothing was rejected for it. Look at Ray's logs on the nodes for what "
                "ends them (memory, drivers, an administrator's limits), and run the same command again"
            )

    def close(self, standing: Standing) -> bool:
        """End a round: cut what was refused, or make it a reject.

        Args:
            standing: the ledger's, of all rounds.

        Returns:
            False when rounds no longer change anything.

        Raises:
            ClusterError: the empty unit died like the others.
        """
        self.check(standing)
        suspects = sorted(self._open & standing.refused.keys())
        if self._control in suspects:
            raise ClusterError(
                "workers die whatever they work on: an empty unit has cost two of them, as did "
                f"{len(suspects) - 1} with audio in them. Nothing was rejected for it. Look at Ray's logs on the nodes "
                "for what ends them, and run the same command again"
            )
        proven = self._control is not None and self._control not in self._open
        if suspects:
            self._control = self._add(self.rows(suspects[0]).slice(0, 0), 0.0)
        for unit in suspects:
            self._replace(unit, standing.refused[unit], proven=proven)
        moved = bool(suspects) or self._num_out > self._out_before
        self._num_idle = 0 if moved else self._num_idle + 1
        return self._num_idle < _MAX_IDLE_ROUNDS and self._num_rounds < _MAX_ROUNDS

    def _replace(self, unit: int, refusal: Refusal, *, proven: bool) -> None:
        rows, seconds = self.rows(unit), self.seconds([unit])
        self._open.remove(unit)
        self.expected.remove(unit)
        pieces = list(_pieces(rows, refusal.stage))
        if len(pieces) > 1:
            self._num_split += 1
        elif proven:
            pieces = [_rejected(rows, refusal)]
        for piece in pieces:
            self._add(piece, seconds * piece.num_rows / rows.num_rows)
        self._cut.pop(unit, None)

    def _add(self, rows: pa.Table, seconds: float) -> int:
        unit, self._next = self._next, self._next + 1  # never used again: the ledger knows it by this number
        self._cut[unit], self._cut_s[unit] = rows, seconds
        self._open.add(unit)
        self.expected.add(unit)
        return unit


def _pieces(rows: pa.Table, stage: str) -> Iterator[pa.Table]:
    """Cut a unit; one that killed while it was read is cut between recordings, which are read as a whole."""
    keys = np.arange(rows.num_rows)
    if stage == "read":
        keys = rows["audio_uri"].combine_chunks().dictionary_encode().indices.to_numpy()
    num_keys = int(keys.max()) + 1
    for group in np.array_split(np.arange(num_keys), min(PIECES, num_keys)):
        yield rows.take(pa.array(np.flatnonzero((keys >= group[0]) & (keys <= group[-1])))).combine_chunks()


def _rejected(rows: pa.Table, refusal: Refusal) -> pa.Table:
    """The same rows, rejected before they are read, as planning itself rejects some."""
    detail = f"{refusal.num_attempts} workers died or hung in the {refusal.stage} stage, in the end alone"
    planned = pc.is_null(rows["reason"])
    for name, text in (("detail", detail), ("reason", str(RejectReason.WORKER_CRASH))):
        column = pc.if_else(planned, text, rows[name])
        rows = rows.set_column(rows.column_names.index(name), name, column)
    return rows
