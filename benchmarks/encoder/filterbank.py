"""Features: `filterbank_batch` beside transformers' extractor, one thread."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from transformers import SeamlessM4TFeatureExtractor

from benchmarks.encoder.workloads import load_samples
from w2vb_ray.audio.features import SAMPLING_RATE_HZ, as_float, filterbank_batch

_UNTIL_THREADS_SLEEP_S = 0.2
_TIMES = 5  # as ours takes a tenth of the time


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
        """CPU seconds of each repetition, the two taking turns: of all threads, and of the calling thread alone.

        numpy's BLAS multiplies with threads that wait awake for more, which a user pays for too; the second figure is
        without them.
        """
        cpu_s: dict[str, list[float]] = {"transformers": [], "ours": []}
        thread_s: dict[str, list[float]] = {"transformers": [], "ours": []}
        expected: Sequence[np.ndarray] = []
        for _ in range(repetitions):
            for name, call, times in (("ours", self._ours, _TIMES), ("transformers", self._theirs, 1)):
                time.sleep(_UNTIL_THREADS_SLEEP_S)
                started = time.process_time(), time.thread_time()
                for _ in range(times):
                    expected = call()
                cpu_s[name].append((time.process_time() - started[0]) / times)
                thread_s[name].append((time.thread_time() - started[1]) / times)
        errors = [np.abs(a - b).max() for a, b in zip(self._ours(), expected, strict=True)]
        audio_s = sum(map(len, self._waveforms)) / SAMPLING_RATE_HZ
        return {"audio_s": audio_s, "cpu_s": cpu_s, "thread_s": thread_s, "max_abs_error": float(max(errors))}

    def _ours(self) -> list[np.ndarray]:
        return [one.numpy() for one in filterbank_batch(self._waveforms)]

    def _theirs(self) -> list[np.ndarray]:
        return [self._one(waveform) for waveform in self._floats]

    def _one(self, waveform: np.ndarray) -> np.ndarray:
        features = self._extractor(waveform, sampling_rate=SAMPLING_RATE_HZ, padding=False, return_tensors="np")
        return features["input_features"][0]
