"""A Common Voice release (`<language>/validated.tsv` beside `<language>/clips/`) -> rows.

`source.uri` is one of its TSV files, a glob of them, a language's folder, or the folder of a whole release; of a
folder, `validated.tsv` is read. `clip_durations.tsv`, where there is one, says how long the clips are.
"""

from collections.abc import Mapping

import pyarrow as pa

from w2vb_ray import storage
from w2vb_ray.arrow import pc
from w2vb_ray.config.sections import SourceSection
from w2vb_ray.errors import SourceError
from w2vb_ray.source import columns, listed, listing, numbers, paths, tabular, versions
from w2vb_ray.source.access import readable
from w2vb_ray.source.peek import Peek
from w2vb_ray.source.rows import Rows, flat
from w2vb_ray.source.storable import storable
from w2vb_ray.source.unify import stack

CLIPS = "clips"
VALIDATED = "validated.tsv"
_COLUMNS = frozenset({"client_id", "path"})
_DURATIONS = "clip_durations.tsv"
_DURATION_S = "duration_s"


def recognises(peek: Peek) -> str | None:
    """By the columns of a TSV and the folder of clips beside it."""
    if peek.table is not None:
        beside = storage.join(peek.table.rpartition("/")[0], CLIPS)
        is_tsv = tabular.kind_of(peek.table) == "tsv" and peek.columns >= _COLUMNS
        return f"the columns client_id and path and {CLIPS}/ beside them" if is_tsv and peek.exists(beside) else None
    if peek.has(VALIDATED) and peek.has(CLIPS):
        return f"its {VALIDATED} and {CLIPS}/"
    for folder in peek.folders:
        if all(peek.exists(storage.join(folder, name)) for name in (VALIDATED, CLIPS)):
            return f"{VALIDATED} and {CLIPS}/ in {folder.rpartition('/')[2]}/"
    return None


def read(section: SourceSection) -> Rows:
    """Read the TSV files that `source.uri` names.

    Raises:
        SourceError: nothing there, a malformed file, or no rows.
    """
    place = listing.locate(section.uri, section.storage)
    files, num_skipped = _files(place, section)
    tables = [storable(tabular.read(uri, section.storage)) for uri in files]
    table = stack([_with_durations(table, uri, section) for table, uri in zip(tables, files, strict=True)])
    if not table.num_rows:
        raise SourceError(f"`source.uri`: {section.uri} has no rows, in {len(files)} file(s).")
    fields = columns.map_fields(table.column_names, section, section.uri)
    return listed.to_rows(
        table,
        pa.concat_arrays([_clips(table, fields, uri, section) for table, uri in zip(tables, files, strict=True)]),
        section,
        folder=place.root,
        source_format="common_voice",
        fields=fields,
        num_skipped=num_skipped,
    )


def _files(place: listing.Place, section: SourceSection) -> tuple[list[str], int]:
    """The TSV files to read, and how many others a glob found."""
    if place.literal:
        return [storage.normalise(section.uri)], 0
    if place.pattern is not None:
        found = sorted(entry.uri for entry in listing.walk(place, section.storage) if place.holds(entry.uri))
        files = [uri for uri in found if _COLUMNS.issubset(tabular.column_names(uri, section.storage))]
    else:
        found = files = _validated(place.root, section)
    if not files:
        raise SourceError(
            f"`source.uri`: {section.uri} is no Common Voice release: looked for {VALIDATED} in it and in its folders, "
            "and for TSV files with the columns client_id and path."
        )
    return files, len(found) - len(files)


def _validated(root: str, section: SourceSection) -> list[str]:
    """`validated.tsv` of the folder, or else of each folder in it."""
    fs = storage.filesystem(root, section.storage)
    with readable(root):
        entries = fs.ls(storage.fs_path(root, fs), detail=True)
    names = {entry["name"].rstrip("/").rpartition("/")[2]: entry["type"] for entry in entries}
    if VALIDATED in names:
        return [storage.join(root, VALIDATED)]
    folders = sorted(name for name, kind in names.items() if kind == "directory")
    candidates = [storage.join(root, name, VALIDATED) for name in folders]
    found = versions.stat(pa.array(candidates, pa.string()), section.storage).source_bytes
    return [uri for uri, size in zip(candidates, found.to_pylist(), strict=True) if size is not None]


def _with_durations(table: pa.Table, uri: str, section: SourceSection) -> pa.Table:
    """The table with `duration_s` of each clip, where the release tells it."""
    durations = storage.join(uri.rpartition("/")[0], _DURATIONS)
    known = not pc.all(pc.is_null(versions.stat(pa.array([durations]), section.storage).source_bytes)).as_py()
    if not known or "path" not in table.column_names or _DURATION_S in table.column_names:
        return table
    lengths = tabular.read(durations, section.storage)
    if not {"clip", "duration[ms]"} <= set(lengths.column_names):
        return table
    where = pc.index_in(flat(table["path"]), value_set=flat(lengths["clip"]))
    length_ms = flat(numbers.floats(lengths["duration[ms]"], "duration[ms]", durations))
    return table.append_column(_DURATION_S, pc.divide(length_ms.take(where), 1000.0))


def _clips(table: pa.Table, fields: Mapping[str, str], uri: str, section: SourceSection) -> pa.Array:
    """URIs of the clips of one file."""
    base = section.audio_root or storage.join(uri.rpartition("/")[0], CLIPS)
    if fields.get("audio") not in table.column_names:
        raise SourceError(f"{uri} has no column `path`, which a TSV of Common Voice has; set `source.columns.audio`.")
    return paths.resolve(table[fields["audio"]], storage.normalise(base))
