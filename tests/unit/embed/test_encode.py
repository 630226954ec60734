import time

import numpy as np
import pyarrow as pa
import pytest

from w2vb_ray import schema
from w2vb_ray.embed import encode
from w2vb_ray.embed.encode import EncodeUnits, with_embeddings
from w2vb_ray.encoder import Embeddings
from w2vb_ray.encoder.base import PaddingStats

LAYERS = [0, 4]
VECTORS = schema.Vectors(LAYERS)
NAMES = ["embedding_layer_00", "embedding_layer_04"]


def rows(*reasons):
    """Decoded rows, without their audio."""
    return pa.table(
        {
            "utterance_id": [f"u{i}" for i in range(len(reasons))],
            "reason": pa.array(reasons, pa.string()),
            "detail": pa.array([reason and "why" for reason in reasons], pa.string()),
        }
    )


def embeddings(value, num_frames=2, *, frames=False):
    pooled = [np.full(3, value + layer, np.float32) for layer in LAYERS]
    matrices = [np.arange(num_frames * 3, dtype=np.float32).reshape(num_frames, 3) + value + layer for layer in LAYERS]
    return Embeddings(num_frames, pooled, matrices if frames else None)


def test_each_row_gets_its_own_vectors_and_rejects_none():
    found = with_embeddings(
        rows("empty", None, "missing", None), np.array([1, 3]), [embeddings(10), embeddings(20, 5)], VECTORS
    )
    assert found["utterance_id"].to_pylist() == ["u0", "u1", "u2", "u3"]
    assert found["reason"].to_pylist() == ["empty", None, "missing", None]
    assert found["detail"].to_pylist() == ["why", None, "why", None]
    assert found["num_frames"].to_pylist() == [None, 2, None, 5]
    assert found[NAMES[0]].to_pylist() == [None, [10.0] * 3, None, [20.0] * 3]
    assert found[NAMES[1]].to_pylist() == [None, [14.0] * 3, None, [24.0] * 3]
    assert found.schema.field(NAMES[0]).type == schema.VECTOR
    assert found.schema.field("num_frames").type == pa.int32()
    assert [name for name in found.column_names if name.startswith("frames")] == []


def test_frames_are_kept_as_raw_floats():
    found = with_embeddings(
        rows(None, "empty", None),
        np.array([0, 2]),
        [embeddings(1, 2, frames=True), embeddings(2, 4, frames=True)],
        VECTORS,
    )
    for layer, name in enumerate(("frames_layer_00", "frames_layer_04")):
        first, none, last = found[name].to_pylist()
        assert none is None
        for raw, value, num_frames in ((first, 1, 2), (last, 2, 4)):
            expected = embeddings(value, num_frames, frames=True).frames[layer]
            np.testing.assert_array_equal(np.frombuffer(raw, np.float32).reshape(-1, 3), expected)


def test_frames_that_are_a_view_are_stored_in_order():
    strided = np.arange(24, dtype=np.float32).reshape(4, 6)[:, ::2]
    found = with_embeddings(rows(None), np.array([0]), [Embeddings(4, [strided[0]], [strided])], schema.Vectors([4]))
    np.testing.assert_array_equal(np.frombuffer(found["frames"][0].as_py(), np.float32), strided.ravel())


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("layer", [0, 1])
def test_a_vector_that_is_not_finite_is_a_reject(bad, layer):
    broken = embeddings(1, frames=True)
    broken.pooled[layer][1] = bad
    found = with_embeddings(rows("empty", None, None), np.array([1, 2]), [broken, embeddings(2, frames=True)], VECTORS)
    assert found["reason"].to_pylist() == ["empty", "non_finite", None]
    assert found["detail"].to_pylist()[0] == "why"
    assert "bf16 and fp32" in found["detail"].to_pylist()[1]
    assert found["num_frames"].to_pylist() == [None, None, 2]
    for name in (*NAMES, "frames_layer_00", "frames_layer_04"):
        assert found[name].is_null().to_pylist() == [True, True, False]
    assert found.schema.field("reason").type == pa.string()


def test_nothing_fine_still_has_the_columns():
    for table in (rows("empty", "missing"), rows()):
        found = with_embeddings(table, np.array([], int), [], VECTORS)
        assert found.column_names == [*table.column_names, "num_frames", *NAMES]
        assert found["num_frames"].null_count == table.num_rows


class CountingEncoder:
    """Says of each waveform how long it is; counts frames like a real one."""

    layers = [4]

    def __init__(self):
        self.stats = PaddingStats()
        self.seen = []

    def encode(self, waveforms, *, keep_frames=False, on_batch=None):
        self.seen.append([waveform.tolist() for waveform in waveforms])
        self.stats.num_frames += 10 * len(waveforms)
        self.stats.num_padding_frames += 1
        return [
            Embeddings(len(w), [np.full(2, len(w), np.float32)], [np.ones((len(w), 2))] if keep_frames else None)
            for w in waveforms
        ]


def with_waveforms(unit, waveforms):
    raw = [None if waveform is None else waveform.tobytes() for waveform in waveforms]
    sizes = [None if waveform is None else waveform.itemsize for waveform in waveforms]
    unit = unit.append_column(schema.WAVEFORM, pa.array(raw, pa.large_binary()))
    return unit.append_column(schema.SAMPLE_BYTES, pa.array(sizes, pa.int8()))


@pytest.mark.parametrize("keep_frames", [False, True])
def test_units_go_in_and_come_out_whole_with_their_cost(monkeypatch, keep_frames):
    encoder = CountingEncoder()
    monkeypatch.setattr(encode, "load_encoder", lambda *_, **__: encoder)
    config = encode.EmbedConfig.model_validate({"source": {"uri": "x"}, "sink": {"uri": "y", "frames": keep_frames}})
    waveforms = [np.arange(3, dtype=np.int16), np.arange(1, dtype=np.float32), np.arange(2, dtype=np.int16)]
    units = [
        with_waveforms(rows(None, "empty", None), [waveforms[0], None, waveforms[1]]),
        with_waveforms(rows(None), [waveforms[2]]),
        with_waveforms(rows("empty"), [None]),
    ]
    stage, before = EncodeUnits(config, 1), time.time()
    encoder.seen.clear()  # of what warmed it up
    decoded = [schema.with_costs(schema.pack(unit, number + 5), read_s=number) for number, unit in enumerate(units)]
    done = [stage(unit) for unit in decoded]
    assert encoder.seen == [[[0, 1, 2], [0]], [[0, 1]], []]
    assert [table["num_frames"].to_pylist() for table in done] == [[20], [10], [0]]
    assert [table["num_padding_frames"].to_pylist() for table in done] == [[1], [1], [1]]
    assert all(table["encode_s"][0].as_py() >= 0 for table in done)
    assert [table["read_s"].to_pylist() for table in done] == [[0.0], [1.0], [2.0]]
    started = [table["encode_started"][0].as_py() for table in done]
    assert before <= started[0] <= started[1] <= started[2] <= time.time()
    unpacked = [schema.unpack(table)[0] for table in done]
    assert [number for number, _ in unpacked] == [5, 6, 7]
    assert [table["embedding"].to_pylist() for _, table in unpacked] == [
        [[3.0] * 2, None, [1.0] * 2],
        [[2.0] * 2],
        [None],
    ]
    assert all("waveform" not in table.column_names for _, table in unpacked)
    assert ["frames" in table.column_names for _, table in unpacked] == [keep_frames, keep_frames, False]
