"""The fence around the tables: one run at a time writes, and a run that lost its hold finds out before it commits.

Every commit of a run carries two Delta application transactions, `w2vb.embed` = a number that only grows, and
`w2vb.embed.batch` = the number of the last batch of rows. delta-rs refuses a commit whose snapshot is older than
another commit of the same scope, but after a reload it would accept any number, even a lower one. So a commit is made
only on a snapshot whose last number is this run's own, and after any failure or lost reply the log is read again to see
whose commit is there. See docs/decisions/0002-commit-protocol.md.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import pyarrow as pa
from deltalake import CommitProperties, Transaction
from deltalake._internal import RemoveAction
from deltalake.exceptions import DeltaError
from deltalake.transaction import AddAction

from w2vb_ray.embed.holder import Holder
from w2vb_ray.embed.tables import FRAMES, REJECTS, UTTERANCES, Layout, Table, first_line, one_line
from w2vb_ray.errors import SinkError, TableHeld, W2vbError

SCOPE = "w2vb.embed"
BATCH = "w2vb.embed.batch"
_ATTEMPTS = 5

Actions = list[AddAction | RemoveAction]
_Write = Callable[[CommitProperties], None]


@dataclass(frozen=True, slots=True)
class LastCommit:
    """The newest commit of any run in a table's log."""

    run_id: str
    kind: str
    number: int
    holder: Holder
    expires_ms: int

    @property
    def holds(self) -> bool:
        """Whether this commit's run still holds the tables."""
        return self.kind != "release" and self.holder.is_alive(self.expires_ms)


def last_commit(table: Table) -> LastCommit | None:
    """Read whose commit is the last one in the loaded snapshot, skipping those of maintenance and other tools."""
    if table.delta is None:
        return None
    for limit in (4, None):  # the newest commit is nearly always a run's own: read the whole log only when it is not
        for commit in table.delta.history(limit):
            if "w2vb.run_id" in commit:
                return LastCommit(
                    run_id=commit["w2vb.run_id"],
                    kind=commit["w2vb.kind"],
                    number=commit["w2vb.number"],
                    holder=Holder.from_json(commit["w2vb.holder"]),
                    expires_ms=commit["w2vb.expires_ms"],
                )
    return None


def number_of(table: Table, app_id: str) -> int:
    """Number of the last commit under an application id in the loaded snapshot, -1 when there is none."""
    version = None if table.delta is None else table.delta.transaction_version(app_id)
    return -1 if version is None else version


