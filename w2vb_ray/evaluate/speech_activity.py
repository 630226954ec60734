"""Is anyone speaking? Told frame by frame by a linear classifier, in noise of several levels.

Pure: waveforms, phones and frames in, figures out. Each utterance has noise alone before and after it. Figures are
means over languages of those of their utterances.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from sklearn.metrics import f1_score, roc_auc_score

from w2vb_ray.audio.features import SAMPLING_RATE_HZ, as_float
from w2vb_ray.evaluate.alignment import Phones
from w2vb_ray.evaluate.estimates import Estimate, macro_estimate
from w2vb_ray.evaluate.probes import fit

_AROUND_S = 0.6
_TAIL = 16  # samples over which noise is smeared: rooms are louder at low frequencies


@dataclass(frozen=True, slots=True)
class Noisy:
    """An utterance in noise.

    Args:
        waveform: (num_samples,) float32.
        is_speech: (T,) of frames.
        snr_db: level of the speech over the noise, both over the utterance.
        language: of the utterance.
        is_train: whether the classifier is trained on it.
    """

    waveform: np.ndarray
    is_speech: np.ndarray
    snr_db: float
    language: str
    is_train: bool


def make_noisy(
    waveform: np.ndarray, phones: Phones, snr_db: float, language: str, *, is_train: bool, rng: np.random.Generator
) -> Noisy:
    """Add noise to (num_samples,) of speech, and as much noise as 0.6 s around it."""
    speech, around = as_float(waveform), int(_AROUND_S * SAMPLING_RATE_HZ)
    noise = rng.standard_normal(len(speech) + 2 * around).astype(np.float32)
    noise = np.convolve(noise, np.exp(-np.arange(_TAIL) / rng.uniform(0.5, 4)), "same").astype(np.float32)
    noise *= np.sqrt((speech**2).mean() / (noise**2).mean()) * 10 ** (-snr_db / 20)
    noise[around : around + len(speech)] += speech
    moved = Phones(phones.start_s + _AROUND_S, phones.end_s + _AROUND_S, phones.names)
    is_speech = moved.at_frames(len(noise) // 320) >= 0
    return Noisy(noise / max(1.0, float(np.abs(noise).max())), is_speech, snr_db, language, is_train)


@dataclass(slots=True)
class SpeechActivity:
    """Utterances in noise, and the vectors of them that are met."""

    noisy: Sequence[Noisy]
    _vectors: dict[str, dict[int, np.ndarray]] = field(default_factory=lambda: defaultdict(dict))

    def add(self, name: str, index: int, frames: np.ndarray) -> None:
        """Take (T, D) frames of an utterance."""
        self._vectors[name][index] = frames[: len(self.noisy[index].is_speech)]

    def estimates(self, num_samples: int, seed: int) -> dict[float, dict[str, tuple[Estimate, Estimate]]]:
        """Area under the ROC curve and F1, by level and kind of vectors, of those met since the last call."""
        found: dict[float, dict[str, tuple[Estimate, Estimate]]] = defaultdict(dict)
        levels = sorted({one.snr_db for one in self.noisy}, reverse=True)
        for name, vectors in self._vectors.items():
            train = [index for index in vectors if self.noisy[index].is_train]
            frames = np.concatenate([vectors[index] for index in train])
            classifier = fit(frames, np.concatenate([self._truth(index, vectors) for index in train]))
            for level in levels:
                test = [index for index, one in enumerate(self.noisy) if one.snr_db == level and not one.is_train]
                rows: list[tuple[float, float, float]] = []
                for index in test:
                    truth, score = self._truth(index, vectors), classifier.decision_function(vectors[index])
                    rows.append((float(roc_auc_score(truth, score)), float(f1_score(truth, score > 0)), 1))
                totals, groups = np.array(rows), np.array([self.noisy[index].language for index in test])
                found[level][name] = (
                    macro_estimate(totals[:, [0, 2]], groups, num_samples, np.random.default_rng(seed)),
                    macro_estimate(totals[:, [1, 2]], groups, num_samples, np.random.default_rng(seed)),
                )
        self._vectors.clear()
        return found

    def chance_f1(self) -> float:
        """F1 of who always hears speech."""
        test = [one for one in self.noisy if not one.is_train]
        shares = np.array([[2 * one.is_speech.mean() / (1 + one.is_speech.mean()), 1] for one in test])
        groups = np.array([one.language for one in test])
        return macro_estimate(shares, groups, 10, np.random.default_rng(0)).value

    def _truth(self, index: int, vectors: dict[int, np.ndarray]) -> np.ndarray:
        return self.noisy[index].is_speech[: len(vectors[index])]
