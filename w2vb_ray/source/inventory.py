"""Rows of any reader -> the inventory: ids, languages, segments, types and names settled, in one place.

An inventory comes in batches, so that ten million utterances need no more memory than their keys.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pyarrow as pa

from w2vb_ray.arrow import pc
from w2vb_ray.config.sections import SourceSection
from w2vb_ray.schema import DETAIL, INVENTORY, REASON
from w2vb_ray.source import identity, language, numbers
from w2vb_ray.source.columns import own_names
from w2vb_ray.source.keys import Keys
from w2vb_ray.source.rows import Column, Pieces, Rows
from w2vb_ray.source.storable import storable

BATCH_ROWS = 131_072
_RAW = r"(?i)\.(raw|pcm)$"


@dataclass(frozen=True)
class Batch:
    """Some utterances of a source."""

    table: pa.Table
    """`schema.INVENTORY`, `reason` and `detail` (null: not refused), then the source's own columns. Ids are unique in
    the whole source; `source_bytes` is null where the object does not exist and -1 where its size is not known."""
    keys: Keys
    """Of the ids."""
    repeated: bool = False
    """Whether these are rows whose given id an earlier row has; their ids are `<id>#2`, …; the pipeline rejects
    them."""
    num_waiting: int = 0
    """Rows of the source that are not here, because their audio is younger than `source.min_age_s`."""

    @classmethod
    def of(cls, table: pa.Table, *, repeated: bool = False) -> "Batch":
        """A batch of these rows."""
        return cls(table, Keys.of(table["utterance_id"]), repeated)

    def take(self, rows: np.ndarray) -> "Batch":
        """Some of its rows, by their positions."""
        return replace(self, table=self.table.take(pa.array(rows)), keys=self.keys.take(rows))

    def without(self, waiting: np.ndarray) -> "Batch":
        """Its rows that need not wait."""
        num_waiting = int(waiting.sum())
        return replace(self.take(np.flatnonzero(~waiting)), num_waiting=num_waiting) if num_waiting else self


@dataclass(frozen=True)
class Inventory:
    """Every utterance of a source, one row each."""

    source: Rows | Pieces
    section: SourceSection
    num_skipped: int
    """Files seen that are neither audio nor metadata."""
    format: str
    """What the source was read as."""

    def batches(self) -> Iterator[Batch]:
        """All rows, those with repeated ids last; a source that was not read whole is read again by each call.

        Raises:
            SourceError: a segment bound or duration that is no number, or a malformed piece of the source.
            ConfigError: a malformed path template.
        """
        repeats = identity.Repeats()
        again: list[pa.Table] = []
        again_young: list[np.ndarray] = []
        for rows in self._rows():
            table, young = assemble(rows, self.section), _young(rows, self.section.min_age_s)
            batch = Batch.of(table)
            repeated = repeats.repeated(batch.keys)
            if repeated.any():
                again.append(table.filter(pa.array(repeated)))
                again_young.append(young[repeated])
                batch, young = batch.take(np.flatnonzero(~repeated)), young[~repeated]
            yield batch.without(young)  # only now, so that an id stays with the row that has it first
        if again:
            table, young = pa.concat_tables(again), np.concatenate(again_young)
            ids = repeats.rename(table["utterance_id"])
            table = table.set_column(0, INVENTORY.field(0), ids)
            for start in range(0, table.num_rows, BATCH_ROWS):
                batch = Batch.of(table.slice(start, BATCH_ROWS), repeated=True)
                yield batch.without(young[start : start + BATCH_ROWS])

    def _rows(self) -> Iterator[Rows]:
        if isinstance(self.source, Pieces):
            yield from self.source.read()
            return
        rows = replace(self.source, own=storable(self.source.own))  # types must not differ between slices
        for start in range(0, max(1, len(rows.audio_uri)), BATCH_ROWS):
            yield rows.slice(start, BATCH_ROWS)

    @cached_property
    def table(self) -> pa.Table:
        """All batches in one: for sources that are known to be small."""
        return pa.concat_tables([batch.table for batch in self.batches()])

    @cached_property
    def duplicates(self) -> pa.ChunkedArray:
        """The new ids of the rows whose given id an earlier row has."""
        ids = [batch.table["utterance_id"] for batch in self.batches() if batch.repeated]
        return pa.chunked_array([chunk for column in ids for chunk in column.chunks], pa.string())


def assemble(rows: Rows, section: SourceSection) -> pa.Table:
    """Settle everything that does not depend on where the rows come from; ids may still repeat.

    Args:
        rows: some or all rows of the source.
        section: how to read them.

    Raises:
        SourceError: a segment bound or duration that is no number.
        ConfigError: a malformed path template.
    """
    start_s, end_s, duration_s = _times(rows, section)
    languages, captured = language.resolve(section.language, rows)
    ids = identity.utterance_ids(rows.audio_uri, start_s, end_s, rows.fields.get("utterance_id"))
    sampling_rate, num_channels = _headerless(rows, section)
    fixed = [
        ids,
        rows.audio_uri,
        identity.segment_versions(rows.source_version, start_s, end_s),
        rows.source_bytes,
        start_s,
        end_s,
        duration_s,
        sampling_rate,
        num_channels,
        *_members(rows),
        languages,
    ]
    own = [*storable(rows.own).columns, *captured.columns]
    names = own_names([*rows.own.column_names, *captured.column_names])
    own_fields = [pa.field(name, column.type) for name, column in zip(names, own, strict=True)]
    nothing = pa.nulls(len(rows.audio_uri), pa.string())
    refusal = [nothing if column is None else column for column in (rows.reason, rows.detail)]
    columns = pa.schema([*INVENTORY, REASON, DETAIL, *own_fields])
    return pa.Table.from_arrays([*fixed, *refusal, *own], schema=columns)


def _young(rows: Rows, min_age_s: float) -> np.ndarray:
    """(N,) whether the object was written just now. A date that far in the future is a wrong clock, no new object."""
    if rows.modified_s is None or not min_age_s:
        return np.zeros(len(rows.audio_uri), np.bool_)
    age_s = pc.abs(pc.subtract(rows.modified_s, time.time()))
    return pc.fill_null(pc.less(age_s, min_age_s), False).to_numpy(zero_copy_only=False)


def _members(rows: Rows) -> list[pa.Array]:
    columns = {name: getattr(rows, name) for name in ("container_uri", "container_part", "member_offset")}
    nothing = {name: pa.nulls(len(rows.audio_uri), INVENTORY.field(name).type) for name in columns}
    return [nothing[name] if column is None else column for name, column in columns.items()]


def _times(rows: Rows, section: SourceSection) -> tuple[Column, Column, Column]:
    """Start, end and announced duration of each utterance in s; null where not known."""
    start_s, end_s, offset_s, duration_s = (
        numbers.floats(rows.fields[field], field, section.uri, rows.first_row)
        if field in rows.fields
        else pa.nulls(len(rows.audio_uri), pa.float64())
        for field in ("start_s", "end_s", "offset_s", "duration_s")
    )
    if "offset_s" in rows.fields:  # NeMo's segments, from 0 on too; a row without one is a whole recording
        start_s, end_s = offset_s, pc.add(offset_s, _positive(duration_s))
    elif "end_s" not in rows.fields:
        end_s = pc.add(start_s, _positive(duration_s))
    announced_s = pc.coalesce(_positive(pc.subtract(end_s, start_s)), _positive(duration_s))
    return start_s, end_s, announced_s


def _positive(seconds: Column) -> Column:
    return pc.if_else(pc.and_(pc.is_finite(seconds), pc.greater(seconds, 0.0)), seconds, pa.scalar(None, pa.float64()))


def _headerless(rows: Rows, section: SourceSection) -> tuple[Column, Column]:
    """Sampling rate in Hz and number of channels of headerless PCM; null for all other files."""
    is_raw = pc.match_substring_regex(rows.audio_uri, _RAW)
    defaults = {"sampling_rate": section.raw_sampling_rate, "num_channels": section.raw_num_channels}
    nothing = pa.nulls(len(rows.audio_uri), pa.int32())
    if not pc.any(is_raw).as_py():
        return nothing, nothing
    announced: list[Column] = []
    for field, default in defaults.items():
        given = (
            numbers.integers(rows.fields[field], field, section.uri, rows.first_row)
            if field in rows.fields
            else nothing
        )
        announced.append(pc.if_else(is_raw, pc.coalesce(given, pa.scalar(default, pa.int32())), nothing))
    return announced[0], announced[1]
