"""Which frames are hidden. Pure functions of numbers and a generator; padding is never hidden."""

import numpy as np

from w2vb_ray.config.pretrain import MaskingSection

MIN_FRAMES = 3
"""Two hidden frames, so that each has a distractor, and one that is not."""


def mask_utterance(num_frames: int, masking: MaskingSection, rng: np.random.Generator) -> np.ndarray:
    """(num_frames,) bool, True = hidden: spans of equal length that may overlap (Baevski et al. 2020, section 3.1).

    At least two frames are hidden, and one is not; in a short utterance spans are at most half of it.

    Args:
        num_frames: T, at least `MIN_FRAMES`.
        masking: how much, in spans of what length.
        rng: draws their number and places.

    Raises:
        ValueError: too few frames.
    """
    if num_frames < MIN_FRAMES:
        raise ValueError(f"num_frames must be at least {MIN_FRAMES}, but is {num_frames}")
    span = min(masking.span, num_frames // 2)
    places = num_frames - span + 1
    wanted = int(masking.probability * num_frames / span + rng.random())  # rounded at random, so that none is favoured
    starts = rng.choice(places, size=min(max(wanted, masking.min_spans, 2), places), replace=False)
    mask = np.zeros(num_frames, bool)
    mask[(starts[:, np.newaxis] + np.arange(span)).ravel()] = True
    if mask.all():
        mask[rng.integers(num_frames)] = False
    return mask
