"""Rows of a list of recordings, whatever wrote the list: paths become URIs, columns fields, objects are looked up."""

from collections.abc import Mapping

import pyarrow as pa

from w2vb_ray import storage
from w2vb_ray.arrow import pc
from w2vb_ray.config.sections import SourceSection
from w2vb_ray.errors import RejectReason, SourceError
from w2vb_ray.source import columns, objects, paths
from w2vb_ray.source.rows import Column, Rows, flat
from w2vb_ray.source.storable import as_text

_RELATIVE = r"^(/|[A-Za-z][A-Za-z0-9+.\-]*://|\s*$)"


def to_rows(
    table: pa.Table,
    audio: Column,
    section: SourceSection,
    *,
    folder: str,
    source_format: str,
    fields: Mapping[str, str] | None = None,
    refused: tuple[pa.Array, pa.Array] | None = None,
    num_skipped: int = 0,
    root: str | None = None,
    elsewhere: str = "",
) -> Rows:
    """Look up what a list names.

    Args:
        table: its columns, one row per utterance.
        audio: paths or URIs as the list writes them, blank where it names none.
        section: where it was read from, and how its columns are called.
        folder: where relative paths start, unless `source.audio_root` says otherwise.
        source_format: what the list was read as.
        fields: field -> column; if not given, by `source.columns` and the usual names.
        refused: reason and detail of rows that the reader itself refuses, null for the others.
        num_skipped: files beside the list that nobody read.
        root: where path templates start; the folder if not given.
        elsewhere: where else programs look for relative paths, to say in the reject of a missing one.

    Raises:
        SourceError: a column that is asked for and is not there, or a store that cannot be reached.
    """
    if fields is None:
        named = columns.map_fields(table.column_names, section, section.uri)
        fields = {field: column for field, column in named.items() if field != "audio"}
    base = storage.normalise(section.audio_root) if section.audio_root else folder
    audio_uri = paths.resolve(audio, base)
    reason, detail = refused or (None, None)
    found = objects.look_up(
        audio_uri, section, given_version=_given_version(table, fields), reason=reason, detail=detail
    )
    if elsewhere:
        found = _explain_missing(found, audio, base, section, elsewhere)
    return Rows(
        **{name: flat(found[name]) for name in objects.OBJECT.names},
        fields={field: table[name] for field, name in fields.items()},
        own=columns.own_columns(table, fields),
        root=folder if root is None else root,
        num_skipped=num_skipped,
        format=source_format,
    )


def _given_version(table: pa.Table, fields: Mapping[str, str]) -> pa.Array | None:
    if "source_version" not in fields:
        return None
    return flat(pc.fill_null(as_text(table[fields["source_version"]]), ""))


def _explain_missing(found: pa.Table, audio: Column, base: str, section: SourceSection, elsewhere: str) -> pa.Table:
    """Rows whose relative path leads nowhere are rejected with the reason: it may start at another folder.

    Raises:
        SourceError: none of the relative paths leads anywhere, so that they all start elsewhere.
    """
    relative = pc.invert(pc.match_substring_regex(flat(as_text(audio)), _RELATIVE))
    open_ = pc.and_(pc.is_null(flat(found["reason"])), pc.fill_null(relative, False))
    missing = pc.and_(open_, pc.is_null(flat(found["source_bytes"])))
    num_missing = pc.sum(missing).as_py() or 0
    if not num_missing:
        return found
    why = f"relative paths start at {base}; {elsewhere}, which `source.audio_root` can name"
    if num_missing == pc.sum(open_).as_py():
        example = flat(found["audio_uri"]).filter(missing)[0].as_py()
        raise SourceError(
            f"`source.uri`: none of the {num_missing} relative paths in {section.uri} exists, such as {example}: {why}."
        )
    reason = pc.if_else(missing, str(RejectReason.MISSING), found["reason"])
    detail = pc.if_else(missing, f"the object does not exist ({why})", found["detail"])
    found = found.set_column(found.column_names.index("reason"), "reason", reason)
    return found.set_column(found.column_names.index("detail"), "detail", detail)
