"""`metadata.csv` (`.tsv`, `.jsonl`, `.parquet`) beside audio, as in the Hub's AudioFolder: rows by `file_name`.

A file may have several rows (segments) or none. A row whose file is absent stays, for the pipeline to reject.
"""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from w2vb_ray.arrow import pc
from w2vb_ray.config.sections import SourceSection
from w2vb_ray.source import paths, tabular
from w2vb_ray.source.objects import OBJECT, Objects
from w2vb_ray.source.rows import flat
from w2vb_ray.source.storable import storable
from w2vb_ray.source.unify import stack

FILE_NAMES = frozenset({"metadata.csv", "metadata.tsv", "metadata.jsonl", "metadata.parquet"})
_KEY = "file_name"
_MARK = "\0"  # before our own column names, so that no column of a metadata file can have them


def read(uris: list[str], options: Mapping[str, Any]) -> tuple[pa.Array, pa.Table]:
    """The audio URI of every row of every metadata file, and the other columns.

    A file without a `file_name` column is someone else's (LJSpeech's has no header at all) and gives no rows.

    Raises:
        SourceError: a malformed file.
    """
    parts: list[pa.Table] = []
    for uri in sorted(uris):
        if _KEY in tabular.column_names(uri, options):
            table = storable(tabular.read(uri, options))
            audio_uri = paths.resolve(table[_KEY], uri.rpartition("/")[0])
            parts.append(table.drop_columns([_KEY]).add_column(0, _MARK, audio_uri))
    if not parts:
        return pa.array([], pa.string()), pa.table({})
    table = stack(parts)
    return flat(table[_MARK]), table.drop_columns([_MARK])


def join(files: pa.Table, audio_uri: pa.Array, details: pa.Table, section: SourceSection) -> tuple[pa.Table, pa.Table]:
    """One row per metadata row, and one per audio file that no metadata names; sorted by URI.

    Args:
        files: all visible files: the `OBJECT` columns and `is_audio`.
        audio_uri: (M,) of the metadata rows.
        details: their other columns.
        section: how to ask for files that were not listed, and which of them may be.

    Returns:
        The `OBJECT` columns, and the metadata columns (null for files without metadata).
    """
    unnamed = pc.invert(pc.is_in(files["audio_uri"], value_set=audio_uri))
    plain = files.filter(pc.and_(files["is_audio"], unnamed)).select(OBJECT.names)
    named = _objects(files, audio_uri, section)
    objects = pa.concat_tables([named, plain])
    nulls = [pa.nulls(plain.num_rows, field.type) for field in details.schema]
    columns = [pa.chunked_array([*column.chunks, rest]) for column, rest in zip(details.columns, nulls, strict=True)]
    order = pc.sort_indices(objects["audio_uri"])
    own = pa.table([column.take(order) for column in columns], names=details.column_names)
    return objects.take(order), own


def _objects(files: pa.Table, audio_uri: pa.Array, section: SourceSection) -> pa.Table:
    """The object of each metadata row: from the listing, or asked for (hidden, elsewhere, absent)."""
    where = pc.index_in(audio_uri, value_set=flat(files["audio_uri"]))
    objects = {name: flat(files[name]).take(where) for name in OBJECT.names} | {"audio_uri": audio_uri}
    unlisted = pc.is_null(where)
    if pc.any(unlisted).as_py():
        asked = Objects(section)
        looked_at = asked.look_up(audio_uri.filter(unlisted))
        asked.check()
        objects = {name: pc.replace_with_mask(objects[name], unlisted, flat(looked_at[name])) for name in objects}
    return pa.table(objects, schema=OBJECT)
