"""Every reject reason of the decoder, each with a real bad file."""

import struct
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

from w2vb_ray.audio.decode import RawFormat, decode
from w2vb_ray.config.sections import AudioSection
from w2vb_ray.errors import AudioRejected, RejectReason

from .encoded import Pipe, encode, noise, tone, write, write_av
from .hostile import silent_flac, silent_video

LIMITS = AudioSection()
PLAIN_WAV = write(noise(1.0, 16_000), 16_000)


def reject(data, limits=LIMITS, raw=None):
    with pytest.raises(AudioRejected) as caught:
        decode(data, "x.wav", limits, raw)
    return caught.value


def patched_wav(offset, layout, value):
    data = bytearray(PLAIN_WAV)
    struct.pack_into(layout, data, offset, value)
    return bytes(data)


@pytest.mark.parametrize(
    "data",
    [
        b"hello world\n" * 100,
        b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>',
        b"MThd\0\0\0\6\0\1\0\1\0`MTrk\0\0\0\4\0\xff/\0",
        b"#EXTM3U\n#EXTINF:10,\nhttp://127.0.0.1:1/a.ts\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b"\x89PNG\r\n\x1a\n" + bytes(200),
        bytes(5000),
        np.random.default_rng(0).bytes(20_000),
        patched_wav(22, "<H", 0),
        patched_wav(22, "<H", 65_535),
        patched_wav(24, "<I", 0),
        patched_wav(20, "<H", 0x9999),
        b"RIFF",
        b"fLaC",
    ],
)
def test_what_is_no_audio_is_undecodable(data):
    assert reject(data).reason is RejectReason.UNDECODABLE


def test_video_without_audio_says_so():
    rejected = reject(silent_video())
    assert rejected.reason is RejectReason.UNDECODABLE
    assert "no audio stream" in rejected.detail


@pytest.mark.parametrize(
    "data",
    [b"", write(np.zeros(0), 16_000), write(np.zeros(0), 16_000, "OGG", "VORBIS"), write(np.zeros(0), 8_000, "AIFF")],
)
def test_no_samples_are_empty(data):
    assert reject(data).reason is RejectReason.EMPTY


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_one_non_finite_sample_rejects(value, rate):
    samples = tone(4.0, rate)
    samples[-5] = value
    assert reject(write(samples, rate, subtype="FLOAT")).reason is RejectReason.NON_FINITE


def test_limits_of_the_format():
    for limits in (AudioSection(max_channels=1), AudioSection(min_sampling_rate=16_001)):
        assert reject(PLAIN_WAV, limits).reason is RejectReason.OUT_OF_RANGE
        assert reject(encode("m4a", tone(0.5, 44_100, (440.0, 440.0))), AudioSection(max_channels=1)).reason
    for rate in (1, 3_999, 384_001, 2**31 - 1):
        assert reject(patched_wav(24, "<I", rate)).reason is RejectReason.OUT_OF_RANGE
        assert reject(bytes(2000), raw=RawFormat(rate, 1)).reason is RejectReason.OUT_OF_RANGE


@pytest.mark.parametrize("name", ["wav", "m4a", "ogg"])
def test_too_long(name):
    data = encode(name, tone(2.0, 44_100, (440.0, 440.0)))
    assert reject(data, AudioSection(max_duration_s=1.5)).reason is RejectReason.TOO_LONG
    assert decode(data, "x", AudioSection(max_duration_s=2.2)).duration_s > 1.9


def test_too_long_is_found_without_an_announced_length():
    data = write_av(np.zeros((48_000 * 20, 2), np.float32), 48_000, "flac", "flac", Pipe())
    assert reject(data, AudioSection(max_duration_s=10.0)).reason is RejectReason.TOO_LONG


CUT = [
    "wav",
    "flac",
    "ogg",
    "opus",
    "mp3",
    "aiff",
    "caf",
    "rf64",
    "w64",
    "au",
    "sph",
    "m4a",
    "aac",
    "webm",
    "mka",
    "wma",
]


@pytest.mark.parametrize("name", [*CUT, "alac"])
def test_a_cut_file_is_truncated(name):
    data = encode(name, noise(1.5, 48_000 if name in ("opus", "webm") else 44_100))
    for kept in (0.6, 0.95):
        assert reject(data[: int(len(data) * kept)]).reason is RejectReason.TRUNCATED


def test_one_missing_byte_of_wav_data_is_truncation():
    assert reject(PLAIN_WAV[:-1]).reason is RejectReason.TRUNCATED


def test_odd_raw_bytes_are_truncated():
    assert reject(bytes(1001), raw=RawFormat(16_000, 1)).reason is RejectReason.TRUNCATED
    assert reject(bytes(1002), raw=RawFormat(16_000, 2)).reason is RejectReason.TRUNCATED


def test_ogg_without_end_of_stream_is_truncated():
    data = encode("ogg", noise(2.0, 44_100))
    last_page = data.rindex(b"OggS")
    rejected = reject(data[:last_page])
    assert rejected.reason is RejectReason.TRUNCATED
    assert "does not end" in rejected.detail


@pytest.mark.parametrize("name", ["flac", "ogg", "opus"])
def test_flipped_bits_are_found_where_the_format_has_checksums(name):
    data = bytearray(encode(name, noise(2.0, 48_000 if name == "opus" else 44_100)))
    data[len(data) // 2] ^= 0x10
    assert reject(bytes(data)).reason is RejectReason.UNDECODABLE


def test_a_hole_in_a_flac_of_unknown_length_is_found():
    data = write_av(noise(3.0, 48_000), 48_000, "flac", "flac", Pipe())
    half = len(data) // 2
    assert reject(data[:half] + data[half + 2000 :]).reason is RejectReason.UNDECODABLE
    assert reject(data[:half]).reason is RejectReason.TRUNCATED


def test_a_lost_ogg_page_magic_is_found():
    data = encode("ogg", noise(3.0, 44_100))
    second = data.index(b"OggS", len(data) // 2)
    assert reject(data[:second] + b"oggs" + data[second + 4 :]).reason is RejectReason.UNDECODABLE


def test_memory_stays_near_the_output_for_a_long_silence():
    bomb = silent_flac(600, 48_000, num_channels=8)
    assert len(bomb) < 20_000  # and 921 MB as float32
    tracemalloc.start()
    try:
        recording = decode(bomb, "x.flac", LIMITS)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert recording.duration_s == pytest.approx(600.0, abs=1.4)
    assert peak_bytes < recording.waveform.nbytes * 1.125 + 6_000_000  # the buffer grows by an eighth


def test_importing_the_package_imports_nothing():
    code = "import sys, w2vb_ray.audio; assert not {'numpy', 'soundfile', 'av', 'soxr', 'fsspec'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
