from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2vb_ray.encoder.batching import plan_equal_batches, plan_micro_batches, plan_packed_batches

LENGTHS = st.lists(st.integers(1, 1_500), max_size=200)


@given(LENGTHS, st.integers(1, 20_000), st.integers(1, 3_000))
def test_every_window_once_and_within_the_budget(lengths, max_frames, attention_frames):
    batches = plan_micro_batches(lengths, max_frames, attention_frames)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        longest = max(lengths[index] for index in batch)
        if len(batch) > 1:
            assert len(batch) * longest <= max_frames
            assert len(batch) * (longest + longest**2 / attention_frames) <= max_frames * (1 + 1e-12)


@given(LENGTHS)
def test_sorted_by_length_longest_first(lengths):
    order = [lengths[index] for batch in plan_micro_batches(lengths, 3_000, 600) for index in batch]
    assert order == sorted(lengths, reverse=True)


@given(LENGTHS, st.integers(1, 5_000))
def test_no_batch_could_have_taken_the_next_window(lengths, max_frames):
    batches = plan_micro_batches(lengths, max_frames, 600)
    for batch in batches[:-1]:
        longest = lengths[batch[0]]
        assert (len(batch) + 1) * (longest + longest**2 / 600) > max_frames


@given(st.lists(st.integers(1, 5), max_size=60), st.integers(1, 50))
def test_equal_batches_hold_one_size_each(sizes, max_frames):
    batches = plan_equal_batches(sizes, sizes, max_frames, 600)
    assert sorted(index for batch in batches for index in batch) == list(range(len(sizes)))
    assert all(len({sizes[index] for index in batch}) == 1 for batch in batches)


@given(LENGTHS, st.integers(1, 20_000))
def test_packed_batches_are_full(lengths, max_frames):
    batches = plan_packed_batches(lengths, max_frames)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert all(len(batch) == 1 or sum(lengths[index] for index in batch) <= max_frames for batch in batches)
    order = [index for batch in batches for index in batch]
    assert [lengths[index] for index in order] == sorted(lengths, reverse=True)
    for batch, following in pairwise(batches):
        assert sum(lengths[index] for index in batch) + lengths[following[0]] > max_frames


def test_known_plan():
    # cost of a row: 100 -> 116.7, 300 -> 450, 10 -> 10.2
    assert plan_micro_batches([100, 300, 10, 100], 450, 600) == [[1], [0, 3, 2]]


@pytest.mark.parametrize(("lengths", "budget"), [([0], (100, 600)), ([5], (0, 600)), ([5], (100, 0))])
def test_lengths_and_budgets_under_one_are_refused(lengths, budget):
    with pytest.raises(ValueError, match="at least 1"):
        plan_micro_batches(lengths, *budget)
    if budget[1]:
        with pytest.raises(ValueError, match="at least 1"):
            plan_packed_batches(lengths, budget[0])
