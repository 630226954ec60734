"""What a request to forget means: which rows of which tables, and what must not come back."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import pyarrow as pa

from w2vb_ray import schema, storage
from w2vb_ray.arrow import pc
from w2vb_ray.config.maintain import ForgetSection, MaintainConfig
from w2vb_ray.embed.forgotten import ID, as_text, is_comparable
from w2vb_ray.embed.tables import FRAMES, REJECTS, UTTERANCES, Table
from w2vb_ray.errors import RejectReason, SinkError, SourceError
from w2vb_ray.maintain.scan import find_rows, ids_by_file
from w2vb_ray.source import build_inventory

URI = "audio_uri"
_FIXED = (ID, URI, "language")


@dataclass(frozen=True)
class Selection:
    """Rows to erase, and values that stay away.

    Args:
        column: the column that was asked for.
        values: its values.
        ids: of all rows that have one of them.
        uris: recordings of which every row goes.
        places: table -> file -> ids of its rows that go.
    """

    column: str
    values: set[str]
    ids: set[str] = field(default_factory=set[str])
    uris: set[str] = field(default_factory=set[str])
    places: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict[str, dict[str, list[str]]])

    @property
    def suppressed(self) -> dict[str, set[str]]:
        """Column -> values that no later run may embed."""
        suppressed = {ID: set(self.ids), URI: set(self.uris)}
        suppressed[self.column] = suppressed.get(self.column, set()) | self.values
        return suppressed


def select(config: MaintainConfig, tables: Mapping[str, Table]) -> Selection:
    """Look through the tables, and the source where only it knows the column of rejects.

    Raises:
        SinkError: no such column, or one whose values have no name.
        SourceError: the values cannot be read, or the source not listed.
    """
    column = _column(config.forget.column, tables[UTTERANCES])
    values = _values(config.forget)
    if column == URI:
        values |= {storage.normalise(value) for value in values}
    ids, uris, others = (
        _in_source(config, column, values) if column not in _FIXED else (set[str](), set[str](), set[str]())
    )
    places = {UTTERANCES: dict[str, list[str]]()}
    for file, rows in find_rows(tables[UTTERANCES], [ID, URI, column], lambda rows: _one_of(rows[column], values)):
        places[UTTERANCES][file.path] = rows[ID].to_pylist()
        ids.update(rows[ID].to_pylist())
        uris.update(rows[URI].to_pylist())
    if column == ID:
        ids, uris = ids | values, set()  # of this recording only the one utterance
    elif column == URI:
        uris = values
    else:
        uris -= others | _shared(tables[UTTERANCES], uris, ids)
    places[REJECTS] = ids_by_file(
        find_rows(
            tables[REJECTS], [ID, URI, "reason", "language"], lambda rows: _rejects(rows, column, values, ids, uris)
        )
    )
    ids |= {id_ for found in places[REJECTS].values() for id_ in found}
    places[FRAMES] = ids_by_file(find_rows(tables[FRAMES], [ID], lambda rows: _one_of(rows[ID], ids)))
    return Selection(column, values, ids, uris, places)


def _column(asked: str, utterances: Table) -> str:
    """The column as the table spells it."""
    own = [field for field in utterances.columns if field.name not in schema.RESERVED_COLUMNS]
    comparable = [field.name for field in own if is_comparable(field.type)]
    for name in (*_FIXED, *comparable):
        if name.lower() == asked.lower():
            return name
    raise SinkError(
        f"forget.column must be {', '.join(_FIXED)}, or a column of the source's own that holds text or whole numbers "
        f"({', '.join(comparable) or 'these tables have none'}), but is {asked!r}"
    )


def _values(section: ForgetSection) -> set[str]:
    values = set(section.values)
    if section.values_uri is not None:
        filesystem = storage.filesystem(section.values_uri, section.storage)
        try:
            content = cast(bytes, filesystem.cat_file(storage.fs_path(section.values_uri, filesystem)))
            text = content.decode("utf-8-sig")
        except (OSError, UnicodeDecodeError) as err:
            raise SourceError(
                f"forget.values_uri must be a text file in UTF-8, one value a line, but {section.values_uri!r} cannot "
                f"be read ({err})"
            ) from err
        values |= {line for line in text.splitlines() if line.strip()}
    return values


def _in_source(config: MaintainConfig, column: str, values: set[str]) -> tuple[set[str], set[str], set[str]]:
    """Ids and recordings that the source has under these values, and recordings of other rows."""
    if config.source is None:
        return set(), set(), set()
    try:
        rows = build_inventory(config.source).table
    except SourceError as err:
        raise SourceError(
            f"{err}. The source tells which rejects have a {column}; with source=null only what the embedded rows say "
            "is erased"
        ) from err
    name = next((name for name in rows.column_names if name.lower() == column.lower()), None)
    if name is None:
        return set(), set(), set()
    mask = _one_of(rows[name], values)
    found, others = rows.filter(mask), rows.filter(pc.invert(mask))
    return set(found[ID].to_pylist()), set(found[URI].to_pylist()), set(pc.unique(others[URI]).to_pylist())


def _shared(utterances: Table, uris: set[str], ids: set[str]) -> set[str]:
    """Which of the recordings also hold rows of other ids: somebody else speaks in them too."""
    found = find_rows(
        utterances, [ID, URI], lambda rows: pc.and_(_one_of(rows[URI], uris), pc.invert(_one_of(rows[ID], ids)))
    )
    return {uri for _, rows in found for uri in rows[URI].to_pylist()}


def _rejects(rows: pa.Table, column: str, values: set[str], ids: set[str], uris: set[str]) -> pa.Array:
    repeated = pc.equal(rows["reason"], str(RejectReason.DUPLICATE_ID))  # `<id>#2` stands for another row of the id
    bases = pc.replace_substring_regex(rows[ID], r"#\d+$", "")
    masks = [_one_of(rows[ID], ids), _one_of(rows[URI], uris), pc.and_(repeated, _one_of(bases, ids))]
    if column == "language":
        masks.append(_one_of(rows[column], values))
    return pc.or_(pc.or_(masks[0], masks[1]), pc.or_(masks[2], masks[-1]))


def _one_of(column: pa.ChunkedArray, values: Collection[str]) -> pa.Array:
    return pc.is_in(as_text(column), pa.array(list(values), pa.string()))
