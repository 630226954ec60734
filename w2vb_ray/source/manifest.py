"""A table with one utterance per row (CSV, TSV, JSON lines, Parquet) -> rows, with the state of their audio."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from w2vb_ray import storage
from w2vb_ray.arrow import pc
from w2vb_ray.config.sections import SourceSection
from w2vb_ray.errors import SourceError
from w2vb_ray.source import columns, listing, paths, tabular, versions
from w2vb_ray.source.access import not_found, readable
from w2vb_ray.source.rows import Rows, flat
from w2vb_ray.source.storable import as_text, storable
from w2vb_ray.source.unify import stack

_HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"


def read(section: SourceSection) -> Rows:
    """Read the manifest at `source.uri`: a file, a glob, or a folder of Parquet part files.

    Raises:
        SourceError: nothing there, a malformed file, no rows, or no column that names the audio.
    """
    place = listing.locate(section.uri, section.storage)
    files, num_skipped = _files(place, section)
    table = stack([_read_part(uri, place.root, section.storage) for uri in files])
    if not table.num_rows:
        raise SourceError(f"`source.uri`: {section.uri} has no rows, in {len(files)} manifest file(s).")
    fields = columns.map_fields(table.column_names, section, section.uri)
    audio_uri = paths.resolve(_audio_column(table, fields, section), place.root)
    source_bytes, source_version = _versions(audio_uri, table, fields, section.storage)
    return Rows(
        audio_uri=audio_uri,
        source_bytes=source_bytes,
        source_version=source_version,
        fields={field: table[name] for field, name in fields.items()},
        own=columns.own_columns(table, fields),
        root=place.root,
        num_skipped=num_skipped,
        format="manifest",
    )


def _files(place: listing.Place, section: SourceSection) -> tuple[list[str], int]:
    if place.literal:
        return [storage.normalise(section.uri)], 0
    if place.pattern is None:
        _refuse_delta(place.root, section.storage)
    uris = [entry.uri for entry in listing.walk(place, section.storage) if place.holds(entry.uri)]
    kinds = {"parquet"} if place.pattern is None else {"parquet", "csv", "tsv", "jsonl"}
    files = sorted(uri for uri in uris if tabular.kind_of(uri) in kinds)
    if files:
        return files, len(uris) - len(files)
    if not uris:
        raise not_found(section.uri)
    raise SourceError(
        f"`source.uri`: {section.uri} holds no manifest: looked for {', '.join(sorted(kinds))} files, "
        f"but saw {len(uris)} other file(s) such as {uris[0]}; name the file, or set `source.format: folder`."
    )


def _refuse_delta(root: str, options: Mapping[str, Any]) -> None:
    fs = storage.filesystem(root, options)
    with readable(root):
        is_delta = fs.exists(storage.fs_path(storage.join(root, "_delta_log"), fs))
    if is_delta:
        raise SourceError(
            f"`source.uri`: {root} is a Delta table, whose folder may hold deleted rows; export it to Parquet first."
        )


def _read_part(uri: str, root: str, options: Mapping[str, Any]) -> pa.Table:
    """One file, with the columns that its `name=value` folders stand for."""
    table = storable(tabular.read(uri, options))
    for folder in uri[len(root) :].split("/")[:-1]:
        name, equals, value = folder.partition("=")
        if equals and name not in table.column_names:
            text = None if value == _HIVE_NULL else unquote(value)
            table = table.append_column(name, pa.repeat(pa.scalar(text, pa.string()), table.num_rows))
    return table


def _audio_column(table: pa.Table, fields: Mapping[str, str], section: SourceSection) -> pa.ChunkedArray:
    if "audio" not in fields:
        usual = ", ".join(columns.USUAL_NAMES["audio"])
        raise SourceError(
            f"{section.uri} has no column for the audio: looked for {usual}, but it has "
            f"{', '.join(table.column_names)}; set `source.columns.audio`."
        )
    column = table[fields["audio"]]
    if pa.types.is_string(column.type) or pa.types.is_null(column.type):
        return column
    raise SourceError(
        f"Column `{fields['audio']}` of {section.uri} is {column.type}, not paths of audio files; "
        "set `source.columns.audio` (audio inside tables is not a manifest)."
    )


def _versions(
    audio_uri: pa.Array, table: pa.Table, fields: Mapping[str, str], options: Mapping[str, Any]
) -> tuple[pa.Array, pa.Array]:
    """Sizes and versions; objects whose version the manifest gives are not looked at."""
    if "source_version" not in fields:
        return versions.stat(audio_uri, options)
    given = flat(pc.fill_null(as_text(table[fields["source_version"]]), ""))
    absent = pc.equal(given, "")
    source_bytes = pa.repeat(pa.scalar(versions.UNKNOWN_BYTES, pa.int64()), len(audio_uri))
    if not pc.any(absent).as_py():
        return source_bytes, given
    looked_at = versions.stat(audio_uri.filter(absent), options)
    return pc.replace_with_mask(source_bytes, absent, looked_at[0]), pc.replace_with_mask(given, absent, looked_at[1])
