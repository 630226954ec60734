"""What every encoder offers, whatever runs inside it. Knows no torch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True, slots=True)
class Embeddings:
    """One utterance.

    Args:
        num_frames: T, the number of 20 ms frames.
        pooled: float32 vectors: of the first kept layer one per pooling method, then those of the next layer, in the
            order of the configuration; of layers that are mixed, those of the mixture. (D,), for `mean_std` (2D,), for
            `attention` (H·D,).
        frames: one float32 (T, D) per kept layer, or one of the mixture, when asked for. Frame t covers
            [t * 20 ms, t * 20 ms + 25 ms).
    """

    num_frames: int
    pooled: list[np.ndarray]
    frames: list[np.ndarray] | None


@dataclass(slots=True)
class PaddingStats:
    """What went through the model so far, in 20 ms frames; the context of windows counts as real.

    Args:
        num_frames: real frames.
        num_padding_frames: frames added to make a micro-batch rectangular.
    """

    num_frames: int = 0
    num_padding_frames: int = 0

    @property
    def waste(self) -> float:
        """Share of the encoded frames that were padding, 0 to 1."""
        total = self.num_frames + self.num_padding_frames
        return self.num_padding_frames / total if total else 0.0


class Encoder(Protocol):
    """Waveforms in, embeddings out.

    Attributes:
        num_layers: layers of the model; hidden states are numbered 0 (input of the first) to `num_layers` (output).
        dimension: D of one hidden state.
        layers: kept (or mixed) hidden states, non-negative, in the order of the configuration.
        precision: `fp32`, `bf16`, `fp16` or `int8`.
        device: `cpu` or `cuda`.
        stats: real and padding frames seen so far.
    """

    num_layers: int
    dimension: int
    layers: list[int]
    precision: str
    device: str
    stats: PaddingStats

    def encode(
        self,
        waveforms: Sequence[np.ndarray],
        *,
        keep_frames: bool = False,
        on_batch: Callable[[], None] | None = None,
    ) -> list[Embeddings]:
        """Embeddings of each waveform, in the order given; an utterance's vector does not depend on the others.

        Args:
            waveforms: (num_samples,) int16 PCM or float32 in [-1, 1], 16 kHz mono, at least 400 samples (25 ms) each.
            keep_frames: also return the frame vectors.
            on_batch: called after each micro-batch, as a sign of progress.

        Raises:
            ValueError: a waveform with another shape or type, or with fewer than 400 samples.
            ConfigError: a single window does not fit in memory, or the precision overflows.
        """
        ...
