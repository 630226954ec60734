"""Write stage: encoded units -> Parquet files under names never used before, and a descriptor for the driver.

A file that no commit names does not exist: a task that dies or runs twice leaves orphans, never duplicates.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from botocore.exceptions import BotoCoreError

from w2vb_ray import schema, storage
from w2vb_ray.arrow import pc
from w2vb_ray.embed.stage import Watch, unwatched
from w2vb_ray.embed.tables import FRAMES, REJECTS, UTTERANCES, DataFile, new_file, one_line, write_parquet
from w2vb_ray.errors import RETRIED_REASONS, SinkError

FRAME_RATE_HZ = 50.0
_LARGEST = np.uint32(0x7F7FE000).view(np.float32)
_COSTS = ("num_frames", "num_padding_frames", "read_s", "encode_s")


@dataclass(frozen=True, slots=True)
class WriteTask:
    """What a write task must know.

    Args:
        sink_uri: folder of the tables.
        options: fsspec options of its store.
        vectors: what the encoder made.
        run_id: goes into every row.
        properties: what made the vectors; goes into every file's metadata, for readers without Delta.
    """

    sink_uri: str
    options: Mapping[str, Any]
    vectors: schema.Vectors
    run_id: str
    properties: Mapping[str, str]


def write_units(packed: pa.Table, task: WriteTask, watch: Watch = unwatched) -> pa.Table:
    """Packed encoded rows -> files, one per table and language; returns one row of `schema.DESCRIPTOR`."""
    return watch(packed, lambda packed, _: _write_units(packed, task))


def _write_units(packed: pa.Table, task: WriteTask) -> pa.Table:
    started = time.perf_counter()
    units = schema.unpack(packed)
    rows = pa.concat_tables([rows for _, rows in units], promote_options="permissive")
    fine, rejected = rows.filter(pc.is_null(rows["reason"])), rows.filter(pc.is_valid(rows["reason"]))
    written = [
        *_write(UTTERANCES, _utterances(fine, task), task),
        *(_write(FRAMES, _frames(fine, task), task) if _has_frames(rows, task) else []),
        *_write(REJECTS, _rejects(rejected, task), task),
    ]
    retried = pa.array([str(reason) for reason in RETRIED_REASONS])
    final = rows.filter(pc.invert(pc.is_in(rows["reason"], retried)))  # a hiccup of the store keeps the earlier row
    descriptor = {
        "units": [unit for unit, _ in units],
        "files": [
            {"table": table, "path": f.path, "language": f.language, "num_rows": f.num_rows, "num_bytes": f.num_bytes}
            for table, f in written
        ],
        "replaced_utterances": final.filter(final["in_utterances"])["utterance_id"].to_pylist(),
        "replaced_rejects": rows.filter(rows["in_rejects"])["utterance_id"].to_pylist(),
        "outcomes": _outcomes(rows),
        "num_by_length": num_by_length(fine["duration_s"].to_numpy()),
        **{name: pc.sum(packed[name]).as_py() for name in _COSTS},
        "encode_started": pc.min(packed["encode_started"]).as_py(),
        "write_s": time.perf_counter() - started,
    }
    return pa.Table.from_pylist([descriptor], schema=schema.DESCRIPTOR)


def num_by_length(duration_s: np.ndarray) -> list[int]:
    """How many durations fall into each bin of `schema.LENGTH_EDGES_S`. (N,) -> (number of edges + 1)"""
    bins = np.searchsorted(schema.LENGTH_EDGES_S, duration_s, side="right")
    return np.bincount(bins, minlength=len(schema.LENGTH_EDGES_S) + 1).tolist()


def rounded(values: np.ndarray) -> np.ndarray:
    """float32 rounded to nearest-even at 10 mantissa bits: nearly float16's size on disk, float32's range and readers.

    Relative error at most 2^-11. Values must be finite, and stay so: beyond the largest number with 10 mantissa bits
    (0.9995 of float32's) they become it.
    """
    bits = np.clip(np.ascontiguousarray(values, np.float32), -_LARGEST, _LARGEST).view(np.uint32)
    dropped = 13
    half = np.uint32((1 << (dropped - 1)) - 1) + ((bits >> np.uint32(dropped)) & np.uint32(1))
    kept = np.uint32(0xFFFFFFFF << dropped & 0xFFFFFFFF)
    return ((bits + half) & kept).view(np.float32)


def _write(name: str, rows: pa.Table, task: WriteTask) -> list[tuple[str, DataFile]]:
    files: list[tuple[str, DataFile]] = []
    for language in pc.unique(rows["language"]).to_pylist():
        part = rows.filter(pc.equal(rows["language"], language)).drop_columns(["language"])
        files.append((name, write_file(name, part, language, task)))
    return files


def write_file(name: str, rows: pa.Table, language: str, task: WriteTask) -> DataFile:
    """Write rows of one language (without the language column) to a new file of a table."""
    path = new_file(language, task.run_id)
    metadata = {key.encode(): value.encode() for key, value in task.properties.items()}
    uri = storage.join(task.sink_uri, name, path)
    try:
        num_bytes = write_parquet(rows.replace_schema_metadata(metadata), uri, task.options)
    except (OSError, BotoCoreError) as err:
        raise SinkError(
            f"{uri} cannot be written: {one_line(err)}. What was committed before stays; mend what stands in the way "
            "(space, credentials, the store) and run the same command again"
        ) from err
    return DataFile(path, language, rows.num_rows, num_bytes)


def _utterances(rows: pa.Table, task: WriteTask) -> pa.Table:
    rows = rows.append_column(schema.RUN_ID, pa.array([task.run_id] * rows.num_rows, pa.string()))
    for name in task.vectors.embeddings:
        index = rows.column_names.index(name)
        rows = rows.set_column(index, pa.field(name, schema.VECTOR), _rounded_vectors(rows[name]))
    extra = pa.schema([field for field in rows.schema if field.name not in schema.RESERVED_COLUMNS])
    return rows.select(schema.utterances_schema(task.vectors, extra).names)


def _rounded_vectors(column: pa.ChunkedArray) -> pa.ListArray:
    vectors = column.combine_chunks()
    return pa.ListArray.from_arrays(vectors.offsets, pa.array(rounded(vectors.values.to_numpy(zero_copy_only=False))))


def _has_frames(rows: pa.Table, task: WriteTask) -> bool:
    return task.vectors.frames[0] in rows.column_names


def _frames(rows: pa.Table, task: WriteTask) -> pa.Table:
    columns: dict[str, pa.Array | pa.ChunkedArray] = {
        "utterance_id": rows["utterance_id"],
        "num_frames": rows["num_frames"],
        "frame_rate_hz": pa.array([FRAME_RATE_HZ] * rows.num_rows, pa.float64()),
        "run_id": pa.array([task.run_id] * rows.num_rows, pa.string()),
        "language": rows["language"],
    }
    for name in task.vectors.frames:
        columns[name] = _matrices(rows[name], rows["num_frames"].to_numpy())
    return pa.table(columns).select(schema.frames_schema(task.vectors).names)


def _matrices(raw: pa.ChunkedArray, num_frames: np.ndarray) -> pa.Array:
    """large_binary of (T, D) float32 -> list<list<float32>>, rounded."""
    flat = [np.frombuffer(matrix.as_buffer(), np.float32) for matrix in raw]
    if not flat:
        return pa.array([], schema.FRAMES)
    dimension = len(flat[0]) // int(num_frames[0])
    rows = np.concatenate([[0], np.cumsum(num_frames, dtype=np.int64)])
    if rows[-1] * dimension > np.iinfo(np.int32).max:  # 11.6 h of a 1024-d model
        raise SinkError(
            f"{rows[-1]:,} frames of {dimension} values are more than a list column of one file can hold; lower "
            "sink.units_per_file, plan.unit_audio_s or audio.max_duration_s"
        )
    offsets = np.arange(rows[-1] + 1, dtype=np.int64) * dimension
    vectors = pa.ListArray.from_arrays(_int32(offsets), pa.array(rounded(np.concatenate(flat))))
    return pa.ListArray.from_arrays(_int32(rows), vectors)


def _int32(values: np.ndarray) -> pa.Array:
    return pa.array(values.astype(np.int32))


def _rejects(rows: pa.Table, task: WriteTask) -> pa.Table:
    run_id = pa.array([task.run_id] * rows.num_rows, pa.string())
    return rows.append_column(schema.RUN_ID, run_id).select(schema.REJECTS.names)


def _outcomes(rows: pa.Table) -> list[dict[str, Any]]:
    grouped = rows.group_by(["language", "reason"]).aggregate([("utterance_id", "count"), ("duration_s", "sum")])
    grouped = grouped.rename_columns({"utterance_id_count": "count", "duration_s_sum": "audio_s"})
    return grouped.to_pylist()
