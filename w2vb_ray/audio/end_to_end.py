"""Utterances laid end to end, so that operators take frames of many of them at once. Knows no model, file or Ray."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from w2vb_ray.audio.spectrogram import HOP_SAMPLES, as_float, needed_samples


class EndToEnd:
    """Waveforms one after another, each starting on the 10 ms grid: one strided view then holds all their frames.

    Frames that straddle two utterances (two or three per utterance) are computed and thrown away. Nothing is laid out
    before it is asked for: a slice goes on to the spectrogram from the nearest cache.

    Args:
        waveforms: each (num_samples,), int16 or float32 in [-1, 1]; at least one.
        num_hops: 10 ms frames of each; those with too few samples for them end in zeros.
    """

    def __init__(self, waveforms: Sequence[np.ndarray], num_hops: Sequence[int]) -> None:
        self._waveforms = waveforms
        self._dtype = np.int16 if all(waveform.dtype == np.int16 for waveform in waveforms) else np.float32
        sizes = [max(len(one), needed_samples(hops)) for one, hops in zip(waveforms, num_hops, strict=True)]
        first_hops = list(accumulate((-(-size // HOP_SAMPLES) for size in sizes), initial=0))
        self._starts = [hop * HOP_SAMPLES for hop in first_hops]
        self.hops = [slice(first, first + n) for first, n in zip(first_hops, num_hops, strict=False)]
        self.num_hops = self.hops[-1].stop

    def __getitem__(self, wanted: slice) -> Tensor:
        """Samples from `wanted.start` up to `wanted.stop` or the end: (num_samples,), int16 where all waveforms are."""
        samples = np.empty(min(wanted.stop, self._starts[-1]) - wanted.start, self._dtype)
        for index in range(bisect_right(self._starts, wanted.start) - 1, len(self._waveforms)):
            start, next_start = self._starts[index] - wanted.start, self._starts[index + 1] - wanted.start
            if start >= len(samples):
                break
            part = self._waveforms[index][max(0, -start) : len(samples) - start]
            start = max(0, start)
            samples[start : start + len(part)] = part if self._dtype == np.int16 else as_float(part)
            samples[start + len(part) : next_start] = 0
        return torch.from_numpy(samples)
