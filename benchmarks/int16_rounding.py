"""What rounding the samples to 16 bits would do to embeddings: `python -m benchmarks.int16_rounding`.

The same recordings, decoded and resampled to float32, go through the encoder as they are, which is what the pipeline
does, and rounded: to int16; to int16 after each recording was brought to full scale; and to float16, which takes the
same bytes. Also at 40 and 60 dB less, where int16 has 6.6 and 10 bits fewer left. The type `soxr VHQ` is no rounding at
all but another quality of the same resampler: how far the vectors move for a choice that nobody can hear.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import soxr

from benchmarks import machine
from benchmarks.models import base_checkpoint
from w2vb_ray.audio.resample import TARGET_RATE_HZ, to_int16, to_mono
from w2vb_ray.config.sections import AudioSection, BatchingSection, EncoderSection, PoolingSection
from w2vb_ray.encoder import Encoder, load_encoder

SPEECH = machine.ROOT / "tests" / "data" / "speech"
NUM_CLIPS = 40
LEVELS_DB = (0, -40, -60)
LARGE = 0.1
ROW = "{:<22} {:>6} {:<10} {:>9} {:>9} {:>9} {:>11} {:>7}"

Clips = list[np.ndarray]


def recordings() -> list[tuple[np.ndarray, int]]:
    """Every few recordings of the embedded sample: (num_samples,) float32 mono, and its rate in Hz."""
    files = sorted(file for file in SPEECH.rglob("*") if file.suffix in (".ogg", ".wav"))
    chosen = [files[index * len(files) // NUM_CLIPS] for index in range(NUM_CLIPS)]
    decoded = [soundfile.read(file, dtype="float32", always_2d=True) for file in chosen]
    return [(to_mono(samples), rate_hz) for samples, rate_hz in decoded]


def resampled(sources: list[tuple[np.ndarray, int]], quality: str) -> Clips:
    """(num_samples,) float32 at 16 kHz, not rounded, within full scale."""
    clips = [soxr.resample(samples, rate_hz, TARGET_RATE_HZ, quality=quality) for samples, rate_hz in sources]
    return [np.clip(clip, -1.0, 32767 / 32768) for clip in clips]


def to_float16(clip: np.ndarray) -> np.ndarray:
    """Rounded to float16; float32 again, because encoders take int16 or float32."""
    return clip.astype(np.float16).astype(np.float32)


def to_scaled_int16(clip: np.ndarray) -> np.ndarray:
    """Rounded to int16 at full scale; the features of both families do not depend on the scale."""
    return to_int16(clip / max(float(np.abs(clip).max()), 1e-9))


def vectors(encoder: Encoder, clips: Clips) -> np.ndarray:
    """(N, D) mean-pooled embeddings, float64."""
    return np.stack([embeddings.pooled[0] for embeddings in encoder.encode(clips)]).astype(np.float64)


def differences(exact: np.ndarray, other: np.ndarray) -> list[str]:
    """(N, D), (N, D) -> relative difference (median, mean, max), lowest cosine, and how many differ by over 10 %."""
    norms = np.linalg.norm(exact, axis=1)
    relative = np.linalg.norm(exact - other, axis=1) / norms
    cosine = np.einsum("nd,nd->n", exact, other) / (norms * np.linalg.norm(other, axis=1))
    figures = [f"{value:.1e}" for value in (np.median(relative), relative.mean(), relative.max())]
    return [*figures, f"{cosine.min():.6f}", str(int((relative > LARGE).sum()))]


def load(checkpoint: str) -> Encoder:
    """An encoder in fp32 on one CPU core."""
    section = EncoderSection(checkpoint=checkpoint, precision="fp32", device="cpu")
    return load_encoder(section, PoolingSection(), BatchingSection(), AudioSection(), num_threads=1)


def compare(name: str, encoder: Encoder, hq: Clips, vhq: Clips) -> None:
    """Print the rows of one encoder."""
    types: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "int16": to_int16,
        "int16 full": to_scaled_int16,
        "float16": to_float16,
    }
    for level_db in LEVELS_DB:
        scaled = [clip * np.float32(10 ** (level_db / 20)) for clip in hq]
        exact = vectors(encoder, scaled)
        for kind, rounding in types.items():
            rounded = vectors(encoder, [rounding(clip) for clip in scaled])
            print(ROW.format(name, f"{level_db} dB", kind, *differences(exact, rounded)), flush=True)
        if level_db == 0:
            print(ROW.format(name, "0 dB", "soxr VHQ", *differences(exact, vectors(encoder, vhq))), flush=True)


def main() -> None:
    """Print one row per encoder, level and type."""
    sources = recordings()
    hq, vhq = resampled(sources, "HQ"), resampled(sources, "VHQ")
    rms_db = 20 * np.log10([np.sqrt(np.mean(clip.astype(np.float64) ** 2)) for clip in hq])
    print(machine.one_line(machine.describe()))
    print(f"{len(hq)} clips, RMS {rms_db.min():.0f} to {rms_db.max():.0f} dB (median {np.median(rms_db):.0f})\n")
    print(ROW.format("encoder", "level", "type", "median", "mean", "max", "min cosine", "> 10 %"))
    with tempfile.TemporaryDirectory() as folder:
        compare("embedded", load("embedded"), hq, vhq)
        compare("768-d, 4 layers, seed", load(str(base_checkpoint(Path(folder) / "base", num_layers=4))), hq, vhq)


if __name__ == "__main__":
    main()
