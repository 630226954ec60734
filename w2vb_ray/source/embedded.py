"""Audio inside other objects (tars, tables) -> rows: what its readers share.

A container's version is the version of all its audio: neither a tar's headers nor a table's footer say whether the
bytes of one member are still the same.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from w2vb_ray.source.rows import Column, Pieces, Rows, flat
from w2vb_ray.source.spill import Spill
from w2vb_ray.source.storable import as_text, storable, storable_type
from w2vb_ray.source.unify import common_types, conform, stack

OBJECTS = pa.schema(
    [*OBJECT, *(INVENTORY.field(name) for name in ("container_uri", "container_part", "member_offset"))]
)
"""See `schema.INVENTORY`; `audio_uri` is `<container uri>#<name of the member, or number of the row>`."""

FALLBACK_ID = "\0id"
"""A column of ids for rows to which the source gives none. Every part has it: a table needs a column to have rows."""
_PIECE_ROWS = 65_536
_OF_THE_ORIGINAL = ("start_s", "end_s", "offset_s")


class Part(NamedTuple):
    """What one container holds: (N) rows of `OBJECTS`, (N) of its own columns and `FALLBACK_ID`, what was passed by."""

    objects: pa.Table
    own: pa.Table
    num_skipped: int = 0


NO_ROWS = Part(OBJECTS.empty_table(), pa.table({FALLBACK_ID: pa.array([], pa.string())}))


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
    if not rows:
        return NO_ROWS._replace(num_skipped=num_skipped)
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


def to_pieces(
    parts: Iterable[Part], section: SourceSection, *, root: str, num_skipped: int, source_format: str
) -> Pieces:
    """Parts one below the other. They are taken once, and set aside on disk.

    Times in a container are those of the longer recording that a clip was cut from, more often than not: they make
    segments only where `source.columns` names them.

    Raises:
        SourceError: no audio in any of them, or a column that is asked for and not there.
    """
    seen = _Seen()
    spill = Spill(table for part in parts for table in seen.tables(part))
    num_skipped += seen.num_skipped
    if not seen.num_rows:
        raise SourceError(
            f"`source.uri`: {section.uri} holds no audio: looked into {seen.num_parts} file(s), and saw {num_skipped} "
            "other members or files; `source.columns.audio` names its column (in a table) or suffix (in a tar)."
        )
    types = pa.schema([pa.field(column.name, storable_type(column.type)) for column in common_types(seen.schemas)])
    names = [name for name in types.names if name != FALLBACK_ID]
    fields = _fields(names, section)

    def read() -> Iterator[Rows]:
        num_rows = 0
        for objects, own in _piled(spill.read(), types):
            found = {field: own[name] for field, name in fields.items()}
            if seen.has_fallback_ids:
                found["utterance_id"] = _filled(found.get("utterance_id"), own[FALLBACK_ID])
            rows = Rows(
                **{name: flat(objects[name]) for name in OBJECTS.names},
                fields=found,
                own=columns.own_columns(own.select(names), fields),
                root=root,
                num_skipped=0,
                format=source_format,
                first_row=num_rows,
            )
            for start in range(0, objects.num_rows, _PIECE_ROWS):
                yield rows.slice(start, _PIECE_ROWS)
            num_rows += objects.num_rows

    return Pieces(read, num_skipped, source_format)


class _Seen:
    """What is known once all parts have passed."""

    def __init__(self) -> None:
        self.num_parts = self.num_rows = self.num_skipped = 0
        self.has_fallback_ids = False
        self.schemas: dict[pa.Schema, None] = {}

    def tables(self, part: Part) -> tuple[pa.Table, pa.Table]:
        """Both tables of a part, in types that can be stored."""
        own = part.own  # a column of nulls stays without a type, which another part may have
        if typed := [column.name for column in own.schema if not pa.types.is_null(column.type)]:
            stored = storable(own.select(typed))
            own = pa.table({name: (stored if name in typed else own)[name] for name in own.column_names})
        self.num_parts += 1
        self.num_rows += part.objects.num_rows
        self.num_skipped += part.num_skipped
        self.has_fallback_ids |= own[FALLBACK_ID].null_count < part.own.num_rows
        self.schemas[own.schema] = None
        return part.objects, own


def _fields(names: list[str], section: SourceSection) -> dict[str, str]:
    given = {field: name for field, name in section.columns.items() if field != "audio"}
    fields = columns.map_fields(names, section.model_copy(update={"columns": given}), section.uri)
    unwanted = {"audio", "source_version", *(name for name in _OF_THE_ORIGINAL if name not in given)}
    return {field: name for field, name in fields.items() if field not in unwanted}


def _piled(tables: Iterator[pa.Table], types: pa.Schema) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Parts together, up to some thousand rows: there may be many small ones."""
    waiting: list[tuple[pa.Table, pa.Table]] = []
    for objects in tables:
        waiting.append((objects, conform(next(tables), types)))
        if sum(objects.num_rows for objects, _ in waiting) >= _PIECE_ROWS:
            yield _joined(waiting)
            waiting = []
    if waiting:
        yield _joined(waiting)


def _joined(pairs: list[tuple[pa.Table, pa.Table]]) -> tuple[pa.Table, pa.Table]:
    return pa.concat_tables([objects for objects, _ in pairs]), pa.concat_tables([own for _, own in pairs])


def _filled(given: Column | None, fallback: Column) -> Column:
    if given is None:
        return fallback
    texts = as_text(given)
    return pc.if_else(pc.equal(pc.utf8_trim_whitespace(pc.fill_null(texts, "")), ""), fallback, texts)
