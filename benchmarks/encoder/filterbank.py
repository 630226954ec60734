"""Features: `filterbank_batch` beside transformers' extractor, one thread."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from transformers import SeamlessM4TFeatureExtractor

from benchmarks.encoder.workloads import load_samples
from w2vb_ray.audio.features import SAMPLING_RATE_HZ, as_float, filterbank_batch


class FeatureBench:
    """Both extractors over the utterances of a workload.

    Args:
        path: a workload written with samples.
    """

    def __init__(self, path: Path) -> None:
        self._waveforms = load_samples(path)
        self._floats = [as_float(one) for one in self._waveforms]
        self._extractor = SeamlessM4TFeatureExtractor(
            feature_size=80, num_mel_bins=80, sampling_rate=SAMPLING_RATE_HZ, stride=2, padding_value=0.0
        )
        self._ours()
        self._one(self._floats[0])

    def measure(self, repetitions: int) -> dict[str, Any]:
        """CPU seconds of each repetition, the two taking turns; ours runs several times in each, being short."""
        seconds: dict[str, list[float]] = {"transformers": [], "ours": []}
        expected: Sequence[np.ndarray] = []
        for _ in range(repetitions):
            spent, expected = _timed(lambda: [self._one(one) for one in self._floats])
            seconds["transformers"].append(spent)
            seconds["ours"].append(min(_timed(self._ours)[0] for _ in range(3)))
        errors = [np.abs(a - b).max() for a, b in zip(self._ours(), expected, strict=True)]
        audio_s = sum(map(len, self._waveforms)) / SAMPLING_RATE_HZ
        return {"audio_s": audio_s, "cpu_s": seconds, "max_abs_error": float(max(errors))}

    def _ours(self) -> list[np.ndarray]:
        return [one.numpy() for one in filterbank_batch(self._waveforms)]

    def _one(self, waveform: np.ndarray) -> np.ndarray:
        features = self._extractor(waveform, sampling_rate=SAMPLING_RATE_HZ, padding=False, return_tensors="np")
        return features["input_features"][0]


def _timed(call: Callable[[], list[np.ndarray]]) -> tuple[float, list[np.ndarray]]:
    start = time.process_time()
    made = call()
    return time.process_time() - start, made
