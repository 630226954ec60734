"""Rows for the tests of this folder: inventories, what tables hold, and what the stages hand on."""

import numpy as np
import pyarrow as pa

from w2vb_ray import schema
from w2vb_ray.arrow import pc
from w2vb_ray.embed.live import Held, Known, Live
from w2vb_ray.source import Batch

OWN = pa.field("text", pa.string())


def inventory(rows, own=(OWN,)):
    """Dicts -> an inventory; what a dict leaves out is made from its id."""
    full = [
        {
            "utterance_id": row["id"],
            "audio_uri": row.get("uri", f"/audio/{row['id']}.wav"),
            "source_version": row.get("version", "v1"),
            "source_bytes": row.get("bytes", 32_000),
            "start_s": row.get("start"),
            "end_s": row.get("end"),
            "announced_duration_s": row.get("duration"),
            "announced_sampling_rate": row.get("rate"),
            "announced_num_channels": None,
            "container_uri": row.get("container"),
            "container_part": row.get("part"),
            "member_offset": row.get("offset"),
            "language": row.get("language", "eng"),
            "text": f"text of {row['id']}",
        }
        for row in rows
    ]
    return pa.Table.from_pylist(full, schema=pa.schema([*schema.INVENTORY, *own]))


def planned(rows, reasons=()):
    """An inventory with what planning adds; `reasons` are set beforehand."""
    table = inventory(rows)
    flags = {
        "in_utterances": [row.get("in_utterances", False) for row in rows],
        "in_rejects": [row.get("in_rejects", False) for row in rows],
        "reason": [*reasons, *[None] * (len(rows) - len(reasons))],
        "detail": [None] * len(rows),
    }
    for field in schema.PLANNED:
        table = table.append_column(field, pa.array(flags[field.name], field.type))
    return table


def encoded(rows, layers=(4,), dimension=8, frames=False, seed=0):
    """Rows as they come out of the encoder; those with a `reason` have no vectors."""
    rng = np.random.default_rng(seed)
    vectors = schema.Vectors(layers)
    full, matrices = [], []
    for row in rows:
        fine = row.get("reason") is None
        num_frames = row.get("num_frames", 3)
        made = {
            "utterance_id": row["id"],
            "audio_uri": f"/audio/{row['id']}.wav",
            "source_version": row.get("version", "v1"),
            "language": row.get("language", "eng"),
            "text": f"text of {row['id']}",
            "in_utterances": row.get("in_utterances", False),
            "in_rejects": row.get("in_rejects", False),
            "start_s": 0.0 if fine else None,
            "end_s": 1.5 if fine else None,
            "reason": row.get("reason"),
            "detail": None if fine else "why",
            "duration_s": 1.5 if fine else None,
            "sampling_rate": 44_100 if fine else None,
            "num_frames": num_frames if fine else None,
        }
        for name in vectors.embeddings:
            made[name] = row.get(name, rng.standard_normal(dimension).astype(np.float32)) if fine else None
        full.append(made)
        matrices.append(rng.standard_normal((num_frames, dimension)).astype(np.float32).tobytes() if fine else None)
    types = {
        **{name: pa.string() for name in ("utterance_id", "audio_uri", "source_version", "language", "text")},
        **{"in_utterances": pa.bool_(), "in_rejects": pa.bool_(), "start_s": pa.float64(), "end_s": pa.float64()},
        **{"reason": pa.string(), "detail": pa.string(), "duration_s": pa.float64(), "sampling_rate": pa.int32()},
        "num_frames": pa.int32(),
        **dict.fromkeys(vectors.embeddings, schema.VECTOR),
    }
    table = pa.Table.from_pylist(full, schema=pa.schema(list(types.items())))
    if frames:
        for name in vectors.frames:
            table = table.append_column(name, pa.array(matrices, pa.large_binary()))
    return table


def packed(table, unit=0):
    """A unit as the encoder hands it to the writer, its costs beside it."""
    costs = {"num_frames": 10, "num_padding_frames": 2, "read_s": 0.25, "encode_s": 0.5}
    return schema.with_costs(schema.pack(table, unit), **costs, encode_started=1000.0 - unit)


def batches(table, duplicates=(), size=None):
    """An inventory in batches of so many rows, those with `duplicates` as ids last and by themselves."""
    repeated = pc.is_in(table["utterance_id"], pa.array(sorted(duplicates), pa.string()))
    for is_repeated, part in ((False, table.filter(pc.invert(repeated))), (True, table.filter(repeated))):
        for start in range(0, part.num_rows, size or max(1, part.num_rows)):
            yield Batch.of(part.slice(start, size), repeated=is_repeated)


def live(utterances=(), rejects=(), frames=None):
    """What the tables hold: `(id, version)`, `(id, version, reason)` and ids, each in a file named after it."""
    columns = ["utterance_id", "source_version", "reason"]

    def known(letter, rows):
        tables = [
            (row[0], pa.table({name: [value] for name, value in zip(columns, row, strict=False)})) for row in rows
        ]
        return Known.of(Held.of(table, f"{letter}/{id_}") for id_, table in tables)

    return Live(
        utterances=known("u", utterances),
        rejects=known("r", rejects),
        frames=None if frames is None else known("f", [(id_,) for id_ in frames]),
    )
