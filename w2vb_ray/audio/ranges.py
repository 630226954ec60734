"""Ranges of one stored object -> bytes, in the version that was planned, or `AudioRejected`.

A store may answer a range with fewer bytes and no error (s3fs hands them on in silence), and an object may be replaced
between two ranges. So every range is checked for its length, and whoever has read all he needs asks `check_version`.
"""

import inspect
import io
from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeVar, cast

from fsspec import AbstractFileSystem

from w2vb_ray import storage
from w2vb_ray.audio.fetch import NUM_ATTEMPTS, TRANSIENT, back_off
from w2vb_ray.errors import AudioRejected, RejectReason

T = TypeVar("T")


class Ranges:
    """One object of a store.

    Args:
        filesystem: any fsspec filesystem.
        path: the object's path in it, without the protocol.
        version: as `storage.version_of` gave it when the object was planned; empty when that is not known.
    """

    def __init__(self, filesystem: AbstractFileSystem, path: str, version: str) -> None:
        self.path = path
        self._filesystem = filesystem
        self._version = version

    @cached_property
    def num_bytes(self) -> int:
        """Size of the object. Raises AudioRejected like `check_version`."""
        return self._retry(self._stat)

    def check_version(self) -> None:
        """What was read so far is the planned version.

        Raises:
            AudioRejected: `changed`, `missing`, or `unreadable` after six attempts.
        """
        if self._version:
            self._retry(self._stat)

    def read(self, start: int, num_bytes: int) -> bytes:
        """Exactly `num_bytes` from `start`.

        Raises:
            AudioRejected: `truncated` beyond the object's end, `changed`, `missing`, or `unreadable` after five
                attempts.
        """
        if start + num_bytes > self.num_bytes:
            raise AudioRejected(
                RejectReason.TRUNCATED,
                f"bytes {start} to {start + num_bytes} of {self.path}, which has {self.num_bytes}",
            )
        return self._retry(lambda: self._read(start, num_bytes)) if num_bytes else b""

    def _read(self, start: int, num_bytes: int) -> bytes:
        data = cast(bytes, self._filesystem.cat_file(self.path, start=start, end=start + num_bytes, **self._one_get))
        if len(data) != num_bytes:
            self._stat()  # says so if the object is another one now
            raise OSError(f"got {len(data)} of {num_bytes} bytes from byte {start}")
        return data

    @cached_property
    def _one_get(self) -> dict[str, int]:
        """Drivers that cut a range into several requests fill what they miss with zeros."""
        implementation = getattr(self._filesystem, "_cat_file", None)
        known = implementation is not None and "max_concurrency" in inspect.signature(implementation).parameters
        return {"max_concurrency": 1} if known else {}

    def _stat(self) -> int:
        self._filesystem.invalidate_cache(self.path)
        info: dict[str, Any] = self._filesystem.info(self.path)
        if info["type"] == "directory":
            raise IsADirectoryError(self.path)
        found = storage.version_of(info)
        if self._version and found != self._version:
            raise AudioRejected(
                RejectReason.CHANGED, f"{self.path} was version {self._version} when planned, is now {found}"
            )
        return int(info["size"])

    def _retry(self, action: Callable[[], T]) -> T:
        failure = ""
        for attempt in range(NUM_ATTEMPTS):
            if attempt:
                back_off(attempt)
            try:
                return action()
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as err:
                raise AudioRejected(RejectReason.MISSING, f"{self.path}: {type(err).__name__}: {err}") from err
            except PermissionError as err:
                raise AudioRejected(RejectReason.UNREADABLE, f"{self.path}: {type(err).__name__}: {err}") from err
            except TRANSIENT as err:
                failure = f"{type(err).__name__}: {err}"
        raise AudioRejected(RejectReason.UNREADABLE, f"{self.path}: {failure} ({NUM_ATTEMPTS} attempts)")


class RangeFile(io.RawIOBase):
    """A seekable file over `Ranges`, for readers that want one.

    Args:
        ranges: the object.
        max_ahead_bytes: how much may be fetched beyond what is asked for. The amount doubles while reads go on close
            behind each other and falls to 1/64 of it where they jump further than 1/4 of it: small members of a tar
            come many at a time, large ones are jumped over.
    """

    def __init__(self, ranges: Ranges, max_ahead_bytes: int = 0) -> None:
        super().__init__()
        self._ranges = ranges
        self._max_ahead = max_ahead_bytes
        self._ahead = max_ahead_bytes // 64
        self._position = 0
        self._start = 0  # of the buffer
        self._buffer = b""

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """Where the next read begins."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move; beyond the end is allowed, as for any file."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._ranges.num_bytes}[whence]
        self._position = base + offset
        return self._position

    def read(self, size: int | None = -1, /) -> bytes:
        """Up to `size` bytes; fewer only at the end of the object. Raises AudioRejected like `Ranges.read`."""
        left = max(self._ranges.num_bytes - self._position, 0)
        wanted = left if size is None or size < 0 else min(size, left)
        if not wanted:
            return b""
        begin = self._position - self._start
        if begin < 0 or begin + wanted > len(self._buffer):
            self._fill(wanted, left, begin - len(self._buffer))
            begin = 0
        self._position += wanted
        return self._buffer[begin : begin + wanted]

    def readinto(self, buffer: Any, /) -> int:
        """What `read` gives, into a buffer."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _fill(self, wanted: int, left: int, jump: int) -> None:
        near = not self._buffer or -len(self._buffer) <= jump <= self._max_ahead // 4
        self._ahead = min(2 * self._ahead, self._max_ahead) if near else self._max_ahead // 64
        self._buffer = self._ranges.read(self._position, min(wanted + self._ahead, left))
        self._start = self._position
