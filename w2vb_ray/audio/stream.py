"""What every decoder hands over: the source's format and its blocks in order."""

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np

BLOCK_SAMPLES = 131_072
"""Samples of one block, all channels together (0.5 MiB of float32): what a recording of any length costs at a time."""

Blocks = Generator[np.ndarray, None, None]


@dataclass(frozen=True, slots=True)
class Stream:
    """A recording being decoded.

    Args:
        sampling_rate: Hz.
        num_channels: as announced.
        announced_frames: sample frames the container promises, None when it does not say. Not to be trusted.
        blocks: `(num_frames, num_channels)` float32 arrays, full scale 1. Raises `AudioRejected` where the data turns
            out corrupt (`undecodable`) or short of what was announced (`truncated`).
    """

    sampling_rate: int
    num_channels: int
    announced_frames: int | None
    blocks: Blocks


def block_frames(num_channels: int) -> int:
    """Sample frames of one block."""
    return max(1, BLOCK_SAMPLES // max(1, num_channels))
