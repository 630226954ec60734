"""A Common Voice release (`<language>/validated.tsv` beside `<language>/clips/`) -> rows.

`source.uri` is one of its TSV files, a glob of them, a language's folder, or the folder of a whole release; of a
folder, `validated.tsv` is read. `clip_durations.tsv`, where there is one, says how long the clips are.
"""

import pyarrow as pa

from w2vb_ray import storage
from w2vb_ray.arrow import pc
from w2vb_ray.config.sections import SourceSection
from w2vb_ray.errors import SourceError
from w2vb_ray.source import listed, listing, manifest, numbers, paths, tabular, versions
from w2vb_ray.source.access import readable
from w2vb_ray.source.peek import Peek
from w2vb_ray.source.rows import Pieces, flat

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


def read(section: SourceSection) -> Pieces:
    """Read the TSV files that `source.uri` names.

    Raises:
        SourceError: nothing there, a malformed file, or no rows.
    """
    return manifest.read(section, manifest.Dialect("common_voice", edit=_edit, files=_files))


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


def _edit(uri: str, section: SourceSection) -> manifest.Edit:
    """Blocks of one file with full URIs of its clips, and with `duration_s` where the release tells it."""
    folder = uri.rpartition("/")[0]
    base = listed.base_of(section, storage.join(folder, CLIPS))
    name = section.columns.get("audio", "path")
    durations = _durations(storage.join(folder, _DURATIONS), section)

    def edit(table: pa.Table) -> pa.Table:
        if name not in table.column_names:
            raise SourceError(f"{uri} has no column `{name}`, which names the clips; set `source.columns.audio`.")
        clips = flat(table[name])
        table = table.set_column(table.column_names.index(name), name, paths.resolve(clips, base))
        if durations is None or _DURATION_S in table.column_names:
            return table
        where = pc.index_in(clips, value_set=flat(durations["clip"]))
        return table.append_column(_DURATION_S, flat(durations[_DURATION_S]).take(where))

    return edit


def _durations(uri: str, section: SourceSection) -> pa.Table | None:
    """`clip` and `duration_s` of every clip; None where the release does not tell them."""
    if versions.stat(pa.array([uri]), section.storage).source_bytes[0].as_py() is None:
        return None
    table = tabular.read(uri, section.storage)
    if not {"clip", "duration[ms]"} <= set(table.column_names):
        return None
    length_s = pc.divide(numbers.floats(table["duration[ms]"], "duration[ms]", uri), 1000.0)
    return pa.table({"clip": table["clip"], _DURATION_S: length_s})
