"""Some of the user's own speech, on which an artifact is measured."""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from w2vb_ray.audio.features import SAMPLING_RATE_HZ
from w2vb_ray.config.export import ExportConfig
from w2vb_ray.embed.encode import waveform_of
from w2vb_ray.embed.read import read_unit
from w2vb_ray.errors import SourceError
from w2vb_ray.source import build_inventory

_MIN_UTTERANCES = 2


def read_sample(config: ExportConfig) -> list[np.ndarray]:
    """Waveforms of evenly spaced utterances of the source, (num_samples,) each; those that cannot be read are left out.

    Raises:
        SourceError: the source cannot be listed, or holds too few utterances that can be read and are short enough.
    """
    inventory, gate = build_inventory(config.source), config.gate
    rows = _evenly(pa.concat_tables([batch.table for batch in inventory.batches()]), 2 * gate.max_utterances)
    decoded = read_unit(rows, config.source, config.audio)
    usable = [
        index
        for index, (reason, duration_s) in enumerate(
            zip(decoded["reason"].to_pylist(), decoded["duration_s"].to_pylist(), strict=True)
        )
        if reason is None and duration_s <= gate.max_duration_s
    ]
    if len(usable) < _MIN_UTTERANCES:
        raise SourceError(
            f"source.uri ({config.source.uri}) must hold at least {_MIN_UTTERANCES} utterances of up to "
            f"{gate.max_duration_s:g} s to measure the artifact on, but of {rows.num_rows} looked at it has "
            f"{len(usable)}; give other speech, or raise gate.max_duration_s"
        )
    return [waveform_of(decoded, usable[position]) for position in _positions(len(usable), gate.max_utterances)]


def some_seconds(waveforms: Sequence[np.ndarray], seconds: float) -> list[np.ndarray]:
    """The shortest of them, as many as have no more than so many seconds together, and one at least."""
    some, total = list[np.ndarray](), 0
    for waveform in sorted(waveforms, key=len):
        if some and total + len(waveform) > seconds * SAMPLING_RATE_HZ:
            break
        some.append(waveform)
        total += len(waveform)
    return some


def _evenly(rows: pa.Table, most: int) -> pa.Table:
    """Some of the rows that are not refused already, in their order."""
    fine = rows.filter(rows["reason"].is_null())
    return fine.take(pa.array(list(_positions(fine.num_rows, most)), pa.int64()))


def _positions(count: int, most: int) -> Iterator[int]:
    chosen = min(count, most)
    return (index * count // chosen for index in range(chosen))
