"""A table with one utterance per row (CSV, TSV, JSON lines, Parquet) -> rows, with the state of their audio."""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from w2vb_ray import storage
from w2vb_ray.arrow import pc
from w2vb_ray.config.sections import SourceSection
from w2vb_ray.errors import RejectReason, SourceError
from w2vb_ray.source import columns, listed, listing, nemo, tabular
from w2vb_ray.source.access import not_found, readable
from w2vb_ray.source.rows import Column, Rows
from w2vb_ray.source.storable import storable
from w2vb_ray.source.unify import stack

_HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"


def read(section: SourceSection) -> Rows:
    """Read the manifest at `source.uri`: a file, a glob, or a folder of Parquet part files.

    Raises:
        SourceError: nothing there, a malformed file, no rows, or no column that names the audio.
    """
    place = listing.locate(section.uri, section.storage)
    files, num_skipped = files_of(place, section)
    table = stack([_read_part(uri, place.root, section.storage) for uri in files])
    if not table.num_rows:
        raise SourceError(f"`source.uri`: {section.uri} has no rows, in {len(files)} manifest file(s).")
    fields = columns.map_fields(table.column_names, section, section.uri)
    audio, refused = _audio_column(table, fields, section)
    return listed.to_rows(
        table,
        audio,
        section,
        folder=place.root,
        source_format=section.format if section.format == "nemo" else "manifest",
        fields=fields,
        refused=refused,
        num_skipped=num_skipped,
    )


def files_of(place: listing.Place, section: SourceSection) -> tuple[list[str], int]:
    """The files that make up a manifest, in the order of their names, and how many others were seen.

    Raises:
        SourceError: there is none, or they are those of a Delta table.
    """
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


def _audio_column(
    table: pa.Table, fields: Mapping[str, str], section: SourceSection
) -> tuple[Column, tuple[pa.Array, pa.Array] | None]:
    """Paths, and refusals of the rows that name several files."""
    if "audio" not in fields:
        usual = ", ".join(columns.USUAL_NAMES["audio"])
        raise SourceError(
            f"{section.uri} has no column for the audio: looked for {usual}, but it has "
            f"{', '.join(table.column_names)}; set `source.columns.audio`."
        )
    column = table[fields["audio"]]
    if pa.types.is_list(column.type) and pa.types.is_string(column.type.value_type):
        return _single_paths(column.to_pylist())
    if pa.types.is_null(column.type):
        return column, None
    if not pa.types.is_string(column.type):
        raise SourceError(
            f"Column `{fields['audio']}` of {section.uri} is {column.type}, not paths of audio files; "
            "set `source.columns.audio` (audio inside tables is not a manifest)."
        )
    if fields["audio"] == nemo.AUDIO and pc.any(pc.starts_with(column, "[")).as_py():
        return _single_paths([_from_json(path) for path in column.to_pylist()])
    return column, None


def _from_json(path: str | None) -> str | list[Any] | None:
    """A list that stands as JSON text, because other rows of its column hold a path."""
    try:
        found = json.loads(path or "")
    except ValueError:
        return path
    return found if isinstance(found, list) else path


def _single_paths(values: list[Any]) -> tuple[pa.Array, tuple[pa.Array, pa.Array]]:
    """NeMo names the channels of one recording as a list of files; a list of one is that file."""
    paths: list[str | None] = []
    details: list[str | None] = []
    for value in values:
        several = isinstance(value, list) and len(value) > 1
        single = value[0] if isinstance(value, list) and len(value) == 1 else value
        paths.append(single if isinstance(single, str) else None)
        details.append(f"one file per channel is not read: {json.dumps(value)}" if several else None)
    reasons = [None if detail is None else str(RejectReason.UNDECODABLE) for detail in details]
    return pa.array(paths, pa.string()), (pa.array(reasons, pa.string()), pa.array(details, pa.string()))
