"""Rows of any reader -> the inventory: ids, languages, segments, types and names settled, in one place."""

import time

import pyarrow as pa

from w2vb_ray.arrow import pc
from w2vb_ray.config.sections import SourceSection
from w2vb_ray.schema import INVENTORY
from w2vb_ray.source import identity, language, numbers
from w2vb_ray.source.columns import own_names
from w2vb_ray.source.rows import REFUSED, Column, Inventory, Rows, flat
from w2vb_ray.source.storable import storable

_RAW = r"(?i)\.(raw|pcm)$"


def assemble(rows: Rows, section: SourceSection) -> Inventory:
    """Settle everything that does not depend on where the rows come from.

    Raises:
        SourceError: a segment bound or duration that is no number.
        ConfigError: a malformed path template.
    """
    start_s, end_s, duration_s = _times(rows, section)
    languages, captured = language.resolve(section.language, rows)
    given = rows.fields.get("utterance_id")
    ids, duplicates = identity.mark_duplicates(identity.utterance_ids(rows.audio_uri, start_s, end_s, given))
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
    table = pa.Table.from_arrays([*fixed, *own], schema=pa.schema([*INVENTORY, *own_fields]))
    refused = _refused(ids, rows)
    waiting = _young(rows, section.min_age_s)
    num_waiting = pc.sum(waiting).as_py() or 0
    if num_waiting:  # only now, so that ids that come twice stay with the same rows
        refused = refused.filter(pc.invert(pc.is_in(refused["utterance_id"], flat(ids).filter(waiting))))
        table = table.filter(pc.invert(waiting))
        duplicates = duplicates.filter(pc.is_in(duplicates, flat(table["utterance_id"])))
    return Inventory(table, rows.num_skipped, rows.format, duplicates, refused, num_waiting)


def _refused(ids: Column, rows: Rows) -> pa.Table:
    if rows.reason is None:
        return REFUSED.empty_table()
    return pa.table([flat(ids), rows.reason, rows.detail], schema=REFUSED).filter(pc.is_valid(rows.reason))


def _young(rows: Rows, min_age_s: float) -> pa.Array:
    """Rows whose object was written just now. A date that far in the future is a wrong clock, not a new object."""
    if rows.modified_s is None or not min_age_s:
        return pa.repeat(pa.scalar(False), len(rows.audio_uri))
    return pc.fill_null(pc.less(pc.abs(pc.subtract(rows.modified_s, time.time())), min_age_s), False)


def _times(rows: Rows, section: SourceSection) -> tuple[Column, Column, Column]:
    """Start, end and announced duration of each utterance in s; null where not known."""
    start_s, end_s, offset_s, duration_s = (
        numbers.floats(rows.fields[field], field, section.uri)
        if field in rows.fields
        else pa.nulls(len(rows.audio_uri), pa.float64())
        for field in ("start_s", "end_s", "offset_s", "duration_s")
    )
    if "offset_s" in rows.fields:  # NeMo's segments, at 0 too; a null offset is a whole recording
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
        given = numbers.integers(rows.fields[field], field, section.uri) if field in rows.fields else nothing
        announced.append(pc.if_else(is_raw, pc.coalesce(given, pa.scalar(default, pa.int32())), nothing))
    return announced[0], announced[1]
