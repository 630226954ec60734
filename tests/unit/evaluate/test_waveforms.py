import numpy as np
import pytest

from w2vb_ray.evaluate.waveforms import synthetic_utterances


def test_the_defaults_are_about_50_s_with_one_utterance_over_the_window():
    utterances = synthetic_utterances(0, 40.0, 30.0)
    assert len(utterances) == 12
    assert 45 < sum(one.duration_s for one in utterances) < 55
    assert [one.duration_s for one in utterances if one.duration_s > 30] == [utterances[-1].duration_s]
    assert {len(one.waveform) for one in utterances} >= {400, 560}
    assert len({one.name for one in utterances}) == 12


@pytest.mark.parametrize(("max_duration_s", "max_window_s"), [(1.0, 30.0), (3.0, 2.0), (2.5, None), (40.0, 5.0)])
def test_what_an_encoder_takes(max_duration_s, max_window_s):
    for one in synthetic_utterances(3, max_duration_s, max_window_s):
        assert 400 <= len(one.waveform) <= max_duration_s * 16_000
        assert one.waveform.dtype in (np.int16, np.float32)
        assert np.abs(one.waveform).max() <= (1 if one.waveform.dtype == np.float32 else 32_767 + 1)


def test_the_seed_decides():
    first, again, other = (synthetic_utterances(seed, 2.0, None) for seed in (1, 1, 2))
    assert all(np.array_equal(a.waveform, b.waveform) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a.waveform, b.waveform) for a, b in zip(first, other, strict=True))


def test_clipped_noise_is_clipped():
    (clipped,) = [one for one in synthetic_utterances(0, 3.0, None) if one.kind == "clipped noise"]
    assert np.mean(np.isin(clipped.waveform, [-32_768, 32_767])) > 0.1
