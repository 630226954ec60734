"""Utterances to evaluate on: of a source, decoded, or of a table that `embed` wrote, with its vectors."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable

from w2vb_ray import storage
from w2vb_ray.config.evaluate import EvaluateConfig
from w2vb_ray.embed.encode import waveform_of
from w2vb_ray.embed.read import read_unit
from w2vb_ray.errors import SourceError
from w2vb_ray.schema import RESERVED_COLUMNS, VECTOR
from w2vb_ray.source import build_inventory

Chooser = Callable[["Speech"], list[int]]
"""Which rows of what there is are looked at."""


@dataclass(frozen=True, slots=True)
class Speech:
    """Utterances in several languages.

    Args:
        table: one row each, with the source's own columns.
        uri: where they come from.
        waveforms: (num_samples,) of each, 16 kHz mono; None where vectors come from a table.
        num_unread: chosen utterances that could not be read.
    """

    table: pa.Table
    uri: str
    waveforms: list[np.ndarray] | None = None
    num_unread: int = 0

    def column(self, name: str, key: str) -> list[str | None]:
        """Values of a column as text.

        Args:
            name: of the column.
            key: of the config, that names it.

        Raises:
            SourceError: there is no such column.
        """
        if name not in self.table.column_names:
            raise SourceError(
                f"{key} must name columns of {self.uri}, but there is no '{name}' among "
                f"{', '.join(self.table.column_names)}"
            )
        return [None if value is None else str(value) for value in self.table[name].to_pylist()]

    @property
    def languages(self) -> list[str]:
        """(N,)"""
        return self.table["language"].to_pylist()

    @property
    def durations_s(self) -> list[float]:
        """(N,)"""
        return self.table["duration_s"].to_pylist()


def read_source(config: EvaluateConfig, choose: Chooser) -> Speech:
    """Read the chosen utterances of the source.

    Raises:
        SourceError: the source cannot be read, or nothing of it.
    """
    assert config.source is not None
    table = pa.concat_tables([batch.table for batch in build_inventory(config.source).batches()])
    chosen = choose(Speech(table, config.source.uri))
    decoded = read_unit(table.take(pa.array(chosen, pa.int64())), config.source, config.audio)
    fine = np.flatnonzero(decoded["reason"].is_null().to_numpy())
    if len(fine) == 0:
        raise SourceError(f"source.uri ({config.source.uri}) must have utterances to evaluate on, but none can be read")
    kept = decoded.take(pa.array(fine))
    waveforms = [waveform_of(kept, index) for index in range(kept.num_rows)]
    return Speech(kept.drop_columns(["waveform"]), config.source.uri, waveforms, len(chosen) - len(fine))


def read_table(config: EvaluateConfig, choose: Chooser) -> tuple[Speech, list[tuple[str, np.ndarray]]]:
    """Utterances and vectors that `embed` wrote: names of columns, and (N, D).

    Raises:
        SourceError: there is no such table, or nothing in it.
    """
    uri = storage.join(str(config.evaluate.table_uri), "utterances")
    options = storage.delta_options(uri, config.evaluate.table_storage)
    if not DeltaTable.is_deltatable(uri, options):
        raise SourceError(f"evaluate.table_uri must be the sink.uri of an embed job, but {uri} is no Delta table")
    table = DeltaTable(uri, storage_options=options).to_pyarrow_table()
    table = table.take(pa.array(choose(Speech(table, uri)), pa.int64()))
    if table.num_rows == 0:
        raise SourceError(f"evaluate.table_uri must have utterances to evaluate, but {uri} has none")
    named = [field.name for field in table.schema if field.name in RESERVED_COLUMNS and field.type == VECTOR]
    vectors = [(name, np.stack(table[name].combine_chunks().to_numpy(zero_copy_only=False))) for name in named]
    return Speech(table, uri), vectors


def spread(places: Sequence[int], most: int) -> list[int]:
    """At most so many of them, evenly spaced."""
    count = min(len(places), most)
    return [places[number * len(places) // count] for number in range(count)]
