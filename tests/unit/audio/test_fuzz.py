"""Damaged files never raise anything but `AudioRejected`, and a cut file is never returned as a whole one."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from w2vb_ray.audio.decode import RawFormat, decode
from w2vb_ray.config.sections import AudioSection
from w2vb_ray.errors import AudioRejected

from .encoded import ALL_FORMATS, encode, noise

LIMITS = AudioSection()
FUZZ = settings(max_examples=40, deadline=None)
NAMES = [name for name in ALL_FORMATS if name != "mp3"]  # libmpg123 writes a line to stderr for each damaged frame
CUT_NAMES = [name for name in NAMES if name not in ("ac3", "aac")]  # bare frames: nothing tells the length


@cache
def whole(name):
    return encode(name, noise(1.0, ALL_FORMATS[name][2]))


def survives(data):
    try:
        recording = decode(data, "x", LIMITS)
    except AudioRejected:
        return False
    assert recording.waveform.dtype in (np.int16, np.float32)
    assert np.isfinite(recording.waveform).all()
    return True


@pytest.mark.parametrize("name", CUT_NAMES)
def test_cut_files(name):
    @FUZZ
    @given(st.floats(0.0, 0.9))
    def check(kept):
        assert not survives(whole(name)[: int(kept * len(whole(name)))])

    check()


@pytest.mark.parametrize("name", NAMES)
def test_flipped_bits(name):
    size = len(whole(name))
    place = st.one_of(st.integers(0, 300), st.integers(0, size - 1))

    @FUZZ
    @given(st.lists(st.tuples(place, st.integers(0, 7)), min_size=1, max_size=5))
    def check(flips):
        data = bytearray(whole(name))
        for offset, bit in flips:
            data[offset] ^= 1 << bit
        survives(bytes(data))

    check()


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(
        [b"", b"RIFF\x24\0\0\0WAVEfmt ", b"OggS\0\2", b"fLaC", b"\0\0\0\x18ftyp", b"FORM", b"caff", b"NIST_1A\n"]
    ),
    st.binary(),
)
def test_arbitrary_bytes(head, tail):
    survives(head + tail)


@given(st.binary(min_size=2, max_size=200))
def test_raw_is_never_rejected_for_its_content(data):
    whole_frames = data[: len(data) // 2 * 2]
    assert decode(whole_frames, "x", LIMITS, RawFormat(16_000, 1)).waveform.tobytes() == whole_frames
