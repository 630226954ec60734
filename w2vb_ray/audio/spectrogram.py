"""Log-mel spectrograms as Kaldi makes them: what the filterbank features are made of.

The numbers of transformers' `audio_utils.spectrogram` with the settings of `SeamlessM4TFeatureExtractor` (5.23),
without its Python loop over frames, on any device. Knows no model, no file and no Ray. Everything is 16 kHz mono.
"""

import threading
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

SAMPLING_RATE_HZ = 16_000
WINDOW_SAMPLES = 400  # 25 ms
HOP_SAMPLES = 160  # 10 ms
NUM_MEL_BINS = 80

_INT16_SCALE = 2.0**15
_FFT_LENGTH = 512
_PREEMPHASIS = 0.97
_MEL_FLOOR = 1.192092955078125e-07
_NUM_BANDS = 5
_BLOCK_HOPS = 320  # as few as pay for their operator calls (measured)
_BLOCK_HOPS_GPU = 60_000
_MIN_ROWS = 16  # of a product: with fewer, MKL gives a row other bits than among many


def needed_samples(num_hops: int) -> int:
    """Samples that `num_hops` frames of 25 ms span, one every 10 ms."""
    return (num_hops - 1) * HOP_SAMPLES + WINDOW_SAMPLES


def as_float(waveform: np.ndarray) -> np.ndarray:
    """(num_samples,) int16 or float32 -> float32 in [-1, 1]; exact, because the scale is a power of two."""
    if waveform.dtype == np.int16:
        return waveform.astype(np.float32) / np.float32(_INT16_SCALE)
    return waveform.astype(np.float32, copy=False)


class Samples(Protocol):
    """What can be sliced like a tensor of samples, which one is too."""

    def __getitem__(self, wanted: slice, /) -> Tensor:
        """(num_samples,), int16 or float in [-1, 1], with fewer than wanted at the end."""
        ...


def log_mel_spectrogram(samples: Samples, num_hops: int, device: torch.device) -> Tensor:
    """Natural logarithms of mel energies of the first `num_hops` 10 ms frames: (num_hops, 80) float32 on `device`.

    Works block by block in buffers that the thread keeps: new memory would be page faults.
    """
    log_mel = torch.empty((num_hops, NUM_MEL_BINS), device=device)
    num_blocks = -(-num_hops // (_BLOCK_HOPS if device.type == "cpu" else _BLOCK_HOPS_GPU))
    num_rows = max(_MIN_ROWS, -(-num_hops // num_blocks))
    with torch.inference_mode():  # a tenth of the time would go into each operator's way through autograd
        block = _Block(_buffers(num_rows, device), num_rows)
        for index, rows in enumerate(log_mel.split(num_rows)):
            start = index * num_rows * HOP_SAMPLES
            mel = block.mel_energies(samples[start : start + needed_samples(num_rows)].to(device))
            _log(torch.clamp(mel[: len(rows)], min=_MEL_FLOOR, out=rows))
    return log_mel


def _log(values: Tensor) -> None:
    """In place. torch calls MKL here, which takes three times as long as numpy on AMD's processors."""
    if values.device.type == "cpu" and torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        array = values.numpy()
        np.log(array, out=array)
    else:
        values.log_()


class _Buffers:
    """Memory for blocks of at most `num_rows` frames."""

    def __init__(self, num_rows: int, device: torch.device) -> None:
        self.samples = torch.zeros(needed_samples(num_rows), dtype=torch.float64, device=device)
        self.emphasised = torch.empty_like(self.samples)
        self.padded = self.samples.new_zeros((num_rows, _FFT_LENGTH))
        self.powers = torch.empty((num_rows, _FFT_LENGTH // 2 + 1, 2), device=device)
        self.mel = torch.empty((num_rows, NUM_MEL_BINS), device=device)


class _Kept(threading.local):
    buffers: _Buffers | None = None


_kept = _Kept()


def _buffers(num_rows: int, device: torch.device) -> _Buffers:
    """On a CPU each thread keeps its own (4 MB); a GPU's blocks are large, and torch keeps its memory."""
    if device.type != "cpu":
        return _Buffers(num_rows, device)
    if _kept.buffers is None:
        _kept.buffers = _Buffers(_BLOCK_HOPS, device)
    return _kept.buffers


class _Block:
    """Mel energies of `num_rows` frames at a time. Has its views of the buffers made once: each costs an operator call.

    float64 as far as the spectrum keeps silence, near-silence and quiet bands beside loud ones equal to the reference,
    which goes on from a spectrum rounded to complex64; so sums of float32 powers lose nothing. What is linear is done
    once per sample instead of once per frame: with pre-emphasised samples p, a frame less its mean m and then
    pre-emphasised is p - (1 - 0.97) m, except at its first sample, where the window is 0. Frames therefore start at
    their second sample; that shifts phases, and only powers are used.
    """

    def __init__(self, buffers: _Buffers, num_rows: int) -> None:
        self._window = _window(buffers.samples.device)
        self._samples = buffers.samples[: needed_samples(num_rows)]
        self._later, self._earlier = self._samples[1:], self._samples[:-1]
        self._hops = self._samples.unfold(0, WINDOW_SAMPLES, HOP_SAMPLES)
        self._emphasised = buffers.emphasised[: len(self._later)]
        self._emphasised_hops = self._emphasised.unfold(0, len(self._window), HOP_SAMPLES)
        self._padded = buffers.padded[:num_rows]
        self._windowed_hops = self._padded[:, : len(self._window)]
        self._powers = buffers.powers[:num_rows]
        self._mel = buffers.mel[:num_rows]
        columns, filters = self._powers.flatten(1), self._mel.tensor_split(_NUM_BANDS, 1)
        self._products = [
            (columns[:, first:last], weights, mel)
            for (first, last, weights), mel in zip(_mel_bands(columns.device), filters, strict=True)
        ]

    def mel_energies(self, pcm: Tensor) -> Tensor:
        """Samples of at most `num_rows` frames -> (num_rows, 80) float32, valid until the next call.

        Rows that the samples do not reach hold what an earlier block left.
        """
        samples = self._samples[: len(pcm)].copy_(pcm)
        if pcm.is_floating_point():
            samples *= _INT16_SCALE  # Kaldi works on the int16 scale
        sums = self._hops.sum(1, keepdim=True)
        torch.add(self._later, self._earlier, alpha=-_PREEMPHASIS, out=self._emphasised)
        torch.mul(self._emphasised_hops, self._window, out=self._windowed_hops)
        self._windowed_hops.addcmul_(sums, self._window, value=(_PREEMPHASIS - 1) / WINDOW_SAMPLES)
        self._powers.copy_(torch.view_as_real(torch.fft.rfft(self._padded))).square_()
        for powers, weights, mel in self._products:
            torch.mm(powers, weights, out=mel)
        return self._mel


@lru_cache(maxsize=8)
def _window(device: torch.device) -> Tensor:
    """Povey window without its first value, which is 0: (399,), a Hann window to the power 0.85."""
    with torch.inference_mode(False):  # the same tensor in every call, whatever mode the first one came in
        hann = 0.5 - 0.5 * torch.cos(
            2 * torch.pi * torch.arange(1, WINDOW_SAMPLES, dtype=torch.float64) / (WINDOW_SAMPLES - 1)
        )
        return (hann.clamp(min=0.0) ** 0.85).to(device)


@lru_cache(maxsize=8)
def _mel_bands(device: torch.device) -> list[tuple[int, int, Tensor]]:
    """Kaldi mel filters from 20 Hz to 8 kHz in bands: first column, end, (columns, filters) float32.

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
