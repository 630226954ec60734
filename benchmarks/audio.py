"""Files to 16 kHz mono waveforms the plain way, for the sets and for the script that the job is compared with."""

from io import BytesIO

import numpy as np
import soundfile
import soxr

RATE_HZ = 16_000


def load_audio(source: str | bytes) -> np.ndarray:
    """(num_samples,) float32 at 16 kHz from a path or the bytes of a file."""
    file = BytesIO(source) if isinstance(source, bytes) else source
    samples, rate_hz = soundfile.read(file, dtype="float32", always_2d=True)
    return soxr.resample(samples.mean(axis=1), rate_hz, RATE_HZ)
