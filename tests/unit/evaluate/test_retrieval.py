"""Against brute force, and against what vectors must find by how they were made."""

import numpy as np
import pytest

from w2vb_ray.errors import SourceError
from w2vb_ray.evaluate.baselines import cepstral_statistics, duration_angles, mel_statistics
from w2vb_ray.evaluate.retrieval import Parallel, chance, compared, retrieve

RNG = np.random.default_rng(0)
ITEMS = [f"item {number}" for number in range(12)]
LANGUAGES = ["deu", "fra", "spa"]
ROWS = [(item, language) for language in LANGUAGES for item in ITEMS if (language, item) != ("spa", "item 3")]
PARALLEL = Parallel.of([item for item, _ in ROWS], [language for _, language in ROWS], 2)


def vectors(noise: float, offset: float = 0.0) -> np.ndarray:
    """What an item says, how a language sounds, and chance."""
    said = {item: RNG.normal(size=16) for item in ITEMS}
    sound = {language: offset * RNG.normal(size=16) for language in LANGUAGES}
    return np.stack([said[item] + sound[language] + noise * RNG.normal(size=16) for item, language in ROWS])


def find(some, *, centred=False, num_samples=200):
    return retrieve(some, PARALLEL, centred=centred, num_samples=num_samples, seed=0)


def test_which_utterances_are_parallel():
    items = ["a", "b", "a", "a", None, "", "c", "b", "d", "d"]
    languages = ["x", "x", "y", "y", "x", "y", "x", "y", "x", "x"]
    found = Parallel.of(items, languages, 2)
    assert found.index.tolist() == [0, 1, 2, 7]  # the first of two, none without an item or alone in its language
    assert (found.names, found.num_items, compared(found)) == (["x", "y"], 2, ["x", "y"])
    assert len(PARALLEL.pairs()) == 6
    assert sorted(len(items) for *_, items in PARALLEL.pairs()) == [11, 11, 11, 11, 12, 12]
    assert chance(PARALLEL) == pytest.approx((4 / 11 + 2 / 12) / 6)


@pytest.mark.parametrize("items", [["a", "b"], ["a", "a"], [None, None], []])
def test_no_two_languages_that_share_two_items(items):
    with pytest.raises(SourceError, match=r"retrieval\.min_items"):
        Parallel.of(items, ["x", "y"][: len(items)], 2)


def test_the_same_vectors_are_found_and_all_alike_are_not():
    found = find(vectors(0.0))
    assert (found.recall.value, found.recall.low, found.recall.high) == (1.0, 1.0, 1.0)
    assert (found.reciprocal_rank.value, found.xsim_error.value) == (1.0, 0.0)
    alike = find(np.ones((len(ROWS), 4)))
    assert (alike.recall.value, alike.xsim_error.value) == (0.0, 1.0)


def test_against_brute_force():
    some = vectors(1.2, 1.0)
    unit = some / np.linalg.norm(some, axis=1, keepdims=True)
    right, ranks, wrong = {}, {}, {}
    for a in LANGUAGES:
        for b in LANGUAGES:
            shared = [item for item in ITEMS if (item, a) in ROWS and (item, b) in ROWS]
            if a == b:
                continue
            for item in shared:
                query = unit[ROWS.index((item, a))]
                cosines = {other: float(query @ unit[ROWS.index((other, b))]) for other in shared}
                rank = 1 + sum(cosine > cosines[item] for cosine in cosines.values())
                margins = {}
                for other, cosine in cosines.items():
                    back = [float(unit[ROWS.index((other, b))] @ unit[ROWS.index((one, a))]) for one in shared]
                    near = np.mean(sorted(cosines.values())[-4:]) + np.mean(sorted(back)[-4:])
                    margins[other] = cosine / (near / 2)
                right.setdefault((a, b), []).append(rank == 1)
                ranks.setdefault((a, b), []).append(1 / rank)
                wrong.setdefault((a, b), []).append(max(margins, key=margins.get) != item)
    found = find(some)
    for estimate, known in ((found.recall, right), (found.reciprocal_rank, ranks), (found.xsim_error, wrong)):
        assert estimate.value == pytest.approx(np.mean([np.mean(one) for one in known.values()]))
        assert estimate.low <= estimate.value <= estimate.high
        assert estimate.high - estimate.low > 0.02
    assert 0.1 < found.recall.value < 0.95
    assert found.matrix[0, 2] == pytest.approx(np.mean(right["deu", "spa"]))
    assert np.isnan(found.matrix.diagonal()).all()


def test_centring_takes_away_what_a_language_sounds_like():
    some = vectors(0.3, 20.0)
    assert find(some, centred=True).xsim_error is None
    assert find(some).recall.value < 0.9 < find(some, centred=True).recall.value


def test_intervals_are_narrower_with_more_items():
    few = find(vectors(1.5))
    items = [f"{number}" for number in range(300)] * 2
    many = Parallel.of(items, ["x"] * 300 + ["y"] * 300, 10)
    said = RNG.normal(size=(300, 16))
    some = np.concatenate([said, said]) + RNG.normal(size=(600, 16))
    found = retrieve(some, many, centred=False, num_samples=200, seed=0)
    assert found.recall.high - found.recall.low < few.recall.high - few.recall.low


def test_baselines():
    waveforms = [(RNG.normal(size=size) * 3_000).astype(np.int16) for size in (400, 16_000, 24_000)]
    assert mel_statistics(waveforms).shape == (3, 160)
    found = cepstral_statistics(waveforms)
    assert found.shape == (3, 78)
    assert np.isfinite(found).all()
    louder = cepstral_statistics([np.clip(waveforms[1] * 2.0, -32_768, 32_767).astype(np.int16)])[0]
    assert louder[0] - found[1][0] == pytest.approx(np.log(4) * np.sqrt(80), rel=0.02)  # energy is in the first alone
    assert np.abs(louder[1:13] - found[1][1:13]).max() < 0.2
    angles = duration_angles([1.0, 1.1, 3.0, 60.0])
    cosines = angles @ angles[0]
    assert cosines.argsort()[::-1].tolist() == [0, 1, 2, 3]
