"""Audio inside other objects (tars, tables) -> rows: what its readers share.

A container's version is the version of all its audio: neither a tar's headers nor a table's footer say whether the
bytes of one member are still the same.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from w2vb_ray.arrow import pc
from w2vb_ray.config.sections import SourceSection
from w2vb_ray.errors import SourceError
from w2vb_ray.schema import INVENTORY
from w2vb_ray.source import columns
from w2vb_ray.source.jsonl import tabulated
from w2vb_ray.source.listing import Entry
from w2vb_ray.source.objects import OBJECT
from w2vb_ray.source.rows import Column, Rows, flat
from w2vb_ray.source.storable import as_text, storable
from w2vb_ray.source.unify import stack

OBJECTS = pa.schema(
    [*OBJECT, *(INVENTORY.field(name) for name in ("container_uri", "container_part", "member_offset"))]
)
"""See `schema.INVENTORY`; `audio_uri` is `<container uri>#<name of the member, or number of the row>`."""

FALLBACK_ID = "\0id"
"""A column of ids for rows to which the source gives none. Every part has it: a table needs a column to have rows."""
_OF_THE_ORIGINAL = ("start_s", "end_s", "offset_s")


class Part(NamedTuple):
    """What one container holds: (N) rows of `OBJECTS`, (N) of its own columns and `FALLBACK_ID`, what was passed by."""

    objects: pa.Table
    own: pa.Table
    num_skipped: int = 0


class MemberRow(NamedTuple):
    """An utterance in a tar. Offset None: the member is no regular file. Size None: there is none, because the tar is
    damaged at the offset, or (both None) missing.

    `fallback_id` is the id of a row to which `columns` give none.
    """

    audio_uri: str
    num_bytes: int | None
    offset: int | None
    columns: Mapping[str, Any] = {}
    fallback_id: str | None = None


def part_of_tar(entry: Entry, rows: Sequence[MemberRow], num_skipped: int = 0) -> Part:
    """Rows of one tar as a part."""
    is_missing = [row.num_bytes is None and row.offset is None for row in rows]
    objects = pa.table(
        [
            pa.array([row.audio_uri for row in rows], pa.string()),
            pa.array([row.num_bytes for row in rows], pa.int64()),
            pa.array(["" if missing else entry.version for missing in is_missing], pa.string()),
            pa.repeat(pa.scalar(entry.modified_s, pa.float64()), len(rows)),
            *[pa.nulls(len(rows), pa.string())] * 2,
            pa.array([None if missing else entry.uri for missing in is_missing], pa.string()),
            pa.nulls(len(rows), pa.int64()),
            pa.array([row.offset for row in rows], pa.int64()),
        ],
        schema=OBJECTS,
    )
    own = stack(list(tabulated({FALLBACK_ID: row.fallback_id, **row.columns} for row in rows)))
    return Part(objects, own, num_skipped)


def to_rows(parts: Iterable[Part], section: SourceSection, *, root: str, num_skipped: int, source_format: str) -> Rows:
    """Parts one below the other.

    Times in a container are those of the longer recording that a clip was cut from, more often than not: they make
    segments only where `source.columns` names them.

    Raises:
        SourceError: no audio in any of them, or a column that is asked for and not there.
    """
    parts = list(parts)
    objects = pa.concat_tables([OBJECTS.empty_table(), *(part.objects for part in parts)])
    num_skipped += sum(part.num_skipped for part in parts)
    if not objects.num_rows:
        raise SourceError(
            f"`source.uri`: {section.uri} holds no audio: looked into {len(parts)} file(s), and saw {num_skipped} "
            "other members or files; `source.columns.audio` names its column (in a table) or suffix (in a tar)."
        )
    own = stack([storable(part.own) for part in parts])
    fallback, own = own[FALLBACK_ID], own.drop_columns([FALLBACK_ID])
    given = {field: name for field, name in section.columns.items() if field != "audio"}
    fields = columns.map_fields(own.column_names, section.model_copy(update={"columns": given}), section.uri)
    for field in ("audio", "source_version", *(name for name in _OF_THE_ORIGINAL if name not in given)):
        fields.pop(field, None)
    found = {field: own[name] for field, name in fields.items()}
    if fallback.null_count < len(fallback):
        found["utterance_id"] = _filled(found.get("utterance_id"), fallback)
    return Rows(
        **{name: flat(objects[name]) for name in OBJECTS.names},
        fields=found,
        own=columns.own_columns(own, fields),
        root=root,
        num_skipped=num_skipped,
        format=source_format,
    )


def _filled(given: Column | None, fallback: Column) -> Column:
    if given is None:
        return fallback
    texts = as_text(given)
    return pc.if_else(pc.equal(pc.utf8_trim_whitespace(pc.fill_null(texts, "")), ""), fallback, texts)
