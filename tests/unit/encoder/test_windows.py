import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2vb_ray.encoder.windows import split_windows, window_limits
from w2vb_ray.errors import ConfigError

LIMITS = st.integers(0, 100).flatmap(lambda context: st.tuples(st.integers(2 * context + 1, 1_500), st.just(context)))


@given(st.integers(1, 20_000), LIMITS)
def test_cores_cover_every_frame_once_and_windows_stay_short(num_frames, limits):
    longest, context = limits
    windows = split_windows(num_frames, longest, context)
    edges = [window.core_start for window in windows] + [num_frames]
    assert edges[0] == 0
    for window, stop in zip(windows, edges[1:], strict=True):
        assert window.core_start < window.core_stop == stop
        assert len(window) <= longest
        if len(windows) > 1:
            assert window.start == max(0, window.core_start - context)
            assert window.stop == min(num_frames, window.core_stop + context)
    cores = [window.core_stop - window.core_start for window in windows]
    assert max(cores) - min(cores) <= 1


@given(st.integers(1, 20_000), LIMITS)
def test_no_more_windows_than_needed(num_frames, limits):
    longest, context = limits
    count = len(split_windows(num_frames, longest, context))
    if count > 3:
        assert (count - 1) * (longest - 2 * context) < num_frames
    if count == 2:
        assert num_frames > longest


def test_one_piece_without_a_limit():
    assert [len(window) for window in split_windows(540_000, None, 100)] == [540_000]


def test_limits_in_frames():
    assert window_limits(30.0, 2.0) == (1_500, 100)
    assert window_limits(None, 2.0) == (None, 100)
    assert window_limits(2.3, 0.29)[0] == 115  # 2.3 * 50 is 114.99…


def test_context_that_leaves_no_core_is_refused():
    with pytest.raises(ConfigError, match=r"audio\.max_window_s must be more than twice .* \(4\), but is 4"):
        window_limits(4.0, 2.0)
