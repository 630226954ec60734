"""Rows of a unit whose audio lies inside other objects -> its bytes, or reject reasons. Neighbours share one read.

Nothing is extracted: a member is a range of its tar, a cell one of its table, and its name is never a path here. What
was read counts only if the container still is the planned one afterwards.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from fsspec import AbstractFileSystem

from w2vb_ray import storage
from w2vb_ray.audio import table_cells
from w2vb_ray.audio.ranges import Ranges
from w2vb_ray.config.sections import AudioSection, SourceSection
from w2vb_ray.errors import AudioRejected, RejectReason
from w2vb_ray.source import parquet, tar

Row = dict[str, Any]
Fetched = bytes | AudioRejected

READ_BYTES = 4 * 1024**2
"""Of neighbours in a tar that are read together, and of what lies between them at most `GAP_BYTES`: 512 clips of 30 kB
take 2.2 s from a store that answers after 30 ms, and 0.16 s like this (16 threads, 100 MB/s each)."""
GAP_BYTES = 256 * 1024


def batches(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows that one read serves: an object each, neighbours in a tar, rows of one part of a table."""
    found: list[list[Row]] = [[row] for row in rows if row["container_uri"] is None]
    inside = [row for row in rows if row["container_uri"] is not None]
    previous: list[Row] = []
    for row in sorted(inside, key=_place):
        if previous and _together(previous, row):
            previous.append(row)
        else:
            previous = [row]
            found.append(previous)
    return found


def _place(row: Row) -> tuple[str, int, int]:
    numbers = (row["container_part"], row["member_offset"])
    part, offset = (-1 if number is None else number for number in numbers)
    return row["container_uri"], part, offset


def _together(batch: list[Row], row: Row) -> bool:
    first, last = batch[0], batch[-1]
    if any(row[name] != first[name] for name in ("container_uri", "container_part")):
        return False
    if row["container_part"] is not None:
        return True
    if not (_is_range(first) and _is_range(row)):
        return False
    return _end(row) - first["member_offset"] <= READ_BYTES and row["member_offset"] - _end(last) <= GAP_BYTES


def _is_range(row: Row) -> bool:
    return row["member_offset"] is not None and row["source_bytes"] is not None


def _end(row: Row) -> int:
    return row["member_offset"] + row["source_bytes"]


def open_containers(rows: Sequence[Row], filesystems: Mapping[str, AbstractFileSystem]) -> dict[str, Ranges]:
    """Every container of the rows, by its URI."""
    found: dict[str, Ranges] = {}
    for row in rows:
        uri = row["container_uri"]
        if uri is not None and uri not in found:
            fs = filesystems[storage.protocol(uri)]
            version = row["source_version"].partition("#t=")[0]
            found[uri] = Ranges(fs, storage.fs_path(uri, fs), version)
    return found


def fetch_members(batch: Sequence[Row], container: Ranges, source: SourceSection, audio: AudioSection) -> list[Fetched]:
    """The bytes of one of `batches`, in order, of one container."""
    try:
        read = _read_ranges if batch[0]["container_part"] is None else _read_cells
        found = read(batch, container, source, audio)
        container.check_version()
        return found
    except AudioRejected as rejected:
        return [rejected] * len(batch)


def _read_cells(batch: Sequence[Row], container: Ranges, source: SourceSection, audio: AudioSection) -> list[Fetched]:
    """Cells of one part of a table."""
    file = table_cells.open_table(container)
    column = parquet.audio_column(file.schema, source.columns.get("audio"))
    if column is None:
        raise AudioRejected(RejectReason.UNDECODABLE, "the table has no column of audio")
    part = batch[0]["container_part"]
    if part == parquet.DAMAGED:
        for _ in file.parts(column):
            pass
        raise AudioRejected(RejectReason.UNREADABLE, "the table could not be read when it was planned")
    cells = file.cells(column, part, [row["member_offset"] for row in batch])
    return [_size_refusal(len(cell or b""), audio) or cell or b"" for cell in cells]


def _read_ranges(batch: Sequence[Row], container: Ranges, source: SourceSection, audio: AudioSection) -> list[Fetched]:
    """Neighbours in a tar."""
    refusals = [_refusal(row, container, audio) for row in batch]
    fine = [row for row, refusal in zip(batch, refusals, strict=True) if refusal is None]
    start = fine[0]["member_offset"] if fine else 0
    data = container.read(start, max(map(_end, fine)) - start) if fine else b""
    return [
        data[row["member_offset"] - start : _end(row) - start] if refusal is None else refusal
        for row, refusal in zip(batch, refusals, strict=True)
    ]


def _refusal(row: Row, container: Ranges, audio: AudioSection) -> AudioRejected | None:
    """Why a member of a tar is not read."""
    num_bytes, name = row["source_bytes"], row["audio_uri"][len(row["container_uri"]) + 1 :]
    if num_bytes is None:
        return _damage(row["member_offset"], container)
    if name.startswith("/") or ".." in name.split("/"):
        return AudioRejected(RejectReason.FORBIDDEN, f"the member's name points out of its tar: {name}")
    if row["member_offset"] is None:
        return AudioRejected(RejectReason.FORBIDDEN, "the member is a link, a device or sparse, not a plain file")
    if (refusal := _size_refusal(num_bytes, audio)) is not None:
        return refusal
    if _end(row) > container.num_bytes:
        return AudioRejected(
            RejectReason.TRUNCATED,
            f"the member ends at byte {_end(row)} of its tar, which has {container.num_bytes}",
        )
    return None


def _size_refusal(num_bytes: int, audio: AudioSection) -> AudioRejected | None:
    if num_bytes == 0:
        return AudioRejected(RejectReason.EMPTY, "0 bytes")
    if num_bytes > audio.max_bytes:
        return AudioRejected(
            RejectReason.TOO_LARGE, f"{num_bytes} bytes, more than audio.max_bytes ({audio.max_bytes})"
        )
    return None


def _damage(position: int, container: Ranges) -> AudioRejected:
    """Look again where no header could be read."""
    num_left = container.num_bytes - position
    block = container.read(position, min(tar.BLOCK_BYTES, num_left)) if num_left > 0 else b""
    container.check_version()
    if not block or tar.parse_header(block) is not None:
        return AudioRejected(RejectReason.UNREADABLE, f"the tar could not be read from byte {position} on when planned")
    return AudioRejected(
        RejectReason.TRUNCATED,
        f"no tar header at byte {position} of {container.num_bytes}: what comes behind it cannot be found",
    )
