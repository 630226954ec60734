"""Frames to one vector, window by window: partial statistics that merge, so no (T, D) array is ever needed.

Sums are float64: 3 hours are 540,000 frames, and an utterance must get the same vector whatever its neighbours.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

PoolingMethod = Literal["mean", "mean_std", "max"]


@dataclass(frozen=True, slots=True)
class Partial:
    """Statistics of some of an utterance's frames.

    Args:
        count: frames seen.
        rows: float64 (1, D) mean or maximum; for `mean_std` (2, D): mean, and squared deviations from it.
    """

    count: int
    rows: np.ndarray


def pool_windows(hidden: Tensor, cores: Sequence[slice], method: PoolingMethod) -> list[Partial]:
    """Statistics of each window's kept frames: (N, D) -> B partials.

    Args:
        hidden: hidden states of one layer, the windows' frames end to end, any floating-point type.
        cores: B rows that count, one slice per window; at least one row each.
        method: `mean`, `mean_std` or `max`.
    """
    rows = torch.stack([_statistics(hidden[core], method) for core in cores]).cpu().numpy()
    return [Partial(core.stop - core.start, row) for core, row in zip(cores, rows, strict=True)]


def _statistics(frames: Tensor, method: PoolingMethod) -> Tensor:
    """(n, D) -> (1, D) or (2, D) float64, see `Partial.rows`."""
    if method == "max":
        return frames.amax(0, keepdim=True).double()
    mean = frames.sum(0, keepdim=True, dtype=torch.float64) / len(frames)
    if method == "mean":
        return mean
    return torch.cat([mean, (frames - mean).square_().sum(0, keepdim=True)])


def merge_partials(a: Partial, b: Partial, method: PoolingMethod) -> Partial:
    """Statistics of both sets of frames (Chan, Golub and LeVeque 1979 for the squared deviations)."""
    count = a.count + b.count
    if method == "max":
        return Partial(count, np.maximum(a.rows, b.rows))
    share = b.count / count
    delta = b.rows[0] - a.rows[0]
    rows = [a.rows[0] + delta * share]
    if method == "mean_std":
        rows.append(a.rows[1] + b.rows[1] + delta**2 * a.count * share)
    return Partial(count, np.stack(rows))


def finish_pooling(partial: Partial, method: PoolingMethod) -> np.ndarray:
    """The embedding: float32 (D,); for `mean_std` (2D,), the mean and then the standard deviation.

    The standard deviation has ddof 0 and no epsilon (no gradient needs one).
    """
    rows = partial.rows
    if method == "mean_std":
        rows = np.stack([rows[0], np.sqrt(rows[1] / partial.count)])
    return rows.reshape(-1).astype(np.float32)
