import numpy as np
import pytest

from w2vb_ray.config.export import GateSection
from w2vb_ray.export.gate import NEIGHBOURS, Encoded, compare, failures, limits

RNG = np.random.default_rng(0)


def encoded(pooled: np.ndarray, frames: list[np.ndarray] | None = None, seconds: float = 1.0) -> Encoded:
    return Encoded(pooled, frames or [one[None] for one in pooled], seconds)


def vectors(count: int = 40, dimension: int = 16) -> np.ndarray:
    return RNG.normal(size=(count, dimension)).astype(np.float32)


def test_the_same_is_perfect():
    pooled = vectors()
    found = compare(encoded(pooled, seconds=3.0), encoded(3 * pooled, seconds=1.5), 0.25)
    assert found.min_pooled_cosine == pytest.approx(1.0)
    assert found.mean_frame_cosine == pytest.approx(1.0)
    assert (found.recall, found.speed_ratio, found.size_ratio) == (1.0, 2.0, 0.25)
    assert failures(found, limits(GateSection())) == []


def test_cosines_are_the_worst_and_the_mean_of_all_frames():
    a, b = np.array([[1.0, 0.0], [0.0, 2.0]], np.float32), np.array([[1.0, 1.0], [0.0, 1.0]], np.float32)
    found = compare(encoded(a, [a, a[:1]]), encoded(b, [b, a[:1]]), 1.0)
    assert found.min_pooled_cosine == pytest.approx(0.5**0.5)
    assert found.min_frame_cosine == pytest.approx(0.5**0.5)
    assert found.mean_frame_cosine == pytest.approx((0.5**0.5 + 2) / 3)
    assert found.mean_pooled_cosine == pytest.approx((0.5**0.5 + 1) / 2)


@pytest.mark.parametrize("count", [3, 8, 40])
def test_recall_against_brute_force(count):
    pooled = vectors(count)
    other = pooled + 0.7 * vectors(count)
    shares = []
    for index in range(count):
        ranked = [
            sorted(
                (other_index for other_index in range(count) if other_index != index),
                key=lambda i, q=query: -float(q @ pooled[i]) / float(np.linalg.norm(q) * np.linalg.norm(pooled[i])),
            )[: min(NEIGHBOURS, count - 1)]
            for query in (pooled[index], other[index])
        ]
        shares.append(len(set(ranked[0]) & set(ranked[1])) / len(ranked[0]))
    found = compare(encoded(pooled), encoded(other), 1.0).recall
    assert found == pytest.approx(np.mean(shares))
    assert (found < 1.0) == (count > NEIGHBOURS + 1)


def test_what_is_below_its_limit_or_no_number_fails():
    pooled = vectors()
    noisy = compare(encoded(pooled), encoded(pooled + 0.5 * vectors()), 1.0)
    assert failures(noisy, limits(GateSection())) == ["min_pooled_cosine", "min_frame_cosine", "recall"]
    broken = pooled.copy()
    broken[3] = np.nan
    found = compare(encoded(pooled), encoded(broken), 1.0)
    assert {"min_pooled_cosine", "min_frame_cosine"} <= set(failures(found, limits(GateSection())))


def test_zero_vectors_are_the_same_only_as_zero_vectors():
    zero, one = np.zeros((2, 4), np.float32), np.ones((2, 4), np.float32)
    assert compare(encoded(zero), encoded(zero), 1.0).min_pooled_cosine == 1.0
    assert compare(encoded(zero), encoded(one), 1.0).min_pooled_cosine == 0.0
