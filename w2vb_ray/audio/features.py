"""Waveforms to what the models take: Kaldi filterbanks for wav2vec2-bert, normalised samples for the waveform family.

The filterbank gives the numbers of transformers' `SeamlessM4TFeatureExtractor` (5.23,
`feature_extraction_seamless_m4t.py` and `audio_utils.spectrogram`) without its Python loop over frames, on any device.
Knows no model, no file and no Ray. Everything here is 16 kHz mono.
"""

from collections.abc import Iterator, Sequence
from functools import reduce
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from w2vb_ray.audio.spectrogram import (
    HOP_SAMPLES,
    INT16_SCALE,
    NUM_MEL_BINS,
    WINDOW_SAMPLES,
    LogMelSpectrogram,
    block_hops,
    needed_samples,
)
from w2vb_ray.audio.spectrogram import SAMPLING_RATE_HZ as SAMPLING_RATE_HZ

FRAME_SAMPLES = 320  # 20 ms: two hops, the step of every supported model
FEATURE_SIZE = 2 * NUM_MEL_BINS

_EPSILON = 1e-7
_BLOCK_SAMPLES = 2**20
_GROUP_HOPS = 4_000  # of utterances laid end to end: more of them fill whole blocks, and leave the caches


def num_feature_frames(num_samples: int) -> int:
    """Number of 20 ms feature frames of an utterance of `num_samples` (at least 400).

    Two 10 ms frames make one; an odd last one is dropped. 400 to 559 samples hold a single 10 ms frame, which
    transformers turns into NaN: here they are zero-padded to 560 samples and give one frame.

    Raises:
        ValueError: fewer than 400 samples (25 ms).
    """
    return _num_hops(num_samples) // 2


def num_waveform_frames(num_samples: int) -> int:
    """Number of frames the wav2vec2 convolutions make of `num_samples` (at least 400): 400-sample windows every 320.

    Raises:
        ValueError: fewer than 400 samples (25 ms).
    """
    _require_window(num_samples)
    return (num_samples - WINDOW_SAMPLES) // FRAME_SAMPLES + 1


def filterbank(pcm: Tensor) -> Tensor:
    """Normalised log-mel features of one utterance: (num_samples,) -> (T, 160) float32, on the device of `pcm`.

    Args:
        pcm: int16 samples, or floating-point samples in [-1, 1].

    Raises:
        ValueError: fewer than 400 samples, or not one-dimensional.
    """
    if pcm.ndim != 1:
        raise ValueError(f"a waveform must have shape (num_samples,), but has {tuple(pcm.shape)}")
    num_hops = _num_hops(len(pcm))
    samples = torch.nn.functional.pad(pcm, (0, max(0, needed_samples(num_hops) - len(pcm))))
    return _normalised([LogMelSpectrogram(num_hops, pcm.device)(samples, num_hops)])[0]


def filterbank_batch(waveforms: Sequence[np.ndarray], device: torch.device | str = "cpu") -> list[Tensor]:
    """`filterbank` of many utterances: each (num_samples,) int16 or float32 -> (T, 160) float32 on `device`.

    Short utterances are laid end to end and share every operation, so that a clip of two seconds does not cost forty
    operator calls; int16 crosses to the device as int16. The values do not depend on the neighbours.

    Raises:
        ValueError: fewer than 400 samples.
    """
    num_hops = [_num_hops(len(waveform)) for waveform in waveforms]
    spectrogram = LogMelSpectrogram(sum(num_hops), torch.device(device))
    features: list[Tensor] = []
    for group in _groups(num_hops, max(_GROUP_HOPS, block_hops(spectrogram.device))):
        features += _filterbank_group([waveforms[index] for index in group], spectrogram)
    return features


def log_mel(waveform: np.ndarray) -> np.ndarray:
    """(num_samples,) -> (num_hops, 80) float32, natural logarithms of mel energies every 10 ms, not normalised.

    Raises:
        ValueError: fewer than 400 samples.
    """
    num_hops = _num_hops(len(waveform))
    samples = np.zeros(max(len(waveform), needed_samples(num_hops)), np.float32)
    samples[: len(waveform)] = as_float(waveform)
    return LogMelSpectrogram(num_hops, torch.device("cpu"))(torch.from_numpy(samples), num_hops).numpy()


def standardise_waveform(waveform: np.ndarray) -> np.ndarray:
    """Zero mean and unit variance over the whole utterance: (num_samples,) int16 or float32 -> float32.

    The numbers of transformers' `Wav2Vec2FeatureExtractor` (`zero_mean_unit_var_norm`: ddof 0, epsilon 1e-7) with
    sums in float64, block by block.
    """
    samples = as_float(waveform)
    blocks = [samples[start : start + _BLOCK_SAMPLES] for start in range(0, len(samples), _BLOCK_SAMPLES)]
    mean = sum(float(block.sum(dtype=np.float64)) for block in blocks) / len(samples)
    variance = sum(float(np.square(block - mean, dtype=np.float64).sum()) for block in blocks) / len(samples)
    return ((samples - np.float32(mean)) / np.float32(np.sqrt(variance + _EPSILON))).astype(np.float32, copy=False)


