"""Where does a phone end? Where frames change most; no classifier, one threshold, found on other utterances.

Pure: boundaries and frames in, figures out. F1 of boundaries within 20 ms, each counted once, and the R-value, which
does not rise with too many (Räsänen et al. 2009, "An improved speech segmentation quality measure: the R-value").
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.signal import find_peaks

from w2vb_ray.evaluate.alignment import FRAME_S, moment_between
from w2vb_ray.evaluate.estimates import Estimate, macro_estimate

_TOLERANCE_S = 0.02
_PROMINENCES = np.linspace(0, 0.3, 13)


@dataclass(slots=True)
class Segmentation:
    """Boundaries of utterances, and how much each kind of vectors changes from frame to frame.

    Args:
        boundaries: (m,) moments in seconds, of each utterance.
        is_train: of each utterance: whether the threshold is found on it.
        languages: of each utterance.
    """

    boundaries: Sequence[np.ndarray]
    is_train: Sequence[bool]
    languages: Sequence[str]
    _changes: dict[str, dict[int, np.ndarray]] = field(default_factory=lambda: defaultdict(dict))

    def add(self, name: str, index: int, frames: np.ndarray) -> None:
        """Take (T, D) frames of an utterance."""
        if len(frames) > 2:
            self._changes[name][index] = changes(frames)

    def estimates(self, num_samples: int, seed: int) -> dict[str, tuple[Estimate, Estimate]]:
        """F1 and R-value by kind of vectors, of those met since the last call."""
        found: dict[str, tuple[Estimate, Estimate]] = {}
        for name, curves in self._changes.items():
            train = [index for index in curves if self.is_train[index]]
            scores = [float(r_value(self._totals(curves, train, bound).sum(0))) for bound in _PROMINENCES]
            best = float(_PROMINENCES[int(np.argmax(scores))])
            test = [index for index in curves if not self.is_train[index]]
            totals, languages = self._totals(curves, test, best), np.array([self.languages[index] for index in test])
            f1, value = (
                macro_estimate(totals, languages, num_samples, np.random.default_rng(seed), figure)
                for figure in (f1_score, r_value)
            )
            found[name] = (f1, value)
        self._changes.clear()
        return found

    def chance(self) -> tuple[float, float]:
        """F1 and R-value of boundaries that are evenly spaced, as many as there are."""
        rows: list[tuple[int, int, int]] = []
        languages: list[str] = []
        for moments, is_train, language in zip(self.boundaries, self.is_train, self.languages, strict=True):
            if not is_train and len(moments) > 1:
                even = np.linspace(moments[0], moments[-1], len(moments))
                rows.append((hits(even, moments), len(even), len(moments)))
                languages.append(language)
        totals, groups = np.array(rows), np.array(languages)
        f1, value = (
            macro_estimate(totals, groups, 10, np.random.default_rng(0), one).value for one in (f1_score, r_value)
        )
        return f1, value

    def _totals(self, curves: dict[int, np.ndarray], indices: list[int], prominence: float) -> np.ndarray:
        """(n, 3) hits, found and true boundaries."""
        rows: list[tuple[int, int, int]] = []
        for index in indices:
            peaks, _ = find_peaks(np.pad(curves[index], 1), prominence=max(prominence, 1e-9))
            found = moment_between(peaks - 1)
            rows.append((hits(found, self.boundaries[index]), len(found), len(self.boundaries[index])))
        return np.array(rows)


def changes(frames: np.ndarray) -> np.ndarray:
    """(T, D) -> (T - 1,): one minus the cosine of each frame and the next, from 0 to 1 over the utterance."""
    centred = (frames - frames.mean(0)).astype(np.float64)
    centred /= np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
    curve = 1 - (centred[1:] * centred[:-1]).sum(1)
    return (curve - curve.min()) / max(float(np.ptp(curve)), 1e-12)


def hits(found: np.ndarray, true: np.ndarray) -> int:
    """How many boundaries have one of the others within 20 ms, each used once; both sorted."""
    count = one = other = 0
    tolerance = _TOLERANCE_S + FRAME_S * 1e-6
    while one < len(found) and other < len(true):
        if abs(found[one] - true[other]) <= tolerance:
            count, one, other = count + 1, one + 1, other + 1
        elif found[one] < true[other]:
            one += 1
        else:
            other += 1
    return count


def f1_score(sums: np.ndarray) -> np.ndarray:
    """(..., 3) of hits, found and true boundaries -> (...)."""
    return 2 * sums[..., 0] / np.maximum(sums[..., 1] + sums[..., 2], 1)


def r_value(sums: np.ndarray) -> np.ndarray:
    """(..., 3) of hits, found and true boundaries -> (...)."""
    true = np.maximum(sums[..., 2], 1)
    hit_rate, over = sums[..., 0] / true, sums[..., 1] / true - 1
    distance = np.sqrt((1 - hit_rate) ** 2 + over**2)
    return 1 - (distance + np.abs((hit_rate - over - 1) / np.sqrt(2))) / 2
