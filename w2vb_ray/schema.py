"""The Arrow schema of every step and table. A new column starts here.

An utterance flows as one row that only gains columns:

    inventory  source -> plan       what exists: id, URI, version, segment, language, the source's own columns;
                                    or a reject reason, where the source alone can tell
    decoded    read -> encode       + waveform, measured duration; or a reject reason
    encoded    encode -> write      + embeddings (and frames); or a reject reason

The source's own columns (`text`, `speaker`, …) stand beside the fixed ones; their names never collide
with `RESERVED_COLUMNS` because `source/` renames them to `source_<name>`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

INVENTORY = pa.schema(
    [
        pa.field("utterance_id", pa.string(), nullable=False),
        pa.field("audio_uri", pa.string(), nullable=False),
        pa.field("source_version", pa.string(), nullable=False),
        # null: the object does not exist; -1: its size is not known. Of a table's row: the mean of its part
        pa.field("source_bytes", pa.int64()),
        pa.field("start_s", pa.float64()),  # null: from the beginning
        pa.field("end_s", pa.float64()),  # null: to the end
        pa.field("announced_duration_s", pa.float64()),  # null: not known before decoding
        pa.field("announced_sampling_rate", pa.int32()),  # only for headerless PCM
        pa.field("announced_num_channels", pa.int32()),  # only for headerless PCM
        pa.field("container_uri", pa.string()),  # the object that holds the audio; null: `audio_uri` is one itself
        pa.field("container_part", pa.int64()),  # of a table, see `audio.table_cells`; null: a tar
        pa.field("member_offset", pa.int64()),  # row of the part, or byte of the tar where the member's data begins
        pa.field("language", pa.string(), nullable=False),
    ]
)

WAVEFORM = pa.field("waveform", pa.large_binary())  # 16 kHz mono samples, little-endian; null when rejected
SAMPLE_BYTES = pa.field("sample_bytes", pa.int8())  # 2: int16, where that is exact; 4: float32 with full scale 1
REASON = pa.field("reason", pa.string())  # null when the utterance is fine
DETAIL = pa.field("detail", pa.string())

UTTERANCES_HEAD = pa.schema(
    [
        pa.field("utterance_id", pa.string()),
        pa.field("audio_uri", pa.string()),
        pa.field("source_version", pa.string()),
        pa.field("start_s", pa.float64()),
        pa.field("end_s", pa.float64()),
        pa.field("duration_s", pa.float64()),
        pa.field("sampling_rate", pa.int32()),  # of the source file, Hz
        pa.field("num_frames", pa.int32()),
    ]
)
RUN_ID = pa.field("run_id", pa.string())
LANGUAGE = pa.field("language", pa.string())

REJECTS = pa.schema(
    [
        pa.field("utterance_id", pa.string()),
        pa.field("audio_uri", pa.string()),
        pa.field("source_version", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("detail", pa.string()),
        RUN_ID,
        LANGUAGE,
    ]
)

VECTOR = pa.list_(pa.float32())
FRAMES = pa.list_(pa.list_(pa.float32()))


@dataclass(frozen=True, slots=True)
class Vectors:
    """Which vectors a run makes of each utterance, and what their columns are called.

    Args:
        layers: kept hidden layers, non-negative, 0 being the input of the first layer.
        methods: how they are pooled.
        mixed: the layers are mixed into one.
    """

    layers: Sequence[int]
    methods: Sequence[str] = ("mean",)
    mixed: bool = False

    @property
    def embeddings(self) -> list[str]:
        """`embedding`, or `embedding_layer_08`, `embedding_max` or `embedding_max_layer_08` where there are several
        layers, methods or both. The first layer by every method, then the next layer."""
        prefixes = ["embedding"] if len(self.methods) == 1 else [f"embedding_{method}" for method in self.methods]
        return [prefix + suffix for suffix in self._suffixes for prefix in prefixes]

    @property
    def frames(self) -> list[str]:
        """`frames`, or `frames_layer_08` where there are several layers."""
        return [f"frames{suffix}" for suffix in self._suffixes]

    @property
    def _suffixes(self) -> list[str]:
        return [""] if self.mixed or len(self.layers) == 1 else [f"_layer_{layer:02d}" for layer in self.layers]


PLANNED = pa.schema(
    [
        pa.field("in_utterances", pa.bool_()),  # an earlier row of this id is to be replaced
        pa.field("in_rejects", pa.bool_()),
        REASON,  # set where planning alone can reject
        DETAIL,
    ]
)
"""What planning adds to the inventory's columns."""

_LAYERS = range(100)
_METHODS = ("mean", "mean_std", "max", "attention")
RESERVED_COLUMNS = frozenset(
    {*INVENTORY.names, *PLANNED.names, *UTTERANCES_HEAD.names, *REJECTS.names}
    | {WAVEFORM.name, SAMPLE_BYTES.name}
    | {name for layers in (_LAYERS, [0]) for name in Vectors(layers).embeddings + Vectors(layers).frames}
    | {name for layers in (_LAYERS, [0]) for name in Vectors(layers, _METHODS).embeddings}
)
"""Names that a source's own columns cannot have."""


