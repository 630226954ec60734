import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2vb_ray.audio.end_to_end import EndToEnd
from w2vb_ray.audio.spectrogram import HOP_SAMPLES, needed_samples


def waveform(num_samples, seed, dtype=np.int16):
    samples = np.random.default_rng(seed).integers(1, 32768, num_samples)
    return samples.astype(np.int16) if dtype == np.int16 else (samples / 32768).astype(np.float32)


def laid_out(waveforms, num_hops):
    """All of it at once."""
    parts = []
    for one, hops in zip(waveforms, num_hops, strict=True):
        size = max(len(one), needed_samples(hops))
        parts.append(np.pad(one, (0, -(-size // HOP_SAMPLES) * HOP_SAMPLES - len(one))))
    return np.concatenate(parts)


@given(st.lists(st.integers(400, 3_000), min_size=1, max_size=6), st.integers(0, 9_000), st.integers(1, 9_000))
def test_any_slice_is_that_of_all_laid_out(sizes, start, length):
    waveforms = [waveform(size, seed) for seed, size in enumerate(sizes)]
    num_hops = [max(2, (size - 400) // 160 + 1) for size in sizes]
    expected = laid_out(waveforms, num_hops)
    start = min(start, len(expected) - 1)
    found = EndToEnd(waveforms, num_hops)[start : start + length].numpy()
    assert found.dtype == np.int16
    assert np.array_equal(found, expected[start : start + length])


def test_hops_of_each_utterance_start_at_its_first_sample():
    waveforms = [waveform(size, seed) for seed, size in enumerate((561, 400, 8_000))]
    together = EndToEnd(waveforms, [2, 2, 48])
    assert together.hops == [slice(0, 2), slice(4, 6), slice(8, 56)]
    assert together.num_hops == 56
    for one, hops in zip(waveforms, together.hops, strict=True):
        start = hops.start * HOP_SAMPLES
        assert np.array_equal(together[start : start + len(one)].numpy(), one)


@pytest.mark.parametrize("order", [(np.int16, np.float32), (np.float32, np.int16)])
def test_int16_beside_float_is_float(order):
    waveforms = [waveform(1_000, seed, dtype) for seed, dtype in enumerate(order)]
    found = EndToEnd(waveforms, [4, 4])[0:2_120].numpy()
    assert found.dtype == np.float32
    assert np.array_equal(found[:1_000], waveform(1_000, 0, np.float32))
    assert np.array_equal(found[1_120:], waveform(1_000, 1, np.float32))
