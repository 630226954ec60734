import numpy as np
import pytest
import soxr

from w2vb_ray.audio.decode import RawFormat, Recording, decode
from w2vb_ray.config.sections import AudioSection

from .encoded import ALL_FORMATS, Pipe, encode, noise, strongest_hz, tone, write, write_av

LIMITS = AudioSection()


@pytest.mark.parametrize("name", ALL_FORMATS)
def test_tone_keeps_its_frequency_and_length_whatever_the_name(name):
    rate = ALL_FORMATS[name][2]
    recording = decode(encode(name, tone(2.0, rate, (440.0, 440.0))), "no-suffix", LIMITS)
    assert recording.waveform.dtype == np.float32
    assert recording.waveform.ndim == 1
    assert recording.sampling_rate == rate
    assert recording.duration_s == pytest.approx(2.0, abs=0.15)  # wma: without its last 2 frames of 46 ms
    middle = recording.waveform[4_000:28_000]
    assert strongest_hz(middle) == pytest.approx(440.0, abs=1.0)
    assert np.abs(middle).max() == pytest.approx(0.5, rel=0.06)


def test_16_bit_16_khz_mono_is_bit_exact():
    pcm = np.random.default_rng(1).integers(-32_768, 32_768, 100_000).astype(np.int16)
    pcm[:2] = (-32_768, 32_767)
    for container in ("WAV", "FLAC", "AIFF"):
        assert np.array_equal(decode(write(pcm, 16_000, container), "x", LIMITS).waveform, pcm)
    assert np.array_equal(decode(pcm.tobytes(), "x.raw", LIMITS, RawFormat(16_000, 1)).waveform, pcm)


def test_mono_is_the_mean_and_never_rounded():
    stereo = np.array([[1, 2], [3, 4], [-1, -2], [100, -100], [32_767, 32_767]], np.int16)
    mono = decode(write(stereo, 16_000), "x", LIMITS).waveform
    assert mono.dtype == np.float32
    assert (mono * 32_768).tolist() == [1.5, 3.5, -1.5, 0, 32_767]
    five = np.array([[10, 20, 30, 40, 50]] * 3, np.int16)
    whole = decode(write(five, 16_000), "x", LIMITS).waveform
    assert whole.dtype == np.int16
    assert whole.tolist() == [30, 30, 30]


def test_streaming_over_many_blocks_equals_one_shot_resampling():
    samples = noise(7.0, 44_100)
    quantised = np.rint(samples * 32_768).clip(-32_768, 32_767).astype(np.int16)
    mono = (quantised.astype(np.float32) / 32_768).mean(axis=1)
    expected = soxr.resample(mono, 44_100, 16_000, quality="HQ")
    assert np.array_equal(decode(write(quantised, 44_100), "x", LIMITS).waveform, expected)


def test_float_samples_beyond_full_scale_are_kept_and_absurd_ones_limited():
    samples = np.array([0.5, 1.5, -7.0, 1e30, -1e38, 3e38], np.float32)
    waveform = decode(write(samples, 16_000, subtype="FLOAT"), "x", LIMITS).waveform
    assert waveform.tolist() == [0.5, 1.5, -7.0, 1e6, -1e6, 1e6]
    loud = np.full((44_100, 2), 3e38, np.float32)
    assert np.isfinite(decode(write(loud, 44_100, subtype="FLOAT"), "x", LIMITS).waveform).all()


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW", "IMA_ADPCM"])
def test_wav_sample_formats(subtype):
    recording = decode(write(tone(1.0, 16_000), 16_000, subtype=subtype), "x.wav", LIMITS)
    assert recording.duration_s == pytest.approx(1.0, abs=0.05)
    assert strongest_hz(recording.waveform) == pytest.approx(440.0, abs=1.5)


@pytest.mark.parametrize("num_samples", [1, 2, 3, 100])
def test_a_handful_of_samples_decodes(num_samples):
    samples = tone(1.0, 44_100)[:num_samples]
    for container, subtype in (("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS")):
        recording = decode(write(samples, 44_100, container, subtype), "x", LIMITS)
        assert len(recording.waveform) == pytest.approx(num_samples * 16_000 / 44_100, abs=1)


@pytest.mark.parametrize("size", [0, 0x7FFF_F000, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF])
def test_streamed_wav_is_read_to_its_end(size):
    pcm = (tone(0.5, 16_000)[:, 0] * 32_767).astype(np.int16)
    data = bytearray(write(pcm, 16_000))
    at = data.index(b"data") + 4
    data[at : at + 4] = size.to_bytes(4, "little")
    data[4:8] = min(size + 36, 0xFFFF_FFFF).to_bytes(4, "little")
    assert np.array_equal(decode(bytes(data), "x", LIMITS).waveform, pcm)


def test_missing_pad_byte_is_no_truncation():
    data = write(np.arange(101, dtype=np.int16).astype(np.float32) / 200, 16_000, subtype="PCM_U8")
    size = int.from_bytes(data[40:44], "little")
    assert size == 101
    assert len(decode(data[: 44 + size], "x", LIMITS).waveform) == 101


@pytest.mark.parametrize(
    ("container", "codec"), [("flac", "flac"), ("ogg", "flac"), ("webm", "libopus"), ("wav", "pcm_s16le")]
)
def test_files_written_to_a_pipe_have_no_length(container, codec):
    recording = decode(write_av(tone(2.0, 48_000), 48_000, container, codec, Pipe()), "x", LIMITS)
    assert recording.duration_s == pytest.approx(2.0, abs=0.05)


def test_all_links_of_a_chained_ogg_are_read():
    first = write(tone(1.0, 44_100), 44_100, "OGG", "VORBIS")
    second = write(tone(0.5, 44_100, (880.0, 880.0)), 44_100, "OGG", "VORBIS")
    recording = decode(first + second, "x", LIMITS)
    assert len(recording.waveform) == 24_000
    assert strongest_hz(recording.waveform[:15_000]) == pytest.approx(440.0, abs=2.0)
    assert strongest_hz(recording.waveform[17_000:]) == pytest.approx(880.0, abs=3.0)


def test_id3_tag_in_front_is_skipped():
    tag = b"ID3\x03\x00\x00\x00\x00\x10\x00" + bytes(2048)
    for container in ("FLAC", "MP3"):
        data = write(tone(1.0, 44_100), 44_100, container, None)
        assert decode(tag + data, "x", LIMITS).duration_s == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("name", ["wav", "flac", "mp3", "ogg", "m4a", "aiff"])
def test_foreign_tag_behind_the_audio_is_no_truncation(name):
    data = encode(name, tone(1.0, 44_100))
    whole = decode(data, "x", LIMITS)
    assert np.array_equal(decode(data + b"TAG" + b"x" * 125, "x", LIMITS).waveform, whole.waveform)


def test_headerless_formats_known_by_suffix():
    data = write_av(tone(1.0, 16_000), 16_000, "g722", "g722")
    assert strongest_hz(decode(data, "call.g722", LIMITS).waveform) == pytest.approx(440.0, abs=1.5)


def test_raw_pcm_is_taken_at_its_word():
    stereo = np.array([[100, 300], [-100, -300]] * 400, "<i2")
    recording = decode(stereo.tobytes(), "x.wav", LIMITS, RawFormat(16_000, 2))
    assert recording.waveform.tolist() == [200, -200] * 400
    assert decode(b"RIFF" * 4000, "x", LIMITS, RawFormat(8_000, 1)).duration_s == pytest.approx(1.0)


def test_duration_is_that_of_the_waveform():
    assert Recording(np.zeros(8_000, np.int16), 44_100).duration_s == 0.5
