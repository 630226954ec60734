"""Boundaries, ABX, phones and speech of frames that were made so that the answer is known."""

from itertools import product

import numpy as np
import pytest

from w2vb_ray.errors import SourceError
from w2vb_ray.evaluate.abx import ACROSS, WITHIN, Abx, distance
from w2vb_ray.evaluate.alignment import Phones
from w2vb_ray.evaluate.phone_probe import SEEN, TRAIN, UNSEEN, PhoneProbe
from w2vb_ray.evaluate.segmentation import Segmentation, f1_score, hits, r_value
from w2vb_ray.evaluate.speech_activity import SpeechActivity, make_noisy

NAMES = list("aeioumnst")
LANGUAGES = ["deu", "fra", "spa", "hun"]
PHONE_S = 0.08


def utterance(rng, num_phones=12):
    """Phones of 80 ms in random order, none twice in a row."""
    names: list[str] = []
    while len(names) < num_phones:
        name = str(rng.choice(NAMES))
        if not names or names[-1] != name:
            names.append(name)
    start_s = np.arange(num_phones) * PHONE_S
    return Phones(start_s, start_s + PHONE_S, names)


def frames_of(phones, rng, noise):
    """A direction per phone, and noise."""
    base = np.random.default_rng(1).normal(size=(len(NAMES), 24))
    places = phones.at_frames(int(phones.end_s[-1] / 0.02))
    told = np.stack([base[NAMES.index(phones.names[place])] for place in np.maximum(places, 0)])
    return told + noise * rng.normal(size=told.shape)


@pytest.fixture(scope="module")
def corpus():
    rng = np.random.default_rng(0)
    languages = [language for language in LANGUAGES for _ in range(16)]
    return languages, [utterance(rng) for _ in languages]


def parts_of(languages):
    return [UNSEEN if one == "hun" else TRAIN if row % 2 else SEEN for row, one in enumerate(languages)]


def test_phones_are_told_where_frames_say_them(corpus):
    languages, phones = corpus
    rng = np.random.default_rng(2)
    probe = PhoneProbe.of(phones, parts_of(languages), languages, 10_000, 0)
    for index, one in enumerate(phones):
        probe.add("clear", index, frames_of(one, rng, 0.1))
        probe.add("nothing", index, rng.normal(size=(int(one.end_s[-1] / 0.02), 8)))
    found = probe.estimates(100, 0)
    assert found[SEEN]["clear"].value > 0.98
    assert found[UNSEEN]["clear"].value > 0.98
    assert found[UNSEEN]["nothing"].value < 0.25
    assert probe.chance(SEEN) < 0.25
    assert probe.coverage == 1
    assert probe.estimates(100, 0) == {SEEN: {}, UNSEEN: {}}  # each kind is measured once


def test_so_many_frames_and_no_more(corpus):
    languages, phones = corpus
    probe = PhoneProbe.of(phones, parts_of(languages), languages, 200, 0)
    count = {
        part: sum(len(kept) for of, kept, _ in probe.frames.values() if of == part) for part in (TRAIN, SEEN, UNSEEN)
    }
    assert all(120 < many < 280 for many in count.values())
    with pytest.raises(SourceError, match="two phones with 20 frames"):
        PhoneProbe.of(phones[:2], [TRAIN, SEEN], languages[:2], 10, 0)


def test_boundaries_are_where_frames_change(corpus):
    languages, phones = corpus
    rng = np.random.default_rng(3)
    is_train = [part == TRAIN for part in parts_of(languages)]
    segmentation = Segmentation([one.boundaries()[1:-1] for one in phones], is_train, languages)
    for index, one in enumerate(phones):
        segmentation.add("clear", index, frames_of(one, rng, 0.05))
        segmentation.add("nothing", index, rng.normal(size=(int(one.end_s[-1] / 0.02), 8)))
    found = segmentation.estimates(100, 0)
    assert found["clear"][0].value > 0.95
    assert found["clear"][1].value > 0.95
    assert found["nothing"][0].value < 0.75


