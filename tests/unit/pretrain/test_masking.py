import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2vb_ray.config.pretrain import MaskingSection
from w2vb_ray.pretrain.masking import MIN_FRAMES, mask_utterance


@given(
    num_frames=st.integers(MIN_FRAMES, 800),
    seed=st.integers(0, 99),
    span=st.integers(1, 30),
    probability=st.floats(0.01, 0.99),
)
def test_two_hidden_frames_and_one_that_is_not(num_frames, seed, span, probability):
    masking = MaskingSection(span=span, probability=probability)
    mask = mask_utterance(num_frames, masking, np.random.default_rng(seed))
    assert (mask.shape, mask.dtype) == ((num_frames,), bool)
    assert 2 <= mask.sum() < num_frames
    assert np.array_equal(mask, mask_utterance(num_frames, masking, np.random.default_rng(seed)))


def test_half_of_the_frames_in_spans():
    rng = np.random.default_rng(0)
    masks = [mask_utterance(500, MaskingSection(), rng) for _ in range(200)]
    assert 0.46 < np.mean(masks) < 0.50  # 1 - (1 - .65 / 65 ...)^10: spans overlap
    edges = np.concatenate([np.flatnonzero(np.diff(np.pad(mask, 1).astype(int))).reshape(-1, 2) for mask in masks])
    assert np.diff(edges, axis=1).min() == 10
    assert {mask[0] for mask in masks} == {mask[-1] for mask in masks} == {False, True}


def test_too_few_frames():
    with pytest.raises(ValueError, match="num_frames must be at least 3, but is 2"):
        mask_utterance(2, MaskingSection(), np.random.default_rng(0))
