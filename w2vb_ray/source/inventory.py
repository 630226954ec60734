"""Rows of any reader -> the inventory: ids, languages, segments, types and names settled, in one place."""

import pyarrow as pa

from w2vb_ray.arrow import pc
from w2vb_ray.config.sections import SourceSection
from w2vb_ray.schema import INVENTORY
from w2vb_ray.source import identity, language, numbers
from w2vb_ray.source.columns import own_names
from w2vb_ray.source.rows import Column, Inventory, Rows
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
        *_members(rows),
        languages,
    ]
    own = [*storable(rows.own).columns, *captured.columns]
    names = own_names([*rows.own.column_names, *captured.column_names])
    own_fields = [pa.field(name, column.type) for name, column in zip(names, own, strict=True)]
    table = pa.Table.from_arrays([*fixed, *own], schema=pa.schema([*INVENTORY, *own_fields]))
    return Inventory(table, rows.num_skipped, rows.format, duplicates)


def _members(rows: Rows) -> list[pa.Array]:
    columns = {name: getattr(rows, name) for name in ("container_uri", "container_part", "member_offset")}
    nothing = {name: pa.nulls(len(rows.audio_uri), INVENTORY.field(name).type) for name in columns}
    return [nothing[name] if column is None else column for name, column in columns.items()]


def _times(rows: Rows, section: SourceSection) -> tuple[Column, Column, Column]:
    """Start, end and announced duration of each utterance in s; null where not known."""
    start_s, end_s, offset_s, duration_s = (
        numbers.floats(rows.fields[field], field, section.uri)
        if field in rows.fields
        else pa.nulls(len(rows.audio_uri), pa.float64())
        for field in ("start_s", "end_s", "offset_s", "duration_s")
    )
    if pc.any(pc.greater(offset_s, 0.0)).as_py():
        # NeMo's segments. Zeros alone are whole recordings, whose rounded duration must not cut them.
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
        given = numbers.integers(rows.fields[field], field, section.uri) if field in rows.fields else nothing
        announced.append(pc.if_else(is_raw, pc.coalesce(given, pa.scalar(default, pa.int32())), nothing))
    return announced[0], announced[1]
