"""Size, version and age of objects that are known by name only, with few calls to the store."""

import os
import stat as stat_mode
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import pyarrow as pa
from fsspec import AbstractFileSystem

from w2vb_ray import storage
from w2vb_ray.errors import SourceError
from w2vb_ray.source.access import readable

_NUM_THREADS = 32  # as many as a store's connections, see storage.filesystem
_LOCAL_CHUNK = 2000  # a stat takes 2 µs, a hand-over between threads 50 µs
LIST_FROM = 50  # objects of one folder from which listing it is cheaper than asking for each
UNKNOWN_BYTES = -1
_LISTED_OBJECTS = 1_000_000  # of listed folders, kept for the next piece: a few hundred bytes each

T = TypeVar("T")
R = TypeVar("R")


class Stat(NamedTuple):
    """Size (None: the object does not exist; -1: not known), version (`""`: not known) and time of the last write."""

    num_bytes: int | None
    version: str
    modified_s: float | None = None


class Stats(NamedTuple):
    """The same for many objects: int64, string and float64 (null: not known), each (N,)."""

    source_bytes: pa.Array
    source_version: pa.Array
    modified_s: pa.Array


_MISSING = Stat(None, "")
_DENIED = Stat(UNKNOWN_BYTES, "")


def stat(uris: pa.Array, options: Mapping[str, Any]) -> Stats:
    """Sizes in bytes, versions and times of the last write of objects, in the order of `uris`.

    A missing object has size null, one that may not be looked at -1; both have version `""`.

    Raises:
        SourceError: the store cannot be reached, or denies access to everything.
    """
    versions = Versions(options)
    found = versions.stat(uris)
    versions.check()
    return found


class Versions:
    """`stat` for a source that comes in pieces: objects of one folder may be spread over them.

    Args:
        options: fsspec options of the store.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = options
        self._listed: dict[str, dict[str, Stat]] = {}  # folder of a store -> its objects, the latest last
        self._denied: str | None = None  # an object that may not be looked at
        self._any_allowed = False

    def stat(self, uris: pa.Array) -> Stats:
        """Sizes, versions and times of one piece."""
        names = uris.unique().to_pylist()
        found: dict[str, Stat] = {"": _MISSING}
        for place, members in _by_place(name for name in names if name).items():
            found.update(
                _stat_local(members) if place == "" else _stat_remote(place, members, self._options, self._listed)
            )
        self._denied = self._denied or next((name for name in names if found[name] is _DENIED), None)
        self._any_allowed = self._any_allowed or any(found[name] is not _DENIED for name in names)
        stats = [found[name] for name in uris.to_pylist()]
        return Stats(
            pa.array([entry.num_bytes for entry in stats], pa.int64()),
            pa.array([entry.version for entry in stats], pa.string()),
            pa.array([entry.modified_s for entry in stats], pa.float64()),
        )

    def check(self) -> None:
        """Raise SourceError when access to every object of every piece was denied."""
        if self._denied is not None and not self._any_allowed:
            raise SourceError(
                f"access to {self._denied} and all other audio is denied; check credentials and `source.storage`."
            )


def _by_place(uris: Iterable[str]) -> dict[str, list[str]]:
    """URIs by scheme and host or bucket; local ones under `""`."""
    places: dict[str, list[str]] = defaultdict(list)
    for uri in uris:
        places["" if storage.is_local(uri) else "/".join(uri.split("/", 3)[:3])].append(uri)
    return places


def _stat_local(paths: list[str]) -> dict[str, Stat]:
    chunks = [paths[start : start + _LOCAL_CHUNK] for start in range(0, len(paths), _LOCAL_CHUNK)]
    stats = _in_threads(lambda chunk: [_stat_file(path) for path in chunk], chunks)
    return dict(zip(paths, (entry for chunk in stats for entry in chunk), strict=True))


def _stat_file(path: str) -> Stat:
    try:
        status = os.stat(path)
    except PermissionError:
        return _DENIED
    except (OSError, ValueError):  # ValueError: a name with a NUL
        return _MISSING
    if not stat_mode.S_ISREG(status.st_mode):
        return _MISSING
    return _entry({"size": status.st_size, "mtime_ns": status.st_mtime_ns})


def _stat_remote(
    place: str, uris: list[str], options: Mapping[str, Any], listed: dict[str, dict[str, Stat]]
) -> dict[str, Stat]:
    fs = storage.filesystem(place, options)
    path_of = {uri: storage.fs_path(uri, fs) for uri in uris}
    folders: dict[str, list[str]] = defaultdict(list)
    for uri in uris:
        folders[path_of[uri].rpartition("/")[0]].append(uri)
    found: dict[str, Stat] = {}
    with readable(place):
        lists = storage.protocol(place) not in storage.HTTP  # a web server's pages are no listings
        many = [name for name, members in folders.items() if lists and len(members) >= LIST_FROM]
        unlisted = [name for name in many if name not in listed]
        listed |= zip(unlisted, _in_threads(lambda name: _list_folder(fs, name), unlisted), strict=True)
        for name, members in folders.items():
            if name in listed:
                found.update((uri, listed[name].get(path_of[uri], _MISSING)) for uri in members)
        single = [uri for uri in uris if uri not in found]
        found.update(zip(single, _in_threads(lambda uri: _head(fs, path_of[uri]), single), strict=True))
    while len(listed) > 1 and sum(map(len, listed.values())) > _LISTED_OBJECTS:
        listed.pop(next(iter(listed)))
    return found


def _list_folder(fs: AbstractFileSystem, folder: str) -> dict[str, Stat]:
    try:
        entries = fs.ls(folder, detail=True)
    except FileNotFoundError:
        return {}
    return {info["name"]: _entry(info) for info in entries if info["type"] == "file"}


def _head(fs: AbstractFileSystem, path: str) -> Stat:
    try:
        info = fs.info(path)
    except FileNotFoundError:
        return _MISSING
    except PermissionError:
        return _DENIED
    return _entry(info) if info["type"] == "file" else _MISSING


def _entry(info: Mapping[str, Any]) -> Stat:
    size = UNKNOWN_BYTES if info["size"] is None else info["size"]  # HTTP servers need not say
    return Stat(size, storage.version_of(info), storage.modified_s(info))


def _in_threads(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Results in the order of the items, which are not all queued at once."""
    remaining = iter(items)
    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        while batch := list(islice(remaining, 100 * _NUM_THREADS)):
            yield from pool.map(function, batch)
