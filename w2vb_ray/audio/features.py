"""Waveforms to what the models take: Kaldi filterbanks for wav2vec2-bert, normalised samples for the waveform family.

The filterbank gives the numbers of transformers' `SeamlessM4TFeatureExtractor` (5.23,
`feature_extraction_seamless_m4t.py` and `audio_utils.spectrogram`) without its Python loop over frames, on any device.
Knows no model, no file and no Ray. Everything here is 16 kHz mono.
"""

from collections.abc import Iterator, Sequence
from functools import reduce

import numpy as np
import torch
from torch import Tensor

from w2vb_ray.audio.end_to_end import EndToEnd
from w2vb_ray.audio.spectrogram import (
    HOP_SAMPLES,
    NUM_MEL_BINS,
    WINDOW_SAMPLES,
    log_mel_spectrogram,
    needed_samples,
)
from w2vb_ray.audio.spectrogram import SAMPLING_RATE_HZ as SAMPLING_RATE_HZ
from w2vb_ray.audio.spectrogram import as_float as as_float

FRAME_SAMPLES = 320  # 20 ms: two hops, the step of every supported model
FEATURE_SIZE = 2 * NUM_MEL_BINS

_EPSILON = 1e-7
_BLOCK_SAMPLES = 2**20
_PART_HOPS = 4_000  # whose float64 copy is still near
_GROUP_HOPS = 60_000  # of utterances whose sums are one product: its size is their number times this


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
    return _normalised([log_mel_spectrogram(samples, num_hops, pcm.device)])[0]


def filterbank_batch(waveforms: Sequence[np.ndarray], device: torch.device | str = "cpu") -> list[Tensor]:
    """`filterbank` of many utterances: each (num_samples,) int16 or float32 -> (T, 160) float32 on `device`.

    Short utterances are laid end to end and share every operation, so that a clip of two seconds does not cost forty
    operator calls; int16 crosses to the device as int16. The values do not depend on the neighbours.

    Raises:
        ValueError: fewer than 400 samples.
    """
    if not waveforms:
        return []
    together = EndToEnd(waveforms, [_num_hops(len(waveform)) for waveform in waveforms])
    hops = log_mel_spectrogram(together, together.num_hops, torch.device(device))
    return _normalised([hops[utterance] for utterance in together.hops])


def log_mel(waveform: np.ndarray) -> np.ndarray:
    """(num_samples,) -> (num_hops, 80) float32, natural logarithms of mel energies every 10 ms, not normalised.

    Raises:
        ValueError: fewer than 400 samples.
    """
    num_hops = _num_hops(len(waveform))
    samples = np.zeros(max(len(waveform), needed_samples(num_hops)), np.float32)
    samples[: len(waveform)] = as_float(waveform)
    return log_mel_spectrogram(torch.from_numpy(samples), num_hops, torch.device("cpu")).numpy()


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


def _require_window(num_samples: int) -> None:
    if num_samples < WINDOW_SAMPLES:
        raise ValueError(
            f"a waveform must have at least {WINDOW_SAMPLES} samples (25 ms at 16 kHz), but has {num_samples}"
        )


def _num_hops(num_samples: int) -> int:
    """10 ms frames of an utterance; two at least, see `num_feature_frames`."""
    _require_window(num_samples)
    return max(2, (num_samples - WINDOW_SAMPLES) // HOP_SAMPLES + 1)


def _normalised(utterances: Sequence[Tensor]) -> list[Tensor]:
    """Per utterance and mel bin (ddof 1, epsilon 1e-7), then two 10 ms frames stacked: each (N, 80) -> (T, 160).

    Works in place. The mean is summed in float64 and rounded to float32, which is what the reference subtracts, give or
    take its summation order: equal within 1e-4 wherever a bin varies. A bin that hardly does (silence, a pure tone)
    magnifies that last bit of the mean by up to 1 / sqrt(epsilon): the reference then has noise of up to 6e-3 where
    silence is exactly 0 here.
    """
    if utterances[0].device.type == "cpu":
        _normalise(utterances)
    else:
        utterances = [one for group in _groups(utterances) for one in _normalised_together(group)]
    return [hops[: len(hops) // 2 * 2].reshape(-1, FEATURE_SIZE) for hops in utterances]


@torch.inference_mode()
def _normalise(utterances: Sequence[Tensor]) -> None:
    sums, squares = (torch.stack(column) for column in zip(*map(_moments, utterances), strict=True))
    mean, scale = _mean_and_scale(sums, squares, torch.tensor([[len(utterance)] for utterance in utterances]))
    for hops, its_mean, its_scale in zip(utterances, mean, scale, strict=True):
        hops.sub_(its_mean).mul_(its_scale)


def _moments(hops: Tensor) -> tuple[Tensor, Tensor]:
    """(N, 80) -> sums of values and of their squares, (80,) float64 each."""
    parts = [(part.sum(0), part.square_().sum(0)) for part in map(Tensor.double, hops.split(_PART_HOPS))]
    sums, squares = (reduce(torch.add, column) for column in zip(*parts, strict=True))
    return sums, squares


def _groups(utterances: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Consecutive utterances that together have at most `_GROUP_HOPS` 10 ms frames, or one longer one alone."""
    group: list[Tensor] = []
    total = 0
    for hops in utterances:
        if group and total + len(hops) > _GROUP_HOPS:
            yield group
            group, total = [], 0
        group.append(hops)
        total += len(hops)
    yield group


def _normalised_together(utterances: Sequence[Tensor]) -> Sequence[Tensor]:
    """In a fixed number of operator calls, which is what a GPU wants of short utterances."""
    lengths = [len(utterance) for utterance in utterances]
    together = torch.cat(list(utterances))
    counts = torch.tensor(lengths, device=together.device).unsqueeze(1)
    with torch.inference_mode():
        numbers = torch.arange(len(lengths), device=together.device)
        owners = numbers.repeat_interleave(counts[:, 0], output_size=len(together))
        members = (numbers.unsqueeze(1) == owners).double()  # summing with it is one product, in a fixed order
        values = together.double().nan_to_num_(0.0, 0.0, 0.0)  # in a product they would pass between utterances
        mean, scale = _mean_and_scale(members @ values, members @ values.square_(), counts)
        together.sub_(mean.index_select(0, owners)).mul_(scale.index_select(0, owners))
    return together.split(lengths)


def _mean_and_scale(sums: Tensor, squares: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of values and of their squares, float64 -> mean and 1 / standard deviation, float32. Works in place."""
    mean = sums / counts
    variance = squares.addcmul_(sums, mean, value=-1).div_(counts - 1)
    return mean.float(), variance.add_(_EPSILON).rsqrt_().float()
