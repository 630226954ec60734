import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from w2vb_ray.config.pretrain import BatchesSection
from w2vb_ray.errors import ConfigError
from w2vb_ray.pretrain.plan import plan_epoch

RNG = np.random.default_rng(0)
DURATIONS_S = np.concatenate([RNG.lognormal(1.2, 0.8, 3_000), [np.nan, 0.1, 400.0]])
LANGUAGES = np.array(["a"] * 2_700 + ["b"] * 303)
BATCHES = BatchesSection(audio_s=120, max_frames=2_000, min_crop_s=0.5, max_crop_s=15)


def plan(epoch=0, seed=0, durations_s=DURATIONS_S, **changes):
    return plan_epoch(durations_s, LANGUAGES, BATCHES.model_copy(update=changes), seed, epoch)


def test_the_same_every_time_and_another_for_each_epoch_and_seed():
    one, again = plan(), plan()
    for name in ("rows", "start_s", "duration_s", "numbers", "micro_ends", "update_ends"):
        assert np.array_equal(getattr(one, name), getattr(again, name))
    for other in (plan(epoch=1), plan(seed=1)):
        assert not np.array_equal(one.rows, other.rows)
    assert not set(one.numbers.tolist()) & set(plan(epoch=1).numbers.tolist())


def test_every_utterance_once_where_languages_come_as_they_are():
    found = plan(language_temperature=1.0)
    usable = np.flatnonzero(DURATIONS_S >= 0.5)
    assert sorted(found.rows.tolist()) == usable.tolist()
    assert len(set(found.numbers.tolist())) == len(found.rows)


@pytest.mark.parametrize(("temperature", "share"), [(1.0, 0.1), (0.5, 0.25), (0.0, 0.5)])
def test_languages_have_their_shares_of_audio(temperature, share):
    durations_s = np.full(len(LANGUAGES), 2.0)
    found = plan(durations_s=durations_s, language_temperature=temperature)
    assert (LANGUAGES[found.rows] == "b").mean() == pytest.approx(share, abs=0.01)
    assert len(found.rows) == pytest.approx(len(LANGUAGES), rel=0.03)


@settings(max_examples=20, deadline=None)
@given(audio_s=st.floats(20, 2_000), max_frames=st.integers(750, 10_000), epoch=st.integers(0, 50))
def test_pieces_lie_inside_and_batches_in_their_limits(audio_s, max_frames, epoch):
    found = plan(epoch=epoch, audio_s=audio_s, max_frames=max_frames)
    assert (found.start_s >= 0).all()
    assert (found.start_s + found.duration_s <= DURATIONS_S[found.rows] + 1e-9).all()
    assert found.duration_s.max() <= 15
    seen, seconds = [], []
    for update in range(len(found.update_ends)):
        pieces = found.micro_batches(update)
        assert pieces
        for piece in pieces:
            durations_s = found.duration_s[piece]
            assert len(durations_s) * durations_s.max() * 50 <= max_frames * (1 + 1e-9)
            seen.extend(range(piece.start, piece.stop))
        seconds.append(sum(found.duration_s[piece].sum() for piece in pieces))
    assert seen == list(range(len(found.rows)))
    if len(seconds) > 1:  # as alike as whole micro-batches allow
        assert max(seconds) - min(seconds) <= 3 * max_frames / 50 + 0.3 * audio_s


def test_sorting_leaves_little_padding():
    found = plan()
    ends = found.micro_ends.tolist()
    padded = sum(
        (stop - start) * found.duration_s[start:stop].max() for start, stop in zip([0, *ends], ends, strict=False)
    )
    assert found.duration_s.sum() / padded > 0.93


def test_less_audio_than_an_update():
    with pytest.raises(ConfigError, match=r"batches\.audio_s must be at most the audio of the source"):
        plan(audio_s=1e6)
