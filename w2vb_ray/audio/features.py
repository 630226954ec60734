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
_GROUP_HOPS = 1_000  # of utterances laid end to end: more of them fill whole blocks, and cost more to normalise
_MIN_MEL_ROWS = 16  # of a product: with fewer, MKL gives a row other bits than among many


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
    return _normalised(_LogMelSpectrogram(num_hops, pcm.device)(samples, num_hops), [num_hops])[0]


def filterbank_batch(waveforms: Sequence[np.ndarray], device: torch.device | str = "cpu") -> list[Tensor]:
    """`filterbank` of many utterances: each (num_samples,) int16 or float32 -> (T, 160) float32 on `device`.

    Short utterances are laid end to end and share every operation, so that a clip of two seconds does not cost forty
    operator calls; int16 crosses to the device as int16. The values do not depend on the neighbours.

    Raises:
        ValueError: fewer than 400 samples.
    """
    num_hops = [_num_hops(len(waveform)) for waveform in waveforms]
    spectrogram = _LogMelSpectrogram(sum(num_hops), torch.device(device))
    features: list[Tensor] = []
    for group in _groups(num_hops, max(_GROUP_HOPS, _block_hops(spectrogram.device))):
        features += _filterbank_group([waveforms[index] for index in group], spectrogram)
    return features


def log_mel(waveform: np.ndarray) -> np.ndarray:
    """(num_samples,) -> (num_hops, 80) float32, natural logarithms of mel energies every 10 ms, not normalised.

    Raises:
        ValueError: fewer than 400 samples.
    """
    num_hops = _num_hops(len(waveform))
    samples = np.zeros(max(len(waveform), _needed_samples(num_hops)), np.float32)
    samples[: len(waveform)] = as_float(waveform)
    return _LogMelSpectrogram(num_hops, torch.device("cpu"))(torch.from_numpy(samples), num_hops).numpy()


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
    return 250 if device.type == "cpu" else 60_000


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


class _LogMelSpectrogram:
    """Natural logarithms of mel energies, block by block in buffers that stay: new memory costs as much as the work.

    float64 as far as the spectrum keeps silence, near-silence and quiet bands beside loud ones equal to the reference,
    which goes on from a spectrum rounded to complex64; so sums of float32 powers lose nothing. What is linear is done
    once per sample instead of once per frame: with pre-emphasised samples p, a frame less its mean m and then
    pre-emphasised is p - (1 - 0.97) m, except at its first sample, where the window is 0. Frames therefore start at
    their second sample; that shifts phases, and only powers are used.

    Args:
        num_hops: 10 ms frames that are expected; fewer than a block get smaller buffers.
        device: of the samples and the result.
    """

    def __init__(self, num_hops: int, device: torch.device) -> None:
        self.device = device
        self._window, self._bands = _window(device), _mel_bands(device)
        self._num_rows = max(_MIN_MEL_ROWS, min(num_hops, _block_hops(device)))
        self._samples = torch.empty(_needed_samples(self._num_rows), dtype=torch.float64, device=device)
        self._emphasised = torch.empty_like(self._samples[1:])
        self._padded = self._samples.new_zeros((self._num_rows, _FFT_LENGTH))
        self._powers = torch.zeros((self._num_rows, _FFT_LENGTH + 2), device=device)
        self._mel = torch.empty((self._num_rows, NUM_MEL_BINS), device=device)

    def __call__(self, samples: Tensor, num_hops: int) -> Tensor:
        """First `num_hops` 10 ms frames of (num_samples,) -> (num_hops, 80) float32."""
        log_mel = torch.empty((num_hops, NUM_MEL_BINS), device=self.device)
        for start in range(0, num_hops, self._num_rows):
            rows = log_mel[start : start + self._num_rows]
            part = samples[start * HOP_SAMPLES :][: _needed_samples(len(rows))]
            torch.clamp(self._mel_energies(part, len(rows)), min=_MEL_FLOOR, out=rows).log_()
        return log_mel

    def _mel_energies(self, pcm: Tensor, num_hops: int) -> Tensor:
        samples = self._samples[: len(pcm)].copy_(pcm)
        if pcm.is_floating_point():
            samples *= _INT16_SCALE  # Kaldi works on the int16 scale
        means = samples.unfold(0, WINDOW_SAMPLES, HOP_SAMPLES).mean(1, keepdim=True)
        emphasised = self._emphasised[: len(samples) - 1]
        torch.add(samples[1:], samples[:-1], alpha=-_PREEMPHASIS, out=emphasised)
        padded, powers = self._padded[:num_hops], self._powers[:num_hops]
        frames = padded[:, : len(self._window)]
        torch.mul(emphasised.unfold(0, len(self._window), HOP_SAMPLES), self._window, out=frames)
        frames.addcmul_(means, self._window, value=_PREEMPHASIS - 1)
        powers.copy_(torch.view_as_real(torch.fft.rfft(padded)).flatten(1)).square_()
        multiplied = self._powers[: max(num_hops, _MIN_MEL_ROWS)]  # rows of an earlier block fill it up
        for (first, last, weights), mel in zip(self._bands, self._mel.tensor_split(_NUM_BANDS, 1), strict=True):
            torch.mm(multiplied[:, first:last], weights, out=mel[: len(multiplied)])
        return self._mel[:num_hops]


def _filterbank_group(waveforms: Sequence[np.ndarray], spectrogram: _LogMelSpectrogram) -> list[Tensor]:
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
    hops = spectrogram(torch.from_numpy(buffer).to(spectrogram.device), int(first_hops[-2]) + num_hops[-1])
    if len(waveforms) > 1:
        hops = torch.cat([hops[first : first + n] for first, n in zip(first_hops, num_hops, strict=False)])
    return _normalised(hops, num_hops)


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
            weights = torch.from_numpy(band[first:last].repeat(2, axis=0)).float().to(device)
            bands.append((2 * first, 2 * last, weights))
    return bands
