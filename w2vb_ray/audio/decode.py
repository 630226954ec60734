"""Bytes of any audio file -> one `Recording`, 16 kHz mono, under caps that hold while decoding.

Ten hours of silence are 1.9 MB of FLAC: nothing a file announces is trusted, and beyond the 16 kHz output only one
block is held. Which decoder takes a file is decided by whether libsndfile can open it: FFmpeg, more lenient, turns the
flipped bits of a FLAC that libsndfile refuses into noise.
"""

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from w2vb_ray.audio.containers import check_complete
from w2vb_ray.audio.ffmpeg import open_ffmpeg
from w2vb_ray.audio.resample import TARGET_RATE_HZ, Resampler, join
from w2vb_ray.audio.sndfile import open_sndfile
from w2vb_ray.audio.stream import Blocks, Stream, block_frames
from w2vb_ray.config.sections import AudioSection
from w2vb_ray.errors import AudioRejected, RejectReason


@dataclass(frozen=True, slots=True)
class Recording:
    """A decoded file.

    Args:
        waveform: `(num_samples,)` 16 kHz mono: int16 where that is exact, else float32 with full scale 1.
        sampling_rate: of the source, Hz.
    """

    waveform: np.ndarray
    sampling_rate: int

    @property
    def duration_s(self) -> float:
        """Length of the 16 kHz waveform in seconds."""
        return len(self.waveform) / TARGET_RATE_HZ


@dataclass(frozen=True, slots=True)
class RawFormat:
    """What a headerless file does not say about itself; its samples are int16 little-endian, interleaved."""

    sampling_rate: int
    num_channels: int


def decode(data: bytes, name: str, limits: AudioSection, raw: RawFormat | None = None) -> Recording:
    """Decode a whole file.

    The content decides the format. Channels are averaged. Samples beyond full scale (float files) are kept.
    A source of a single sample decodes, if perhaps to no sample at 16 kHz; `cut` judges shortness.

    Args:
        data: the file.
        name: its name or path, for the few formats that only a suffix tells.
        limits: caps on duration, channels, sampling rate and expansion.
        raw: given for headerless PCM, which is then not looked at as anything else.

    Raises:
        AudioRejected: `empty`, `undecodable`, `truncated`, `too_long`, `expansion`, `out_of_range` or
            `non_finite`.
    """
    sampling_rate, chunks = decode_chunks(data, name, limits, raw)
    return Recording(join(chunks), sampling_rate)


def decode_chunks(
    data: bytes, name: str, limits: AudioSection, raw: RawFormat | None = None
) -> tuple[int, Generator[np.ndarray, None, None]]:
    """Like `decode`, piece by piece: the source's sampling rate, and chunks for `join`, which raise too."""
    if not data:
        raise AudioRejected(RejectReason.EMPTY, "0 bytes")
    stream = _open(data, name) if raw is None else _open_raw(data, raw)
    return stream.sampling_rate, _chunks(stream, len(data), limits)


def _open(data: bytes, name: str) -> Stream:
    check_complete(data)
    # FLAC, bare or in Ogg, has checksums and a timeline to hold FFmpeg to
    return open_sndfile(data) or open_ffmpeg(data, name, strict=b"fLaC" in data[:64])


def _chunks(stream: Stream, num_bytes: int, limits: AudioSection) -> Generator[np.ndarray, None, None]:
    """Pull all blocks through the resampler, checking the caps before each."""
    rate = stream.sampling_rate
    num_frames = 0
    with closing(stream.blocks):
        _check_format(rate, stream.num_channels, limits)
        _check_length(stream.announced_frames or 0, rate, num_bytes, limits)
        resampler = Resampler(rate)
        for block in stream.blocks:
            num_frames += len(block)
            _check_format(rate, block.shape[1], limits)
            _check_length(num_frames, rate, num_bytes, limits)
            yield resampler.push(block)
    if not num_frames:
        raise AudioRejected(RejectReason.EMPTY, "no audio samples")
    yield resampler.finish()


def _check_format(sampling_rate: int, num_channels: int, limits: AudioSection) -> None:
    if not limits.min_sampling_rate <= sampling_rate <= limits.max_sampling_rate:
        raise AudioRejected(
            RejectReason.OUT_OF_RANGE,
            f"{sampling_rate} Hz, outside audio.min_sampling_rate ({limits.min_sampling_rate}) to "
            f"audio.max_sampling_rate ({limits.max_sampling_rate})",
        )
    if not 1 <= num_channels <= limits.max_channels:
        raise AudioRejected(
            RejectReason.OUT_OF_RANGE,
            f"{num_channels} channels, outside 1 to audio.max_channels ({limits.max_channels})",
        )


def _check_length(num_frames: int, sampling_rate: int, num_bytes: int, limits: AudioSection) -> None:
    duration_s = num_frames / sampling_rate
    if duration_s > limits.max_duration_s:
        raise AudioRejected(
            RejectReason.TOO_LONG,
            f"at least {duration_s:.1f} s, more than audio.max_duration_s ({limits.max_duration_s})",
        )
    if duration_s * TARGET_RATE_HZ * 2 > limits.max_expansion * num_bytes:
        raise AudioRejected(
            RejectReason.EXPANSION,
            f"at least {duration_s:.1f} s in {num_bytes} bytes: as 16-bit samples at 16 kHz more than "
            f"audio.max_expansion ({limits.max_expansion:g}) times as much",
        )


def _open_raw(data: bytes, raw: RawFormat) -> Stream:
    frame_bytes = 2 * raw.num_channels
    if len(data) % frame_bytes:
        raise AudioRejected(
            RejectReason.TRUNCATED, f"{len(data)} bytes are not a whole number of {frame_bytes}-byte frames"
        )
    return Stream(raw.sampling_rate, raw.num_channels, len(data) // frame_bytes, _raw_blocks(data, raw.num_channels))


def _raw_blocks(data: bytes, num_channels: int) -> Blocks:
    samples = np.frombuffer(data, dtype="<i2").reshape(-1, num_channels)
    step = block_frames(num_channels)
    for start in range(0, len(samples), step):
        yield samples[start : start + step].astype(np.float32) / np.float32(32768.0)
