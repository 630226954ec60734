"""Read stage: a unit's URIs -> 16 kHz mono waveforms, or reject reasons. A bad utterance never stops its unit.

Fetches run ahead in threads, because a store answers slowly; decoding is one file at a time, in a process of its own,
because the task has one CPU and a file may crash its decoder.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from fsspec import AbstractFileSystem

from w2vb_ray import schema, storage
from w2vb_ray.audio.decode import RawFormat, Recording
from w2vb_ray.audio.fetch import fetch
from w2vb_ray.audio.isolated import decode
from w2vb_ray.audio.ranges import Ranges
from w2vb_ray.audio.resample import TARGET_RATE_HZ
from w2vb_ray.audio.segment import cut
from w2vb_ray.config.sections import AudioSection, SourceSection
from w2vb_ray.embed.members import Fetched, batches, fetch_members, open_containers
from w2vb_ray.embed.stage import Pulse, Watch, still, unwatched
from w2vb_ray.errors import AudioRejected, RejectReason
from w2vb_ray.source.identity import object_version

_FETCH_THREADS = 16
_AHEAD_BYTES = 128 * 1024**2  # fetched and not yet decoded; one larger object is fetched alone
DROPPED = (
    *("source_bytes", "announced_duration_s", "announced_sampling_rate", "announced_num_channels"),
    *("container_uri", "container_part", "member_offset"),
)


def read_units(packed: pa.Table, source: SourceSection, audio: AudioSection, watch: Watch = unwatched) -> pa.Table:
    """Packed planned rows -> packed decoded rows and what they cost; see `schema`."""

    def read(packed: pa.Table, pulse: Pulse) -> pa.Table:
        return pa.concat_tables(
            [_read_packed(unit, rows, source, audio, pulse) for unit, rows in schema.unpack_planned(packed)]
        )

    return watch(packed, read)


def _read_packed(unit: int, rows: pa.Table, source: SourceSection, audio: AudioSection, pulse: Pulse) -> pa.Table:
    started = time.perf_counter()
    decoded = read_unit(rows, source, audio, pulse)
    return schema.with_costs(schema.pack(decoded, unit), read_s=time.perf_counter() - started)


Row = dict[str, Any]
Pending = Future[list[Fetched]]


@dataclass(slots=True)
class _Decoded:
    """What reading made of one utterance."""

    waveform: np.ndarray | None = None
    start_s: float | None = None
    end_s: float | None = None
    sampling_rate: int | None = None
    reason: str | None = None
    detail: str | None = None


def read_unit(rows: pa.Table, source: SourceSection, audio: AudioSection, pulse: Pulse = still) -> pa.Table:
    """Fetch each recording once, decode it once, cut its segments; `pulse` is called after each.

    Returns:
        The rows in order, without the columns that only reading needs, with `waveform`, `sample_bytes`,
        `sampling_rate`, `duration_s`, and `reason` and `detail` where the utterance is rejected.
    """
    utterances = rows.select([*schema.INVENTORY.names, "reason", "detail"]).to_pylist()
    decoded = [_Decoded(reason=row["reason"], detail=row["detail"]) for row in utterances]
    by_recording: dict[str, list[int]] = {}
    for index, row in enumerate(utterances):
        if row["reason"] is None:
            by_recording.setdefault(row["audio_uri"], []).append(index)
    first_rows = [utterances[indices[0]] for indices in by_recording.values()]
    for row, recording in _recordings(first_rows, source, audio):
        for index in by_recording[row["audio_uri"]]:
            decoded[index] = _cut(recording, utterances[index])
        pulse()
    return _with_audio(rows, decoded)


def _recordings(
    rows: list[Row], source: SourceSection, audio: AudioSection
) -> Iterator[tuple[Row, Recording | AudioRejected]]:
    """Every row with its recording, those of one container together."""
    # One filesystem per protocol, shared by the threads: each instance of s3fs has its own connections.
    uris = {storage.protocol(uri): uri for uri in (row["container_uri"] or row["audio_uri"] for row in rows)}
    filesystems = {
        name: storage.filesystem(uri, storage.options_for(uri, source.uri, source.storage))
        for name, uri in uris.items()
    }
    containers = open_containers(rows, filesystems)
    with ThreadPoolExecutor(_FETCH_THREADS) as threads:
        fetched = _ahead(
            (batch, threads.submit(_fetch_batch, batch, filesystems, containers, source, audio))
            for batch in batches(rows)
        )
        for batch, future in fetched:
            for row, data in zip(batch, future.result(), strict=True):
                try:
                    if isinstance(data, AudioRejected):
                        raise data
                    raw = _raw_format(row, source)
                    yield row, decode(data, row["audio_uri"], audio, raw)
                except AudioRejected as rejected:
                    yield row, rejected


def _ahead(submissions: Iterable[tuple[list[Row], Pending]]) -> Iterator[tuple[list[Row], Pending]]:
    """Pass submissions on as they are done, a bounded number of them and of their bytes ahead of the consumer.

    A store that hangs holds up one thread; whoever waited for that one in its turn would hold up all.
    """
    waiting: dict[Pending, list[Row]] = {}
    for batch, future in submissions:
        waiting[future] = batch
        while len(waiting) >= _FETCH_THREADS or sum(map(_num_bytes, waiting.values())) > _AHEAD_BYTES:
            yield from _done(waiting)
    while waiting:
        yield from _done(waiting)


def _done(waiting: dict[Pending, list[Row]]) -> Iterator[tuple[list[Row], Pending]]:
    """Take out what is done, and wait for the first if nothing is."""
    for future in wait(waiting, return_when=FIRST_COMPLETED).done:
        yield waiting.pop(future), future


def _num_bytes(batch: list[Row]) -> int:
    return sum(max(row["source_bytes"] or 0, 0) for row in batch)


def _fetch_batch(
    batch: list[Row],
    filesystems: Mapping[str, AbstractFileSystem],
    containers: Mapping[str, Ranges],
    source: SourceSection,
    audio: AudioSection,
) -> list[Fetched]:
    container = containers.get(batch[0]["container_uri"])
    if container is not None:
        return fetch_members(batch, container, source, audio)
    try:
        return [_fetch(batch[0], filesystems, source, audio)]
    except AudioRejected as rejected:
        return [rejected]


def _fetch(
    row: Row, filesystems: Mapping[str, AbstractFileSystem], source: SourceSection, audio: AudioSection
) -> bytes:
    size = row["source_bytes"]
    if size is None:
        raise AudioRejected(RejectReason.MISSING, "the object does not exist")
    filesystem = filesystems[storage.protocol(row["audio_uri"])]
    path = storage.fs_path(row["audio_uri"], filesystem)
    looked_at = size >= 0  # else the manifest gave a version of its own, which says nothing here
    return fetch(
        filesystem,
        path,
        expected_bytes=size if looked_at else None,
        max_bytes=audio.max_bytes,
        version=object_version(row["source_version"]) if looked_at else None,
        etag_is_md5=source.etag_is_md5,
    )


def _raw_format(row: Row, source: SourceSection) -> RawFormat | None:
    if not row["audio_uri"].lower().endswith((".raw", ".pcm")):
        return None
    sampling_rate = row["announced_sampling_rate"] or source.raw_sampling_rate
    if sampling_rate is None:
        raise AudioRejected(
            RejectReason.UNDECODABLE, "headerless PCM with no sampling rate; set source.raw_sampling_rate"
        )
    return RawFormat(sampling_rate, row["announced_num_channels"] or source.raw_num_channels)


def _cut(recording: Recording | AudioRejected, row: Row) -> _Decoded:
    try:
        if isinstance(recording, AudioRejected):
            raise recording
        waveform, start_s, end_s = cut(recording, row["start_s"], row["end_s"])
    except AudioRejected as rejected:
        return _Decoded(reason=str(rejected.reason), detail=rejected.detail)
    return _Decoded(waveform, start_s, end_s, recording.sampling_rate)


def _with_audio(rows: pa.Table, decoded: list[_Decoded]) -> pa.Table:
    duration_s = [None if d.waveform is None else len(d.waveform) / TARGET_RATE_HZ for d in decoded]
    columns = {
        "start_s": pa.array([d.start_s for d in decoded], pa.float64()),
        "end_s": pa.array([d.end_s for d in decoded], pa.float64()),
        "reason": pa.array([d.reason for d in decoded], pa.string()),
        "detail": pa.array([d.detail for d in decoded], pa.string()),
        "duration_s": pa.array(duration_s, pa.float64()),
        "sampling_rate": pa.array([d.sampling_rate for d in decoded], pa.int32()),
        "waveform": _bytes_column([d.waveform for d in decoded]),
        "sample_bytes": pa.array([None if d.waveform is None else d.waveform.itemsize for d in decoded], pa.int8()),
    }
    kept = rows.drop_columns([*DROPPED, *(name for name in columns if name in rows.column_names)])
    for name, column in columns.items():
        kept = kept.append_column(name, column)
    return kept


def _bytes_column(waveforms: list[np.ndarray | None]) -> pa.LargeBinaryArray:
    """Waveforms as large_binary, null where there is none."""
    sizes = np.array([0 if waveform is None else waveform.nbytes for waveform in waveforms], np.int64)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    present = [waveform.view(np.uint8) for waveform in waveforms if waveform is not None]
    values = np.concatenate(present) if present else np.empty(0, np.uint8)
    valid = pa.array([waveform is not None for waveform in waveforms], pa.bool_()).buffers()[1]
    return pa.Array.from_buffers(pa.large_binary(), len(sizes), [valid, pa.py_buffer(offsets), pa.py_buffer(values)])
