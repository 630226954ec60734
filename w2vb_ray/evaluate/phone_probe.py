"""Which phone is a frame of? Told by a linear classifier, in languages that it was trained on and in others.

Pure: phones and frames in, figures out. An accuracy is the mean over languages of the share of frames that are right,
of those whose phone the classifier knows.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from w2vb_ray.errors import SourceError
from w2vb_ray.evaluate.alignment import Phones
from w2vb_ray.evaluate.estimates import Estimate, macro_estimate
from w2vb_ray.evaluate.probes import fit

TRAIN, SEEN, UNSEEN = "train", "seen", "unseen"
_MIN_FRAMES = 20  # of a phone, to be known


@dataclass(slots=True)
class PhoneProbe:
    """Frames that are told, and the vectors of them that are met.

    Args:
        frames: by place of the utterance: its part, its chosen frames and their phones.
        languages: of all utterances.
        inventory: phones that are known.
        coverage: share of the frames of other languages whose phone is known.
    """

    frames: dict[int, tuple[str, np.ndarray, list[str]]]
    languages: Sequence[str]
    inventory: list[str]
    coverage: float
    _vectors: dict[str, dict[int, np.ndarray]] = field(default_factory=lambda: defaultdict(dict))

    @classmethod
    def of(
        cls, phones: Sequence[Phones], parts: Sequence[str], languages: Sequence[str], max_frames: int, seed: int
    ) -> "PhoneProbe":
        """Choose frames: so many of each part, the more of an utterance the longer it is.

        Args:
            phones: of each utterance.
            parts: of each utterance: TRAIN, SEEN or UNSEEN.
            languages: of each utterance.
            max_frames: of a part.
            seed: of the choice.

        Raises:
            SourceError: no two phones have frames enough to train on.
        """
        rng = np.random.default_rng(seed)
        spoken = [one.at_frames(int(one.end_s[-1] / 0.02)) for one in phones]
        total = Counter[str]()
        for part, places in zip(parts, spoken, strict=True):
            total[part] += int((places >= 0).sum())
        drawn: dict[int, tuple[str, np.ndarray, list[str]]] = {}
        for index, (part, places) in enumerate(zip(parts, spoken, strict=True)):
            there = np.flatnonzero(places >= 0)
            kept = there[rng.random(len(there)) < max_frames / max(total[part], 1)]
            drawn[index] = (part, kept, [phones[index].names[place] for place in places[kept]])
        known = Counter(name for part, _, names in drawn.values() if part == TRAIN for name in names)
        inventory = sorted(name for name, count in known.items() if count >= _MIN_FRAMES)
        if len(inventory) < 2:
            raise SourceError(
                f"phones.alignment_uri must have two phones with {_MIN_FRAMES} frames to train on, but has "
                f"{len(inventory)} in the utterances of the source"
            )
        elsewhere = [name in inventory for part, _, names in drawn.values() if part == UNSEEN for name in names]
        frames: dict[int, tuple[str, np.ndarray, list[str]]] = {}
        for index, (part, kept, names) in drawn.items():
            of_known = [place for place, name in enumerate(names) if name in inventory]
            if of_known:
                frames[index] = (part, kept[of_known], [names[place] for place in of_known])
        return cls(frames, languages, inventory, float(np.mean(elsewhere)) if elsewhere else 1.0)

    def add(self, name: str, index: int, frames: np.ndarray) -> None:
        """Take (T, D) frames of an utterance."""
        if index in self.frames:
            chosen = np.minimum(self.frames[index][1], len(frames) - 1)
            self._vectors[name][index] = frames[chosen]

    def estimates(self, num_samples: int, seed: int) -> dict[str, dict[str, Estimate]]:
        """Accuracy by part and kind of vectors, of those met since the last call."""
        found: dict[str, dict[str, Estimate]] = {SEEN: {}, UNSEEN: {}}
        for name, vectors in self._vectors.items():
            train = [index for index in vectors if self.frames[index][0] == TRAIN]
            classifier = fit(np.concatenate([vectors[index] for index in train]), self._labels(train))
            for part, into in found.items():
                told = [index for index in vectors if self.frames[index][0] == part]
                if told:
                    right = [np.equal(classifier.predict(vectors[index]), self._labels([index])) for index in told]
                    into[name] = self._macro(told, right, num_samples, seed)
        self._vectors.clear()
        return found

    def chance(self, part: str) -> float:
        """Accuracy of who always says the commonest phone of the training; 0 where there is nothing to tell."""
        labels = self._labels([index for index, (of, *_) in self.frames.items() if of == TRAIN])
        commonest = int(np.bincount(labels).argmax())
        told = [index for index, (of, *_) in self.frames.items() if of == part]
        if not told:
            return 0.0
        return self._macro(told, [self._labels([index]) == commonest for index in told], 10, 0).value

    def _macro(self, told: list[int], right: list[np.ndarray], num_samples: int, seed: int) -> Estimate:
        totals = np.array([[one.sum(), len(one)] for one in right])
        groups = np.array([self.languages[index] for index in told])
        return macro_estimate(totals, groups, num_samples, np.random.default_rng(seed))

    def _labels(self, indices: list[int]) -> np.ndarray:
        return np.array([self.inventory.index(name) for index in indices for name in self.frames[index][2]])
