import functools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.encoder import heads
from w2vb_ray.encoder.attention_pooling import AttentionPooling
from w2vb_ray.encoder.pooling import Max, Mean, MeanStd, Partial, unit_length, window_statistics

DIMENSION = 3
HEADS = {f"attention-{size}": heads.make(DIMENSION, num_heads=2, hidden_size=size) for size in (None, 5)}
POOLINGS = {
    "mean": Mean(),
    "mean_std": MeanStd(),
    "max": Max(),
    **{name: AttentionPooling(head, torch.device("cpu")) for name, head in HEADS.items()},
}
EXPECTED = {
    "mean": lambda x: x.mean(0),
    "mean_std": lambda x: np.concatenate([x.mean(0), x.std(0)]),
    "max": lambda x: x.max(0),
    **{name: functools.partial(heads.reference, head) for name, head in HEADS.items()},
}


def pool_windows(hidden, cores, pooling):
    rows = window_statistics(hidden, cores, pooling).numpy()
    return [Partial(core.stop - core.start, row) for core, row in zip(cores, rows, strict=True)]


def merge(partials, pooling):
    return functools.reduce(lambda a, b: Partial(a.count + b.count, pooling.merge(a, b)), partials)


@pytest.mark.parametrize("name", POOLINGS)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    seed=st.integers(0, 99),
    offset=st.sampled_from([0, 1e3]),
)
def test_merged_windows_are_the_whole(name, lengths, seed, offset):
    frames = (np.random.default_rng(seed).normal(size=(sum(lengths), DIMENSION)) + offset).astype(np.float32)
    packed = torch.full((12 * len(lengths), DIMENSION), torch.nan)  # context may hold anything
    cores = [slice(start := 12 * row + row % 3, start + length) for row, length in enumerate(lengths)]
    for core, piece in zip(cores, np.split(frames, np.cumsum(lengths)[:-1]), strict=True):
        packed[core] = torch.from_numpy(piece)
    pooled = POOLINGS[name].finish(merge(pool_windows(packed, cores, POOLINGS[name]), POOLINGS[name]))
    np.testing.assert_allclose(pooled, EXPECTED[name](frames.astype(np.float64)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", POOLINGS)
def test_order_of_merging_does_not_matter(name):
    hidden = torch.randn(200, DIMENSION, generator=torch.Generator().manual_seed(0))
    partials = pool_windows(hidden, [slice(start, start + 50) for start in range(0, 200, 50)], POOLINGS[name])
    there, back = merge(partials, POOLINGS[name]), merge(partials[::-1], POOLINGS[name])
    assert there.count == back.count == 200
    np.testing.assert_allclose(there.rows, back.rows, rtol=1e-12, atol=1e-12)


def test_half_precision_is_summed_in_float64():
    hidden = torch.full((4_000, 1), 60_000.0, dtype=torch.float16)  # a float16 sum would overflow at once
    (partial,) = pool_windows(hidden, [slice(0, 4_000)], MeanStd())
    np.testing.assert_array_equal(MeanStd().finish(partial), [float(hidden[0, 0]), 0.0])


def test_scores_beyond_what_exp_can_hold():
    head = heads.make(DIMENSION, num_heads=2, hidden_size=None)
    for tensor in head.tensors.values():
        tensor *= 1e4
    hidden = torch.randn(40, DIMENSION, generator=torch.Generator().manual_seed(0))
    pooling = AttentionPooling(head, torch.device("cpu"))
    pooled = pooling.finish(merge(pool_windows(hidden, [slice(0, 1), slice(1, 22), slice(22, 40)], pooling), pooling))
    winners = (hidden @ torch.from_numpy(head.tensors["scores.weight"]).T).argmax(0)
    np.testing.assert_allclose(pooled, hidden[winners].flatten(), rtol=1e-6)


def test_equal_scores_are_the_mean():
    head = heads.make(DIMENSION, num_heads=2, hidden_size=None)
    head.tensors["scores.weight"][:] = 0
    hidden = torch.randn(40, DIMENSION, generator=torch.Generator().manual_seed(0))
    pooling = AttentionPooling(head, torch.device("cpu"))
    (partial,) = pool_windows(hidden, [slice(0, 40)], pooling)
    np.testing.assert_allclose(pooling.finish(partial), np.tile(hidden.double().mean(0), 2), rtol=1e-12)


def test_a_head_trained_on_vectors_of_length_1():
    hidden = torch.randn(40, DIMENSION, generator=torch.Generator().manual_seed(0))
    head = heads.make(DIMENSION, num_heads=2, hidden_size=5, normalise=True)
    pooling = AttentionPooling(head, torch.device("cpu"))
    (partial,) = pool_windows(hidden, [slice(0, 40)], pooling)
    plain = heads.reference(head, hidden.numpy())
    np.testing.assert_allclose(pooling.finish(partial), plain / np.linalg.norm(plain), rtol=1e-5)


@pytest.mark.parametrize("name", POOLINGS)
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_is_not_finite_shows(name, bad):
    hidden = torch.zeros(10, DIMENSION)
    hidden[3] = bad
    (partial,) = pool_windows(hidden, [slice(0, 10)], POOLINGS[name])
    assert not np.isfinite(unit_length(POOLINGS[name].finish(partial))).all()


def test_unit_length():
    np.testing.assert_array_equal(unit_length(np.array([3.0, -4.0])), [0.6, -0.8])
    np.testing.assert_array_equal(unit_length(np.zeros(3)), np.zeros(3))
    assert np.linalg.norm(unit_length(np.full(3, 1e-44))) == pytest.approx(1)
    assert np.linalg.norm(unit_length(np.full(3, 3e38))) == pytest.approx(1)
    np.testing.assert_array_equal(unit_length(np.array([1.0, np.inf])), [1.0, np.inf])
