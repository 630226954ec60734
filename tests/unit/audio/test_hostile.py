"""What becomes of every kind of bad file, and that it does nothing to the files beside it."""

import numpy as np
import pytest

from w2vb_ray.audio.decode import decode
from w2vb_ray.audio.isolated import current_decoder
from w2vb_ray.audio.isolated import decode as decode_isolated
from w2vb_ray.config.sections import AudioSection
from w2vb_ray.errors import AudioRejected

from .encoded import noise, write
from .hostile import ACCEPTED, REJECTED
from .processes import peak_bytes

LIMITS = AudioSection()
NEIGHBOUR = write(noise(1.0, 44_100), 44_100, "FLAC")


@pytest.fixture(scope="module")
def waveform():
    """Of the neighbour, from this process and with nothing bad before."""
    return decode(NEIGHBOUR, "x", LIMITS).waveform


@pytest.fixture(autouse=True)
def neighbour(waveform):
    """The next file in the same process comes out as ever, and no file took much memory."""
    yield
    after = decode_isolated(NEIGHBOUR, "x", LIMITS).waveform
    assert after.dtype == waveform.dtype
    np.testing.assert_array_equal(after, waveform)
    assert peak_bytes(current_decoder().pid) < 400 * 1024**2


@pytest.mark.parametrize("kind", REJECTED)
def test_rejected(kind):
    make, reason = REJECTED[kind]
    data = make()
    pid = current_decoder().pid
    with pytest.raises(AudioRejected) as caught:
        decode_isolated(data, "x.wav", LIMITS)
    assert (caught.value.reason, bool(caught.value.detail)) == (reason, True)
    assert current_decoder().pid == pid


@pytest.mark.parametrize("kind", ACCEPTED)
def test_accepted(kind):
    make, num_samples = ACCEPTED[kind]
    waveform = decode_isolated(make(), "x.mp3", LIMITS).waveform
    assert len(waveform) == num_samples
    assert np.isfinite(waveform).all()
    assert np.abs(waveform).max(initial=0.0) <= (1e6 if waveform.dtype == np.float32 else 32_768)
