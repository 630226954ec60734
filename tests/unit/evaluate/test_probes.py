"""Probes find what is there, and not what only the speaker gives away."""

import numpy as np
import pytest

from w2vb_ray.errors import SourceError
from w2vb_ray.evaluate.probes import Task

SPEAKERS = [f"speaker {number}" for number in range(12)]
ROWS = [(speaker, f"language {number % 3}") for number, speaker in enumerate(SPEAKERS) for _ in range(12)]
GROUPS = [speaker for speaker, _ in ROWS]
LABELS = [language for _, language in ROWS]


def vectors(of_language=0.0, of_speaker=0.0):
    rng = np.random.default_rng(1)
    said = {name: rng.normal(size=16) for name in sorted({*LABELS, *GROUPS})}
    return np.stack([of_language * said[one] + of_speaker * said[who] + rng.normal(size=16) for who, one in ROWS])


def accuracy(some, groups=GROUPS):
    return Task.of(LABELS, groups, 10, 0).estimate(some, 200, 0)


def test_what_is_there_is_told():
    found = accuracy(vectors(of_language=2))
    assert found.value > 0.95
    assert found.low <= found.value <= found.high


def test_noise_tells_as_much_as_a_guess():
    assert 0.15 < accuracy(vectors()).value < 0.5


def test_a_speaker_gives_no_language_away_unless_groups_are_left_out():
    some = vectors(of_speaker=3)
    assert accuracy(some, None).value > 0.95
    assert accuracy(some).value < 0.7


def test_no_group_is_learnt_from_and_told():
    task = Task.of(LABELS, GROUPS, 5, 0)
    for speaker in SPEAKERS:
        assert len({fold for fold, row in zip(task.folds, task.index, strict=True) if GROUPS[row] == speaker}) == 1
    assert len(set(task.folds.tolist())) == 5
    for fold in range(5):
        assert set(task.labels[task.folds != fold].tolist()) == {0, 1, 2}


def test_classes_that_cannot_be_learnt_are_left_out():
    labels = ["a"] * 8 + ["b"] * 8 + ["c"] * 3 + [None, ""] + ["d"] * 8
    groups = list("xxyyxxyy" * 2) + list("xyx") + ["x", "x"] + ["x"] * 8
    task = Task.of(labels, groups, 10, 0)
    assert task.classes == ["a", "b"]  # c has three utterances, d one group
    assert task.index.tolist() == list(range(16))
    with pytest.raises(SourceError, match="two classes with 4 utterances in two groups or more, but there are 1 of 2"):
        Task.of(["a"] * 8 + ["d"] * 8, list("xxyyxxyy") + ["x"] * 8, 10, 0)
    with pytest.raises(SourceError, match="two classes with 4 utterances, but there are 0 of 0"):
        Task.of([None] * 8, None, 10, 0)
