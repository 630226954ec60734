from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import SeamlessM4TFeatureExtractor, Wav2Vec2FeatureExtractor

from w2vb_ray.audio import features

EXTRACTOR = SeamlessM4TFeatureExtractor()


def reference(samples):
    """(num_samples,) float32 -> (T, 160), the masked-out odd frame dropped."""
    out = EXTRACTOR(samples, sampling_rate=16_000, return_tensors="np")
    return out["input_features"][0][out["attention_mask"][0].astype(bool)]


def error(samples):
    return np.abs(features.filterbank(torch.from_numpy(samples)).numpy() - reference(samples)).max()


def noise(num_samples, scale=0.1, offset=0.0, seed=0):
    samples = np.random.default_rng(seed).normal(size=num_samples) * scale + offset
    return np.clip(samples, -1, 32767 / 32768).astype(np.float32)


@settings(max_examples=40, deadline=None)
@given(
    num_samples=st.integers(560, 40_000),
    scale=st.sampled_from([1e-3, 0.1, 5.0]),
    offset=st.sampled_from([0.0, 0.4]),
    seed=st.integers(0, 99),
)
def test_filterbank_is_that_of_transformers(num_samples, scale, offset, seed):
    assert error(noise(num_samples, scale, offset, seed)) < 1e-4


@pytest.mark.parametrize("num_samples", [560, 719, 720, 880, 100_001])
def test_near_silence_is_that_of_transformers(num_samples):
    samples = np.random.default_rng(0).integers(-1, 2, num_samples) / 32768
    assert error(samples.astype(np.float32)) < 1e-4


@pytest.mark.parametrize("level", [0.0, 0.5])
def test_silence_is_zero_where_transformers_leaves_rounding_noise(level):
    samples = np.full(48_000, level, np.float32)
    assert not features.filterbank(torch.from_numpy(samples)).any()
    assert np.abs(reference(samples)).max() < 1e-2


def test_a_recording_of_a_minute_is_that_of_transformers():
    assert error(noise(960_000, offset=0.2)) < 1e-4


@pytest.mark.parametrize("group_hops", [features._GROUP_HOPS, 700])
def test_utterances_normalised_in_one_go_as_on_a_gpu_are_those_of_one_by_one(monkeypatch, group_hops):
    """The GPU's way, on a CPU."""
    monkeypatch.setattr(features, "_GROUP_HOPS", group_hops)
    alone = [torch.from_numpy(features.log_mel(noise(size, seed=size))) for size in (800, 90_000, 16_000, 24_000, 900)]
    alone.append(torch.full((30, 80), -15.9))
    together = [one for group in features._groups(alone) for one in features._normalised_together(group)]
    features._normalise(alone)
    torch.testing.assert_close(together, alone, rtol=0, atol=2e-6)
    assert not together[-1].any()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_stays_with_its_utterance(value):
    waveforms = [noise(size, seed=size) for size in (8_000, 30_000, 12_000)]
    waveforms[1][9_000:9_100] = value
    found = features.filterbank_batch(waveforms)
    alone = [features.filterbank(torch.from_numpy(one)) for one in (waveforms[0], waveforms[2])]
    assert not found[1].isfinite().all()
    torch.testing.assert_close([found[0], found[2]], alone, rtol=0, atol=2e-6)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_is_not_finite_stays_with_its_utterance_on_a_gpu(value):
    """The GPU's way, on a CPU."""
    alone = [torch.from_numpy(features.log_mel(noise(size, seed=size))) for size in (8_000, 30_000, 12_000)]
    alone[1][50, 7] = value
    found = features._normalised_together(alone)
    features._normalise([alone[0], alone[2]])
    assert not found[1].isfinite().all()
    torch.testing.assert_close([found[0], found[2]], [alone[0], alone[2]], rtol=0, atol=2e-6)


def test_threads_do_not_meet():
    waveforms = [[noise(40_000, seed=seed)] for seed in range(40)]
    alone = [features.filterbank_batch(one)[0] for one in waveforms]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(features.filterbank_batch, waveforms))
    assert all(torch.equal(one[0], expected) for one, expected in zip(found, alone, strict=True))


def test_no_utterances_give_none():
    assert features.filterbank_batch([]) == []


