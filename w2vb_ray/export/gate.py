"""How far an artifact's vectors are from those of its checkpoint in fp32, on the same speech."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise

import numpy as np
import torch

from w2vb_ray.config.export import GateSection
from w2vb_ray.encoder import Encoder

NEIGHBOURS = 10
_TIMED_SAMPLES = 160_000  # ten seconds
_TURNS = 3


@dataclass(frozen=True, slots=True)
class Encoded:
    """A sample through an encoder.

    Args:
        pooled: (num_utterances, D) means over frames.
        frames: (T_i, D) of each.
        seconds: what its first seconds took, on one CPU core or a GPU.
    """

    pooled: np.ndarray
    frames: Sequence[np.ndarray]
    seconds: float


@dataclass(frozen=True, slots=True)
class Measured:
    """An artifact beside its checkpoint in fp32.

    Args:
        min_pooled_cosine: of an utterance's vector, the least.
        mean_pooled_cosine: the same, on average.
        min_frame_cosine: of a frame, the least.
        mean_frame_cosine: the same, on average.
        recall: mean share of the nearest `NEIGHBOURS` utterances by fp32 vectors that the artifact's vector finds.
        speed_ratio: fp32's CPU time, or wall time on CUDA, over the artifact's.
        size_ratio: bytes of the artifact's weights over those of the checkpoint in fp32.
    """

    min_pooled_cosine: float
    mean_pooled_cosine: float
    min_frame_cosine: float
    mean_frame_cosine: float
    recall: float
    speed_ratio: float
    size_ratio: float


def encode_sample(load: Callable[[int | None], Encoder], waveforms: Sequence[np.ndarray]) -> Encoded:
    """Every waveform through an encoder that keeps one layer and pools by mean.

    Args:
        load: number of threads -> the encoder. It is loaded again for the time on one thread.
        waveforms: (num_samples,) each.
    """
    found = load(None).encode(waveforms, keep_frames=True)
    frames = [one.frames[0] for one in found if one.frames is not None]
    num_threads = torch.get_num_threads()
    try:
        seconds = _time(load(1), waveforms)
    finally:
        torch.set_num_threads(num_threads)
    return Encoded(np.stack([one.pooled[0] for one in found]), frames, seconds)


def _time(encoder: Encoder, waveforms: Sequence[np.ndarray]) -> float:
    """The best of a few turns: threads that wait for each other, and what else runs, would count as work."""
    ends = np.cumsum([len(waveform) for waveform in waveforms])
    some = waveforms[: 1 + int(np.searchsorted(ends, _TIMED_SAMPLES))]
    clock = time.perf_counter if encoder.device == "cuda" else time.process_time
    marks = [clock()]
    for _ in range(_TURNS):
        encoder.encode(some)
        marks.append(clock())
    return min(end - start for start, end in pairwise(marks))


def compare(reference: Encoded, found: Encoded, size_ratio: float) -> Measured:
    """An artifact's vectors against those of fp32."""
    pooled = _cosines(reference.pooled, found.pooled)
    frames = np.concatenate([_cosines(*pair) for pair in zip(reference.frames, found.frames, strict=True)])
    return Measured(
        float(pooled.min()),
        float(pooled.mean()),
        float(frames.min()),
        float(frames.mean()),
        _recall(reference.pooled, found.pooled),
        reference.seconds / found.seconds,
        size_ratio,
    )


def limits(gate: GateSection) -> dict[str, float]:
    """What is measured, and its least value."""
    return {
        "min_pooled_cosine": gate.min_pooled_cosine,
        "min_frame_cosine": gate.min_frame_cosine,
        "recall": gate.min_recall,
    }


def failures(measured: Measured, least: Mapping[str, float]) -> list[str]:
    """Names of what is below its limit, or is no number."""
    values = asdict(measured)
    return [name for name, limit in least.items() if not values[name] >= limit]


def _cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of each pair of rows; 1 where both are zero."""
    dots = np.einsum("nd,nd->n", a, b, dtype=np.float64)
    norms = np.linalg.norm(a.astype(np.float64), axis=1) * np.linalg.norm(b.astype(np.float64), axis=1)
    both_zero = ~(a.any(axis=1) | b.any(axis=1))
    return np.where(both_zero, 1.0, dots / np.where(norms == 0, 1.0, norms))


def _recall(database: np.ndarray, queries: np.ndarray) -> float:
    """Of each utterance's nearest neighbours in the database, itself left out, what its query finds there."""
    unit = [
        vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-30) for vectors in (database, queries)
    ]
    count = min(NEIGHBOURS, len(database) - 1)
    expected, found = (_nearest(one @ unit[0].T, count) for one in unit)
    return float(np.mean([len(set(a) & set(b)) / count for a, b in zip(expected, found, strict=True)]))


def _nearest(similarity: np.ndarray, count: int) -> np.ndarray:
    similarity = similarity.copy()
    np.fill_diagonal(similarity, -np.inf)
    return np.argsort(-similarity, axis=1, kind="stable")[:, :count]
