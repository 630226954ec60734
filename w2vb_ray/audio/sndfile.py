"""Decoding with libsndfile, the stricter decoder: WAV, FLAC, Ogg Vorbis and Opus, MP3, AIFF, CAF, …"""

import io

import soundfile

from w2vb_ray.audio.containers import check_tail, find_streamed_wav
from w2vb_ray.audio.ogg import find_links
from w2vb_ray.audio.stream import Blocks, Stream, block_frames
from w2vb_ray.errors import AudioRejected, RejectReason

NOT_MINE = frozenset({1, 4, 18, 64})
"""libsndfile's codes for: unrecognised format, unsupported encoding, unsupported sample width, codec not implemented.
Every other code of an open that fails means a known format that is broken, which FFmpeg must not make something of."""
NO_MEMORY = 17
UNKNOWN_FRAMES = 1 << 62
MP3_TOLERANCE_FRAMES = 2 * 1152
"""Encoders differ in whether the Xing header counts its own frame and the encoder's delay."""


class Memory(io.BytesIO):
    """A file in memory on which seeks before the beginning stay where they are.

    libsndfile tries such seeks on damaged files; an exception inside its callback would be printed, not raised.
    """

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Like `BytesIO.seek`, without `ValueError`."""
        if whence == io.SEEK_SET and offset < 0:
            return self.tell()
        return super().seek(offset, whence)


class Forward(soundfile.SoundFile):
    """A file that is read once, front to back.

    After each read of a seekable file soundfile seeks to where it is already, and libFLAC then decodes the frame there
    again: two thirds of the time of an 8-channel FLAC.
    """

    def seekable(self) -> bool:
        """No."""
        return False


def open_sndfile(data: bytes) -> Stream | None:
    """Open with libsndfile; None when another decoder should try.

    Raises:
        AudioRejected: `undecodable` when libsndfile knows the format and finds it broken.
    """
    if not data.startswith(b"OggS"):
        return _open(data)
    # libsndfile returns the first link of a chained Ogg file and no error, FFmpeg refuses to go from mono to stereo
    spans = find_links(data)
    first = _open(data[slice(*spans[0])])
    if first is None or len(spans) == 1:
        return first
    return Stream(first.sampling_rate, first.num_channels, None, _chain(first, data, spans[1:]))


def _chain(first: Stream, data: bytes, spans: list[tuple[int, int]]) -> Blocks:
    """Blocks of all links, one after the other."""
    yield from first.blocks
    for start, end in spans:
        link = _open(data[start:end])
        if link is None or link.sampling_rate != first.sampling_rate:
            detail = f"the Ogg link at byte {start} differs in codec or sampling rate from the first"
            raise AudioRejected(RejectReason.UNDECODABLE, detail)
        yield from link.blocks


def _open(data: bytes) -> Stream | None:
    memory = Memory(_with_data_size(data))
    try:
        file = Forward(memory)
    except soundfile.LibsndfileError as err:
        if err.code == NO_MEMORY:
            raise MemoryError(err.error_string) from err
        # Ogg pages have passed their checksums before: FLAC in Ogg as FFmpeg writes it is whole, but fails to open
        if err.code in NOT_MINE or data.startswith(b"OggS"):
            return None
        raise AudioRejected(RejectReason.UNDECODABLE, f"libsndfile: {err.error_string}") from err
    announced = file.frames if file.frames < UNKNOWN_FRAMES else None
    if announced is None and file.format == "FLAC":
        file.close()
        return None  # behind the last frame of a FLAC of unknown length, libFLAC takes a tag for a damaged frame
    return Stream(file.samplerate, file.channels, announced, _blocks(file, memory, data))


def _with_data_size(data: bytes) -> bytes | bytearray:
    """The same file, with "unknown" in place of the 0 bytes that a streamed WAV announces."""
    offset = find_streamed_wav(data)
    if offset is None:
        return data
    patched = bytearray(data)
    patched[offset : offset + 4] = b"\xff\xff\xff\xff"
    return patched


def _blocks(file: soundfile.SoundFile, memory: Memory, data: bytes) -> Blocks:
    num_frames = 0
    announced = file.frames
    tolerance = MP3_TOLERANCE_FRAMES if file.format == "MP3" else 0
    with file:
        while num_frames < announced:
            try:
                wanted = min(block_frames(file.channels), announced - num_frames)
                block = file.read(wanted, dtype="float32", always_2d=True)
            except soundfile.SoundFileError as err:
                # at the end of the bytes the decoder starved; before it (8 KiB are read ahead) the bytes are wrong
                reason = RejectReason.TRUNCATED if memory.tell() >= len(data) else RejectReason.UNDECODABLE
                detail = f"libsndfile ({file.format}): {err} after {num_frames} of {announced} frames"
                raise AudioRejected(reason, detail) from err
            if not len(block):
                break
            num_frames += len(block)
            yield block
    if announced < UNKNOWN_FRAMES and num_frames < announced - tolerance:
        raise AudioRejected(
            RejectReason.TRUNCATED, f"{file.format} announces {announced} frames, {num_frames} were decoded"
        )
    if file.format != "OGG":  # its pages have been counted
        check_tail(data, memory.tell())
