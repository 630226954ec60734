"""Waveforms to what the models take: Kaldi filterbanks for wav2vec2-bert, normalised samples for the waveform family.

The filterbank gives the numbers of transformers' `SeamlessM4TFeatureExtractor` (5.23,
`feature_extraction_seamless_m4t.py` and `audio_utils.spectrogram`) without its Python loop over frames, on any device.
Knows no model, no file and no Ray. Everything here is 16 kHz mono.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

SAMPLING_RATE_HZ = 16_000
WINDOW_SAMPLES = 400  # 25 ms
HOP_SAMPLES = 160  # 10 ms
FRAME_SAMPLES = 320  # 20 ms: two hops, the step of every supported model
NUM_MEL_BINS = 80
FEATURE_SIZE = 2 * NUM_MEL_BINS

_FFT_LENGTH = 512
_PREEMPHASIS = 0.97
_MEL_FLOOR = 1.192092955078125e-07
_EPSILON = 1e-7
_INT16_SCALE = 2.0**15
_BLOCK_SAMPLES = 2**20
_NUM_BANDS = 5


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
    samples = torch.nn.functional.pad(pcm, (0, max(0, _needed_samples(num_hops) - len(pcm))))
    return _normalised(_log_mel(samples, num_hops), [num_hops])[0]


def filterbank_batch(waveforms: Sequence[np.ndarray], device: torch.device | str = "cpu") -> list[Tensor]:
    """`filterbank` of many utterances: each (num_samples,) int16 or float32 -> (T, 160) float32 on `device`.

    Short utterances are laid end to end and share every operation, so that a clip of two seconds does not cost forty
    operator calls; int16 crosses to the device as int16. The values do not depend on the neighbours.

    Raises:
        ValueError: fewer than 400 samples.
    """
    features: list[Tensor] = []
    for group in _groups([_num_hops(len(waveform)) for waveform in waveforms], _block_hops(torch.device(device))):
        features += _filterbank_group([waveforms[index] for index in group], torch.device(device))
    return features


def log_mel(waveform: np.ndarray) -> np.ndarray:
    """(num_samples,) -> (num_hops, 80) float32, natural logarithms of mel energies every 10 ms, not normalised.

    Raises:
        ValueError: fewer than 400 samples.
    """
    num_hops = _num_hops(len(waveform))
    samples = np.zeros(max(len(waveform), _needed_samples(num_hops)), np.float32)
    samples[: len(waveform)] = as_float(waveform)
    return _log_mel(torch.from_numpy(samples), num_hops).numpy()


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
        return waveform.astype(np.float32) / np.float32(_INT16_SCALE)
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


def _needed_samples(num_hops: int) -> int:
    return (num_hops - 1) * HOP_SAMPLES + WINDOW_SAMPLES


def _block_hops(device: torch.device) -> int:
    """10 ms frames worked on at once: on a CPU the float64 temporaries should stay in the caches (measured)."""
    return 500 if device.type == "cpu" else 60_000


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


def _filterbank_group(waveforms: Sequence[np.ndarray], device: torch.device) -> list[Tensor]:
    """Lays utterances end to end, each starting on the 10 ms grid, so that one strided view holds all their frames.

    Frames that straddle two utterances (two or three per utterance) are computed and thrown away.
    """
    num_hops = [_num_hops(len(waveform)) for waveform in waveforms]
    strides = [
        -(-max(len(w), _needed_samples(hops)) // HOP_SAMPLES) for w, hops in zip(waveforms, num_hops, strict=True)
    ]
    first_hops = np.cumsum([0, *strides])
    same = all(waveform.dtype == np.int16 for waveform in waveforms)
    buffer = np.zeros(int(first_hops[-1]) * HOP_SAMPLES, np.int16 if same else np.float32)
    for first, waveform in zip(first_hops, waveforms, strict=False):
        start = int(first) * HOP_SAMPLES
        buffer[start : start + len(waveform)] = waveform if same else as_float(waveform)
    log_mel = _log_mel(torch.from_numpy(buffer).to(device), int(first_hops[-2]) + num_hops[-1])
    if len(waveforms) > 1:
        rows = np.concatenate([np.arange(first, first + n) for first, n in zip(first_hops, num_hops, strict=False)])
        log_mel = log_mel[torch.from_numpy(rows).to(device)]
    return _normalised(log_mel, num_hops)


def _log_mel(samples: Tensor, num_hops: int) -> Tensor:
    """First `num_hops` 10 ms frames of (num_samples,) -> (num_hops, 80) float32 natural logarithms.

    float64 keeps silence, near-silence and quiet bands beside loud ones equal to the reference, whose spectrum is
    float64 too. What is linear is done once per sample instead of once per frame: with pre-emphasised samples p, a
    frame less its mean m and then pre-emphasised is p - (1 - 0.97) m, except at its first sample, where the window
    is 0. Frames therefore start at their second sample; that shifts phases, and only powers are used.
    """
    window, bands = _window(samples.device), _mel_bands(samples.device)
    log_mel = torch.empty((num_hops, NUM_MEL_BINS), dtype=torch.float32, device=samples.device)
    for rows in _blocks(num_hops, samples.device):
        part = samples[rows.start * HOP_SAMPLES : (rows.stop - 1) * HOP_SAMPLES + WINDOW_SAMPLES].double()
        if samples.is_floating_point():
            part *= _INT16_SCALE  # Kaldi works on the int16 scale
        means = part.unfold(0, WINDOW_SAMPLES, HOP_SAMPLES).mean(1, keepdim=True)
        emphasised = torch.add(part[1:], part[:-1], alpha=-_PREEMPHASIS)
        padded = part.new_empty(len(means), _FFT_LENGTH)
        frames, padding = padded.tensor_split([len(window)], 1)
        padding.zero_()
        torch.mul(emphasised.unfold(0, len(window), HOP_SAMPLES), window, out=frames)
        frames.addcmul_(means, window, value=_PREEMPHASIS - 1)
        squares = torch.view_as_real(torch.fft.rfft(padded)).square_().flatten(1)
        mel = torch.cat([squares[:, first:last] @ weights for first, last, weights in bands], 1)
        log_mel[rows] = mel.clamp_(min=_MEL_FLOOR).log_()
    return log_mel


def _normalised(log_mel: Tensor, num_hops: Sequence[int]) -> list[Tensor]:
    """Per utterance and mel bin (ddof 1, epsilon 1e-7), then two 10 ms frames stacked: (N, 80) -> each (T, 160).

    Works in place on `log_mel`. The mean is summed in float64 and rounded to float32, which is what the reference
    subtracts, give or take its summation order: equal within 1e-4 wherever a bin varies. A bin that hardly does
    (silence, a pure tone) magnifies that last bit of the mean by up to 1 / sqrt(epsilon): the reference then has noise
    of up to 6e-3 where silence is exactly 0 here.
    """
    device = log_mel.device
    counts = torch.tensor(num_hops, device=device).unsqueeze(1)
    utterances = torch.arange(len(num_hops), device=device)
    owners = utterances.repeat_interleave(counts[:, 0], output_size=len(log_mel))
    members = (utterances.unsqueeze(1) == owners).double()  # summing with it is one product, in a fixed order
    mean = (members @ log_mel.double() / counts).float()
    log_mel -= mean.index_select(0, owners)
    variance = members @ log_mel.double().square_() / (counts - 1)
    log_mel *= (variance + _EPSILON).rsqrt_().float().index_select(0, owners)
    return [hops[: len(hops) // 2 * 2].reshape(-1, FEATURE_SIZE) for hops in log_mel.split(list(num_hops))]


def _blocks(num_rows: int, device: torch.device) -> Iterator[slice]:
    block = _block_hops(device)
    return (slice(start, min(start + block, num_rows)) for start in range(0, num_rows, block))


@lru_cache(maxsize=8)
def _window(device: torch.device) -> Tensor:
    """Povey window without its first value, which is 0: (399,), a Hann window to the power 0.85."""
    with torch.inference_mode(False):  # a cached inference tensor could not be used in training later
        hann = 0.5 - 0.5 * torch.cos(
            2 * torch.pi * torch.arange(1, WINDOW_SAMPLES, dtype=torch.float64) / (WINDOW_SAMPLES - 1)
        )
        return (hann.clamp(min=0.0) ** 0.85).to(device)


@lru_cache(maxsize=8)
def _mel_bands(device: torch.device) -> list[tuple[int, int, Tensor]]:
    """Kaldi mel filters from 20 Hz to 8 kHz in bands: first column, end, (columns, filters) float64.

    Columns are the real and the imaginary part of each bin of the spectrum. The filters are narrow; without the bins
    that are 0 for a whole band, a fifth of the work is left.
    """
    from transformers.audio_utils import mel_filter_bank  # half a second to import, only needed once

    filters = mel_filter_bank(
        num_frequency_bins=_FFT_LENGTH // 2 + 1,
        num_mel_filters=NUM_MEL_BINS,
        min_frequency=20,
        max_frequency=SAMPLING_RATE_HZ // 2,
        sampling_rate=SAMPLING_RATE_HZ,
        norm=None,
        mel_scale="kaldi",
        triangularize_in_mel_space=True,
    )
    bands: list[tuple[int, int, Tensor]] = []
    with torch.inference_mode(False):
        for band in np.array_split(np.asarray(filters, np.float64), _NUM_BANDS, axis=1):
            bins = np.flatnonzero(band.any(axis=1))
            first, last = int(bins[0]), int(bins[-1]) + 1
            weights = torch.from_numpy(band[first:last].repeat(2, axis=0)).to(device)
            bands.append((2 * first, 2 * last, weights))
    return bands
