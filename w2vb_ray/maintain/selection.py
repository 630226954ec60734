"""What a request to forget means: which rows of which tables, and what must not come back."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import pyarrow as pa

from w2vb_ray import schema, storage
from w2vb_ray.arrow import pc
from w2vb_ray.config.maintain import ForgetSection, MaintainConfig
from w2vb_ray.config.sections import SourceSection
from w2vb_ray.embed.forgotten import ID, as_text, is_comparable
from w2vb_ray.embed.tables import FRAMES, REJECTS, UTTERANCES, Table
from w2vb_ray.errors import RejectReason, SinkError, SourceError
from w2vb_ray.maintain.scan import find_rows, ids_by_file
from w2vb_ray.source import build_inventory

URI = "audio_uri"
_FIXED = (ID, URI, "language")


@dataclass(frozen=True)
class Request:
    """What is asked for, and what the source knows of it.

    Args:
        column: as the table spells it.
        values: to be forgotten.
        source_ids: ids that have one of them in the source.
        source_uris: their recordings.
        other_uris: recordings of other rows of the source.
    """

    column: str
    values: set[str]
    source_ids: set[str] = field(default_factory=set[str])
    source_uris: set[str] = field(default_factory=set[str])
    other_uris: set[str] = field(default_factory=set[str])


@dataclass(frozen=True)
class Selection:
    """Rows to erase, and values that stay away.

    Args:
        request: what was asked for.
        ids: of all rows that have one of its values.
        uris: recordings of which every row goes.
        places: table -> file -> ids of its rows that go.
    """

    request: Request
    ids: set[str]
    uris: set[str]
    places: Mapping[str, Mapping[str, Sequence[str]]]

    @property
    def suppressed(self) -> dict[str, set[str]]:
        """Column -> values that no later run may embed."""
        suppressed = {ID: self.ids, URI: self.uris}
        column = self.request.column
        return {**suppressed, column: suppressed.get(column, set[str]()) | self.request.values}


def read_request(config: MaintainConfig, utterances: Table) -> Request:
    """Understand a request; list the source where only it knows the column of rejects.

    Raises:
        SinkError: no such column, or one whose values have no name.
        SourceError: the values cannot be read, or the source not listed.
    """
    column = _column(config.forget.column, utterances)
    values = _values(config.forget)
    if column == URI:
        values |= {storage.normalise(value) for value in values}
    if column in _FIXED or config.source is None:
        return Request(column, values)
    return Request(column, values, *_in_source(config.source, column, values))


def select(request: Request, tables: Mapping[str, Table], between: Callable[[], None]) -> Selection:
    """Look through the tables.

    Args:
        request: what to look for.
        tables: the tables by name.
        between: called now and then, to renew a claim.
    """
    column, values = request.column, request.values
    ids, uris = set(request.source_ids), set(request.source_uris)
    places = {UTTERANCES: dict[str, list[str]]()}
    asked = find_rows(tables[UTTERANCES], [ID, URI, column], lambda rows: _one_of(rows[column], values), between)
    for file, rows in asked:
        places[UTTERANCES][file.path] = rows[ID].to_pylist()
        ids.update(rows[ID].to_pylist())
        uris.update(rows[URI].to_pylist())
    if column == ID:
        ids, uris = ids | values, set[str]()  # of its recording only this one utterance
    elif column == URI:
        uris = values
    else:
        uris -= request.other_uris | _shared(tables[UTTERANCES], uris, ids, between)
    refused = find_rows(
        tables[REJECTS],
        [ID, URI, "reason", "language"],
        lambda rows: _rejects(rows, column, values, ids, uris),
        between,
    )
    places[REJECTS] = ids_by_file(refused)
    ids |= {id_ for found in places[REJECTS].values() for id_ in found}
    places[FRAMES] = ids_by_file(find_rows(tables[FRAMES], [ID], lambda rows: _one_of(rows[ID], ids), between))
    return Selection(request, ids, uris, places)


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


def _in_source(source: SourceSection, column: str, values: set[str]) -> tuple[set[str], set[str], set[str]]:
    """Ids and recordings that the source has under these values, and recordings of its other rows."""
    try:
        rows = build_inventory(source).table
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


def _shared(utterances: Table, uris: set[str], ids: set[str], between: Callable[[], None]) -> set[str]:
    """Which of the recordings also hold rows of other ids: somebody else speaks in them too."""

    def others(rows: pa.Table) -> pa.Array:
        return pc.and_(_one_of(rows[URI], uris), pc.invert(_one_of(rows[ID], ids)))

    return {uri for _, rows in find_rows(utterances, [ID, URI], others, between) for uri in rows[URI].to_pylist()}


def _rejects(rows: pa.Table, column: str, values: set[str], ids: set[str], uris: set[str]) -> pa.Array:
    repeated = pc.equal(rows["reason"], str(RejectReason.DUPLICATE_ID))  # `<id>#2` stands for another row of the id
    bases = pc.replace_substring_regex(rows[ID], r"#\d+$", "")
    masks = [_one_of(rows[ID], ids), _one_of(rows[URI], uris), pc.and_(repeated, _one_of(bases, ids))]
    if column == "language":
        masks.append(_one_of(rows[column], values))
    return pc.or_(pc.or_(masks[0], masks[1]), pc.or_(masks[2], masks[-1]))


def _one_of(column: pa.ChunkedArray, values: Collection[str]) -> pa.Array:
    # Not `is_in`, which would hash all values again for each of the files.
    return pa.array([value in values for value in as_text(column).to_pylist()], pa.bool_())
