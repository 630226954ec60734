"""Synthetic test utterances, the same for the same seed: the shapes that break encoders. No speech, no files."""

from dataclasses import dataclass

import numpy as np

from w2vb_ray.audio.features import SAMPLING_RATE_HZ, WINDOW_SAMPLES

_OVER_WINDOW = 1.1  # two windows, and little audio for it
_PEAK = 32_767


@dataclass(frozen=True, slots=True)
class Utterance:
    """One test utterance.

    Args:
        kind: what it is.
        waveform: (num_samples,) int16 PCM, or float32 in [-1, 1], 16 kHz mono.
        comparable: False where the fp32 of transformers is itself further from exact arithmetic than 1e-4.
    """

    kind: str
    waveform: np.ndarray
    comparable: bool = True

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.waveform) / SAMPLING_RATE_HZ

    @property
    def name(self) -> str:
        """What it is and how long."""
        return f"{self.duration_s:g} s of {self.kind}"


def synthetic_utterances(seed: int, max_duration_s: float, max_window_s: float | None) -> list[Utterance]:
    """Twelve test utterances, the longest one last; about 50 s of audio with the defaults.

    Args:
        seed: of everything random.
        max_duration_s: longest utterance.
        max_window_s: `audio.max_window_s`; the longest utterance is a little over it where `max_duration_s` allows it.
    """
    rng = np.random.default_rng(seed)

    def samples(duration_s: float) -> int:
        return max(WINDOW_SAMPLES, round(min(duration_s, max_duration_s) * SAMPLING_RATE_HZ))

    def noise(duration_s: float, level: float) -> np.ndarray:
        return _pcm(rng.normal(size=samples(duration_s)) * level)

    longest_s = max_duration_s if max_window_s is None else _OVER_WINDOW * max_window_s
    return [
        Utterance("silence", np.zeros(samples(1.0), np.int16), comparable=False),
        Utterance("near-silence", noise(0.5, 1.5)),
        Utterance("noise", noise(0.025, 3_000)),
        Utterance("noise", noise(0.035, 3_000)),
        Utterance("quiet noise", noise(0.1, 30)),
        Utterance("noise", noise(1.3, 3_000)),
        Utterance("clipped noise", noise(3.0, 60_000)),
        Utterance("tone", _swept(samples(1.0), 440.0, 440.0), comparable=False),
        Utterance("chirp", _swept(samples(2.0), 100.0, 7_000.0)),
        # float32 as resampled recordings are: it must not change what its int16 neighbours become
        Utterance("float32 noise with silence inside", _silence_inside(noise(2.0, 3_000)), comparable=False),
        Utterance("swelling noise", _swelling(noise(5.0, 6_000), rng)),
        Utterance("swelling noise", _swelling(noise(longest_s, 6_000), rng)),
    ]


def _pcm(samples: np.ndarray) -> np.ndarray:
    """Any (num_samples,) on the int16 scale -> int16, clipped."""
    return np.clip(np.rint(samples), -_PEAK - 1, _PEAK).astype(np.int16)


def _swept(num_samples: int, start_hz: float, stop_hz: float) -> np.ndarray:
    """A sine whose frequency goes from one end to the other: (num_samples,) int16."""
    frequency_hz = np.linspace(start_hz, stop_hz, num_samples)
    return _pcm(8_000 * np.sin(2 * np.pi * np.cumsum(frequency_hz) / SAMPLING_RATE_HZ))


def _silence_inside(waveform: np.ndarray) -> np.ndarray:
    """The middle half of it silent: (num_samples,) int16 -> float32 in [-1, 1]."""
    out = waveform.astype(np.float32) / np.float32(_PEAK + 1)
    out[len(out) // 4 : 3 * len(out) // 4] = 0
    return out


def _swelling(waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another level every 50 ms, as speech has it: stationary noise would give every window nearly the same vector."""
    num_steps = -(-len(waveform) // 800)
    return _pcm(waveform * np.repeat(rng.uniform(0.02, 1.0, num_steps), 800)[: len(waveform)])
