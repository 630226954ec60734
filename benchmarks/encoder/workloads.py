"""Utterances to encode: lengths, arrival order and features of synthetic sound. The same in every run."""

from dataclasses import dataclass
from math import exp
from pathlib import Path
from statistics import NormalDist

import numpy as np

from w2vb_ray.audio.features import SAMPLING_RATE_HZ, filterbank_batch

FRAMES_PER_S = 50
SEED = 1
_SIGMA = 0.78  # the longest of 48 utterances has 30 s, of 22 it has 25 s, of 8 it has 17 s


@dataclass(frozen=True, slots=True)
class Workload:
    """Utterances in arrival order.

    Args:
        name: as in the tables.
        lengths: 20 ms frames of each.
        path: file with their features, see `load_features`.
    """

    name: str
    lengths: list[int]
    path: Path

    @property
    def audio_s(self) -> float:
        """Seconds of sound."""
        return sum(self.lengths) / FRAMES_PER_S

    def facts(self) -> dict[str, float]:
        """For the report."""
        return {
            "utterances": len(self.lengths),
            "audio_s": round(self.audio_s, 2),
            "median_s": float(np.median(self.lengths)) / FRAMES_PER_S,
            "longest_s": max(self.lengths) / FRAMES_PER_S,
        }


def make_workload(
    name: str, count: int, folder: Path, *, seconds: float | None = None, samples: bool = False
) -> Workload:
    """Draw lengths and sound, and write features.

    Args:
        name: `log-normal`, `short`, `5-15s`, or `Ns` for utterances of N seconds.
        count: utterances.
        folder: where to write them.
        seconds: when given, lengths are scaled to this sum: only to try the benchmark out.
        samples: also write the samples, for engines that make their own features.
    """
    durations = _durations(name, count)
    if seconds is not None:
        durations = [one * seconds / sum(durations) for one in durations]
    lengths = [max(1, round(one * FRAMES_PER_S)) for one in durations]
    np.random.default_rng(SEED).shuffle(lengths)
    waveforms = [sound(length, seed) for seed, length in enumerate(lengths)]
    path = folder / f"{name}-{count}.npz"
    arrays = {
        "lengths": np.array(lengths),
        "features": np.concatenate([f.numpy() for f in filterbank_batch(waveforms)]),
    }
    if samples:
        arrays["samples"] = np.concatenate(waveforms)
    with path.open("wb") as out:
        np.savez(out, **arrays)
    return Workload(name, lengths, path)


def load_features(path: Path) -> list[np.ndarray]:
    """(T_i, 160) float32 of each utterance."""
    with np.load(path) as arrays:
        return np.split(arrays["features"], np.cumsum(arrays["lengths"])[:-1])


def load_samples(path: Path) -> list[np.ndarray]:
    """(num_samples_i,) int16 of each utterance."""
    with np.load(path) as arrays:
        sizes = [num_samples(int(length)) for length in arrays["lengths"]]
        return np.split(arrays["samples"], np.cumsum(sizes)[:-1])


def num_samples(length: int) -> int:
    """The fewest samples that make so many frames of 20 ms."""
    return 320 * length + 240


def sound(length: int, seed: int) -> np.ndarray:
    """(num_samples,) int16: pink noise and a gliding harmonic tone that swell and fade like syllables."""
    draw = np.random.default_rng([SEED, seed])
    size = num_samples(length)
    time = np.arange(size) / SAMPLING_RATE_HZ
    spectrum = np.fft.rfft(draw.standard_normal(size))
    noise = np.fft.irfft(spectrum / np.sqrt(np.arange(len(spectrum)) + 20.0), size)
    phase = 2 * np.pi * (draw.uniform(90, 250) * time + 8 * np.sin(2 * np.pi * draw.uniform(0.2, 0.6) * time))
    tone = sum(np.sin(harmonic * phase) / harmonic for harmonic in (1, 2, 3, 5, 9))
    syllables = 0.1 + np.clip(np.sin(2 * np.pi * draw.uniform(2, 4) * time + draw.uniform(0, 6)), 0, None)
    mixed = syllables * tone + 0.3 * noise / noise.std()
    return np.round(9000 * mixed / np.abs(mixed).max()).astype(np.int16)


def _durations(name: str, count: int) -> list[float]:
    """Evenly spaced quantiles instead of random draws: the mix is the same at every size."""
    quantiles = [(index + 0.5) / count for index in range(count)]
    match name:
        case "log-normal":
            return [min(30.0, 5 * exp(_SIGMA * NormalDist().inv_cdf(quantile))) for quantile in quantiles]
        case "short":
            return [3 + 5 * quantile for quantile in quantiles]
        case "5-15s":
            return [5 + 10 * quantile for quantile in quantiles]
        case _:
            return [float(name.removesuffix("s"))] * count
