"""Which vectors a config asks for, their names, and what they should be, in the words of the documentation.

Shares nothing with the encoder's own pooling: what is written twice is not wrong in the same way.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from w2vb_ray.config.sections import EncoderSection, PoolingMethod, PoolingSection
from w2vb_ray.encoder.base import Embeddings

Vectors = Iterator[tuple[str, np.ndarray]]
"""Name and (D,), or (T, D) of the frames."""


class Outputs:
    """The vectors of one utterance.

    Args:
        layers: kept (or mixed) hidden states, non-negative.
        encoder: whether they are mixed.
        pooling: what is made of their frames.
    """

    def __init__(self, layers: Sequence[int], encoder: EncoderSection, pooling: PoolingSection) -> None:
        self._layers, self._weights, self._pooling = layers, encoder.layer_weights, pooling
        self._names = [f"layer {layer}" for layer in layers] if self._weights is None else ["mixed layers"]

    def of(self, embeddings: Embeddings) -> Vectors:
        """What an encoder gave: pooled vectors, then frames where it kept them."""
        names = [f"{name}, {method}" for name in self._names for method in self._pooling.methods]
        yield from zip(names, embeddings.pooled, strict=True)
        if embeddings.frames is not None:
            yield from zip([f"{name}, frames" for name in self._names], embeddings.frames, strict=True)

    def expected(self, states: Sequence[np.ndarray]) -> Vectors:
        """What it should have given for these hidden states, every (T, D) of the model; same names.

        Without `attention`: only this package knows that head, so there is nothing to hold it against.
        """
        for name, frames in zip(self._names, self._mixed([states[layer] for layer in self._layers]), strict=True):
            yield f"{name}, frames", frames
            for method in self._pooling.methods:
                if method != "attention":
                    vector = _pool(frames.astype(np.float64), method)
                    yield f"{name}, {method}", vector / np.linalg.norm(vector) if self._pooling.normalise else vector

    def _mixed(self, kept: list[np.ndarray]) -> list[np.ndarray]:
        if self._weights is None:
            return kept
        return [np.tensordot(self._weights, np.stack(kept).astype(np.float64), 1)]


def _pool(frames: np.ndarray, method: PoolingMethod) -> np.ndarray:
    """(T, D) -> (D,) or, for `mean_std`, (2D,)."""
    if method == "max":
        return frames.max(0)
    if method == "mean_std":
        return np.concatenate([frames.mean(0), frames.std(0)])
    return frames.mean(0)
