import io
from typing import get_args

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from w2vb_ray import schema
from w2vb_ray.config.sections import PoolingMethod

COLUMNS = pa.schema(
    [
        pa.field("utterance_id", pa.string(), nullable=False),
        pa.field("start_s", pa.float64()),
        pa.field("speaker", pa.struct([("name", pa.string()), ("tags", pa.list_(pa.string()))])),
        pa.field("embedding", schema.VECTOR),
        schema.WAVEFORM,
    ]
)
ROW = st.fixed_dictionaries(
    {
        "utterance_id": st.text(max_size=3),
        "start_s": st.none() | st.floats(0, 9),
        "speaker": st.none()
        | st.fixed_dictionaries(
            {"name": st.none() | st.text(max_size=2), "tags": st.lists(st.text(max_size=2), max_size=2)}
        ),
        "embedding": st.none() | st.lists(st.floats(0, 1, width=32), max_size=3),
        "waveform": st.none() | st.binary(max_size=6),
    }
)
UNITS = st.lists(st.lists(ROW, max_size=4), max_size=4)


def table(rows, num_chunks=1):
    whole = pa.Table.from_pylist(rows, schema=COLUMNS)
    if num_chunks == 1:
        return whole
    middle = len(rows) // 2
    return pa.concat_tables([whole.slice(0, middle), whole.slice(middle)])


PACKINGS = [(schema.pack, schema.unpack), (schema.pack_planned, schema.unpack_planned)]


@pytest.mark.parametrize(("pack", "unpack"), PACKINGS)
@settings(max_examples=40)
@given(UNITS, st.integers(1, 2), st.data())
def test_units_come_out_as_they_went_in(pack, unpack, units, num_chunks, data):
    packed = pa.concat_tables(
        [pack(table(rows, num_chunks), number) for number, rows in enumerate(units)] or [pack(table([]), 0).slice(0, 0)]
    )
    assert packed.num_rows == len(units)
    start = data.draw(st.integers(0, len(units)))
    end = data.draw(st.integers(start, len(units)))
    for cut in (packed.slice(start, end - start), packed.combine_chunks().slice(start, end - start)):
        unpacked = unpack(cut)
        assert [number for number, _ in unpacked] == list(range(start, end))
        for number, rows in unpacked:
            assert rows.schema.equals(COLUMNS)
            assert rows.to_pylist() == units[number]


@pytest.mark.parametrize(("pack", "unpack"), PACKINGS)
def test_a_slice_of_a_table_packs_only_its_rows(pack, unpack):
    rows = table([{"utterance_id": str(i), "waveform": bytes([i])} for i in range(6)]).slice(2, 3)
    ((number, unpacked),) = unpack(pack(rows, 7))
    assert number == 7
    assert unpacked.to_pylist() == rows.to_pylist()


def test_the_way_between_processes_changes_nothing():
    packed = pa.concat_tables(
        [schema.pack(table([{"utterance_id": str(i), "waveform": b"xy"}] * i), i) for i in range(4)]
    )
    memory = io.BytesIO()
    with pa.ipc.new_stream(memory, packed.schema) as stream:
        stream.write_table(packed.slice(1, 2))
    received = pa.ipc.open_stream(memory.getvalue()).read_all()
    assert [(number, rows.to_pylist()) for number, rows in schema.unpack(received)] == [
        (number, rows.to_pylist()) for number, rows in schema.unpack(packed)[1:3]
    ]


def test_planned_units_are_small():
    rows = table(
        [{"utterance_id": f"s3://speech/deu/2026/recording-{i:07d}.flac", "waveform": b""} for i in range(512)]
    )
    packed = schema.pack_planned(rows, 0)
    assert packed.nbytes < rows.nbytes / 4


def test_unpacking_copies_no_audio():
    packed = schema.pack(table([{"utterance_id": "a", "waveform": bytes(10_000)}] * 8), 0)
    before = pa.total_allocated_bytes()
    unpacked = schema.unpack(packed)
    assert pa.total_allocated_bytes() - before < 10_000
    assert unpacked[0][1].num_rows == 8


@pytest.mark.parametrize(
    ("layers", "names"),
    [
        ([24], ["embedding"]),
        ([0], ["embedding"]),
        ([8, 16], ["embedding_layer_08", "embedding_layer_16"]),
        ([16, 0], ["embedding_layer_16", "embedding_layer_00"]),
    ],
)
def test_one_layer_has_the_bare_name_several_have_numbers(layers, names):
    vectors = schema.Vectors(layers)
    assert vectors.embeddings == names
    assert [name for name in schema.utterances_schema(vectors, pa.schema([])).names if name.startswith("emb")] == names
    assert [name.replace("frames", "embedding") for name in schema.frames_schema(vectors).names[3:-2]] == names


def test_several_methods_stand_side_by_side_layer_after_layer():
    names = ["embedding_max_layer_16", "embedding_mean_layer_16", "embedding_max_layer_00", "embedding_mean_layer_00"]
    assert schema.Vectors([16, 0], ["max", "mean"]).embeddings == names
    assert schema.Vectors([16, 0], ["max", "mean"]).frames == ["frames_layer_16", "frames_layer_00"]
    assert schema.Vectors([0], ["max", "mean"]).embeddings == ["embedding_max", "embedding_mean"]


def test_a_mixture_of_layers_is_one():
    assert schema.Vectors([16, 0], mixed=True).embeddings == ["embedding"]
    assert schema.Vectors([16, 0], ["max", "mean"], mixed=True).embeddings == ["embedding_max", "embedding_mean"]
    assert schema.Vectors([16, 0], ["max", "mean"], mixed=True).frames == ["frames"]


def test_every_column_of_the_pipeline_is_reserved():
    methods = get_args(PoolingMethod)
    made = [schema.Vectors(layers, some) for layers in ([0, 24], [0]) for some in (methods, methods[:1])]
    tables = [schema.utterances_schema(vectors, pa.schema([])) for vectors in made]
    tables += [schema.frames_schema(vectors) for vectors in made]
    for fixed in (schema.INVENTORY, schema.PLANNED, schema.REJECTS, *tables):
        assert set(fixed.names) - {"frame_rate_hz"} <= schema.RESERVED_COLUMNS


def test_own_columns_are_what_stands_beside_the_inventory():
    own = [pa.field("text", pa.string()), pa.field("speaker", pa.int64())]
    assert schema.extra_fields(pa.schema([*own[:1], *schema.INVENTORY, *own[1:]])) == pa.schema(own)
    assert schema.extra_fields(schema.INVENTORY) == pa.schema([])
