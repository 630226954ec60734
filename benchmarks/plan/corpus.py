"""A manifest of N rows and a table that holds nearly all of them, without a byte of audio."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from deltalake import CommitProperties

from w2vb_ray import schema
from w2vb_ray.embed.tables import UTTERANCES, DataFile, Layout, Table, add_action, partition_path

LANGUAGES = 100
_ROWS = 250_000  # made at a time
_VECTORS = schema.Vectors([1])
_OWN = pa.schema([pa.field("text", pa.string()), pa.field("speaker", pa.string())])


@dataclass(frozen=True)
class Corpus:
    """Where a made-up corpus is.

    Args:
        folder: holds the manifest and `sink`, the tables.
        num_rows: of the manifest.
        held: share of the rows that the table has at the same version.
        kind: `parquet` or `csv`.
        rows_per_file: of the table.
    """

    folder: Path
    num_rows: int
    held: float
    kind: str
    rows_per_file: int

    @property
    def manifest(self) -> Path:
        """The manifest's file."""
        return self.folder / f"manifest.{self.kind}"

    @property
    def sink(self) -> Path:
        """Folder of the tables."""
        return self.folder / "sink"

    @property
    def is_made(self) -> bool:
        """Whether it is there."""
        return self._mark.exists()

    @property
    def _mark(self) -> Path:
        return self.folder / "_SUCCESS"

    def config(self) -> dict[str, Mapping[str, object]]:
        """Config of the job that embeds it."""
        return {"source": {"uri": str(self.manifest)}, "sink": {"uri": str(self.sink)}}

    def make(self) -> None:
        """Write manifest and table."""
        self.folder.mkdir(parents=True, exist_ok=True)
        table = Table(UTTERANCES, str(self.sink), {})
        columns = schema.utterances_schema(_VECTORS, _OWN)
        table.create(Layout(columns, {}), CommitProperties())
        files: list[DataFile] = []
        writer: pq.ParquetWriter | pa_csv.CSVWriter | None = None
        for start in range(0, self.num_rows, _ROWS):
            rows = _rows(start, min(_ROWS, self.num_rows - start))
            if writer is None:
                writer = (pq.ParquetWriter if self.kind == "parquet" else pa_csv.CSVWriter)(self.manifest, rows.schema)
            writer.write_table(rows)
            files += self._write_files(rows, start)
        assert writer is not None
        writer.close()
        table.append([add_action(file) for file in files], CommitProperties())
        self._mark.touch()

    def _write_files(self, rows: pa.Table, start: int) -> Iterator[DataFile]:
        """The rows that the table holds; a file has one language, as far as its path is concerned."""
        held = np.random.default_rng(start).random(rows.num_rows) < self.held
        stored = _stored(rows.filter(pa.array(held)))
        for first in range(0, stored.num_rows, self.rows_per_file):
            part = stored.slice(first, self.rows_per_file)
            language = _language((start + first) // self.rows_per_file % LANGUAGES)
            path = f"{partition_path(language)}/{start + first:012d}.parquet"
            file = self.sink / UTTERANCES / path
            file.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(part, file, compression="zstd", row_group_size=8192)
            yield DataFile(path, language, part.num_rows, file.stat().st_size)


def _rows(start: int, num_rows: int) -> pa.Table:
    """Rows as a corpus of clips in a store has them; ids are left to the job."""
    numbers = range(start, start + num_rows)
    rng = np.random.default_rng(start)
    return pa.table(
        {
            "path": [f"s3://speech-corpus/clips/{i // 10_000:06d}/utterance-{i:012d}.flac" for i in numbers],
            "source_version": [blake2b(b"%d" % i, digest_size=16).hexdigest() for i in numbers],
            "language": [_language(i) for i in rng.integers(0, LANGUAGES, num_rows)],
            "duration": np.round(rng.lognormal(1.5, 0.6, num_rows), 3),
            "text": [f"what was said in utterance {i}, word for word" for i in numbers],
            "speaker": [f"speaker-{i:05d}" for i in rng.integers(0, 50_000, num_rows)],
        }
    )


def _language(number: int) -> str:
    return f"l{number:02d}"


def _stored(rows: pa.Table) -> pa.Table:
    """The same rows as a run would have written them, with vectors of one value."""
    ids = [blake2b(uri.encode(), digest_size=16).hexdigest() for uri in rows["path"].to_pylist()]
    num_rows = rows.num_rows
    values = pa.array(np.zeros(num_rows, np.float32))
    made = {
        "utterance_id": pa.array(ids, pa.string()),
        "audio_uri": rows["path"],
        "source_version": rows["source_version"],
        "start_s": pa.array(np.zeros(num_rows)),
        "end_s": rows["duration"],
        "duration_s": rows["duration"],
        "sampling_rate": pa.array(np.full(num_rows, 16_000, np.int32)),
        "num_frames": pa.array(np.full(num_rows, 100, np.int32)),
        "embedding": pa.ListArray.from_arrays(pa.array(np.arange(num_rows + 1, dtype=np.int32)), values),
        "run_id": pa.array(["run"] * num_rows, pa.string()),
        "text": rows["text"],
        "speaker": rows["speaker"],
    }
    return pa.table(made)
