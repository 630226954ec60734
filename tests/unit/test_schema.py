import io

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from w2vb_ray import schema

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


@settings(max_examples=40)
@given(UNITS, st.integers(1, 2), st.data())
def test_units_come_out_as_they_went_in(units, num_chunks, data):
    packed = pa.concat_tables(
        [schema.pack(table(rows, num_chunks), number) for number, rows in enumerate(units)]
        or [schema.pack(table([]), 0).slice(0, 0)]
    )
    assert packed.num_rows == len(units)
    start = data.draw(st.integers(0, len(units)))
    end = data.draw(st.integers(start, len(units)))
    for cut in (packed.slice(start, end - start), packed.combine_chunks().slice(start, end - start)):
        unpacked = schema.unpack(cut)
        assert [number for number, _ in unpacked] == list(range(start, end))
        for number, rows in unpacked:
            assert rows.schema.equals(COLUMNS)
            assert rows.to_pylist() == units[number]


def test_a_slice_of_a_table_packs_only_its_rows():
    rows = table([{"utterance_id": str(i), "waveform": bytes([i])} for i in range(6)]).slice(2, 3)
    ((number, unpacked),) = schema.unpack(schema.pack(rows, 7))
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
    assert schema.vector_columns("embedding", layers) == names
    assert [name for name in schema.utterances_schema(layers, pa.schema([])).names if name.startswith("emb")] == names
    assert [name.replace("frames", "embedding") for name in schema.frames_schema(layers).names[3:-2]] == names


def test_every_column_of_the_pipeline_is_reserved():
    tables = [schema.utterances_schema([0, 24], pa.schema([])), schema.frames_schema([0, 24]), schema.REJECTS]
    for fixed in (schema.INVENTORY, schema.PLANNED, *tables):
        assert set(fixed.names) - {"frame_rate_hz"} <= schema.RESERVED_COLUMNS


def test_own_columns_are_what_stands_beside_the_inventory():
    own = [pa.field("text", pa.string()), pa.field("speaker", pa.int64())]
    assert schema.extra_fields(pa.schema([*own[:1], *schema.INVENTORY, *own[1:]])) == pa.schema(own)
    assert schema.extra_fields(schema.INVENTORY) == pa.schema([])
