import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2vb_ray.source.keys import Keys, KeySet

NAMES = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=3), max_size=30)
HALF = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), max_size=20)


def from_halves(pairs):
    """Keys as a hash would nearly never make them: many share a half."""
    halves = np.array(pairs, np.uint64).reshape(-1, 2)
    return Keys(halves[:, 0].copy(), halves[:, 1].copy())


@given(NAMES, NAMES)
def test_strings_are_found_where_they_are(held, wanted):
    keys = Keys.of(pa.array(sorted(set(held)), pa.string())).sorted()
    places = keys.find(Keys.of(pa.array(wanted, pa.string())))
    assert [place >= 0 for place in places] == [name in held for name in wanted]
    by_place = dict(zip(places.tolist(), wanted, strict=True))
    assert all(by_place[place] == name for place, name in zip(places.tolist(), wanted, strict=True) if place >= 0)


@given(HALF, HALF)
def test_keys_that_share_a_half_are_told_apart(held, wanted):
    keys = from_halves(held).sorted()
    places = keys.find(from_halves(wanted))
    for place, pair in zip(places.tolist(), wanted, strict=True):
        assert (place >= 0) == (pair in held)
        assert place < 0 or (keys.high[place], keys.low[place]) == pair


@given(HALF)
def test_repeated_keys(pairs):
    expected = [pair in pairs[:row] for row, pair in enumerate(pairs)]
    assert from_halves(pairs).repeated().tolist() == expected


@given(st.lists(NAMES, max_size=8))
def test_a_set_of_keys_grows(batches):
    keys, seen = KeySet(), set()
    for names in batches:
        column = pa.array(names, pa.string())
        assert keys.holds(Keys.of(column)).tolist() == [name in seen for name in names]
        new = sorted(set(names) - seen)
        keys.add(Keys.of(pa.array(new, pa.string())))
        seen.update(new)
    assert all(name in keys for name in seen)
    assert ("never" in keys) == ("never" in seen)


@pytest.mark.parametrize("dtype", [pa.string(), pa.large_string()])
def test_null_and_empty_are_the_same_and_chunks_do_not_matter(dtype):
    column = pa.chunked_array([["a", None], [], ["", "日本語"]], dtype)
    keys = Keys.of(column)
    assert keys.high[1] == keys.high[2]
    again = Keys.of(column.combine_chunks().slice(2))
    assert (again.high.tolist(), again.low.tolist()) == (keys.high[2:].tolist(), keys.low[2:].tolist())
    assert len(Keys.of(pa.array([], dtype))) == 0
