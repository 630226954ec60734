"""Which tars `source.uri` means: one, a folder of them, a glob, or a brace pattern: `shard-{000000..000009}.tar`."""

import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice, product
from math import prod
from typing import NamedTuple, TypeVar

import pyarrow as pa

from w2vb_ray import storage
from w2vb_ray.config.sections import SourceSection
from w2vb_ray.errors import SourceError
from w2vb_ray.source import listing, versions
from w2vb_ray.source.access import not_found

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d{1,9})\.\.(\d{1,9})")
_COMPRESSED = re.compile(r"\.(tgz|tbz2?|txz|tar\.[a-z0-9]+)$", re.IGNORECASE)
_NUM_THREADS = 8  # tars that are indexed at the same time
_MAX_SHARDS = 1_000_000

R = TypeVar("R")


class Shards(NamedTuple):
    """Tars in the order of their names, the folder where path templates start, and how many other files were seen."""

    root: str
    entries: list[listing.Entry]
    num_skipped: int


def is_tar(uri: str) -> bool:
    """Whether the name is that of a tar, compressed or not."""
    return uri.lower().endswith(".tar") or _COMPRESSED.search(uri) is not None


def find(section: SourceSection) -> Shards:
    """List the tars of the source. One that is named and does not exist stays, with size None.

    Raises:
        SourceError: nothing there, no tar among the files, or a compressed one.
    """
    uri = storage.normalise(section.uri)
    if names := expand_braces(uri):
        return Shards(uri.partition("{")[0].rpartition("/")[0], _named(names, section), 0)
    place = listing.locate(uri, section.storage)
    if place.literal:
        return Shards(place.root, _named([uri], section), 0)
    files = [entry for entry in listing.walk(place, section.storage) if place.holds(entry.uri)]
    if not files:
        raise not_found(section.uri)
    _refuse_compressed([entry.uri for entry in files])
    # what a glob names is a tar, whatever it is called
    tars = [entry for entry in files if place.pattern is not None or is_tar(entry.uri)]
    if not tars:
        raise SourceError(
            f"`source.uri`: {section.uri} holds no .tar, but {len(files)} other file(s) such as {files[0].uri}."
        )
    return Shards(place.root, sorted(tars), len(files) - len(tars))


def _named(uris: list[str], section: SourceSection) -> list[listing.Entry]:
    _refuse_compressed(uris)
    entries = stat(uris, section)
    if all(entry.num_bytes is None for entry in entries):
        raise not_found(section.uri)
    return entries


def stat(uris: list[str], section: SourceSection) -> list[listing.Entry]:
    """Objects that are known by name, as a listing gives them; size None where there is none."""
    columns = [column.to_pylist() for column in versions.stat(pa.array(uris), section.storage)]
    return [listing.Entry(*row) for row in zip(uris, *columns, strict=True)]


def _refuse_compressed(uris: list[str]) -> None:
    if compressed := sorted(uri for uri in uris if _COMPRESSED.search(uri)):
        raise SourceError(
            f"`source.uri`: {compressed[0]} is compressed, so that no member can be read without all before it "
            f"({len(compressed)} such file(s)); decompress them to .tar, or leave them out with a glob."
        )


def expand_braces(uri: str) -> list[str]:
    """Every name that a pattern with `{000..127}` or `{train,dev}` stands for; none if it has no braces.

    Raises:
        SourceError: a range that ends before it begins, or too many names.
    """
    pieces = _BRACES.split(uri)
    choices = [[piece] if number % 2 == 0 else _choices(piece) for number, piece in enumerate(pieces)]
    if not 0 < prod(map(len, choices)) <= _MAX_SHARDS:
        raise SourceError(f"`source.uri`: {uri} must have ranges such as {{000000..000127}}, for {_MAX_SHARDS} names.")
    return ["".join(parts) for parts in product(*choices)] if len(pieces) > 1 else []


def _choices(inside: str) -> Sequence[str]:
    match = _RANGE.fullmatch(inside)
    if match is None:
        return inside.split(",")
    width, numbers = len(match[1]), range(int(match[1]), int(match[2]) + 1)
    return [f"{number:0{width}d}" for number in numbers[: _MAX_SHARDS + 1]]


def in_threads(function: Callable[[listing.Entry], R], entries: list[listing.Entry]) -> Iterator[R]:
    """Results in order, a bounded number of them ahead of the consumer."""
    remaining = iter(entries)
    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        waiting = deque(pool.submit(function, entry) for entry in islice(remaining, 2 * _NUM_THREADS))
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(pool.submit(function, entry) for entry in islice(remaining, 1))
            yield result
