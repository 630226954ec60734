"""Linear classifiers of utterances: what a column says, told from a vector that was not made for it.

Pure: vectors, labels and groups in, figures out. The accuracy is balanced: the mean over classes of the share that is
right. Every utterance is told once, by a classifier that has seen none of its group (its speaker, say).
"""

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from w2vb_ray.errors import SourceError
from w2vb_ray.evaluate.estimates import Estimate, macro_estimate

_MIN_EXAMPLES = 4  # of a class
_MAX_ITERATIONS = 300


@dataclass(frozen=True, slots=True)
class Task:
    """One column to tell.

    Args:
        index: (n,) places of the utterances that take part.
        labels: (n,) class of each, 0 to num_classes - 1.
        folds: (n,) in which each is told.
        classes: names of the classes.
    """

    index: np.ndarray
    labels: np.ndarray
    folds: np.ndarray
    classes: list[str]

    @classmethod
    def of(cls, labels: Sequence[str | None], groups: Sequence[str | None] | None, max_folds: int, seed: int) -> "Task":
        """Find the classes that can be learnt in some groups and told in others.

        Args:
            labels: of all utterances; None or empty where there is none.
            groups: of all utterances; None if any may be beside any.
            max_folds: of the cross-validation.
            seed: of folds where there are no groups.

        Raises:
            SourceError: there are no two such classes.
        """
        around = labels if groups is None else groups
        rows = [row for row, label in enumerate(labels) if label and (around[row] or groups is None)]
        count = Counter(labels[row] for row in rows)
        around_each = {label: {around[row] for row in rows if labels[row] == label} for label in count}
        enough = {label for label in count if count[label] >= _MIN_EXAMPLES}
        kept = {label for label in enough if groups is None or len(around_each[label]) > 1}
        if len(kept) < 2:
            need = f"{_MIN_EXAMPLES} utterances" + ("" if groups is None else " in two groups or more")
            raise SourceError(f"there must be two classes with {need}, but there are {len(kept)} of {len(count)}")
        index = np.array([row for row in rows if labels[row] in kept], np.int64)
        classes = sorted(str(label) for label in kept)
        numbers = np.array([classes.index(str(labels[row])) for row in index])
        if groups is None:
            folds = _without_groups(numbers, max_folds, seed)
        else:
            folds = _with_groups(numbers, [str(groups[row]) for row in index], max_folds)
        return cls(index, numbers, folds, classes)

    def estimate(self, vectors: np.ndarray, num_samples: int, seed: int) -> Estimate:
        """Balanced accuracy of a probe on (N, D) vectors of all utterances; the interval is over utterances."""
        right = np.empty((len(self.index), 2))
        right[:, 1] = 1
        chosen = vectors[self.index]
        for fold in np.unique(self.folds):
            test = self.folds == fold
            classifier = fit(chosen[~test], self.labels[~test])
            right[test, 0] = classifier.predict(chosen[test]) == self.labels[test]
        rng = np.random.default_rng(seed)
        return macro_estimate(right, self.labels, num_samples, rng, draw_groups=False)


def fit(vectors: np.ndarray, labels: np.ndarray) -> Pipeline:
    """Multinomial logistic regression on standardised vectors, as it comes."""
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=_MAX_ITERATIONS))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the last digits of a probe do not matter
        return classifier.fit(vectors.astype(np.float32), labels)


def _with_groups(labels: np.ndarray, groups: list[str], max_folds: int) -> np.ndarray:
    """Whole groups; those of one class after each other, so that no fold has all of a class where this can be."""
    first: dict[str, int] = {}
    for label, group in sorted(zip(labels.tolist(), groups, strict=True)):
        first.setdefault(group, label)
    ordered = sorted(first, key=lambda group: (first[group], group))
    folds = {group: place % min(max_folds, len(ordered)) for place, group in enumerate(ordered)}
    return np.array([folds[group] for group in groups])


def _without_groups(labels: np.ndarray, max_folds: int, seed: int) -> np.ndarray:
    folds = np.empty(len(labels), np.int64)
    splitter = StratifiedKFold(min(max_folds, int(np.bincount(labels).min())), shuffle=True, random_state=seed)
    for number, (_, test) in enumerate(splitter.split(labels[:, np.newaxis], labels)):
        folds[test] = number
    return folds
