"""Recordings inside other objects, written, planned and read."""

import io
import tarfile
import wave

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from w2vb_ray.config.sections import AudioSection, SourceSection
from w2vb_ray.embed.read import read_unit
from w2vb_ray.source import build_inventory

from .rows import planned

AUDIO = pa.struct({"bytes": pa.binary(), "path": pa.string()})


def noise(num_samples, seed):
    return np.random.default_rng(seed).integers(-5_000, 5_000, num_samples).astype("<i2")


def wav(samples):
    memory = io.BytesIO()
    with wave.open(memory, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(samples.tobytes())
    return memory.getvalue()


def write_tar(path, contents):
    with tarfile.open(path, "w") as file:
        for name, data in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            if data is None:
                info.type = tarfile.SYMTYPE
            file.addfile(info, io.BytesIO(data))
    return path


def rows_of(path, source_format="webdataset"):
    """A unit as planning would make it."""
    table = build_inventory(SourceSection(uri=str(path), format=source_format)).table
    names = {
        "id": "audio_uri",
        "uri": "audio_uri",
        "bytes": "source_bytes",
        "version": "source_version",
        "container": "container_uri",
        "part": "container_part",
        "offset": "member_offset",
    }
    return [{name: row[column] for name, column in names.items()} for row in table.to_pylist()]


def read(rows, **audio):
    """Member -> (samples or None, reason)."""
    table = read_unit(planned(rows), SourceSection(uri="x"), AudioSection(**audio))
    return {
        row["audio_uri"].rpartition("#")[2]: (
            None if row["waveform"] is None else np.frombuffer(row["waveform"], np.int16),
            row["reason"],
        )
        for row in table.to_pylist()
    }


def write_table(path, contents, part_rows=4, **options):
    table = pa.table({"audio": pa.array([{"bytes": data, "path": "x.wav"} for data in contents], AUDIO)})
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=part_rows, **options)
    else:
        with pa.OSFile(str(path), "wb") as out, pa.ipc.new_stream(out, table.schema) as file:
            file.write_table(table, max_chunksize=part_rows)
    return path
