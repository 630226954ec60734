"""Object store -> bytes of one whole object, or `AudioRejected`. Knows fsspec, not what the bytes mean.

Bytes are handed on only when their length is the planned one, the object they come from is the planned version, and
they match every checksum that the store gives.
"""

import random
import time
from http.client import HTTPException
from typing import Any, cast

from aiohttp import ClientError
from botocore.exceptions import BotoCoreError
from botocore.parsers import ResponseParserError
from fsspec import AbstractFileSystem

from w2vb_ray import storage
from w2vb_ray.audio import s3_object
from w2vb_ray.audio.s3_object import refuse_large
from w2vb_ray.errors import AudioRejected, RejectReason

NUM_ATTEMPTS = 6
BACKOFF_S = 0.3  # before the second attempt, at most; doubled each time, and half of it at random
FIRST_BYTE_S = 1.0  # how long S3 may take to answer; doubled each time, so that a slow store is heard in the end

TRANSIENT = (OSError, BotoCoreError, ResponseParserError, ClientError, HTTPException)
"""What reading may raise for a while. s3fs translates only errors with an S3 code into `OSError`; connection, payload
and checksum errors of botocore and aiohttp pass through as they are."""


def fetch(
    filesystem: AbstractFileSystem,
    path: str,
    *,
    expected_bytes: int | None,
    max_bytes: int,
    version: str | None = None,
    etag_is_md5: bool = True,
) -> bytes:
    """Read one object with a single GET and check that it is whole, intact and the one that was planned.

    Args:
        filesystem: any fsspec filesystem.
        path: the object's path in it, without the protocol.
        expected_bytes: size at planning, or None when unknown.
        max_bytes: larger objects are refused without being read.
        version: `storage.version_of` the object at planning, or None when it does not come from the store.
        etag_is_md5: whether an S3 etag that looks like an MD5 is one.

    Raises:
        AudioRejected: `missing`, `too_large`, `empty`, `changed`, or `unreadable` after six attempts.
    """
    refuse_large(expected_bytes, max_bytes)
    failure = ""
    for attempt in range(NUM_ATTEMPTS):
        if attempt:
            back_off(attempt)
        try:
            if s3_object.is_s3(filesystem):
                data = s3_object.read(
                    filesystem,
                    path,
                    version=version,
                    max_bytes=max_bytes,
                    first_byte_s=FIRST_BYTE_S * 2**attempt,
                    etag_is_md5=etag_is_md5,
                )
            else:
                data = _read(filesystem, path, version, expected_bytes, max_bytes)
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


def back_off(attempt: int) -> None:
    """Wait before an attempt that is not the first: twice as long each time, and half of it at random."""
    time.sleep(random.uniform(0.5, 1.0) * BACKOFF_S * 2 ** (attempt - 1))


def _read(
    filesystem: AbstractFileSystem, path: str, version: str | None, expected_bytes: int | None, max_bytes: int
) -> bytes:
    """Read, then see whether the object still is the planned one: its version goes only one way."""
    if expected_bytes is None:
        refuse_large(_info(filesystem, path).get("size"), max_bytes)
    data = cast(bytes, filesystem.cat_file(path))
    refuse_large(len(data), max_bytes)
    if version and (found := storage.version_of(_info(filesystem, path))) != version:
        raise AudioRejected(RejectReason.CHANGED, f"{path} was version {version} when planned, now {found}")
    return data


def _info(filesystem: AbstractFileSystem, path: str) -> dict[str, Any]:
    """The object as it is now; fsspec answers from cached listings unless told to forget them."""
    filesystem.invalidate_cache(path)
    info: dict[str, Any] = filesystem.info(path)
    if info.get("type") == "directory":
        raise IsADirectoryError(path)
    return info


def _explain_length(filesystem: AbstractFileSystem, path: str, num_bytes: int, expected_bytes: int) -> str:
    """Say what a wrong length means: raises `changed` for another object, else returns the text of a short read."""
    now_bytes = _info(filesystem, path).get("size")
    if now_bytes is not None and now_bytes != expected_bytes:
        raise AudioRejected(RejectReason.CHANGED, f"{path} had {expected_bytes} bytes when planned, now {now_bytes}")
    return f"got {num_bytes} of {expected_bytes} bytes"


def _non_empty(data: bytes, path: str) -> bytes:
    if not data:
        raise AudioRejected(RejectReason.EMPTY, f"{path} has 0 bytes")
    return data


def _describe(err: BaseException) -> str:
    return f"{type(err).__name__}: {err}"
