"""Object store -> bytes of one whole object, or `AudioRejected`. Knows fsspec, not what the bytes mean."""

import inspect
import time
from http.client import HTTPException
from typing import Any, cast

from aiohttp import ClientError
from botocore.exceptions import BotoCoreError
from botocore.parsers import ResponseParserError
from fsspec import AbstractFileSystem

from w2vb_ray.errors import AudioRejected, RejectReason

NUM_ATTEMPTS = 3
BACKOFF_S = (0.2, 1.0)

TRANSIENT = (OSError, BotoCoreError, ResponseParserError, ClientError, HTTPException)
"""What reading may raise for a while. s3fs translates only errors with an S3 code into `OSError`; connection, payload
and checksum errors of botocore and aiohttp pass through as they are."""


def fetch(filesystem: AbstractFileSystem, path: str, *, expected_bytes: int | None, max_bytes: int) -> bytes:
    """Read one object with a single GET and check its length.

    Args:
        filesystem: any fsspec filesystem.
        path: the object's path in it, without the protocol.
        expected_bytes: size at planning, or None when unknown.
        max_bytes: larger objects are refused without being read.

    Raises:
        AudioRejected: `missing`, `too_large`, `empty`, `changed`, or `unreadable` after three attempts.
    """
    failure = ""
    for attempt in range(NUM_ATTEMPTS):
        if attempt:
            time.sleep(BACKOFF_S[attempt - 1])
        try:
            _refuse_large(_stat_bytes(filesystem, path) if expected_bytes is None else expected_bytes, max_bytes)
            data = _read_whole(filesystem, path)
            _refuse_large(len(data), max_bytes)
            if expected_bytes is None or len(data) == expected_bytes:
                return _non_empty(data, path)
            failure = _explain_length(filesystem, path, len(data), expected_bytes)
        except (FileNotFoundError, NotADirectoryError) as err:
            raise AudioRejected(RejectReason.MISSING, f"{path}: {_describe(err)}") from err
        except IsADirectoryError as err:
            raise AudioRejected(RejectReason.MISSING, f"{path} is a directory, not an object") from err
        except PermissionError as err:
            raise AudioRejected(RejectReason.UNREADABLE, f"{path}: {_describe(err)}") from err
        except TRANSIENT as err:
            failure = _describe(err)
    raise AudioRejected(RejectReason.UNREADABLE, f"{path}: {failure} ({NUM_ATTEMPTS} attempts)")


def _read_whole(filesystem: AbstractFileSystem, path: str) -> bytes:
    """One GET without a range.

    s3fs reads objects above 50 MiB as concurrent ranges into a zeroed buffer, where a short range passes silently as
    zeros of the right length; `max_concurrency=1` turns that off, and with it the HEAD from its listing cache.
    """
    implementation = getattr(filesystem, "_cat_file", None)
    if implementation is not None and "max_concurrency" in inspect.signature(implementation).parameters:
        return cast(bytes, filesystem.cat_file(path, max_concurrency=1))
    return cast(bytes, filesystem.cat_file(path))


def _stat_bytes(filesystem: AbstractFileSystem, path: str) -> int | None:
    """Size of the object now; fsspec answers from cached listings unless told to forget them."""
    filesystem.invalidate_cache(path)
    info: dict[str, Any] = filesystem.info(path)
    if info.get("type") == "directory":
        raise IsADirectoryError(path)
    return info.get("size")


def _explain_length(filesystem: AbstractFileSystem, path: str, num_bytes: int, expected_bytes: int) -> str:
    """Say what a wrong length means: raises `changed` for another object, else returns the text of a short read."""
    now_bytes = _stat_bytes(filesystem, path)
    if now_bytes is not None and now_bytes != expected_bytes:
        raise AudioRejected(RejectReason.CHANGED, f"{path} had {expected_bytes} bytes when planned, now {now_bytes}")
    return f"got {num_bytes} of {expected_bytes} bytes"


def _refuse_large(num_bytes: int | None, max_bytes: int) -> None:
    if num_bytes is not None and num_bytes > max_bytes:
        raise AudioRejected(RejectReason.TOO_LARGE, f"{num_bytes} bytes, more than audio.max_bytes ({max_bytes})")


def _non_empty(data: bytes, path: str) -> bytes:
    if not data:
        raise AudioRejected(RejectReason.EMPTY, f"{path} has 0 bytes")
    return data


def _describe(err: BaseException) -> str:
    return f"{type(err).__name__}: {err}"
