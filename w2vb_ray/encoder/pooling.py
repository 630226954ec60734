"""Frames to one vector, window by window: partial statistics that merge, so no (T, D) array is ever needed.

Sums are float64: 3 hours are 540,000 frames, and an utterance must get the same vector whatever its neighbours.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Partial:
    """Statistics of some of an utterance's frames.

    Args:
        count: frames seen.
        rows: float64 (K, C), see each `Pooling`.
    """

    count: int
    rows: np.ndarray


class Pooling(Protocol):
    """A way to make one vector of an utterance's frames."""

    def statistics(self, frames: Tensor) -> Tensor:
        """The `Partial.rows` of a window: (n, D) of any floating-point type -> (K, C) float64, on the same device."""
        ...

    def merge(self, a: Partial, b: Partial) -> np.ndarray:
        """The `Partial.rows` of both sets of frames."""
        ...

    def finish(self, partial: Partial) -> np.ndarray:
        """The embedding, float64, of the statistics of all frames."""
        ...


class Mean:
    """(D,); rows are (1, D), the mean."""

    def statistics(self, frames: Tensor) -> Tensor:
        """See `Pooling`."""
        return frames.sum(0, keepdim=True, dtype=torch.float64) / len(frames)

    def merge(self, a: Partial, b: Partial) -> np.ndarray:
        """See `Pooling`."""
        return a.rows + (b.rows - a.rows) * (b.count / (a.count + b.count))

    def finish(self, partial: Partial) -> np.ndarray:
        """See `Pooling`."""
        return partial.rows[0]


class MeanStd:
    """(2D,), mean and standard deviation (ddof 0, no epsilon: no gradient needs one).

    Rows are (2, D): mean, and squared deviations from it.
    """

    def statistics(self, frames: Tensor) -> Tensor:
        """See `Pooling`."""
        mean = frames.sum(0, keepdim=True, dtype=torch.float64) / len(frames)
        return torch.cat([mean, (frames - mean).square_().sum(0, keepdim=True)])

    def merge(self, a: Partial, b: Partial) -> np.ndarray:
        """See `Pooling`; the squared deviations as in Chan, Golub and LeVeque 1979."""
        share = b.count / (a.count + b.count)
        delta = b.rows[0] - a.rows[0]
        return np.stack([a.rows[0] + delta * share, a.rows[1] + b.rows[1] + delta**2 * a.count * share])

    def finish(self, partial: Partial) -> np.ndarray:
        """See `Pooling`."""
        return np.concatenate([partial.rows[0], np.sqrt(partial.rows[1] / partial.count)])


class Max:
    """(D,); rows are (1, D), the maximum."""

    def statistics(self, frames: Tensor) -> Tensor:
        """See `Pooling`."""
        return frames.amax(0, keepdim=True).double()

    def merge(self, a: Partial, b: Partial) -> np.ndarray:
        """See `Pooling`."""
        return np.maximum(a.rows, b.rows)

    def finish(self, partial: Partial) -> np.ndarray:
        """See `Pooling`."""
        return partial.rows[0]


def window_statistics(hidden: Tensor, cores: Sequence[slice], pooling: Pooling) -> Tensor:
    """The `Partial.rows` of each window: (N, D) -> (B, K, C) float64, on the device of `hidden`.

    Args:
        hidden: hidden states of one layer, the windows' frames end to end, any floating-point type.
        cores: B rows that count, one slice per window; at least one row each.
        pooling: what is to be made of them.
    """
    return torch.stack([pooling.statistics(hidden[core]) for core in cores])


def unit_length(vector: np.ndarray) -> np.ndarray:
    """A vector over its L2 norm; one that is zero or not finite (the caller rejects it) stays as it is."""
    norm = np.linalg.norm(vector)
    return vector / norm if 0 < norm < np.inf else vector
