"""Every file under a folder, a glob or a single path, with its size and version, in one pass.

Knows nothing of audio: callers choose among the entries. Hidden files and folders are never seen.
"""

import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple, cast

from fsspec.utils import glob_translate

from w2vb_ray import storage
from w2vb_ray.source import s3_pages
from w2vb_ray.source.access import readable

_MAGIC = re.compile(r"[*?\[]")
_HIDDEN = frozenset({"_delta_log", "__MACOSX"})


class Entry(NamedTuple):
    """A file: its URI, its size (None: a dangling link) and its version (`""` then)."""

    uri: str
    num_bytes: int | None
    version: str
    modified_s: float | None = None
    """Unix time of the last write; None where not known."""


class Place(NamedTuple):
    """What `source.uri` points at: a folder, and which URIs under it are meant (None: all)."""

    root: str
    pattern: re.Pattern[str] | None
    literal: bool
    """Whether it names one existing file."""

    def holds(self, uri: str) -> bool:
        """Whether the URI is among those meant."""
        return self.pattern is None or self.pattern.match(uri) is not None


def locate(uri: str, options: Mapping[str, Any]) -> Place:
    """Split a URI into the folder to list and what to take of it. A file's folder is its parent.

    Raises:
        SourceError: the store cannot be asked.
    """
    uri = storage.normalise(uri)
    fs = storage.filesystem(uri, options)
    with readable(uri):
        path = storage.fs_path(uri, fs)
        if _MAGIC.search(path) and not fs.exists(path):  # a name may hold brackets
            return by_name(uri)
        if fs.isfile(path):
            return Place(uri.rpartition("/")[0], re.compile(re.escape(uri) + r"\Z"), literal=True)
    return Place(uri, None, literal=False)


def by_name(uri: str) -> Place:
    """The place of a glob, or of a folder, by its name alone."""
    if not _MAGIC.search(uri):
        return Place(uri, None, literal=False)
    scheme, _, path = uri.rpartition("://")
    parts = path.split("/")
    num_plain = next(i for i, part in enumerate(parts) if _MAGIC.search(part))
    prefix = f"{scheme}://" if scheme else ""
    plain, magic = prefix + "/".join(parts[:num_plain]), "/".join(parts[num_plain:])
    return Place(plain, re.compile(re.escape(plain + "/") + f"(?:{glob_translate(magic)})"), literal=False)


def walk(place: Place, options: Mapping[str, Any]) -> Iterator[Entry]:
    """All visible files under the place's root, in no particular order; not yet filtered by its pattern.

    Raises:
        SourceError: the root does not exist, or access is denied.
    """
    root = place.root
    with readable(root):
        yield from _walk_local(root or "/") if storage.is_local(root) else _walk_remote(root, options)


def _walk_remote(root: str, options: Mapping[str, Any]) -> Iterator[Entry]:
    fs = storage.filesystem(root, options)
    path = storage.fs_path(root, fs)
    if storage.same_protocol(root, "s3://"):
        yield from visible(s3_pages.objects(fs, path), root)
        return
    found = cast(dict[str, dict[str, Any]], fs.find(path, detail=True))
    while found:  # emptied as it is read: a million entries are a gigabyte
        name, info = found.popitem()
        relative = name.removeprefix(path)
        if info["type"] != "file" or name.endswith("/") or _is_hidden(relative):
            continue
        uri = root + relative if name.startswith(path) else storage.full_uri(fs, name, root)
        yield Entry(uri, info["size"], storage.version_of(info), storage.modified_s(info))


def visible(objects: Iterable[s3_pages.Object], root: str) -> Iterator[Entry]:
    """Objects by their names relative to the root, without folder markers and what is hidden."""
    for relative, info in objects:
        if relative and not relative.endswith("/") and not _is_hidden("/" + relative):
            yield Entry(f"{root}/{relative}", info["Size"], storage.version_of(info), storage.modified_s(info))


def _is_hidden(relative: str) -> bool:
    return ("/." in relative or "/_" in relative) and any(hidden_name(part) for part in relative.split("/"))


def hidden_name(name: str) -> bool:
    """Whether a file or folder of this name is left out of listings."""
    return name.startswith(".") or name in _HIDDEN


def _walk_local(root: str) -> Iterator[Entry]:
    """Each folder once, whatever links to it: real folders first, then links in the order of their names."""
    seen: set[tuple[int, int]] = set()
    links: list[str] = []
    real = [root]
    while real or links:
        folder = real.pop() if real else links.pop(0)
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        linked: list[str] = []
        with os.scandir(folder) as entries:
            for entry in entries:
                if hidden_name(entry.name):
                    continue
                if not _is_folder(entry):
                    yield from _local_file(entry)
                elif entry.is_symlink():
                    linked.append(entry.path)
                else:
                    real.append(entry.path)
        links = sorted([*links, *linked])


def folders_in(root: str) -> Iterator[str]:
    """Visible folders directly in a local folder; none where it cannot be listed."""
    with suppress(OSError), os.scandir(root) as entries:
        yield from (printable(entry.path) for entry in entries if not hidden_name(entry.name) and _is_folder(entry))


def files_in(root: str) -> Iterator[str]:
    """Names of visible files directly in a local folder; none where it cannot be listed."""
    with suppress(OSError), os.scandir(root) as entries:
        yield from (printable(entry.name) for entry in entries if not hidden_name(entry.name) and not _is_folder(entry))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _local_file(entry: os.DirEntry[str]) -> Iterator[Entry]:
    try:
        status = entry.stat()
    except OSError:
        yield Entry(printable(entry.path), None, "")
        return
    if not stat.S_ISREG(status.st_mode):  # a socket or pipe would block its reader
        return
    if (name := printable(entry.path)) != entry.path:
        yield Entry(name, None, "")  # a name that is not UTF-8 cannot stand in a table, so nobody could open it again
        return
    info = {"size": status.st_size, "mtime_ns": status.st_mtime_ns}
    yield Entry(name, status.st_size, storage.version_of(info), storage.modified_s(info))


def printable(path: str) -> str:
    """The path with bytes that are not UTF-8 written as `\\udcXX`."""
    return path if path.isascii() else path.encode("utf-8", "backslashreplace").decode("utf-8")
