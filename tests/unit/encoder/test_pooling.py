import functools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from w2vb_ray.encoder.pooling import finish_pooling, merge_partials, pool_windows

EXPECTED = {
    "mean": lambda x: x.mean(0),
    "mean_std": lambda x: np.concatenate([x.mean(0), x.std(0)]),
    "max": lambda x: x.max(0),
}


@pytest.mark.parametrize("method", EXPECTED)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    seed=st.integers(0, 99),
    offset=st.sampled_from([0, 1e3]),
)
def test_merged_windows_are_the_whole(method, lengths, seed, offset):
    frames = (np.random.default_rng(seed).normal(size=(sum(lengths), 3)) + offset).astype(np.float32)
    packed = torch.full((12 * len(lengths), 3), torch.nan)  # context may hold anything
    cores = [slice(start := 12 * row + row % 3, start + length) for row, length in enumerate(lengths)]
    for core, piece in zip(cores, np.split(frames, np.cumsum(lengths)[:-1]), strict=True):
        packed[core] = torch.from_numpy(piece)
    partials = pool_windows(packed, cores, method)
    merged = functools.reduce(lambda a, b: merge_partials(a, b, method), partials)
    pooled = finish_pooling(merged, method)
    assert merged.count == len(frames)
    assert pooled.dtype == np.float32
    np.testing.assert_allclose(pooled, EXPECTED[method](frames.astype(np.float64)), rtol=1e-5, atol=1e-5)


def test_order_of_merging_does_not_matter():
    hidden = torch.randn(200, 8, generator=torch.Generator().manual_seed(0))
    partials = pool_windows(hidden, [slice(start, start + 50) for start in range(0, 200, 50)], "mean_std")
    there = functools.reduce(lambda a, b: merge_partials(a, b, "mean_std"), partials)
    back = functools.reduce(lambda a, b: merge_partials(a, b, "mean_std"), partials[::-1])
    np.testing.assert_allclose(there.rows, back.rows, rtol=1e-12, atol=1e-12)


def test_half_precision_is_summed_in_float64():
    hidden = torch.full((4_000, 1), 60_000.0, dtype=torch.float16)  # a float16 sum would overflow at once
    (partial,) = pool_windows(hidden, [slice(0, 4_000)], "mean_std")
    value = float(hidden[0, 0])
    np.testing.assert_array_equal(finish_pooling(partial, "mean_std"), [value, 0.0])
