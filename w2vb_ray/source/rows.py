"""What a reader hands over: the fields it found by our names, and the source's own columns."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import pyarrow as pa

Column: TypeAlias = pa.Array | pa.ChunkedArray


@dataclass(frozen=True)
class Inventory:
    """Every utterance of a source, one row each."""

    table: pa.Table
    """`schema.INVENTORY`, then the source's own columns. Ids are unique; `source_bytes` is null where the object does
    not exist and -1 where its size is not known."""
    num_skipped: int
    """Files seen that are neither audio nor metadata."""
    format: str
    """`source.format`, `auto` resolved."""
    duplicates: pa.Array
    """Ids (as in `table`, `<id>#2`, …) of rows whose given id an earlier row has: the pipeline rejects them."""


@dataclass(frozen=True)
class Rows:
    """A source before ids, languages and types are settled. All columns have the same length."""

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
        return pa.array([uri if within is None else f"{within}/{uri[len(within) + 1 :]}" for uri, within in pairs])


def flat(column: Column) -> pa.Array:
    """The column as one array."""
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
