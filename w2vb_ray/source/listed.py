"""Pieces of a list of recordings, whatever wrote the list: paths become URIs, columns fields, objects are looked up."""

from collections.abc import Mapping

import pyarrow as pa

from w2vb_ray import storage
from w2vb_ray.arrow import pc
from w2vb_ray.config.sections import SourceSection
from w2vb_ray.source import columns, objects, paths
from w2vb_ray.source.rows import Column, Rows, flat
from w2vb_ray.source.storable import as_text


class List:
    """A list that comes in pieces, all of them with the same columns.

    Args:
        section: where it is, and how its columns are called.
        fields: field -> column.
        folder: where relative paths start, unless `source.audio_root` says otherwise; path templates start there too.
        source_format: what it is read as.
        elsewhere: where the programs that write such lists look for relative paths.
        num_skipped: files beside the list that nobody reads.
    """

    def __init__(
        self,
        section: SourceSection,
        fields: Mapping[str, str],
        folder: str,
        source_format: str,
        *,
        elsewhere: str = "",
        num_skipped: int = 0,
    ) -> None:
        self._fields, self._folder = fields, folder
        self._base = base_of(section, folder)
        self._format, self._num_skipped, self._num_rows = source_format, num_skipped, 0
        hint = f"relative paths are taken from {self._base}, but {elsewhere}; `source.audio_root` says where they start"
        self._objects = objects.Objects(section, hint if elsewhere else "")

    def rows(self, table: pa.Table, audio: Column, refused: objects.Refusals | None = None) -> Rows:
        """One piece.

        Args:
            table: its columns, one row per utterance.
            audio: paths or URIs as the list writes them, blank where it names none.
            refused: rows that the reader itself refuses.
        """
        written = flat(pc.fill_null(as_text(audio), ""))
        found = self._objects.look_up(
            paths.resolve(written, self._base),
            given_version=self._given_version(table),
            refused=refused,
            written=written,
        )
        first_row, self._num_rows = self._num_rows, self._num_rows + table.num_rows
        return Rows(
            **{name: flat(found[name]) for name in objects.OBJECT.names},
            fields={field: table[name] for field, name in self._fields.items()},
            own=columns.own_columns(table, self._fields),
            root=self._folder,
            num_skipped=self._num_skipped,
            format=self._format,
            first_row=first_row,
        )

    def check(self) -> None:
        """Once all pieces are through: raise SourceError if they show that the list cannot be meant like this."""
        self._objects.check()

    def _given_version(self, table: pa.Table) -> pa.Array | None:
        if "source_version" not in self._fields:
            return None
        return flat(pc.fill_null(as_text(table[self._fields["source_version"]]), ""))


def base_of(section: SourceSection, folder: str) -> str:
    """Where relative paths start."""
    return storage.normalise(section.audio_root) if section.audio_root else folder
