"""ABX: is X, another token of A's phone, nearer to A than to B? Within a language and across two; no classifier.

Pure: tokens of phones in, figures out. A, B and X are spoken in different utterances; across languages, X is in another
language than A and B. The distance is the mean angle along the best path of dynamic time warping (Schatz 2016, "ABX-
discriminability measures and applications"). Figures are means over pairs of languages of the share of errors.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from w2vb_ray.evaluate.alignment import Phones, frame_of
from w2vb_ray.evaluate.estimates import Estimate, macro_estimate

WITHIN, ACROSS = "within a language", "across languages"
_MIN_FRAMES, _MAX_FRAMES = 2, 16
_MAX_TRIES = 20

Token = tuple[int, int, int]
"""Utterance, first frame, frame after the last."""


@dataclass(slots=True)
class Abx:
    """Triples of tokens, and the vectors of them that are met.

    Args:
        triples: by condition: tokens A, B and X, and the languages of A and X.
    """

    triples: dict[str, list[tuple[Token, Token, Token, str]]]
    _vectors: dict[str, dict[Token, np.ndarray]] = field(default_factory=lambda: defaultdict(dict))
    _wanted: dict[int, set[Token]] = field(default_factory=lambda: defaultdict(set))

    def __post_init__(self) -> None:
        for rows in self.triples.values():
            for *tokens, _ in rows:
                for token in tokens:
                    self._wanted[token[0]].add(token)

    @classmethod
    def of(cls, phones: Sequence[Phones], languages: Sequence[str], num_triples: int, seed: int) -> "Abx":
        """Draw triples; fewer where there are not so many.

        Args:
            phones: of each utterance.
            languages: of each utterance.
            num_triples: of each condition.
            seed: of the draw.
        """
        rng = np.random.default_rng(seed)
        tokens: dict[str, dict[str, list[Token]]] = defaultdict(lambda: defaultdict(list))
        for index, one in enumerate(phones):
            firsts, ends = frame_of(one.start_s + 0.01), frame_of(one.end_s + 0.01)
            for name, first, end in zip(one.names, firsts.tolist(), ends.tolist(), strict=True):
                if _MIN_FRAMES <= end - first <= _MAX_FRAMES and first >= 0:
                    tokens[languages[index]][name].append((index, first, end))
        names = sorted(tokens)
        drawn: dict[str, list[tuple[Token, Token, Token, str]]] = {WITHIN: [], ACROSS: []}
        for condition, rows in drawn.items():
            for _ in range(num_triples * _MAX_TRIES):
                if len(rows) == num_triples or (condition == ACROSS and len(names) < 2) or not names:
                    break
                one = names[int(rng.integers(len(names)))]
                other = one if condition == WITHIN else names[int(rng.integers(len(names)))]
                shared = sorted(tokens[one].keys() & tokens[other].keys())
                if (condition == ACROSS and one == other) or len(shared) < 2:
                    continue
                same, different = rng.choice(len(shared), 2, replace=False)
                pools = tokens[one][shared[same]], tokens[one][shared[different]], tokens[other][shared[same]]
                a, b, x = (pool[int(rng.integers(len(pool)))] for pool in pools)
                if len({a[0], b[0], x[0]}) == 3:
                    rows.append((a, b, x, f"{one} {other}"))
        return cls({condition: rows for condition, rows in drawn.items() if rows})

    def add(self, name: str, index: int, frames: np.ndarray) -> None:
        """Take (T, D) frames of an utterance."""
        if index not in self._wanted:
            return
        unit = frames / np.maximum(np.linalg.norm(frames, axis=1, keepdims=True), 1e-12)
        for token in self._wanted[index]:
            first = min(token[1], len(unit) - 1)
            self._vectors[name][token] = unit[first : max(token[2], first + 1)]

    def estimates(self, num_samples: int, seed: int) -> dict[str, dict[str, Estimate]]:
        """Share of errors by condition and kind of vectors, of those met since the last call."""
        found: dict[str, dict[str, Estimate]] = {condition: {} for condition in self.triples}
        for name, vectors in self._vectors.items():
            for condition, rows in self.triples.items():
                errors = np.ones((len(rows), 2))
                for number, (a, b, x, _) in enumerate(rows):
                    near, far = distance(vectors[a], vectors[x]), distance(vectors[b], vectors[x])
                    errors[number, 0] = float(near > far) + 0.5 * float(near == far)
                pairs = np.array([row[-1] for row in rows])
                found[condition][name] = macro_estimate(errors, pairs, num_samples, np.random.default_rng(seed))
        self._vectors.clear()
        return found


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """Mean angle along the path of least sum between (T, D) and (U, D) of unit vectors, 0 to 1 (opposite)."""
    angles = np.arccos(np.clip(one @ other.T, -1, 1)) / np.pi
    rows, columns = angles.shape
    cost = np.full((rows + 1, columns + 1), np.inf)
    steps = np.zeros((rows + 1, columns + 1), np.int64)
    cost[0, 0] = 0
    for row in range(1, rows + 1):
        for column in range(1, columns + 1):
            before = ((row - 1, column - 1), (row - 1, column), (row, column - 1))
            best = min(before, key=lambda place: cost[place])
            cost[row, column] = cost[best] + angles[row - 1, column - 1]
            steps[row, column] = steps[best] + 1
    return float(cost[rows, columns] / steps[rows, columns])
