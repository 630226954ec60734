"""Encode stage: waveforms -> embeddings. One actor holds one model; a unit goes in and comes out whole."""

import time
from typing import Any, cast

import numpy as np
import pyarrow as pa

from w2vb_ray import schema
from w2vb_ray.config.embed import EmbedConfig
from w2vb_ray.embed.provenance import vectors_of
from w2vb_ray.embed.stage import Pulse, Watch, unwatched
from w2vb_ray.encoder import Embeddings, Encoder, load_encoder
from w2vb_ray.errors import RejectReason

WARM_UP_SAMPLES = 16_000


class EncodeUnits:
    """Ray callable around an encoder; the model loads once per actor.

    Args:
        config: the run's config, device and precision resolved.
        num_threads: CPU threads of this encoder.
        watch: who is told about its work.
    """

    def __init__(self, config: EmbedConfig, num_threads: int, watch: Watch = unwatched) -> None:
        self._watch = watch
        self._keep_frames = config.sink.frames
        self._encoder: Encoder = load_encoder(
            config.encoder, config.pooling, config.batching, config.audio, num_threads=num_threads
        )
        self._vectors = vectors_of(config, self._encoder.layers)
        # What is compiled or loaded at first use belongs to the start, and a broken model should show there.
        self._encoder.encode([np.zeros(WARM_UP_SAMPLES, np.int16)])

    def __call__(self, packed: pa.Table) -> pa.Table:
        """Packed decoded rows -> packed encoded rows, with the unit's cost in frames and seconds beside them."""
        return self._watch(packed, self._encode_units)

    def _encode_units(self, packed: pa.Table, pulse: Pulse) -> pa.Table:
        units = zip(schema.unpack(packed), packed["read_s"].to_pylist(), strict=True)
        return pa.concat_tables([self._encode_unit(unit, rows, read_s, pulse) for (unit, rows), read_s in units])

    def _encode_unit(self, unit: int, rows: pa.Table, read_s: float, pulse: Pulse) -> pa.Table:
        stats, started, started_at = self._encoder.stats, time.perf_counter(), time.time()
        num_frames, num_padding_frames = stats.num_frames, stats.num_padding_frames
        fine = np.flatnonzero(rows["reason"].is_null().to_numpy())
        waveforms = [waveform_of(rows, int(index)) for index in fine]
        found = self._encoder.encode(waveforms, keep_frames=self._keep_frames, on_batch=pulse)
        encode_s = time.perf_counter() - started
        encoded = with_embeddings(rows.drop_columns(["waveform", "sample_bytes"]), fine, found, self._vectors)
        return schema.with_costs(
            schema.pack(encoded, unit),
            num_frames=stats.num_frames - num_frames,
            num_padding_frames=stats.num_padding_frames - num_padding_frames,
            read_s=read_s,
            encode_s=encode_s,
            encode_started=started_at,
        )


def waveform_of(rows: pa.Table, index: int) -> np.ndarray:
    """(num_samples,) int16 or float32 view of one utterance's bytes."""
    kind = np.int16 if rows["sample_bytes"][index].as_py() == 2 else np.float32
    return np.frombuffer(rows["waveform"][index].as_buffer(), kind)


def with_embeddings(rows: pa.Table, fine: np.ndarray, found: list[Embeddings], vectors: schema.Vectors) -> pa.Table:
    """Add `num_frames` and the columns of vectors (and those of raw float32 frames when they were kept).

    Args:
        rows: (N) rows.
        fine: (M,) indices of the rows that were encoded.
        found: (M) embeddings, in the same order.
        vectors: what each holds. An utterance with a value that is not finite becomes a reject.
    """
    by_row: list[Embeddings | None] = [None] * rows.num_rows
    broken = np.zeros(rows.num_rows, bool)
    for index, embeddings in zip(fine, found, strict=True):
        by_row[index] = embeddings
        broken[index] = not all(np.isfinite(vector).all() for vector in embeddings.pooled)
    if broken.any():
        rows, by_row = _reject(rows, broken), [None if bad else e for e, bad in zip(by_row, broken, strict=True)]
    num_frames = pa.array([None if e is None else e.num_frames for e in by_row], pa.int32())
    rows = rows.append_column("num_frames", num_frames)
    for index, name in enumerate(vectors.embeddings):
        pooled = [None if e is None else e.pooled[index] for e in by_row]
        rows = rows.append_column(name, pa.array(pooled, schema.VECTOR))
    if any(e.frames is not None for e in found):
        for layer, name in enumerate(vectors.frames):
            raw = [None if e is None or e.frames is None else _bytes(e.frames[layer]) for e in by_row]
            rows = rows.append_column(name, pa.array(raw, pa.large_binary()))
    return rows


def _bytes(frames: np.ndarray) -> memoryview:
    return memoryview(cast(Any, np.ascontiguousarray(frames, np.float32))).cast("B")


def _reject(rows: pa.Table, broken: np.ndarray) -> pa.Table:
    for name, text in (
        ("reason", str(RejectReason.NON_FINITE)),
        ("detail", "the encoder gave NaN or infinity; fp16 may not hold its activations, bf16 and fp32 do"),
    ):
        column = rows[name].to_numpy().astype(object)
        column[broken] = text
        rows = rows.set_column(rows.column_names.index(name), name, pa.array(column, pa.string()))
    return rows
