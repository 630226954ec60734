"""Which column of a manifest is which field, and what the source's own columns are called in our tables."""

import difflib
import re
from collections.abc import Iterable, Mapping

import pyarrow as pa

from w2vb_ray.config.sections import SourceSection
from w2vb_ray.errors import SourceError
from w2vb_ray.schema import RESERVED_COLUMNS

USUAL_NAMES: dict[str, tuple[str, ...]] = {
    "audio": ("audio_uri", "audio", "path", "file_name", "audio_filepath", "uri", "file", "wav", "filename"),
    "utterance_id": ("utterance_id", "id", "utt_id"),
    "language": ("language", "lang", "locale"),
    "start_s": ("start_s", "start"),
    "end_s": ("end_s", "end"),
    "duration_s": ("duration_s", "duration"),
    "offset_s": ("offset",),
    "source_version": ("source_version",),
    "sampling_rate": ("sampling_rate", "sample_rate"),
    "num_channels": ("num_channels", "channels"),
}
SHARED_FIELDS = frozenset({"sampling_rate", "num_channels"})
"""Fields that only headerless files need, so their columns stay the source's own too."""

COLUMN = "column:"
"""How `source.language` names a column."""

_LAYER = re.compile(r"(embedding|frames)_layer_\d+")


def map_fields(names: list[str], section: SourceSection, uri: str) -> dict[str, str]:
    """Field -> column: from `source.language` and `source.columns`, then by the usual names whatever their case.

    A language that does not come from a column leaves the `language` column to the source.

    Raises:
        SourceError: a key names an unknown field, or a column that is not there.
    """
    given = {f"source.columns.{field}": (field, name) for field, name in section.columns.items()}
    usual = dict(USUAL_NAMES)
    if section.language is not None:
        given.pop("source.columns.language", None)
        usual.pop("language")
        if section.language.startswith(COLUMN):
            given["source.language"] = ("language", section.language.removeprefix(COLUMN))
    for key, (field, name) in given.items():
        if field not in USUAL_NAMES:
            raise SourceError(f"`{key}` is no field; fields are {', '.join(USUAL_NAMES)}.")
        if name not in names:
            raise SourceError(f"`{key}` asks for column `{name}`, but {uri} has {no_such_column(name, names)}")
    found = dict(given.values())
    free = {name.strip().casefold(): name for name in reversed(names) if name not in found.values()}
    for field, candidates in usual.items():
        if field not in found and (name := _first(candidates, free)) is not None:
            found[field] = name
    if "start_s" in found or "end_s" in found:
        found.pop("offset_s", None)
    return found


def _first(usual: Iterable[str], free: Mapping[str, str]) -> str | None:
    return next((free[name] for name in usual if name in free), None)


def no_such_column(name: str, names: Iterable[str]) -> str:
    """The end of an error message: the nearest name, and all names."""
    names = list(names)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean `{near[0]}`?" if near else "."
    return f"none{hint} Columns: {', '.join(names) or 'none'}."


def own_columns(table: pa.Table, fields: Mapping[str, str]) -> pa.Table:
    """The columns that no field took (and those that are shared with one), under their own names."""
    taken = {name for field, name in fields.items() if field not in SHARED_FIELDS or name in RESERVED_COLUMNS}
    return table.select([number for number, name in enumerate(table.column_names) if name not in taken])


def own_names(names: list[str]) -> list[str]:
    """Names of the source's own columns in our tables.

    A name that a fixed column or an earlier own column has, whatever the case, becomes `source_<name>`; a column
    without a name becomes `column_<number>`.
    """
    used = {name.casefold() for name in RESERVED_COLUMNS}
    result: list[str] = []
    for number, name in enumerate(names, start=1):
        free = name if name.strip() else f"column_{number}"
        while free.casefold() in used or _LAYER.fullmatch(free.casefold()):
            free = f"source_{free}"
        used.add(free.casefold())
        result.append(free)
    return result
