"""`Recording` -> the samples of one utterance. Knows times in seconds, not where they came from."""

import math

import numpy as np

from w2vb_ray.audio.decode import Recording
from w2vb_ray.audio.resample import TARGET_RATE_HZ
from w2vb_ray.errors import AudioRejected, RejectReason

MIN_SAMPLES = 400
"""25 ms, one analysis window: below it there is not a single filterbank frame."""
END_SLACK_S = 0.5
"""Manifests round times and measure other decodings of the same recording: an end this far beyond is clipped."""


def cut(recording: Recording, start_s: float | None, end_s: float | None) -> tuple[np.ndarray, float, float]:
    """Samples of `[start_s, end_s)`.

    A time t falls on sample `round(t * 16000)` (ties to even), so segments that share a time share no sample.

    Args:
        recording: 16 kHz mono.
        start_s: None is the beginning.
        end_s: None is the end.

    Returns:
        A view `(num_samples,)` into the recording's waveform, and the start and end of these samples in seconds.

    Raises:
        AudioRejected: `bad_segment` for NaN, infinite, negative or reversed times and those outside the recording;
            `too_short` under 400 samples.
    """
    num_samples = len(recording.waveform)
    start = 0 if start_s is None else _sample(start_s, "start_s")
    end = num_samples if end_s is None else _sample(end_s, "end_s")
    if start_s is not None and end_s is not None and end_s <= start_s:
        raise _bad(f"end_s ({end_s}) must be after start_s ({start_s})")
    if start >= num_samples and start_s:
        raise _bad(f"start_s ({start_s}) is not before the recording's end ({recording.duration_s:.3f} s)")
    if end_s is not None and end_s > recording.duration_s + END_SLACK_S:
        raise _bad(f"end_s ({end_s}) is beyond the recording's end ({recording.duration_s:.3f} s)")
    end = min(end, num_samples)
    if end - start < MIN_SAMPLES:
        raise AudioRejected(
            RejectReason.TOO_SHORT, f"{end - start} samples at 16 kHz, under the {MIN_SAMPLES} of one analysis window"
        )
    return recording.waveform[start:end], start / TARGET_RATE_HZ, end / TARGET_RATE_HZ


def _sample(time_s: float, field: str) -> int:
    if not math.isfinite(time_s) or time_s < 0:
        raise _bad(f"{field} must be a finite time from 0 on, but is {time_s}")
    return round(time_s * TARGET_RATE_HZ)


def _bad(detail: str) -> AudioRejected:
    return AudioRejected(RejectReason.BAD_SEGMENT, detail)
