"""URI -> filesystem, the version of an object, and writes that are seen whole or not at all.

Local paths and fsspec URLs look alike from here on. Nothing is cached between calls: a scheduled job in a long-lived
process must see what arrived since its last run, so listings are never kept, and filesystem objects are made where
they are used (URIs and options travel between processes, filesystems do not). Knows nothing of audio or tables.
"""

import os
import re
import uuid
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, BinaryIO, cast

import fsspec
from botocore.exceptions import BotoCoreError
from fsspec import AbstractFileSystem

from w2vb_ray import s3_options
from w2vb_ray.errors import ConfigError
from w2vb_ray.redirects import without_redirects

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*)://")
_LOCAL = frozenset({"file", "local"})
HTTP = frozenset({"http", "https"})
_S3 = frozenset({"s3", "s3a"})
_ETAG_KEYS = ("etag", "ETag", "e_tag", "blob_id")  # the last one is what the Hugging Face hub gives
_TIME_KEYS = ("mtime", "LastModified", "last_modified", "created", "Last-Modified")


def protocol(uri: str) -> str:
    """The fsspec protocol of a URI; `file` for a path without a scheme."""
    match = _SCHEME.match(uri)
    return match[1].lower() if match else "file"


def is_local(uri: str) -> bool:
    """Whether the URI is a path on this machine, with or without `file://`."""
    return protocol(uri) in _LOCAL


def is_s3(uri: str) -> bool:
    """Whether the URI is of an S3 store."""
    return protocol(uri) in _S3


def normalise(uri: str) -> str:
    """One spelling per place: an absolute path without `file://`, or the URL as given without a trailing slash."""
    if is_local(uri):
        return os.path.abspath(os.path.expanduser(_SCHEME.sub("", uri, count=1)))
    scheme = protocol(uri) + "://"
    return scheme + uri[len(scheme) :].rstrip("/")


def join(uri: str, *parts: str) -> str:
    """Append path parts to a URI with single slashes."""
    head = uri if uri.endswith("://") else uri.rstrip("/") + "/"
    return head + "/".join(part.strip("/") for part in parts)


def filesystem(uri: str, options: Mapping[str, Any] = {}) -> AbstractFileSystem:
    """The filesystem of a URI, without any listing cache.

    fsspec keeps one instance per process, thread and options, so calling this again is cheap and safe after a fork.

    Args:
        uri: a path or an fsspec URL.
        options: fsspec options of its store; `region` is understood for S3.

    Raises:
        ConfigError: unknown protocol, a driver package that is not installed, or an option the driver does not take.
    """
    name = protocol(uri)
    if name in _S3:
        arguments = s3_options.for_s3fs(uri, options)
    elif name in HTTP:
        arguments = without_redirects(options)
    else:
        arguments = dict(options)
    try:
        fs = cast(AbstractFileSystem, fsspec.filesystem(name, **{"use_listings_cache": False, **arguments}))
    except (ValueError, ImportError) as err:
        raise ConfigError(f"`{uri}` cannot be opened: {err}. Install the fsspec driver of `{name}://`.") from err
    except TypeError as err:
        raise ConfigError(f"`{uri}` cannot be opened with storage options {sorted(options)}: {err}.") from err
    fs.invalidate_cache()
    return fs


def fs_path(uri: str, fs: AbstractFileSystem) -> str:
    """The URI as `fs` names it in its own methods and listings."""
    return cast(str, fs._strip_protocol(uri))  # pyright: ignore[reportPrivateUsage]


def full_uri(fs: AbstractFileSystem, path: str, like: str) -> str:
    """A path listed by `fs` as a URI in the same form as `like`, which is a URI of the same store (no glob)."""
    if is_local(like):
        return path
    root = fs_path(like, fs)
    if root and path.startswith(root):
        return like + path[len(root) :]
    if root and like.endswith(root):
        return like[: -len(root)] + path
    return fs.unstrip_protocol(path)


def version_of(info: Mapping[str, Any]) -> str:
    """What changes when the object's bytes change: its etag, else `{size}-{mtime in ns}`.

    The same whether the entry comes from a listing, `fs.info` or `os.stat` (pass `mtime_ns` then), on any machine.
    Local times go through the float that `st_mtime` is, which tells 0.24 µs apart: `fs.info` has nothing finer.
    """
    for key in _ETAG_KEYS:
        if info.get(key):
            return str(info[key]).removeprefix("W/").strip('"')
    size = info.get("size")
    if "mtime_ns" in info:
        seconds, nanoseconds = divmod(int(info["mtime_ns"]), 1_000_000_000)
        return f"{size}-{round((seconds + 1e-9 * nanoseconds) * 1e9)}"
    for key in _TIME_KEYS:
        if info.get(key) is not None:
            return f"{size}-{_nanoseconds(info[key])}"
    return f"{size}"


