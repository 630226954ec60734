"""All objects under a prefix of an S3 bucket: pages of a listing, several at a time, none of them kept.

A listing is a chain of pages of 1000 keys, each asked for with what the one before ended in. Where one page is not
all, the folders found at the top cut the keys into ranges, and each range is a chain of its own.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, TypeAlias, cast

from fsspec import AbstractFileSystem

Object: TypeAlias = tuple[str, dict[str, Any]]
"""A key relative to the prefix, and its entry of the listing (`Size`, `ETag`, `LastModified`)."""

NUM_THREADS = 16
NUM_RANGES = 64  # more than threads, since no two folders are of one size
_FOLDER_LEVELS = 3
_FOLDER_PAGES = 5  # of one folder: a folder of a million files has no folders worth looking for
_UNSORTED = "--x-s3"  # directory buckets list in no order and know no start


@dataclass(frozen=True)
class _Range:
    """Keys after `start` and before `end` (None: to the last), from the page that `token` names on."""

    start: str
    end: str | None
    token: str | None = None


def objects(fs: AbstractFileSystem, path: str) -> Iterator[Object]:
    """Every object under `bucket/folder`, in no particular order; at most `NUM_THREADS` pages are in memory.

    Raises:
        OSError, botocore exceptions: the store does not give a page.
    """
    bucket, key, _ = cast(Any, fs).split_path(path)
    listing = _Listing(fs, bucket, f"{key}/" if key else "")
    first = listing.page(_Range("", None))
    found = list(listing.within(first, _Range("", None)))
    yield from found
    if not first["IsTruncated"]:
        return
    if bucket.endswith(_UNSORTED):
        yield from listing.pages([_Range("", None, first["NextContinuationToken"])])
        return
    last = first["Contents"][-1]["Key"]
    yield from listing.pages(_ranges(last, listing.folders()))


def first_folders(fs: AbstractFileSystem, path: str) -> list[str]:
    """Names of folders in `bucket/folder` that the first page of a listing shows."""
    bucket, key, _ = cast(Any, fs).split_path(path)
    prefix = f"{key}/" if key else ""
    page = _Listing(fs, bucket, prefix).page(_Range("", None), prefix, "/")
    return [folder["Prefix"][len(prefix) :].rstrip("/") for folder in page.get("CommonPrefixes", [])]


def first_files(fs: AbstractFileSystem, path: str) -> list[str]:
    """Names of objects directly in `bucket/folder` that the first page of a listing shows."""
    bucket, key, _ = cast(Any, fs).split_path(path)
    prefix = f"{key}/" if key else ""
    page = _Listing(fs, bucket, prefix).page(_Range("", None), prefix, "/")
    return [name for info in page.get("Contents", []) if (name := info["Key"][len(prefix) :])]


def _ranges(after: str, folders: list[str]) -> list[_Range]:
    """The keys after one, cut at up to `NUM_RANGES` folders."""
    later = sorted(folder for folder in folders if folder > after)
    bounds = [after, *later[:: max(1, -(-len(later) // NUM_RANGES))]]
    return [_Range(start, end) for start, end in zip(bounds, [*bounds[1:], None], strict=True)]


@dataclass(frozen=True)
class _Listing:
    """Pages of one prefix."""

    fs: AbstractFileSystem
    bucket: str
    prefix: str

    def page(self, keys: _Range, prefix: str | None = None, delimiter: str = "") -> dict[str, Any]:
        where = {"ContinuationToken": keys.token} if keys.token else {"StartAfter": keys.start} if keys.start else {}
        folder = {"Delimiter": delimiter} if delimiter else {}
        store = cast(Any, self.fs)
        prefix = self.prefix if prefix is None else prefix
        return store.call_s3("list_objects_v2", Bucket=self.bucket, Prefix=prefix, **where, **folder, **store.req_kw)

    def within(self, page: dict[str, Any], keys: _Range) -> Iterator[Object]:
        """The page's objects that belong to the range, by their relative keys."""
        for info in page.get("Contents", []):
            if keys.end is None or info["Key"] < keys.end:
                yield info["Key"][len(self.prefix) :], info

    def pages(self, ranges: Iterable[_Range]) -> Iterator[Object]:
        """The objects of all ranges, `NUM_THREADS` pages at a time."""
        waiting = deque(ranges)
        running: dict[Future[dict[str, Any]], _Range] = {}
        with ThreadPoolExecutor(NUM_THREADS) as threads:
            while waiting or running:
                while waiting and len(running) < NUM_THREADS:
                    keys = waiting.popleft()
                    running[threads.submit(self.page, keys)] = keys
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    page, keys = future.result(), running.pop(future)
                    if _goes_on(page, keys):
                        waiting.appendleft(replace(keys, token=page["NextContinuationToken"]))
                    yield from self.within(page, keys)

    def folders(self) -> list[str]:
        """Prefixes of folders at the top, level by level, until there are as many as ranges are wanted."""
        found: list[str] = []
        level = [self.prefix]
        with ThreadPoolExecutor(NUM_THREADS) as threads:
            for _ in range(_FOLDER_LEVELS):
                level = list(chain.from_iterable(threads.map(self._folders_in, level)))
                found += level
                if not level or len(found) >= NUM_RANGES:
                    break
        return found

    def _folders_in(self, prefix: str) -> list[str]:
        found: list[str] = []
        keys = _Range("", None)
        for _ in range(_FOLDER_PAGES):
            page = self.page(keys, prefix, "/")
            found += [folder["Prefix"] for folder in page.get("CommonPrefixes", [])]
            if not page["IsTruncated"]:
                break
            keys = replace(keys, token=page["NextContinuationToken"])
        return found


def _goes_on(page: dict[str, Any], keys: _Range) -> bool:
    contents = page.get("Contents", [])
    return page["IsTruncated"] and (keys.end is None or not contents or contents[-1]["Key"] < keys.end)
