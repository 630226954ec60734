"""What a reader hands over: the fields it found by our names, and the source's own columns."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import pyarrow as pa

Column: TypeAlias = pa.Array | pa.ChunkedArray

REFUSED = pa.schema([("utterance_id", pa.string()), ("reason", pa.string()), ("detail", pa.string())])


@dataclass(frozen=True)
class Inventory:
    """Every utterance of a source, one row each."""

    table: pa.Table
    """`schema.INVENTORY`, then the source's own columns. Ids are unique; `source_bytes` is null where the object does
    not exist and -1 where its size is not known."""
    num_skipped: int
    """Files seen that are neither audio nor metadata."""
    format: str
    """What the source was read as."""
    duplicates: pa.Array
    """Ids (as in `table`, `<id>#2`, …) of rows whose given id an earlier row has: the pipeline rejects them."""
    refused: pa.Table = field(default_factory=REFUSED.empty_table)
    """`utterance_id`, `reason` and `detail` of the rows that are rejected before anything of them is read."""
    num_waiting: int = 0
    """Rows that are not in `table`, because their audio is younger than `source.min_age_s`."""


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
    modified_s: pa.Array | None = None
    """Unix time at which the object was last written; null where not known."""
    reason: pa.Array | None = None
    """Why the row cannot be embedded, where the source alone can tell; null where it cannot."""
    detail: pa.Array | None = None


def flat(column: Column) -> pa.Array:
    """The column as one array."""
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
