"""A table with one utterance per row (CSV, TSV, JSON lines, Parquet) -> rows, with the state of their audio.

Read piece by piece; columns have the types that they have in all of it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from w2vb_ray import storage
from w2vb_ray.arrow import pc
from w2vb_ray.config.sections import SourceSection
from w2vb_ray.errors import SourceError
from w2vb_ray.source import columns, inventory, listing, paths, tabular, versions
from w2vb_ray.source.access import not_found, readable
from w2vb_ray.source.rows import Pieces, Rows, flat
from w2vb_ray.source.storable import as_text, storable, storable_schema
from w2vb_ray.source.unify import common_types, conform

_HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"


def read(section: SourceSection) -> Pieces:
    """Read the manifest at `source.uri`: a file, a glob, or a folder of Parquet part files.

    Raises:
        SourceError: nothing there, a malformed file, no rows, or no column that names the audio.
    """
    place = listing.locate(section.uri, section.storage)
    files, num_skipped = _files(place, section)
    manifest = _Manifest(section, place.root, [_Part.open(uri, place.root, section.storage) for uri in files])
    if not any(table.num_rows for table in manifest.tables()):
        raise SourceError(f"`source.uri`: {section.uri} has no rows, in {len(files)} manifest file(s).")
    manifest.check_audio()
    return Pieces(manifest.rows, manifest.has_offsets(), num_skipped, "manifest")


@dataclass(frozen=True)
class _Part:
    """One file, with the columns that its `name=value` folders stand for."""

    blocks: tabular.Blocks
    folders: Mapping[str, str | None]
    stored: pa.Schema

    @classmethod
    def open(cls, uri: str, root: str, options: Mapping[str, Any]) -> "_Part":
        blocks = tabular.open_blocks(uri, options)
        stored = storable_schema(blocks.schema, blocks.read)
        folders: dict[str, str | None] = {}
        for folder in uri[len(root) :].split("/")[:-1]:
            name, equals, value = folder.partition("=")
            if equals and name not in stored.names:
                folders[name] = None if value == _HIVE_NULL else unquote(value)
        return cls(blocks, folders, stored)

    @property
    def schema(self) -> pa.Schema:
        return pa.schema([*self.stored, *(pa.field(name, pa.string()) for name in self.folders)])

    def tables(self, columns: list[str]) -> Iterator[pa.Table]:
        """Blocks with those of the columns that it has; none where it has none of them."""
        names = [name for name in self.stored.names if name in columns]
        if not names:
            return
        stored = pa.schema([self.stored.field(name) for name in names])
        for block in self.blocks.read(names if names != self.stored.names else None):
            table = storable(block.select(names), stored)
            for name, value in self.folders.items():
                table = table.append_column(name, pa.repeat(pa.scalar(value, pa.string()), block.num_rows))
            yield table


class _Manifest:
    """All parts as one table, read piece by piece."""

    def __init__(self, section: SourceSection, root: str, parts: list[_Part]) -> None:
        self._section = section
        self._root = root
        self._parts = parts
        self._columns = common_types(part.schema for part in parts)

    @cached_property
    def _fields(self) -> dict[str, str]:
        return columns.map_fields(self._columns.names, self._section, self._section.uri)

    def tables(self, names: list[str] | None = None) -> Iterator[pa.Table]:
        """Pieces of some thousand rows, all columns unless named, each with all of them in their common types."""
        names = self._columns.names if names is None else names
        wanted = pa.schema([self._columns.field(name) for name in names])
        waiting: list[pa.Table] = []  # parts may be many and small
        for part in self._parts:
            for table in part.tables(names):
                waiting.append(conform(table, wanted))
                if sum(waiting_table.num_rows for waiting_table in waiting) >= tabular.BLOCK_ROWS:
                    yield pa.concat_tables(waiting)
                    waiting = []
        if waiting:
            yield pa.concat_tables(waiting)

    def check_audio(self) -> None:
        """Raise SourceError unless a column names audio files."""
        uri, fields = self._section.uri, self._fields
        if "audio" not in fields:
            usual = ", ".join(columns.USUAL_NAMES["audio"])
            raise SourceError(
                f"{uri} has no column for the audio: looked for {usual}, but it has "
                f"{', '.join(self._columns.names)}; set `source.columns.audio`."
            )
        dtype = self._columns.field(fields["audio"]).type
        if not (pa.types.is_string(dtype) or pa.types.is_null(dtype)):
            raise SourceError(
                f"Column `{fields['audio']}` of {uri} is {dtype}, not paths of audio files; "
                "set `source.columns.audio` (audio inside tables is not a manifest)."
            )

    def has_offsets(self) -> bool:
        """Whether an offset above zero stands in any row: all of the column is read only where there is none."""
        name, num_rows = self._fields.get("offset_s"), 0
        for table in self.tables([name]) if name is not None else ():
            if inventory.has_offsets({"offset_s": table[name]}, self._section, num_rows):
                return True
            num_rows += table.num_rows
        return False

    def rows(self) -> Iterator[Rows]:
        """Everything, with the state of the audio as it is now."""
        audio, num_rows = versions.Versions(self._section.storage), 0
        for table in self.tables():
            audio_uri = paths.resolve(table[self._fields["audio"]], self._root)
            source_bytes, source_version = _versions(audio_uri, table, self._fields, audio)
            yield Rows(
                audio_uri=audio_uri,
                source_bytes=source_bytes,
                source_version=source_version,
                fields={field: table[name] for field, name in self._fields.items()},
                own=columns.own_columns(table, self._fields),
                root=self._root,
                num_skipped=0,
                format="manifest",
                first_row=num_rows,
            )
            num_rows += table.num_rows
        audio.check()


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


def _versions(
    audio_uri: pa.Array, table: pa.Table, fields: Mapping[str, str], audio: versions.Versions
) -> tuple[pa.Array, pa.Array]:
    """Sizes and versions; objects whose version the manifest gives are not looked at."""
    if "source_version" not in fields:
        return audio.stat(audio_uri)
    given = flat(pc.fill_null(as_text(table[fields["source_version"]]), ""))
    absent = pc.equal(given, "")
    source_bytes = pa.repeat(pa.scalar(versions.UNKNOWN_BYTES, pa.int64()), len(audio_uri))
    if not pc.any(absent).as_py():
        return source_bytes, given
    looked_at = audio.stat(audio_uri.filter(absent))
    return pc.replace_with_mask(source_bytes, absent, looked_at[0]), pc.replace_with_mask(given, absent, looked_at[1])
