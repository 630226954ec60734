"""Rows of any reader -> the inventory: ids, languages, segments, types and names settled, in one place.

An inventory comes in batches, so that ten million utterances need no more memory than their keys.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pyarrow as pa

from w2vb_ray.arrow import pc
from w2vb_ray.config.sections import SourceSection
from w2vb_ray.schema import INVENTORY
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
    """`schema.INVENTORY`, then the source's own columns. Ids are unique in the whole source; `source_bytes` is null
    where the object does not exist and -1 where its size is not known."""
    keys: Keys
    """Of the ids."""
    repeated: bool = False
    """Whether these are rows whose given id an earlier row has; their ids are `<id>#2`, …; the pipeline rejects
    them."""

    @classmethod
    def of(cls, table: pa.Table, *, repeated: bool = False) -> "Batch":
        """A batch of these rows."""
        return cls(table, Keys.of(table["utterance_id"]), repeated)

    def take(self, rows: np.ndarray) -> "Batch":
        """Some of its rows, by their positions."""
        return Batch(self.table.take(pa.array(rows)), self.keys.take(rows), self.repeated)


@dataclass(frozen=True)
class Inventory:
    """Every utterance of a source, one row each."""

    source: Rows | Pieces
    section: SourceSection
    num_skipped: int
    """Files seen that are neither audio nor metadata."""
    format: str
    """`folder` or `manifest`."""

    def batches(self) -> Iterator[Batch]:
        """All rows, those with repeated ids last; a source that was not read whole is read again by each call.

        Raises:
            SourceError: a segment bound or duration that is no number, or a malformed piece of the source.
            ConfigError: a malformed path template.
        """
        repeats = identity.Repeats()
        waiting: list[pa.Table] = []
        for table in self._tables():
            batch = Batch.of(table)
            repeated = repeats.repeated(batch.keys)
            if repeated.any():
                waiting.append(table.filter(pa.array(repeated)))
                batch = batch.take(np.flatnonzero(~repeated))
            yield batch
        if waiting:
            table = pa.concat_tables(waiting)
            ids = repeats.rename(table["utterance_id"])
            table = table.set_column(0, INVENTORY.field(0), ids)
            for start in range(0, table.num_rows, BATCH_ROWS):
                yield Batch.of(table.slice(start, BATCH_ROWS), repeated=True)

    def _tables(self) -> Iterator[pa.Table]:
        if isinstance(self.source, Pieces):
            for rows in self.source.read():
                yield assemble(rows, self.section, offsets=self.source.offsets)
            return
        rows = replace(self.source, own=storable(self.source.own))  # types must not differ between slices
        offsets = has_offsets(rows.fields, self.section)
        for start in range(0, max(1, len(rows.audio_uri)), BATCH_ROWS):
            yield assemble(rows.slice(start, BATCH_ROWS), self.section, offsets=offsets)

    @cached_property
    def table(self) -> pa.Table:
        """All batches in one: for sources that are known to be small."""
        return pa.concat_tables([batch.table for batch in self.batches()])

    @cached_property
    def duplicates(self) -> pa.ChunkedArray:
        """The new ids of the rows whose given id an earlier row has."""
        ids = [batch.table["utterance_id"] for batch in self.batches() if batch.repeated]
        return pa.chunked_array([chunk for column in ids for chunk in column.chunks], pa.string())


def assemble(rows: Rows, section: SourceSection, *, offsets: bool) -> pa.Table:
    """Settle everything that does not depend on where the rows come from; ids may still repeat.

    Args:
        rows: some or all rows of the source.
        section: how to read them.
        offsets: whether an offset above zero stands in any row of the source.

    Raises:
        SourceError: a segment bound or duration that is no number.
        ConfigError: a malformed path template.
    """
    start_s, end_s, duration_s = _times(rows, section, offsets)
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
        languages,
    ]
    own = [*storable(rows.own).columns, *captured.columns]
    names = own_names([*rows.own.column_names, *captured.column_names])
    own_fields = [pa.field(name, column.type) for name, column in zip(names, own, strict=True)]
    return pa.Table.from_arrays([*fixed, *own], schema=pa.schema([*INVENTORY, *own_fields]))


def has_offsets(fields: Mapping[str, Column], section: SourceSection, first_row: int = 0) -> bool:
    """Whether an offset above zero stands in these rows."""
    if "offset_s" not in fields:
        return False
    return bool(pc.any(pc.greater(numbers.floats(fields["offset_s"], "offset_s", section.uri, first_row), 0.0)).as_py())


def _times(rows: Rows, section: SourceSection, offsets: bool) -> tuple[Column, Column, Column]:
    """Start, end and announced duration of each utterance in s; null where not known."""
    start_s, end_s, offset_s, duration_s = (
        numbers.floats(rows.fields[field], field, section.uri, rows.first_row)
        if field in rows.fields
        else pa.nulls(len(rows.audio_uri), pa.float64())
        for field in ("start_s", "end_s", "offset_s", "duration_s")
    )
    if offsets:  # NeMo's segments. Zeros alone are whole recordings, whose rounded duration must not cut them.
        start_s, end_s = offset_s, pc.add(offset_s, duration_s)
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
