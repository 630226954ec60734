"""Tables with audio inside: Parquet as on the Hub (`struct<bytes, path>`, or plain binary), and `save_to_disk` folders.

Planning reads every column but the audio. A row's URI is `<file>#<row>`, from which its id is made unless a column
gives one. A row with a path and no bytes is a row of a manifest: its audio is what the path says. Binary columns other
than the audio are not carried.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, cast

import pyarrow as pa

from w2vb_ray import storage
from w2vb_ray.arrow import pc
from w2vb_ray.audio import table_cells
from w2vb_ray.audio.ranges import Ranges
from w2vb_ray.config.sections import SourceSection
from w2vb_ray.errors import AudioRejected, SourceError
from w2vb_ray.source import columns, listing, paths, shards
from w2vb_ray.source.access import not_found
from w2vb_ray.source.embedded import FALLBACK_ID, NO_ROWS, OBJECTS, Part, to_pieces
from w2vb_ray.source.listing import Entry
from w2vb_ray.source.objects import Objects
from w2vb_ray.source.peek import Peek
from w2vb_ray.source.rows import Pieces, flat
from w2vb_ray.source.unify import stack

DAMAGED = -1
"""Part of a file that could not be read when it was planned; reading looks again."""
STATE = "state.json"
_SUFFIXES = (".parquet", ".pq", ".arrow")


def recognises(peek: Peek) -> str | None:
    """By a column of audio in its (first) table, or by what `datasets` leaves in a folder."""
    if peek.uri.lower().endswith(".arrow"):
        return "the end of its name"
    if marks := sorted(peek.files & {STATE, "dataset_dict.json"}):
        return f"its {marks[0]}"
    table = peek.table if peek.place.pattern is not None else _first_table(peek)
    if table is None or not table.lower().endswith(_SUFFIXES):
        return None
    fs = storage.filesystem(table, peek.options)
    try:
        schema = table_cells.open_table(Ranges(fs, storage.fs_path(table, fs), "")).schema
    except AudioRejected:
        return None
    usual = columns.USUAL_NAMES["audio"]
    column = audio_column(schema, None)
    if column is None or (column.casefold() not in usual and any(name.casefold() in usual for name in schema.names)):
        return None  # a manifest, perhaps with pictures
    return f"the audio in its column {column}"


def _first_table(peek: Peek) -> str | None:
    for folder in (peek.uri, *peek.folders):
        if tables := sorted(name for name in peek.files_in(folder) if name.lower().endswith(_SUFFIXES)):
            return storage.join(folder, tables[0])
    return None


def read(section: SourceSection) -> Pieces:
    """Every row of the tables at `source.uri`: a file, a glob, a folder, or what `datasets` saved to disk.

    Raises:
        SourceError: nothing there, no table, or none with a column of audio.
    """
    place = listing.locate(section.uri, section.storage)
    files, num_skipped = _files(place, section)
    return to_pieces(
        parts(files, place.root, section),
        section,
        root=place.root,
        num_skipped=num_skipped,
        source_format="parquet",
    )


def parts(files: list[Entry], root: str, section: SourceSection) -> Iterator[Part]:
    """The rows of each file, in order."""
    return shards.in_threads(lambda entry: _index(entry, root, section), files)


def _files(place: listing.Place, section: SourceSection) -> tuple[list[Entry], int]:
    if place.literal:
        return shards.stat([storage.normalise(section.uri)], section), 0
    seen = list(listing.walk(place, section.storage))
    if not seen:
        raise not_found(section.uri)
    meant = [entry for entry in seen if place.holds(entry.uri)]
    states = [entry.uri for entry in meant if entry.uri.endswith("/" + STATE)] if place.pattern is None else []
    saved = {uri for state in states for uri in _saved(state, section.storage)}
    tables = [entry for entry in meant if entry.uri.lower().endswith(_SUFFIXES) or entry.uri in saved]
    files = sorted(entry for entry in tables if not saved or entry.uri in saved)
    if missing := saved - {entry.uri for entry in files}:
        raise SourceError(f"`source.uri`: {min(missing)} is missing, which {STATE} beside it names.")
    if not files:
        raise SourceError(f"`source.uri`: {section.uri} holds no .parquet or .arrow, but {len(seen)} other file(s).")
    return files, len(meant) - len(files)


def _saved(state_uri: str, options: Mapping[str, Any]) -> list[str]:
    """The files that `datasets` says belong to a folder, so that its caches do not count."""
    fs = storage.filesystem(state_uri, options)
    try:
        state = json.loads(cast(bytes, fs.cat_file(storage.fs_path(state_uri, fs))))
        names = [str(file["filename"]) for file in state["_data_files"]]
    except (ValueError, KeyError, TypeError) as err:
        raise SourceError(f"{state_uri} is not the {STATE} of a dataset: {err!r}.") from err
    folder = state_uri.rpartition("/")[0]
    return [f"{folder}/{name.rpartition('/')[2]}" for name in names]


def audio_column(table: pa.Schema, asked: str | None) -> str | None:
    """The column of audio: the one asked for, else the usual names, else the only one of `struct<bytes, …>`."""
    inside = [field.name for field in table if table_cells.holds_audio(field.type)]
    if asked is not None:
        return asked if asked in inside else None
    usual = {name.casefold(): name for name in reversed(inside)}
    named = [usual[name] for name in columns.USUAL_NAMES["audio"] if name in usual]
    structs = [name for name in inside if pa.types.is_struct(table.field(name).type)]
    return next(iter([*named, *(structs if len(structs) == 1 else [])]), None)


def _index(entry: Entry, root: str, section: SourceSection) -> Part:
    found = [NO_ROWS]
    row = 0
    try:
        fs = storage.filesystem(entry.uri, section.storage)
        ranges = Ranges(fs, storage.fs_path(entry.uri, fs), entry.version)
        file = table_cells.open_table(ranges)
        audio = audio_column(file.schema, section.columns.get("audio"))
        if audio is None:
            return NO_ROWS._replace(num_skipped=1)
        for part in file.parts(audio):
            found.append(Part(_objects(entry, part, row, audio, root, section), _own(part)))
            row += part.num_rows
        ranges.check_version()
    except AudioRejected:  # reading will say what it is
        found.append(_damaged(entry))
    return Part(pa.concat_tables([part.objects for part in found]), stack([part.own for part in found]))


def _objects(
    entry: Entry, part: table_cells.Part, first: int, audio: str, root: str, section: SourceSection
) -> pa.Table:
    """The rows of a part, `first` being the number of its first row in the file."""
    rows = range(part.num_rows)
    objects = pa.table(
        [
            pa.array([f"{entry.uri}#{first + row}" for row in rows], pa.string()),
            pa.repeat(pa.scalar(part.cell_bytes, pa.int64()), part.num_rows),
            pa.repeat(entry.version, part.num_rows),
            pa.repeat(pa.scalar(entry.modified_s, pa.float64()), part.num_rows),
            *[pa.nulls(part.num_rows, pa.string())] * 2,
            pa.repeat(entry.uri, part.num_rows),
            pa.repeat(pa.scalar(part.address, pa.int64()), part.num_rows),
            pa.array(rows, pa.int64()),
        ],
        schema=OBJECTS,
    )
    name = f"{audio}_path"
    if part.is_null is None or name not in part.table.column_names:
        return objects
    elsewhere = pc.and_(part.is_null, pc.is_valid(part.table[name]))
    return _elsewhere(objects, flat(elsewhere), paths.resolve(part.table[name].filter(elsewhere), root), section)


def _elsewhere(objects: pa.Table, where: pa.Array, uris: pa.Array, section: SourceSection) -> pa.Table:
    """Rows whose audio is an object of its own."""
    if not len(uris):
        return objects
    found = Objects(section).look_up(uris)
    nothing = {name: pa.nulls(len(uris), OBJECTS.field(name).type) for name in OBJECTS.names}
    values = [flat(found[name]) if name in found.column_names else nothing[name] for name in OBJECTS.names]
    replaced = [
        pc.replace_with_mask(flat(objects[name]), where, value)
        for name, value in zip(OBJECTS.names, values, strict=True)
    ]
    return pa.table(replaced, schema=OBJECTS)


def _own(part: table_cells.Part) -> pa.Table:
    return part.table.append_column(FALLBACK_ID, pa.nulls(part.num_rows, pa.string()))


def _damaged(entry: Entry) -> Part:
    row: dict[str, Any] = {"audio_uri": entry.uri, "source_version": entry.version, "modified_s": entry.modified_s}
    if entry.num_bytes is not None:
        row |= {"container_uri": entry.uri, "container_part": DAMAGED, "member_offset": 0}
    return Part(pa.Table.from_pylist([row], OBJECTS), pa.table({FALLBACK_ID: pa.nulls(1, pa.string())}))
