"""A table with one utterance per row (CSV, TSV, JSON lines, Parquet) -> rows, with the state of their audio.

Read piece by piece; columns have the types that they have in all of it.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias
from urllib.parse import unquote

import pyarrow as pa

from w2vb_ray import storage
from w2vb_ray.config.sections import SourceSection
from w2vb_ray.errors import SourceError
from w2vb_ray.source import columns, jsonl, listed, listing, nemo, tabular
from w2vb_ray.source.access import not_found, readable
from w2vb_ray.source.objects import Refusals
from w2vb_ray.source.rows import Pieces, Rows, flat
from w2vb_ray.source.storable import as_text, storable, storable_schema
from w2vb_ray.source.unify import common_types, conform

REFUSAL = nemo.REFUSAL
_HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"


Edit: TypeAlias = Callable[[pa.Table], pa.Table]


@dataclass(frozen=True)
class Dialect:
    """How the manifests of one program differ from others."""

    name: str = "manifest"
    convert: jsonl.Convert = nemo.single_file
    """What to make of each object of JSON lines; `REFUSAL` are columns for rows that cannot be read."""
    edit: Callable[[str, SourceSection], Edit | None] = lambda _uri, _section: None
    """What to make of the blocks of one file, given its URI."""
    files: Callable[[listing.Place, SourceSection], tuple[list[str], int]] | None = None
    """The files to read and how many others were seen, where `files_of` does not find them."""
    elsewhere: str = ""
    """Where relative paths start for the program."""


PLAIN = Dialect()
NEMO = Dialect("nemo")


def read(section: SourceSection, dialect: Dialect = PLAIN) -> Pieces:
    """Read the manifest at `source.uri`: a file, a glob, or a folder of Parquet part files.

    Raises:
        SourceError: nothing there, a malformed file, no rows, or no column that names the audio.
    """
    place = listing.locate(section.uri, section.storage)
    files, num_skipped = (dialect.files or files_of)(place, section)
    manifest = _Manifest(section, place.root, [_Part.open(uri, place.root, section, dialect) for uri in files], dialect)
    if not any(table.num_rows for table in manifest.tables()):
        raise SourceError(f"`source.uri`: {section.uri} has no rows, in {len(files)} manifest file(s).")
    manifest.check_audio()
    return Pieces(manifest.rows, num_skipped, dialect.name)


@dataclass(frozen=True)
class _Part:
    """One file, with the columns that its `name=value` folders stand for."""

    blocks: tabular.Blocks
    folders: Mapping[str, str | None]
    stored: pa.Schema
    edit: Edit | None

    @classmethod
    def open(cls, uri: str, root: str, section: SourceSection, dialect: Dialect) -> "_Part":
        blocks = tabular.open_blocks(uri, section.storage, dialect.convert)
        stored = storable_schema(blocks.schema, blocks.read)
        folders: dict[str, str | None] = {}
        for folder in uri[len(root) :].split("/")[:-1]:
            name, equals, value = folder.partition("=")
            if equals and name not in stored.names:
                folders[name] = None if value == _HIVE_NULL else unquote(value)
        return cls(blocks, folders, stored, dialect.edit(uri, section))

    @cached_property
    def schema(self) -> pa.Schema:
        return self._complete(self.stored.empty_table()).schema

    def tables(self) -> Iterator[pa.Table]:
        for block in self.blocks.read():
            yield self._complete(storable(block, self.stored))

    def _complete(self, table: pa.Table) -> pa.Table:
        for name, value in self.folders.items():
            table = table.append_column(name, pa.repeat(pa.scalar(value, pa.string()), table.num_rows))
        return table if self.edit is None else self.edit(table)


class _Manifest:
    """All parts as one table, read piece by piece."""

    def __init__(self, section: SourceSection, root: str, parts: list[_Part], dialect: Dialect) -> None:
        self._section = section
        self._root = root
        self._parts = parts
        self._dialect = dialect
        self._columns = common_types(part.schema for part in parts)

    @cached_property
    def _fields(self) -> dict[str, str]:
        names = [name for name in self._columns.names if name not in REFUSAL]
        return columns.map_fields(names, self._section, self._section.uri)

    def tables(self) -> Iterator[pa.Table]:
        """Pieces of some thousand rows, each with all columns in their common types."""
        waiting: list[pa.Table] = []  # parts may be many and small
        for part in self._parts:
            for table in part.tables():
                waiting.append(conform(table, self._columns))
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

    def rows(self) -> Iterator[Rows]:
        """Everything, with the state of the audio as it is now."""
        found = listed.List(
            self._section, self._fields, self._root, self._dialect.name, elsewhere=self._dialect.elsewhere
        )
        refusal = [name for name in REFUSAL if name in self._columns.names]
        for table in self.tables():
            refused = Refusals(*(flat(as_text(table[name])) for name in refusal)) if refusal else None
            yield found.rows(table.drop_columns(refusal), table[self._fields["audio"]], refused)
        found.check()


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
