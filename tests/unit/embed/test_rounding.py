import numpy as np
import pytest

from w2vb_ray.embed.write import rounded

LARGEST = np.uint32(0x7F7FE000).view(np.float32)  # with 10 mantissa bits


def any_floats(count=200_000):
    """Every exponent alike, zeros, subnormals and the edges, both signs."""
    drawn = np.random.default_rng(0).integers(0, 2**32, count, np.uint32)
    edges = [0, 1, 0xFFF, 0x1000, 0x1001, 0x3000, 0x7FFFFF, 0x800000, 0x3F800000, 0x3F801000, 0x3F803000, 0x7F7FE000]
    bits = np.concatenate([drawn, np.array(edges, np.uint32), np.array(edges, np.uint32) | np.uint32(1 << 31)])
    values = bits.view(np.float32)
    return values[np.isfinite(values) & (np.abs(values) <= LARGEST)]


def reference(values):
    """To the nearest multiple of the 10-bit step of each value's binade, ties to even, in float64."""
    exact = values.astype(np.float64)
    _, exponent = np.frexp(exact)
    step = np.ldexp(1.0, np.maximum(exponent - 11, -149 + 13))
    return np.minimum(np.abs(np.rint(exact / step) * step), LARGEST) * np.where(np.signbit(exact), -1, 1)


def test_nearest_even_at_ten_mantissa_bits():
    values = any_floats()
    np.testing.assert_array_equal(rounded(values).astype(np.float64), reference(values))
    np.testing.assert_array_equal(np.signbit(rounded(values)), np.signbit(values))


def test_error_and_what_is_left():
    values = any_floats()
    kept = rounded(values)
    normal = np.abs(values) >= np.finfo(np.float32).tiny
    exact, stored = values[normal].astype(np.float64), kept[normal].astype(np.float64)
    assert np.max(np.abs(stored - exact) / np.abs(exact)) <= 2.0**-11
    assert not np.any(kept.view(np.uint32) & 0x1FFF)
    np.testing.assert_array_equal(rounded(kept).view(np.uint32), kept.view(np.uint32))


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (1 + 2.0**-11, 1.0),  # halfway: to the even neighbour
        (1 + 3 * 2.0**-11, 1 + 2.0**-9),
        (-1 - 2.0**-11, -1.0),
        (1 + 2.0**-11 + 2.0**-23, 1 + 2.0**-10),
        (2 - 2.0**-23, 2.0),  # over a power of two
        (2.0**-149, 0.0),
        (65_504.0, 65_504.0),  # float16's largest
        (1e-30, 1e-30),  # float16 has nothing there
    ],
)
def test_known_values(value, stored):
    assert rounded(np.array([value], np.float32))[0] == pytest.approx(stored, rel=2.0**-11, abs=0)
    if stored not in (1e-30,):
        assert rounded(np.array([value], np.float32))[0] == stored


def test_what_is_finite_stays_finite():
    values = np.array([np.finfo(np.float32).max, -np.finfo(np.float32).max], np.float32)
    assert rounded(values).tolist() == [LARGEST, -LARGEST]


def test_shapes_strides_and_the_input_are_left_alone():
    values = np.arange(12, dtype=np.float32).reshape(3, 4) / 7
    before = values.copy()
    np.testing.assert_array_equal(rounded(values[:, ::2]), rounded(values)[:, ::2])
    np.testing.assert_array_equal(values, before)
    assert rounded(np.empty(0, np.float32)).shape == (0,)
    assert rounded(np.ones(3, np.float64)).dtype == np.float32