def utterances_schema(vectors: Vectors, extra: pa.Schema) -> pa.Schema:
    """Schema of the `utterances` table: fixed head, the run's vectors, the source's own columns, language."""
    embeddings = [pa.field(name, VECTOR) for name in vectors.embeddings]
    return pa.schema([*UTTERANCES_HEAD, *embeddings, RUN_ID, *extra, LANGUAGE])


def frames_schema(vectors: Vectors) -> pa.Schema:
    """Schema of the `frames` table: one (T, D) matrix per kept layer and utterance."""
    matrices = [pa.field(name, FRAMES) for name in vectors.frames]
    head = [
        pa.field("utterance_id", pa.string()),
        pa.field("num_frames", pa.int32()),
        pa.field("frame_rate_hz", pa.float64()),
    ]
    return pa.schema([*head, *matrices, RUN_ID, LANGUAGE])


def extra_fields(inventory: pa.Schema) -> pa.Schema:
    """The source's own columns: whatever stands beside the fixed inventory columns."""
    return pa.schema([field for field in inventory if field.name not in (*INVENTORY.names, *PLANNED.names)])


DESCRIPTOR = pa.schema(
    [
        pa.field("units", pa.list_(pa.int64())),
        pa.field(
            "files",
            pa.list_(
                pa.struct(
                    [
                        pa.field("table", pa.string()),
                        pa.field("path", pa.string()),  # relative to the table
                        pa.field("language", pa.string()),
                        pa.field("num_rows", pa.int64()),
                        pa.field("num_bytes", pa.int64()),
                    ]
                )
            ),
        ),
        pa.field("replaced_utterances", pa.list_(pa.string())),  # ids whose earlier rows this commit removes
        pa.field("replaced_rejects", pa.list_(pa.string())),
        pa.field(
            "outcomes",
            pa.list_(
                pa.struct(
                    [
                        pa.field("language", pa.string()),
                        pa.field("reason", pa.string()),  # null: embedded
                        pa.field("count", pa.int64()),
                        pa.field("audio_s", pa.float64()),
                    ]
                )
            ),
        ),
        pa.field("num_by_length", pa.list_(pa.int64())),  # embedded utterances by duration, see `LENGTH_EDGES_S`
        pa.field("num_frames", pa.int64()),  # real 20 ms frames through the encoder
        pa.field("num_padding_frames", pa.int64()),  # frames of padding beside them
        pa.field("read_s", pa.float64()),  # seconds that read tasks, encoders and the write task worked on it
        pa.field("encode_s", pa.float64()),
        pa.field("write_s", pa.float64()),
        pa.field("encode_started", pa.float64()),  # Unix time when the first of its units reached an encoder
    ]
)
"""What a write task hands to the driver: the files it made and what is in them, never the vectors."""


LENGTH_EDGES_S = (0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 7.0, 10.0, 15.0, 20.0, 30.0, 60.0, 300.0, 3600.0)
"""Where the bins of a run's histogram of durations meet, in seconds; the first and the last bin are open."""


def with_costs(packed: pa.Table, **costs: float) -> pa.Table:
    """Put what a packed unit cost beside it, in columns of the descriptor."""
    for name, value in costs.items():
        packed = packed.append_column(name, pa.array([value], DESCRIPTOR.field(name).type))
    return packed


def pack(table: pa.Table, unit: int) -> pa.Table:
    """All rows of a unit as ONE row, `(unit, rows: list<struct>)`, so that Ray can neither split nor glue them.

    Args:
        table: the unit's utterances.
        unit: its number in the plan.
    """
    struct = pa.StructArray.from_arrays(
        [column.combine_chunks() if column.num_chunks != 1 else column.chunk(0) for column in table.columns],
        fields=list(table.schema),
    )
    rows = pa.ListArray.from_arrays(pa.array([0, len(struct)], pa.int32()), struct)
    return pa.table({"unit": pa.array([unit], pa.int64()), "rows": rows})


def unpack(packed: pa.Table) -> list[tuple[int, pa.Table]]:
    """Inverse of `pack`, for any number of packed rows: (unit, its rows). Copies nothing."""
    units: list[tuple[int, pa.Table]] = []
    for batch in packed.to_batches():
        numbers, lists = batch.column("unit"), batch.column("rows")
        for index, unit in enumerate(numbers.to_pylist()):
            start, end = lists.offsets[index].as_py(), lists.offsets[index + 1].as_py()
            struct = lists.values.slice(start, end - start)
            units.append((unit, pa.table(struct.flatten(), schema=pa.schema(list(struct.type)))))
    return units


def pack_planned(table: pa.Table, unit: int) -> pa.Table:
    """As `pack`, with the rows as one compressed Arrow stream: all units of a run wait in Ray's object store at once.

    URIs that begin alike make a fifth to a tenth of it.
    """
    stream = pa.BufferOutputStream()
    with pa.ipc.new_stream(stream, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table)
    rows = pa.array([stream.getvalue().to_pybytes()], pa.large_binary())
    return pa.table({"unit": pa.array([unit], pa.int64()), "rows": rows})


def unpack_planned(packed: pa.Table) -> list[tuple[int, pa.Table]]:
    """Inverse of `pack_planned`, for any number of packed rows."""
    streams = (scalar.as_buffer() for column in packed["rows"].chunks for scalar in column)
    return [
        (unit, pa.ipc.open_stream(stream).read_all())
        for unit, stream in zip(packed["unit"].to_pylist(), streams, strict=True)
    ]
