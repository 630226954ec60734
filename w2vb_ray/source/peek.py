"""A look at `source.uri`, a few calls to its store at most, by which a format recognises itself."""

from contextlib import suppress
from functools import cached_property
from itertools import islice

from w2vb_ray import storage
from w2vb_ray.config.sections import SourceSection
from w2vb_ray.source import listing, s3_pages, tabular
from w2vb_ray.source.access import readable

_NUM_FOLDERS = 3
_NUM_FILES = 1000
_HUB = "hf://"


class Peek:
    """What can be told of a source before it is read. Everything is looked up when it is first asked for.

    Args:
        section: which source.
    """

    def __init__(self, section: SourceSection) -> None:
        self.uri = storage.normalise(section.uri)
        self.options = section.storage

    @cached_property
    def place(self) -> listing.Place:
        """Where it is, and whether it is a file, a folder or a glob."""
        return listing.locate(self.uri, self.options)

    @cached_property
    def table(self) -> str | None:
        """The table file that it names, or the first one that its glob finds; None for a folder."""
        if self.place.literal:
            return self.uri if tabular.kind_of(self.uri) else None
        if self.place.pattern is None or not tabular.kind_of(self.uri):
            return None
        entries = listing.walk(self.place, self.options)
        return next((entry.uri for entry in entries if self.place.holds(entry.uri)), None)

    @property
    def is_table(self) -> bool:
        """Whether its name ends like that of a table file."""
        return tabular.kind_of(self.uri) is not None

    @cached_property
    def columns(self) -> frozenset[str]:
        """Columns of that table, or the keys of its first line; none where it cannot be read."""
        return frozenset() if self.table is None else frozenset(tabular.column_names(self.table, self.options))

    def has(self, name: str) -> bool:
        """Whether the folder holds a file or folder of this name; False where the source is no folder."""
        return self.place.pattern is None and self.exists(storage.join(self.uri, name))

    def exists(self, uri: str) -> bool:
        """Whether there is a file or folder; not where the store denies the question."""
        fs = storage.filesystem(uri, self.options)
        with readable(uri), suppress(PermissionError):
            return fs.exists(storage.fs_path(uri, fs))
        return False

    @cached_property
    def folders(self) -> list[str]:
        """A few of the folders in this folder, on this machine, S3 and the hub; elsewhere it could take too long."""
        if self.place.pattern is not None:
            return []
        if storage.is_local(self.uri):
            return list(islice(listing.folders_in(self.uri), _NUM_FOLDERS))
        if storage.same_protocol(self.uri, "s3://"):
            fs = storage.filesystem(self.uri, self.options)
            with readable(self.uri):
                found = s3_pages.first_folders(fs, storage.fs_path(self.uri, fs))
            return [storage.join(self.uri, name) for name in found[:_NUM_FOLDERS]]
        if storage.same_protocol(self.uri, _HUB):
            return [storage.join(self.uri, name) for name in self._on_hub(self.uri, "directory")[:_NUM_FOLDERS]]
        return []

    @cached_property
    def files(self) -> frozenset[str]:
        """Names of some of the files directly in this folder."""
        return self.files_in(self.uri) if self.place.pattern is None else frozenset()

    def files_in(self, folder: str) -> frozenset[str]:
        """Names of some of the files directly in a folder, on this machine, S3 and the hub."""
        if storage.is_local(folder):
            return frozenset(islice(listing.files_in(folder), _NUM_FILES))
        if storage.same_protocol(folder, "s3://"):
            fs = storage.filesystem(folder, self.options)
            with readable(folder):
                return frozenset(s3_pages.first_files(fs, storage.fs_path(folder, fs)))
        if storage.same_protocol(folder, _HUB):
            return frozenset(self._on_hub(folder, "file")[:_NUM_FILES])
        return frozenset()

    def _on_hub(self, folder: str, kind: str) -> list[str]:
        """Names in a folder of a repository, which has some thousands of entries at most."""
        fs = storage.filesystem(folder, self.options)
        with readable(folder), suppress(FileNotFoundError, NotADirectoryError):
            entries = fs.ls(storage.fs_path(folder, fs), detail=True)
            return sorted(entry["name"].rpartition("/")[2] for entry in entries if entry["type"] == kind)
        return []
