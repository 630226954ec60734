"""One GET of a whole S3 object through s3fs, checked against what the same reply says of it.

A reply names the version that it carries in its ETag. Comparing that with the planned one pins the version without
`If-Match`, which some stores ignore (rclone, JuiceFS) and Ceph RGW 16 refuses when it is quoted as the standard says.
Checksums that the store keeps (`x-amz-checksum-*`) are validated by botocore while the body is read.
"""

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Mapping
from typing import Any, TypeVar, cast

from fsspec import AbstractFileSystem
from fsspec.asyn import AsyncFileSystem, sync

from w2vb_ray import storage
from w2vb_ray.errors import AudioRejected, RejectReason

_BODY_S = 30.0  # a body may take this long, and longer by its size over …
_SLOWEST_BYTES_PER_S = 64 * 1024

_MD5 = re.compile(r"[0-9a-f]{32}")

T = TypeVar("T")


def is_s3(filesystem: AbstractFileSystem) -> bool:
    """Whether it is s3fs's."""
    return isinstance(filesystem, AsyncFileSystem) and "s3" in filesystem.protocol


def read(
    filesystem: AbstractFileSystem,
    path: str,
    *,
    version: str | None,
    max_bytes: int,
    first_byte_s: float,
    etag_is_md5: bool,
) -> bytes:
    """Read an object whole.

    Args:
        filesystem: one of s3fs.
        path: bucket and key.
        version: etag that it must have; None takes any.
        max_bytes: larger objects are refused before their body is read.
        first_byte_s: how long to wait for the reply to begin.
        etag_is_md5: whether an etag that looks like an MD5 is one.

    Raises:
        AudioRejected: `changed` or `too_large`.
        OSError, BotoCoreError, ClientError: the store, the connection or a checksum failed.
    """
    assert isinstance(filesystem, AsyncFileSystem)
    arguments = (filesystem, path, version, max_bytes, first_byte_s)
    data, md5 = cast(tuple[bytes, str | None], sync(filesystem.loop, _read, *arguments))
    if etag_is_md5 and md5 and hashlib.md5(data, usedforsecurity=False).hexdigest() != md5:
        raise OSError(
            f"the bytes do not match the object's etag {md5}, which looks like their MD5 (if etags are none in this "
            "store, set source.etag_is_md5=false)"
        )
    return data


async def _read(
    filesystem: Any, path: str, version: str | None, max_bytes: int, first_byte_s: float
) -> tuple[bytes, str | None]:
    bucket, key, version_id = filesystem.split_path(path)
    which = {"Bucket": bucket, "Key": key, **({"VersionId": version_id} if version_id else {})}
    reply = await _within(first_byte_s, filesystem._call_s3("get_object", **which), "no answer")
    body, num_bytes = reply["Body"], reply.get("ContentLength") or 0
    try:
        found = storage.version_of(reply)
        if version and found != version:
            raise AudioRejected(RejectReason.CHANGED, f"{path} was version {version} when planned, now {found}")
        refuse_large(num_bytes, max_bytes)
        data = await _within(_BODY_S + num_bytes / _SLOWEST_BYTES_PER_S, body.read(), f"{num_bytes} bytes did not come")
    finally:
        body.close()
    return data, _md5(reply)


async def _within(limit_s: float, awaitable: Awaitable[T], failure: str) -> T:
    try:
        return await asyncio.wait_for(awaitable, limit_s)
    except TimeoutError as err:
        if str(err):  # the connection's own
            raise
        raise TimeoutError(f"{failure} within {limit_s:.0f} s") from err


def _md5(reply: Mapping[str, Any]) -> str | None:
    """MD5 of the object, where its etag is one.

    It is none for objects that were uploaded in parts (`<hex>-<number of parts>`), that are encrypted with a key other
    than S3's own, or that are in a directory bucket.
    """
    etag = storage.version_of(reply).lower()
    encrypted = reply.get("ServerSideEncryption", "AES256") != "AES256" or "SSECustomerAlgorithm" in reply
    if encrypted or reply.get("StorageClass") == "EXPRESS_ONEZONE" or not _MD5.fullmatch(etag):
        return None
    return etag


def refuse_large(num_bytes: int | None, max_bytes: int) -> None:
    """Raise `too_large` for more bytes than `audio.max_bytes`."""
    if num_bytes is not None and num_bytes > max_bytes:
        raise AudioRejected(RejectReason.TOO_LARGE, f"{num_bytes} bytes, more than audio.max_bytes ({max_bytes})")