def as_float(waveform: np.ndarray) -> np.ndarray:
    """(num_samples,) int16 or float32 -> float32 in [-1, 1]; exact, because the scale is a power of two."""
    if waveform.dtype == np.int16:
        return waveform.astype(np.float32) / np.float32(INT16_SCALE)
    return waveform.astype(np.float32, copy=False)


def _require_window(num_samples: int) -> None:
    if num_samples < WINDOW_SAMPLES:
        raise ValueError(
            f"a waveform must have at least {WINDOW_SAMPLES} samples (25 ms at 16 kHz), but has {num_samples}"
        )


def _num_hops(num_samples: int) -> int:
    """10 ms frames of an utterance; two at least, see `num_feature_frames`."""
    _require_window(num_samples)
    return max(2, (num_samples - WINDOW_SAMPLES) // HOP_SAMPLES + 1)


def _groups(num_hops: Sequence[int], limit: int) -> Iterator[list[int]]:
    """Consecutive utterances that together have at most `limit` 10 ms frames, or one longer one alone."""
    group: list[int] = []
    total = 0
    for index, hops in enumerate(num_hops):
        if group and total + hops > limit:
            yield group
            group, total = [], 0
        group.append(index)
        total += hops
    if group:
        yield group


def _filterbank_group(waveforms: Sequence[np.ndarray], spectrogram: LogMelSpectrogram) -> list[Tensor]:
    """Lays utterances end to end, each starting on the 10 ms grid, so that one strided view holds all their frames.

    Frames that straddle two utterances (two or three per utterance) are computed and thrown away.
    """
    num_hops = [_num_hops(len(waveform)) for waveform in waveforms]
    sizes = [max(len(one), needed_samples(hops)) for one, hops in zip(waveforms, num_hops, strict=True)]
    first_hops = list(accumulate((-(-size // HOP_SAMPLES) for size in sizes), initial=0))
    same = all(waveform.dtype == np.int16 for waveform in waveforms)
    buffer = np.zeros(first_hops[-1] * HOP_SAMPLES, np.int16 if same else np.float32)
    for first, waveform in zip(first_hops, waveforms, strict=False):
        start = first * HOP_SAMPLES
        buffer[start : start + len(waveform)] = waveform if same else as_float(waveform)
    hops = spectrogram(torch.from_numpy(buffer).to(spectrogram.device), first_hops[-2] + num_hops[-1])
    return _normalised([hops[first : first + n] for first, n in zip(first_hops, num_hops, strict=False)])


def _normalised(utterances: Sequence[Tensor]) -> list[Tensor]:
    """Per utterance and mel bin (ddof 1, epsilon 1e-7), then two 10 ms frames stacked: each (N, 80) -> (T, 160).

    Works in place. The mean is summed in float64 and rounded to float32, which is what the reference subtracts, give or
    take its summation order: equal within 1e-4 wherever a bin varies. A bin that hardly does (silence, a pure tone)
    magnifies that last bit of the mean by up to 1 / sqrt(epsilon): the reference then has noise of up to 6e-3 where
    silence is exactly 0 here.
    """
    if len(utterances) > 1 and utterances[0].device.type != "cpu":
        lengths = [len(utterance) for utterance in utterances]
        together = torch.cat(list(utterances))
        utterances = together.split(lengths)
        with torch.inference_mode():
            _normalise_together(together, lengths)
    else:
        with torch.inference_mode():
            for utterance in utterances:
                _normalise(utterance)
    return [hops[: len(hops) // 2 * 2].reshape(-1, FEATURE_SIZE) for hops in utterances]


def _normalise(hops: Tensor) -> None:
    parts = [(part.sum(0), part.square_().sum(0)) for part in map(Tensor.double, hops.split(_GROUP_HOPS))]
    sums, squares = (reduce(torch.add, column) for column in zip(*parts, strict=True))
    mean, scale = _mean_and_scale(sums, squares, len(hops))
    hops.sub_(mean).mul_(scale)


def _normalise_together(hops: Tensor, lengths: Sequence[int]) -> None:
    """Utterances end to end, in a fixed number of operator calls, which is what a GPU wants of short ones."""
    counts = torch.tensor(lengths, device=hops.device).unsqueeze(1)
    utterances = torch.arange(len(lengths), device=hops.device)
    owners = utterances.repeat_interleave(counts[:, 0], output_size=len(hops))
    members = (utterances.unsqueeze(1) == owners).double()  # summing with it is one product, in a fixed order
    values = hops.double()
    mean, scale = _mean_and_scale(members @ values, members @ values.square_(), counts)
    hops.sub_(mean.index_select(0, owners)).mul_(scale.index_select(0, owners))


def _mean_and_scale(sums: Tensor, squares: Tensor, counts: Tensor | int) -> tuple[Tensor, Tensor]:
    """Sums of values and of their squares, float64 -> mean and 1 / standard deviation, float32. Works in place."""
    mean = sums / counts
    variance = squares.addcmul_(sums, mean, value=-1).div_(counts - 1)
    return mean.float(), variance.add_(_EPSILON).rsqrt_().float()