def _nanoseconds(moment: object) -> str:
    if isinstance(moment, datetime):
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return str(round(aware.timestamp() * 1e6) * 1000)
    return str(round(moment * 1e9)) if isinstance(moment, int | float) else str(moment)


def modified_s(info: Mapping[str, Any]) -> float | None:
    """Unix time at which the object was last written, as its store tells; None where it does not tell."""
    if "mtime_ns" in info:
        return info["mtime_ns"] / 1e9
    for key in _TIME_KEYS:
        moment: object = info.get(key)
        if isinstance(moment, datetime):
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        if isinstance(moment, int | float):
            return float(moment)
        if key == "Last-Modified" and isinstance(moment, str):  # HTTP's
            return parsedate_to_datetime(moment).timestamp()
    return None


def options_for(uri: str, store_uri: str, options: Mapping[str, Any]) -> Mapping[str, Any]:
    """`options` belong to the store of `store_uri`: a URI of another protocol gets none of them, secrets included."""
    return options if same_protocol(uri, store_uri) else {}


def same_protocol(uri: str, other: str) -> bool:
    """Whether two URIs are opened by the same driver."""
    return _family(uri) == _family(other)


def _family(uri: str) -> str:
    name = protocol(uri)
    return "s3" if name in _S3 else "file" if name in _LOCAL else name


def write_atomic(uri: str, data: bytes, options: Mapping[str, Any] = {}) -> None:
    """Write a small file: readers see the old bytes or all of the new ones. Parent folders are created."""
    if is_local(uri):
        with atomic_output(uri, options) as file:
            file.write(data)
        return
    fs = filesystem(uri, options)
    fs.pipe_file(fs_path(uri, fs), data)


def read_small(uri: str, options: Mapping[str, Any] = {}) -> bytes | None:
    """A whole small file; None where there is none."""
    fs = filesystem(uri, options)
    try:
        return cast(bytes, fs.cat_file(fs_path(uri, fs)))
    except FileNotFoundError:
        return None


STORE_ERRORS = (OSError, BotoCoreError)
"""What a store raises that cannot be reached or does not let us in; s3fs translates only errors with an S3 code."""


def put_folder(folder: Path, uri: str, options: Mapping[str, Any] = {}, *, last: str) -> None:
    """Copy the files of a local folder to `uri`, one of them last: where it is, all are.

    Raises:
        OSError: the store cannot be written to.
    """
    fs = filesystem(uri, options)
    target = fs_path(uri, fs)
    fs.makedirs(target, exist_ok=True)
    for file in sorted(folder.iterdir(), key=lambda file: (file.name == last, file.name)):
        fs.put_file(str(file), join(target, file.name))


@contextmanager
def atomic_output(uri: str, options: Mapping[str, Any] = {}) -> Generator[BinaryIO, None, None]:
    """A binary file for a large output that appears under its name when the block ends, and not if it raises.

    Locally it grows under a hidden `.tmp` name beside its place and is synced before it is renamed; a store uploads
    it in parts and shows it once complete.
    """
    if not is_local(uri):
        with _remote_output(uri, options) as file:
            yield file
        return
    place = Path(normalise(uri))
    place.parent.mkdir(parents=True, exist_ok=True)
    # Cut, because a file name has at most 255 bytes and the suffix takes 38 of them.
    growing = place.with_name(f".{place.name[:40]}.{uuid.uuid4().hex}.tmp")
    try:
        with growing.open("xb") as file:
            yield cast(BinaryIO, file)
            file.flush()
            os.fsync(file.fileno())
        growing.replace(place)
        _sync_folder(place.parent)
    finally:
        growing.unlink(missing_ok=True)


@contextmanager
def _remote_output(uri: str, options: Mapping[str, Any]) -> Generator[BinaryIO, None, None]:
    fs = filesystem(uri, options)
    path = fs_path(uri, fs)
    file = cast(Any, fs.open(path, "wb"))
    try:
        yield cast(BinaryIO, file)
        num_bytes = file.tell()
        try:
            file.close()
        except FileNotFoundError:
            # The upload that a repeated request would complete is gone: the first one did, and its reply was lost.
            if fs.info(path)["size"] != num_bytes:
                raise
    except BaseException:
        file.discard()
        file.closed = True  # else the garbage collector closes it, and closing uploads what is buffered
        raise


def _sync_folder(folder: Path) -> None:
    # A rename survives a power cut only once the folder itself is on disk.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network mounts cannot sync a folder
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def delta_options(uri: str, options: Mapping[str, Any]) -> dict[str, str]:
    """fsspec options as the `storage_options` of delta-rs; nothing for local paths.

    S3 options are translated, with the endpoint of the environment (which delta-rs would not call by http); those of
    other stores pass through when they are plain values.
    """
    if is_local(uri):
        return {}
    if protocol(uri) not in _S3:
        return {key: _text(value) for key, value in options.items() if isinstance(value, str | int | float)}
    return {key: _text(value) for key, value in s3_options.for_delta(options).items() if value}


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
