"""The corpus of a run: every utterance of the source, how long it is, or why it cannot be read.

Decoded once, on the cluster, before the first update, since most sources do not say how long their recordings are and
none says which are broken. The result lies beside the run, and is made again when the source has changed.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray

from w2vb_ray import storage
from w2vb_ray.config.pretrain import PretrainConfig
from w2vb_ray.embed.read import read_unit
from w2vb_ray.errors import SourceError
from w2vb_ray.runtime.data import RETRIES, configure_data
from w2vb_ray.source import build_inventory

FILE = "corpus.parquet"
_CHUNK_ROWS = 256
_DIGEST = b"w2vb.digest"
_MEASURED = ("duration_s", "reason", "detail")


@dataclass(frozen=True, slots=True)
class Corpus:
    """Utterances that a plan is made of.

    Args:
        table: `schema.INVENTORY` and the source's own columns, with `duration_s`, `reason` and `detail`.
        digest: of what they are and how they are read; another one is another corpus.
    """

    table: pa.Table
    digest: str

    @property
    def durations_s(self) -> np.ndarray:
        """(N,), NaN where an utterance is rejected."""
        return self.table["duration_s"].to_numpy(zero_copy_only=False).astype(np.float64)

    @property
    def languages(self) -> np.ndarray:
        """(N,)"""
        return self.table["language"].to_numpy(zero_copy_only=False)

    @property
    def rejects(self) -> dict[str, int]:
        """How many utterances there are of each reason."""
        found = self.table["reason"].drop_null().value_counts().to_pylist()
        return {one["values"]: one["counts"] for one in found}


def list_utterances(config: PretrainConfig) -> pa.Table:
    """What the source holds, see `source.inventory`.

    Raises:
        SourceError: it cannot be listed, or is empty.
    """
    planned = pa.concat_tables([batch.table for batch in build_inventory(config.source).batches()])
    if planned.num_rows == 0:
        raise SourceError(f"source.uri ({config.source.uri}) must hold utterances, but has none; check the path")
    return planned


def read_corpus(planned: pa.Table, config: PretrainConfig) -> Corpus:
    """The utterances of the source, measured before or now; Ray is running.

    Args:
        planned: what `list_utterances` found.
        config: of the run.

    Raises:
        OSError: the run's store cannot be read from or written to.
    """
    digest = _digest(planned, config)
    uri = storage.join(config.pretrain.uri, FILE)
    stored = storage.read_small(uri, config.pretrain.storage)
    if stored is not None:
        table = pq.read_table(pa.BufferReader(stored))
        if (table.schema.metadata or {}).get(_DIGEST) == digest.encode():
            return Corpus(table, digest)
    table = _measured(planned, config).replace_schema_metadata({_DIGEST: digest})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    storage.write_atomic(uri, sink.getvalue().to_pybytes(), config.pretrain.storage)
    return Corpus(table, digest)


def _measured(planned: pa.Table, config: PretrainConfig) -> pa.Table:
    table = ray.put(planned)

    def measure(chunk: pa.Table) -> pa.Table:
        (start,) = chunk["start"].to_pylist()
        rows: pa.Table = ray.get(table).slice(start, _CHUNK_ROWS)
        decoded = read_unit(rows, config.source, config.audio).select(list(_MEASURED))
        return decoded.append_column("row", pa.array(range(start, start + rows.num_rows), pa.int64()))

    configure_data(in_order=False)
    chunks = ray.data.from_arrow(pa.table({"start": range(0, planned.num_rows, _CHUNK_ROWS)}))
    measured: Any = chunks.map_batches(measure, batch_size=1, batch_format="pyarrow", num_cpus=1, max_retries=RETRIES)
    found = pa.concat_tables([batch for batch in measured.iter_batches(batch_size=None, batch_format="pyarrow")])
    found = found.sort_by("row")
    for name in _MEASURED:
        if name in planned.column_names:
            planned = planned.drop_columns([name])
        planned = planned.append_column(name, found[name])
    return planned


def _digest(planned: pa.Table, config: PretrainConfig) -> str:
    digest = hashlib.sha256(config.audio.model_dump_json().encode())
    for name in ("utterance_id", "audio_uri", "source_version", "start_s", "end_s", "language"):
        digest.update(repr(planned[name].to_pylist()).encode())
    return digest.hexdigest()
