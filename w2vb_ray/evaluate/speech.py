"""Utterances to evaluate on, and every kind of vector of them: of a model's layers, of what needs none, of a table."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable

from w2vb_ray import storage
from w2vb_ray.config.evaluate import EvaluateConfig
from w2vb_ray.embed.encode import waveform_of
from w2vb_ray.embed.read import read_unit
from w2vb_ray.encoder import Checkpoint, load_encoder, resolve_checkpoint
from w2vb_ray.errors import SourceError
from w2vb_ray.evaluate import baselines
from w2vb_ray.schema import RESERVED_COLUMNS, VECTOR
from w2vb_ray.source import build_inventory

Named = Iterator[tuple[str, np.ndarray]]
"""Name of a kind of vector and (N, D)."""


@dataclass(frozen=True, slots=True)
class Speech:
    """Utterances in several languages.

    Args:
        items: (N,) what is the same for utterances that say the same.
        languages: (N,)
        durations_s: (N,)
        rows: decoded rows, see `embed.read`; None where vectors come from a table.
        num_unread: utterances of the source that could not be read.
    """

    items: list[str | None]
    languages: list[str]
    durations_s: list[float]
    rows: pa.Table | None
    num_unread: int = 0


def read_speech(config: EvaluateConfig) -> Speech:
    """Read the utterances of the source that have an item, of at most `retrieval.max_items` items.

    Raises:
        SourceError: the source cannot be read, or has no such column.
    """
    assert config.source is not None
    inventory = build_inventory(config.source)
    table = pa.concat_tables([batch.table for batch in inventory.batches()])
    chosen = _chosen(_column(table, config, config.source.uri), config.retrieval.max_items)
    decoded = read_unit(table.take(pa.array(chosen, pa.int64())), config.source, config.audio)
    fine = np.flatnonzero(decoded["reason"].is_null().to_numpy())
    kept = decoded.take(pa.array(fine))
    return Speech(
        _column(kept, config, config.source.uri),
        kept["language"].to_pylist(),
        kept["duration_s"].to_pylist(),
        kept,
        len(chosen) - len(fine),
    )


def vectors_of_models(speech: Speech, config: EvaluateConfig) -> Named:
    """Pooled vectors of each layer, of the same layers before any training, and what needs no model."""
    assert speech.rows is not None
    waveforms = [waveform_of(speech.rows, index) for index in range(speech.rows.num_rows)]
    yield "duration", baselines.duration_angles(speech.durations_s)
    yield "log-mel statistics", baselines.mel_statistics(waveforms)
    yield "MFCC statistics", baselines.cepstral_statistics(waveforms)
    checkpoint = resolve_checkpoint(config.encoder)
    if not checkpoint.untrained:
        with tempfile.TemporaryDirectory(prefix="w2vb-random-") as name:
            baselines.write_random(checkpoint, Path(name), config.retrieval.seed)
            yield from _layers("random weights", name, checkpoint, waveforms, config)
    yield from _layers("random weights" if checkpoint.untrained else "model", None, checkpoint, waveforms, config)


def read_table(config: EvaluateConfig) -> tuple[Speech, list[tuple[str, np.ndarray]]]:
    """Utterances and vectors that `embed` wrote.

    Raises:
        SourceError: there is no such table, or no such column.
    """
    uri = storage.join(str(config.retrieval.table_uri), "utterances")
    options = storage.delta_options(uri, config.retrieval.table_storage)
    if not DeltaTable.is_deltatable(uri, options):
        raise SourceError(f"retrieval.table_uri must be the sink.uri of an embed job, but {uri} is no Delta table")
    table = DeltaTable(uri, storage_options=options).to_pyarrow_table()
    chosen = pa.array(_chosen(_column(table, config, uri), config.retrieval.max_items), pa.int64())
    table = table.take(chosen)
    named = [field.name for field in table.schema if field.name in RESERVED_COLUMNS and field.type == VECTOR]
    vectors = [(name, np.stack(table[name].combine_chunks().to_numpy(zero_copy_only=False))) for name in named]
    speech = Speech(
        _column(table, config, uri), table["language"].to_pylist(), table["duration_s"].to_pylist(), rows=None
    )
    return speech, [("duration", baselines.duration_angles(speech.durations_s)), *vectors]


def _layers(
    name: str, folder: str | None, checkpoint: Checkpoint, waveforms: list[np.ndarray], config: EvaluateConfig
) -> Named:
    update: dict[str, object] = {"layers": list(range(checkpoint.num_layers + 1)), "layer_weights": None}
    if folder is not None:
        update |= {"checkpoint": folder, "revision": None, "storage": {}}
    encoder = load_encoder(config.encoder.model_copy(update=update), config.pooling, config.batching, config.audio)
    found = encoder.encode(waveforms)
    methods = config.pooling.methods
    for place in range(len(found[0].pooled)):
        layer, method = divmod(place, len(methods))
        suffix = f", {methods[method]}" if len(methods) > 1 else ""
        yield f"{name}, layer {layer}{suffix}", np.stack([one.pooled[place] for one in found])


def _column(table: pa.Table, config: EvaluateConfig, uri: str) -> list[str | None]:
    name = config.retrieval.item_column
    if name not in table.column_names:
        raise SourceError(
            f"retrieval.item_column must be a column of {uri}, but there is no '{name}' among "
            f"{', '.join(table.column_names)}"
        )
    return [None if item is None else str(item) for item in table[name].to_pylist()]


def _chosen(items: list[str | None], most: int) -> list[int]:
    """Rows of evenly spaced items."""
    known = sorted({item for item in items if item})
    count = min(len(known), most)
    kept = {known[number * len(known) // count] for number in range(count)}
    return [row for row, item in enumerate(items) if item in kept]
