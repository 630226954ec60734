"""What the tables hold, as planning needs it: ids as keys, versions as hashes, files as numbers. 29 bytes a row."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa

from w2vb_ray.arrow import pc
from w2vb_ray.embed.tables import FRAMES, READ_THREADS, REJECTS, UTTERANCES, DataFile, Table
from w2vb_ray.errors import RETRIED_REASONS
from w2vb_ray.source.keys import SECRETS, Keys, Secrets, hashes

_BATCH_ROWS = 32_768  # strings in the memory of each reading thread
_RETRIED = pa.array([str(reason) for reason in RETRIED_REASONS])


@dataclass(frozen=True, slots=True)
class Held:
    """Rows of one file; (N,) each, and its path."""

    keys: Keys
    versions: np.ndarray
    retried: np.ndarray  # rejects that say something about the moment only
    file: str

    @classmethod
    def of(cls, rows: pa.Table, file: str, secrets: Secrets = SECRETS) -> "Held":
        """Rows with `utterance_id`, and with `source_version` and `reason` where the table has them."""
        nothing = np.zeros(rows.num_rows, np.bool_)
        return cls(
            keys=Keys.of(rows["utterance_id"], secrets),
            versions=hashes(rows["source_version"], secrets[0])
            if "source_version" in rows.column_names
            else nothing.astype(np.uint64),
            retried=pc.is_in(rows["reason"], _RETRIED).to_numpy() if "reason" in rows.column_names else nothing,
            file=file,
        )


@dataclass(frozen=True)
class Known:
    """The rows of one table, sorted by key; (N,) each."""

    keys: Keys
    versions: np.ndarray
    retried: np.ndarray
    files: np.ndarray  # numbers in `paths`
    paths: Sequence[str]

    @classmethod
    def of(cls, parts: Iterable[Held]) -> "Known":
        """All rows of all parts."""
        parts = list(parts)
        keys = Keys.concat([part.keys for part in parts])
        files = np.repeat(np.arange(len(parts), dtype=np.int32), [len(part.keys) for part in parts])
        versions = np.concatenate([np.empty(0, np.uint64), *(part.versions for part in parts)])
        retried = np.concatenate([np.empty(0, np.bool_), *(part.retried for part in parts)])
        order = keys.order
        return cls(keys.take(order), versions[order], retried[order], files[order], [part.file for part in parts])

    @classmethod
    def read(cls, table: Table, columns: Sequence[str], each: "Each | None" = None) -> "Known":
        """Every live row of a table's snapshot.

        Args:
            table: whose rows.
            columns: what they have beside `utterance_id`.
            each: how its files are read, see `spread`. Unset: in threads of this process.
        """
        read = partial(_read, table, ["utterance_id", *columns], SECRETS)
        return cls.of(held for parts in (each or in_threads)(read, table.files()) for held in parts)

    def find(self, keys: Keys) -> "Found":
        """Look up ids."""
        return Found(self, self.keys.find(keys))


Each = Callable[[Callable[[DataFile], list[Held]], Sequence[DataFile]], Iterable[list[Held]]]
"""Calls a function with each file; the results in the order of the files."""


def in_threads(read: Callable[[DataFile], list[Held]], files: Sequence[DataFile]) -> list[list[Held]]:
    """Call a function with each file, in threads, because a store answers slowly."""
    with ThreadPoolExecutor(READ_THREADS) as threads:
        return list(threads.map(read, files))


def _read(table: Table, columns: list[str], secrets: Secrets, file: DataFile) -> list[Held]:
    with table.open(file.path) as stored:
        batches = stored.iter_batches(_BATCH_ROWS, columns=columns, use_threads=False)
        return [Held.of(pa.Table.from_batches([batch]), file.path, secrets) for batch in batches]


@dataclass(frozen=True, slots=True)
class Found:
    """What a table knows of some ids; (M,) each."""

    table: Known
    rows: np.ndarray  # -1: not there

    @classmethod
    def nothing(cls, num_rows: int) -> "Found":
        """Of a table that does not exist."""
        return cls(Known.of([]), np.full(num_rows, -1))

    @property
    def is_there(self) -> np.ndarray:
        """Whether the table has the id."""
        return self.rows >= 0

    def has_version(self, versions: np.ndarray) -> np.ndarray:
        """Whether it has it at this version."""
        return self.is_there & (self._of(self.table.versions) == versions)

    def is_retried(self) -> np.ndarray:
        """Whether it has it as a reject that every run tries again."""
        return self.is_there & self._of(self.table.retried).astype(np.bool_)

    def num_doubled(self) -> int:
        """How many of the ids it has more than once."""
        keys, rows = self.table.keys, self.rows[self.is_there]
        rows = rows[rows + 1 < len(keys)]
        same = (keys.high[rows] == keys.high[rows + 1]) & (keys.low[rows] == keys.low[rows + 1])
        return int(same.sum())

    def paths(self, chosen: np.ndarray) -> list[str]:
        """The files that hold the chosen ids, which are all there."""
        numbers: list[int] = self.table.files[self.rows[chosen]].tolist()
        return [self.table.paths[number] for number in numbers]

    def _of(self, column: np.ndarray) -> np.ndarray:
        if not len(column):
            return np.zeros(len(self.rows), column.dtype)
        return column[self.rows]  # row -1 is the last one: `is_there` masks it


@dataclass(frozen=True, slots=True)
class Live:
    """What the tables hold."""

    utterances: Known
    rejects: Known
    frames: Known | None = None  # None where there is no frames table

    @classmethod
    def read(cls, tables: Mapping[str, Table], each: Each | None = None) -> "Live":
        """The loaded snapshots; `each` as in `Known.read`."""
        return cls(
            utterances=Known.read(tables[UTTERANCES], ["source_version"], each),
            rejects=Known.read(tables[REJECTS], ["source_version", "reason"], each),
            frames=Known.read(tables[FRAMES], [], each) if FRAMES in tables and tables[FRAMES].exists else None,
        )
