"""What a reader hands over: the fields it found by our names, and the source's own columns."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import TypeAlias

import pyarrow as pa

Column: TypeAlias = pa.Array | pa.ChunkedArray


@dataclass(frozen=True)
class Rows:
    """A source, or a piece of one, before ids, languages and types are settled. All columns have the same length."""

    audio_uri: pa.Array
    """Full URIs; empty where the source names no audio."""
    source_bytes: pa.Array
    source_version: pa.Array
    """Of the whole object; empty where it does not exist."""
    fields: Mapping[str, Column]
    """What `source.columns` or the usual names gave, by field, as the source has it."""
    own: pa.Table
    """The columns that no field took, as the source has them."""
    root: str
    """Where path templates start."""
    num_skipped: int
    format: str
    first_row: int = 0
    """How many rows of the source come before this piece; errors count rows."""
    modified_s: pa.Array | None = None
    """Unix time at which the object was last written; null where not known."""
    reason: pa.Array | None = None
    """Why the row cannot be embedded, where the source alone can tell; null where it cannot."""
    detail: pa.Array | None = None
    container_uri: pa.Array | None = None
    """Of audio inside other objects, with `container_part` and `member_offset`; see `schema.INVENTORY`."""
    container_part: pa.Array | None = None
    member_offset: pa.Array | None = None

    @property
    def paths(self) -> Column:
        """What path templates look at: the URIs, each container being the folder of its members."""
        if self.container_uri is None:
            return self.audio_uri
        pairs = zip(self.audio_uri.to_pylist(), self.container_uri.to_pylist(), strict=True)
        paths = [uri if within is None else f"{within}/{uri[len(within) + 1 :]}" for uri, within in pairs]
        return pa.array(paths, pa.string())

    def slice(self, start: int, length: int) -> "Rows":
        """Some of the rows."""
        columns = {
            field.name: column.slice(start, length)
            for field in fields(self)
            if isinstance(column := getattr(self, field.name), pa.Array | pa.ChunkedArray | pa.Table)
        }
        named = {field: column.slice(start, length) for field, column in self.fields.items()}
        return replace(self, **columns, fields=named, first_row=self.first_row + start)


@dataclass(frozen=True)
class Pieces:
    """A source that is too large for one `Rows`."""

    read: Callable[[], Iterator[Rows]]
    """Reads it from the beginning. Every piece has the same columns in the same types, which Delta Lake can hold."""
    num_skipped: int
    format: str


def flat(column: Column) -> pa.Array:
    """The column as one array."""
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
