import math

import numpy as np
import pytest

from w2vb_ray.evaluate.sameness import AS_TRANSFORMERS, SAME, Comparisons, Result

ONES = np.ones((3, 4), np.float32)


def test_relative_errors_are_of_the_worst_vector():
    moved = ONES.copy()
    moved[1, 0] += 0.02
    assert SAME["fp32"].figure(moved, ONES) == pytest.approx(0.01, rel=1e-4)
    assert not SAME["fp32"].holds(0.01)
    assert SAME["fp32"].holds(1e-4)


def test_cosines_are_of_everything():
    assert SAME["bf16"].figure(3 * ONES, ONES) == pytest.approx(1.0)
    assert SAME["bf16"].figure(-ONES, ONES) == pytest.approx(-1.0)
    assert not SAME["bf16"].holds(0.9999)
    assert AS_TRANSFORMERS["bf16"].holds(0.9991)


@pytest.mark.parametrize("limit", SAME.values(), ids=list(SAME))
@pytest.mark.parametrize(
    ("actual", "expected"),
    [(np.full(4, np.nan), np.full(4, np.nan)), (np.ones(4), np.full(4, np.inf)), (np.ones(5), np.ones(4))],
    ids=["nan", "inf", "shape"],
)
def test_what_cannot_be_compared_fails(limit, actual, expected):
    assert not limit.holds(limit.figure(actual, expected))


@pytest.mark.parametrize("limit", SAME.values(), ids=list(SAME))
def test_zero_vectors(limit):
    assert limit.holds(limit.figure(np.zeros(4), np.zeros(4)))
    assert not limit.holds(limit.figure(np.ones(4), np.zeros(4)))
    assert not limit.holds(limit.figure(np.zeros(4), np.ones(4)))


@pytest.mark.parametrize("precision", SAME)
def test_the_worst_is_kept_wherever_it_comes(precision):
    vectors = np.array([1.0, 0.0]), np.array([1.0, 0.1]), np.array([1.0, 0.01])
    found = Comparisons("order", SAME[precision])
    for index, vector in enumerate(vectors):
        found.add(f"utterance {index}", vector, vectors[0])
    result = found.result()
    assert (result.num_comparisons, result.where, result.failed) == (3, "utterance 1", True)


def test_nan_is_worse_than_anything():
    found = Comparisons("order", SAME["fp32"])
    for value in (1.0, math.nan, 2.0):
        found.add(str(value), np.array([value]), np.array([1.0]))
    assert found.result().where == "nan"


def test_a_check_that_compared_nothing_does_not_pass():
    with pytest.raises(ValueError, match="'order' compared nothing"):
        Comparisons("order", SAME["fp32"]).result()


def test_a_skipped_check_has_not_failed():
    assert not Result("transformers", SAME["fp32"], skipped="because").failed