def test_features_can_be_trained_on():
    """Made in inference mode, but not of it."""
    weights = torch.ones(features.FEATURE_SIZE, requires_grad=True)
    with torch.enable_grad():
        (features.filterbank_batch([noise(16_000)])[0] @ weights).sum().backward()
    assert weights.grad is not None


def test_int16_and_float_give_the_same():
    pcm = (noise(20_000) * 20_000).astype(np.int16)
    as_float = torch.from_numpy(pcm.astype(np.float32) / 32768)
    assert torch.equal(features.filterbank(torch.from_numpy(pcm)), features.filterbank(as_float))


def test_batch_is_each_alone_whatever_the_types_and_lengths():
    sizes = [400, 16_000, 559, 250_000, 561, 720, 80_000, 1_040]
    waveforms = [noise(size, seed=size) for size in sizes]
    waveforms[1] = (waveforms[1] * 32767).astype(np.int16)
    batch = features.filterbank_batch(waveforms)
    for waveform, together in zip(waveforms, batch, strict=True):
        torch.testing.assert_close(together, features.filterbank(torch.from_numpy(waveform)), rtol=0, atol=2e-6)


@pytest.mark.parametrize("num_hops", [2, 3, 15, 16, 17, 250, 319, 320, 321, 337, 500])
def test_a_frame_has_the_same_bits_among_few_and_many(num_hops):
    samples = noise(100_000)
    alone = features.log_mel(samples[: features.WINDOW_SAMPLES + (num_hops - 1) * features.HOP_SAMPLES])
    assert np.array_equal(alone, features.log_mel(samples)[:num_hops])


def test_a_quiet_band_beside_a_loud_tone_is_that_of_transformers():
    seconds = np.arange(48_000) / 16_000
    tone = 0.45 * np.sin(2 * np.pi * 200 * seconds) * (1 + 0.5 * np.sin(2 * np.pi * 3 * seconds))
    assert error((tone + noise(48_000, 1e-7)).astype(np.float32)) < 1e-4


def test_batch_takes_read_only_buffers_and_leaves_the_input_alone():
    pcm = np.frombuffer((noise(4_000) * 9_000).astype(np.int16).tobytes(), np.int16)
    assert torch.equal(features.filterbank_batch([pcm])[0], features.filterbank(torch.from_numpy(pcm.copy())))
    tensor = torch.from_numpy(noise(4_000))
    before = tensor.clone()
    features.filterbank(tensor)
    assert torch.equal(tensor, before)


@pytest.mark.parametrize("num_samples", [400, 480, 559])
def test_one_hop_is_padded_to_one_frame(num_samples):
    samples = noise(num_samples)
    padded = np.pad(samples, (0, 560 - num_samples))
    frames = features.filterbank(torch.from_numpy(samples))
    assert frames.shape == (1, 160)
    np.testing.assert_allclose(frames.numpy(), reference(padded), atol=1e-4)


@pytest.mark.parametrize("num_samples", [0, 1, 399])
def test_under_25_ms_is_refused(num_samples):
    with pytest.raises(ValueError, match=f"400 samples.*has {num_samples}"):
        features.filterbank_batch([np.zeros(num_samples, np.int16)])


def test_two_channels_are_refused():
    with pytest.raises(ValueError, match="shape"):
        features.filterbank(torch.zeros(2, 4_000))


@given(st.integers(400, 10_000))
def test_number_of_feature_frames(num_samples):
    hops = (num_samples - 400) // 160 + 1
    assert features.num_feature_frames(num_samples) == max(1, hops // 2)


@pytest.mark.parametrize("make", [noise, lambda n: np.zeros(n, np.float32), lambda n: noise(n, 1e-4, 0.3)])
@pytest.mark.parametrize("num_samples", [400, 31_999])
def test_standardised_waveform_is_that_of_transformers(make, num_samples):
    samples = make(num_samples)
    expected = Wav2Vec2FeatureExtractor(do_normalize=True)(samples, sampling_rate=16_000).input_values[0]
    np.testing.assert_allclose(features.standardise_waveform(samples), expected, atol=1e-4, rtol=1e-4)


def test_standardising_in_blocks_changes_nothing(monkeypatch):
    samples = noise(5_000, offset=0.2)
    whole = features.standardise_waveform(samples)
    monkeypatch.setattr(features, "_BLOCK_SAMPLES", 333)
    np.testing.assert_allclose(features.standardise_waveform(samples), whole, atol=1e-6)
