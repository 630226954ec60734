"""Audio files made by code, for the tests of this folder."""

import io

import av
import numpy as np
import soundfile

SNDFILE_FORMATS = {
    "wav": ("WAV", "PCM_16", 44_100),
    "flac": ("FLAC", "PCM_16", 44_100),
    "ogg": ("OGG", "VORBIS", 44_100),
    "opus": ("OGG", "OPUS", 48_000),
    "mp3": ("MP3", None, 44_100),
    "aiff": ("AIFF", "PCM_16", 44_100),
    "caf": ("CAF", "PCM_16", 44_100),
    "rf64": ("RF64", "PCM_16", 44_100),
    "w64": ("W64", "PCM_16", 44_100),
    "au": ("AU", "PCM_16", 44_100),
    "sph": ("NIST", "PCM_16", 44_100),
}
FFMPEG_FORMATS = {
    "m4a": ("mp4", "aac", 44_100),
    "aac": ("adts", "aac", 44_100),
    "webm": ("webm", "libopus", 48_000),
    "mka": ("matroska", "aac", 44_100),
    "wma": ("asf", "wmav2", 44_100),
    "alac": ("mp4", "alac", 44_100),
    "ac3": ("ac3", "ac3", 44_100),
}
ALL_FORMATS = {**SNDFILE_FORMATS, **FFMPEG_FORMATS}


def tone(duration_s: float, rate: int, frequencies: tuple[float, ...] = (440.0,)) -> np.ndarray:
    """(num_frames, num_channels) float32: one frequency for each channel, at amplitude 0.5."""
    times = np.arange(round(duration_s * rate)) / rate
    return np.stack([0.5 * np.sin(2 * np.pi * hz * times) for hz in frequencies], axis=1).astype(np.float32)


def noise(duration_s: float, rate: int, num_channels: int = 2) -> np.ndarray:
    """(num_frames, num_channels) float32 that no codec packs into almost nothing."""
    rng = np.random.default_rng(0)
    return (0.1 * rng.standard_normal((round(duration_s * rate), num_channels))).astype(np.float32)


def write(samples: np.ndarray, rate: int, container: str = "WAV", subtype: str | None = "PCM_16") -> bytes:
    """Encode with libsndfile, in pieces: its Vorbis encoder crashes on long ones."""
    memory = io.BytesIO()
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    with soundfile.SoundFile(memory, "w", rate, channels, subtype, format=container) as file:
        for start in range(0, len(samples), 20_000):
            file.write(samples[start : start + 20_000])
    return memory.getvalue()


class Pipe(io.RawIOBase):
    """Where an encoder cannot go back to fill in sizes."""

    def __init__(self):
        self.data = bytearray()

    def writable(self):
        return True

    def seekable(self):
        return False

    def write(self, chunk):
        self.data += bytes(chunk)
        return len(chunk)


def write_av(samples: np.ndarray, rate: int, container: str, codec: str, memory: io.RawIOBase | None = None) -> bytes:
    """Encode with FFmpeg; `memory` may be a `Pipe`."""
    memory = io.BytesIO() if memory is None else memory
    layout = "mono" if samples.shape[1] == 1 else "stereo"
    with av.open(memory, "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate, layout=layout)
        stream.bit_rate = 128_000
        context = stream.codec_context
        context.open()
        resampler = av.AudioResampler(context.format.name, layout, rate, context.frame_size or 1024)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T), format="fltp", layout=layout)
        frame.sample_rate, frame.pts = rate, 0
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            output.mux(stream.encode(piece))
        output.mux(stream.encode(None))
    return bytes(memory.data) if isinstance(memory, Pipe) else memory.getvalue()


def encode(name: str, samples: np.ndarray) -> bytes:
    """Encode samples in a format of `ALL_FORMATS`, at its rate there."""
    container, codec, rate = ALL_FORMATS[name]
    return (
        write(samples, rate, container, codec) if name in SNDFILE_FORMATS else write_av(samples, rate, container, codec)
    )


def strongest_hz(pcm: np.ndarray, rate: int = 16_000) -> float:
    """Frequency of the highest peak of the spectrum."""
    spectrum = np.abs(np.fft.rfft(pcm * np.hanning(len(pcm))))
    return float(np.argmax(spectrum) * rate / len(pcm))
