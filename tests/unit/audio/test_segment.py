import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2vb_ray.audio.decode import Recording
from w2vb_ray.audio.segment import cut
from w2vb_ray.errors import AudioRejected, RejectReason

TEN_SECONDS = Recording(np.arange(160_000).astype(np.int16), 44_100)


def test_no_times_mean_the_whole_recording():
    pcm, start_s, end_s = cut(TEN_SECONDS, None, None)
    assert np.shares_memory(pcm, TEN_SECONDS.waveform)
    assert (len(pcm), start_s, end_s) == (160_000, 0.0, 10.0)


def test_times_fall_on_the_nearest_sample():
    pcm, start_s, end_s = cut(TEN_SECONDS, 1.000_04, 2.0)
    assert np.array_equal(pcm, TEN_SECONDS.waveform[16_001:32_000])
    assert (start_s, end_s) == (16_001 / 16_000, 2.0)
    assert len(cut(TEN_SECONDS, None, 2.5)[0]) == 40_000
    assert len(cut(TEN_SECONDS, 2.5, None)[0]) == 120_000


def test_an_end_slightly_beyond_is_clipped():
    pcm, _, end_s = cut(TEN_SECONDS, 9.0, 10.5)
    assert (len(pcm), end_s) == (16_000, 10.0)


@pytest.mark.parametrize(
    ("start_s", "end_s"),
    [
        (math.nan, None),
        (None, math.nan),
        (-0.1, 1.0),
        (None, -1.0),
        (2.0, 1.0),
        (1.0, 1.0),
        (10.0, None),
        (10.1, 10.4),
        (0.0, 10.6),
        (1e300, None),
        (0.0, math.inf),
    ],
)
def test_bad_segments(start_s, end_s):
    with pytest.raises(AudioRejected) as caught:
        cut(TEN_SECONDS, start_s, end_s)
    assert caught.value.reason is RejectReason.BAD_SEGMENT


def test_under_one_analysis_window_is_too_short():
    assert len(cut(TEN_SECONDS, 1.0, 1.025)[0]) == 400
    for recording, end_s in ((TEN_SECONDS, 0.0249), (Recording(np.zeros(0, np.int16), 8_000), None)):
        with pytest.raises(AudioRejected) as caught:
            cut(recording, None, end_s)
        assert caught.value.reason is RejectReason.TOO_SHORT


@given(st.lists(st.floats(0.0, 10.0), min_size=2, max_size=6, unique=True))
def test_adjacent_segments_share_no_sample_and_lose_none(times):
    times = sorted(times)
    pieces = []
    for start_s, end_s in pairwise(times):
        try:
            pieces.append(cut(TEN_SECONDS, start_s, end_s)[0])
        except AudioRejected:
            return
    expected = TEN_SECONDS.waveform[round(times[0] * 16_000) : round(times[-1] * 16_000)]
    assert np.array_equal(np.concatenate(pieces), expected)