class Claim:
    """A run's hold on the tables of one sink.

    Args:
        tables: the tables by name, loaded; those that do not exist yet are made by `create_missing`.
        run_id: this run.
        lease_s: how long the hold lasts without a commit, for those who cannot see this process.

    Every method that commits raises TableHeld when another run took over.
    """

    def __init__(self, tables: Mapping[str, Table], run_id: str, lease_s: float) -> None:
        self._tables = tables
        self._run_id = run_id
        self._lease_s = lease_s
        self._holder = Holder.this_process().to_json()
        self._number = -1
        self._own: dict[str, int] = {}  # table -> number of this run's last commit in it
        self._renewed = 0.0

    @property
    def is_held(self) -> bool:
        """Whether this run has claimed the tables."""
        return UTTERANCES in self._own

    def check_free(self) -> None:
        """Raise TableHeld while another run holds the tables in their loaded snapshots."""
        last = last_commit(self._tables[UTTERANCES])
        if last is not None and last.run_id != self._run_id and last.holds:
            until = datetime.fromtimestamp(last.expires_ms / 1000, UTC).isoformat(timespec="seconds")
            raise TableHeld(
                f"run {last.run_id} (host {last.holder.host}, process {last.holder.pid}) holds these tables; its claim "
                f"runs until {until} unless it is renewed. Wait for it to end, or run the same command again after that"
            )

    def next_number(self) -> int:
        """The number after every number that any table has seen."""
        self._number = max(self._number, *(number_of(table, SCOPE) for table in self._tables.values())) + 1
        return self._number

    def has_unconfirmed(self) -> bool:
        """Whether a dead run left a rejects or frames commit without its twin in `utterances`."""
        confirmed = number_of(self._tables[UTTERANCES], BATCH)
        return any(number_of(table, BATCH) > confirmed for table in self._others())

    def take(self) -> bool:
        """Claim the tables on their loaded snapshots and undo what a dead run left half done.

        `utterances` decides; the others follow so that they fence too.

        Returns:
            False when the log has moved on since the snapshot was loaded: reload, look again who holds, plan again.
        """
        if not self._lead(self._tables[UTTERANCES]):
            return False
        for table in self._others():
            self._follow(table)
        self._undo_unconfirmed()
        return True

    def create_missing(self, layouts: Mapping[str, Layout]) -> bool:
        """Create the tables that do not exist, `utterances` first: its first commit is this run's claim.

        Returns:
            False when another run created `utterances` meanwhile.
        """
        for name in (UTTERANCES, REJECTS, FRAMES):
            if name not in layouts or self._tables[name].exists:
                continue
            if self._create(self._tables[name], layouts[name]):
                continue
            if name == UTTERANCES:
                return False
            self._follow(self._tables[name])  # a driver that lost `utterances` made it, and may have used it
            self._undo_unconfirmed()
        return True

    def commit_batch(self, actions: Mapping[str, Actions]) -> None:
        """Commit one batch: rejects, frames, then utterances, which alone makes the batch count."""
        number = self.next_number()
        for name in (REJECTS, FRAMES):
            if actions.get(name):
                self._append(name, "batch", number, actions[name], number)
        self._append(UTTERANCES, "batch", number, actions.get(UTTERANCES, []), number)

    def renew_if_due(self) -> None:
        """Renew the lease with an empty commit when a third of it has passed without any."""
        if time.monotonic() - self._renewed > self._lease_s / 3:
            self.renew()

    def renew(self) -> None:
        """Renew the lease with an empty commit; raises TableHeld when another run took over."""
        self._append(UTTERANCES, "renew", self.next_number(), [])

    def release(self) -> None:
        """Let go of the tables; the next run need not wait for the lease."""
        if self.is_held:
            self._append(UTTERANCES, "release", self.next_number(), [])
            self._own.clear()

    def release_quietly(self) -> None:
        """Release on the way out of a failure, whose own exception must be the one that is seen."""
        with suppress(DeltaError, OSError, W2vbError):
            self.release()

    def extend(self, table: Table, columns: pa.Schema) -> None:
        """Add the columns that the table does not have yet; it is the run's own, so nobody else can do the same."""
        missing = [field for field in columns if field.name not in table.columns.names]
        if missing:
            self._commit(table, "schema", self.next_number(), partial(table.add_columns, missing))

    def properties(self, kind: str, number: int, batch: int | None = None) -> CommitProperties:
        """Commit properties that name this run; given to every commit, those that change the schema included."""
        transactions = [Transaction(SCOPE, number)]
        if batch is not None:
            transactions.append(Transaction(BATCH, batch))
        return CommitProperties(
            custom_metadata={
                "w2vb.run_id": self._run_id,
                "w2vb.kind": kind,
                "w2vb.number": number,
                "w2vb.holder": self._holder,
                "w2vb.expires_ms": int((time.time() + self._lease_s) * 1000),
            },
            max_commit_retries=15,
            app_transactions=transactions,
        )

    def _others(self) -> Sequence[Table]:
        return [table for name, table in self._tables.items() if name != UTTERANCES and table.exists]

    def _undo_unconfirmed(self) -> None:
        """Undo a rejects or frames commit whose twin in `utterances` never came: its batch did not happen."""
        confirmed = number_of(self._tables[UTTERANCES], BATCH)
        for table in self._others():
            unconfirmed = number_of(table, BATCH)
            if unconfirmed <= confirmed or table.delta is None:
                continue
            version = next(
                commit["version"]
                for commit in table.delta.history()
                if commit.get("w2vb.kind") == "batch" and commit["w2vb.number"] == unconfirmed
            )
            self._commit(table, "undo", self.next_number(), partial(table.restore, version - 1), confirmed)

    def _create(self, table: Table, layout: Layout) -> bool:
        """Create a table; False when another run did meanwhile."""
        error: DeltaError | OSError | None = None
        for attempt in range(_ATTEMPTS):
            error = self._try_commit(table, "claim", self.next_number(), partial(table.create, layout))
            if error is None or table.exists:
                return error is None
            time.sleep(0.1 * 2**attempt)
        raise SinkError(f"the table {table.uri} cannot be created: {first_line(error or OSError())}") from error

    def _lead(self, table: Table) -> bool:
        """Claim a table on its loaded snapshot; False when the log has moved on, which is not for a retry to decide."""
        planned_on, error = table.version, None
        for attempt in range(_ATTEMPTS):
            error = self._try_commit(table, "claim", self.next_number(), partial(table.append, []))
            if error is None or table.version != planned_on:
                return error is None
            time.sleep(0.1 * 2**attempt)
        raise self._refused(table, "the claim", error) from error

    def _follow(self, table: Table) -> None:
        """Claim a table beside `utterances`, which this run holds."""
        utterances, error = self._tables[UTTERANCES], None
        # A paused driver may slip a last commit in between: it costs a retry, and its twin can no longer follow.
        for _ in range(_ATTEMPTS):
            table.reload()
            # In this order: who overtakes this run after the second look claims `table` after this run, or refuses it.
            utterances.reload()
            if number_of(utterances, SCOPE) != self._own[UTTERANCES]:
                raise self._lost(utterances)
            error = self._try_commit(table, "claim", self.next_number(), partial(table.append, []))
            if error is None:
                return
        raise self._refused(table, "the claim", error) from error

    def _append(self, name: str, kind: str, number: int, actions: Actions, batch: int | None = None) -> None:
        table = self._tables[name]
        self._commit(table, kind, number, partial(table.append, actions), batch)

    def _commit(self, table: Table, kind: str, number: int, write: _Write, batch: int | None = None) -> None:
        error: DeltaError | OSError | None = None
        for attempt in range(_ATTEMPTS):
            if number_of(table, SCOPE) != self._own[table.name]:
                raise self._lost(table)
            error = self._try_commit(table, kind, number, write, batch)
            if error is None:
                return
            time.sleep(0.1 * 2**attempt)
        raise self._refused(table, f"commit {number}", error) from error

    def _try_commit(
        self, table: Table, kind: str, number: int, write: _Write, batch: int | None = None
    ) -> DeltaError | OSError | None:
        """Commit on the loaded snapshot and reload it. None: it is in the log, whatever the store replied."""
        try:
            write(self.properties(kind, number, batch))
        except (DeltaError, OSError) as err:
            table.reload()
            last = last_commit(table)
            if last is None or (last.run_id, last.number) != (self._run_id, number):
                return err
        else:
            table.reload()
        self._note(table, number)
        return None

    def _note(self, table: Table, number: int) -> None:
        self._own[table.name] = number
        self._renewed = time.monotonic()

    def _refused(self, table: Table, what: str, error: DeltaError | OSError | None) -> SinkError:
        why = "" if error is None else f": {one_line(error)}"
        return SinkError(
            f"{table.uri} refused {what} of run {self._run_id} {_ATTEMPTS} times{why}. What was committed before "
            "stays; mend what stands in the way (space, credentials, the store) and run the same command again"
        )

    def _lost(self, table: Table) -> TableHeld:
        last = last_commit(table)
        other = "another run" if last is None else f"run {last.run_id} (host {last.holder.host})"
        return TableHeld(f"{other} took over {table.uri}; this run stops, and what it has committed stays")