def test_hits_against_the_best_of_all_matchings():
    rng = np.random.default_rng(4)
    for _ in range(100):
        found, true = np.sort(rng.random(rng.integers(0, 6))) / 5, np.sort(rng.random(rng.integers(0, 6))) / 5
        near = [(i, j) for i, j in product(range(len(found)), range(len(true))) if abs(found[i] - true[j]) <= 0.02]
        best = 0
        for chosen in range(1 << len(near)):
            pairs = [pair for place, pair in enumerate(near) if chosen >> place & 1]
            if len({i for i, _ in pairs}) == len(pairs) == len({j for _, j in pairs}):
                best = max(best, len(pairs))
        assert hits(found, true) == best


def test_the_r_value_does_not_rise_with_too_many():
    assert float(r_value(np.array([10, 10, 10]))) == 1
    assert float(f1_score(np.array([10, 10, 10]))) == 1
    assert float(r_value(np.array([10, 30, 10]))) < 0
    assert float(r_value(np.array([5, 10, 10]))) == pytest.approx(1 - (0.5 + 0.5 / np.sqrt(2)) / 2)


def test_abx_of_clear_and_of_no_vectors(corpus):
    languages, phones = corpus
    rng = np.random.default_rng(5)
    abx = Abx.of(phones, languages, 300, 0)
    assert {condition: len(rows) for condition, rows in abx.triples.items()} == {WITHIN: 300, ACROSS: 300}
    for rows in abx.triples.values():
        assert all(len({a[0], b[0], x[0]}) == 3 for a, b, x, _ in rows)
    for a, b, x, _ in abx.triples[ACROSS]:
        assert languages[a[0]] == languages[b[0]] != languages[x[0]]
    for index, one in enumerate(phones):
        abx.add("clear", index, frames_of(one, rng, 0.1))
        abx.add("nothing", index, rng.normal(size=(int(one.end_s[-1] / 0.02), 8)))
    for found in abx.estimates(100, 0).values():
        assert found["clear"].value < 0.02
        assert 0.4 < found["nothing"].value < 0.6


def test_one_language_has_nothing_across(corpus):
    languages, phones = corpus
    assert Abx.of(phones[:16], languages[:16], 50, 0).triples.keys() == {WITHIN}


def test_the_distance_is_that_of_the_best_path():
    rng = np.random.default_rng(6)

    def best(angles, row, column):
        """Sum and length of the path of least sum; the first of equal ones as in the reference recursion."""
        if row == column == 0:
            return angles[0, 0], 1
        before = [
            best(angles, *place)
            for place in ((row - 1, column - 1), (row - 1, column), (row, column - 1))
            if min(place) >= 0
        ]
        total, length = min(before, key=lambda one: one[0])
        return total + angles[row, column], length + 1

    for _ in range(20):
        one, other = (rng.normal(size=(int(rng.integers(1, 6)), 5)) for _ in range(2))
        one, other = (some / np.linalg.norm(some, axis=1, keepdims=True) for some in (one, other))
        total, length = best(np.arccos(one @ other.T) / np.pi, len(one) - 1, len(other) - 1)
        assert distance(one, other) == pytest.approx(total / length)
    assert distance(one, one) == pytest.approx(0, abs=1e-6)


def test_speech_is_told_from_noise_alone():
    rng = np.random.default_rng(7)
    noisy = []
    for number in range(16):
        phones = utterance(rng)
        tone = np.sin(np.arange(int(phones.end_s[-1] * 16_000)) / 8).astype(np.float32)
        for snr_db in (20.0, 0.0):
            language = LANGUAGES[number % 2]
            noisy.append(make_noisy(tone, phones, snr_db, language, is_train=number < 8, rng=rng))
    speech, around = noisy[0].waveform[9_600:-9_600], noisy[0].waveform[:9_600]
    assert 10 * np.log10((speech**2).mean() / (around**2).mean()) == pytest.approx(20, abs=1)
    assert not noisy[0].is_speech[:28].any()
    assert noisy[0].is_speech[32:70].all()
    activity = SpeechActivity(noisy)
    for index, one in enumerate(noisy):
        truth = one.is_speech[:, np.newaxis].astype(float)
        activity.add("clear", index, truth + 0.1 * rng.normal(size=truth.shape))
        activity.add("nothing", index, rng.normal(size=truth.shape))
    found = activity.estimates(100, 0)
    assert found.keys() == {20.0, 0.0}
    for one in found.values():
        assert one["clear"][0].value > 0.99
        assert one["clear"][1].value > 0.98
        assert 0.4 < one["nothing"][0].value < 0.6
    assert 0.4 < activity.chance_f1() < 0.8
