"""Does a file hold all the bytes it announces? Walks container structure; decodes nothing.

libsndfile and FFmpeg both read a cut WAV, AIFF, Ogg or WebM to where it ends and call it whole. Formats that are not
walked here (MP3, FLAC, ADTS, …) are checked by the decoders: announced against decoded frames.
"""

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from w2vb_ray.audio.ogg import check_ogg
from w2vb_ray.errors import AudioRejected, RejectReason

STREAMED_BYTES = 0x7FFF_F000
"""Sizes from here on say "unknown": a WAV written to a pipe has 0x7FFFF000 (sox), 0x7FFFFFFF or 0x80000000 (arecord) or
0xFFFFFFFF (FFmpeg). `audio.max_bytes` refuses real data of that size by default."""

W64_RIFF = bytes.fromhex("726966662e91cf11a5d628db04c10000")
W64_DATA = bytes.fromhex("64617461f3acd3118cd100c04f8edb8a")
ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
TAGS = (b"TAG", b"ID3", b"APETAGEX", b"LYRICSBEGIN")
TAIL_BYTES = 8192
"""Recorders fill up blocks with what their memory holds."""
MP4_FIRST_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot")
MP4_BOXES = {*MP4_FIRST_BOXES, b"moof", b"mfra", b"sidx", b"styp", b"meta", b"udta", b"uuid", b"emsg", b"prft", b"pdin"}
EBML_HEADER = b"\x1a\x45\xdf\xa3"
EBML_SEGMENT = b"\x18\x53\x80\x67"


@dataclass(frozen=True, slots=True)
class Layout:
    """How a container writes its chunks: an id, a size, the payload.

    Args:
        first: offset of the first chunk.
        id_bytes: length of the id.
        size: `struct` format of the size after it.
        counts_header: the size includes id and size fields.
        align: chunks start at multiples of this.
        last: id of the chunk after which nothing matters, None to walk on to the end.
    """

    first: int
    id_bytes: int
    size: str
    counts_header: bool
    align: int
    last: bytes | None


WAV = Layout(12, 4, "<I", counts_header=False, align=2, last=b"data")
RIFX = Layout(12, 4, ">I", counts_header=False, align=2, last=b"data")
AIFF = Layout(12, 4, ">I", counts_header=False, align=2, last=b"SSND")
CAF = Layout(8, 4, ">q", counts_header=False, align=1, last=None)
W64 = Layout(40, 16, "<Q", counts_header=True, align=8, last=W64_DATA)
ASF = Layout(0, 16, "<Q", counts_header=True, align=1, last=None)


_LAYOUTS = {b"RIFF": WAV, b"RF64": WAV, b"BW64": WAV, b"RIFX": RIFX, b"FORM": AIFF, b"caff": CAF}


def check_complete(data: bytes) -> None:
    """Raise `truncated` for a container that ends before it says it does, `undecodable` for a damaged Ogg page.

    Says nothing about formats it does not know.
    """
    checker = _find_checker(data)
    if checker is not None:
        checker(data)


def _find_checker(data: bytes) -> Callable[[bytes], None] | None:
    head, form = data[:4], data[8:12]
    match head:
        case b"RIFF" | b"RF64" | b"BW64" if form == b"WAVE":
            return lambda data: _check_chunks(data, WAV)
        case b"RIFX" if form == b"WAVE":
            return lambda data: _check_chunks(data, RIFX)
        case b"FORM" if form in (b"AIFF", b"AIFC"):
            return lambda data: _check_chunks(data, AIFF)
        case b"caff":
            return lambda data: _check_chunks(data, CAF)
        case b"OggS":
            return check_ogg
        case b"NIST":
            return _check_nist
        case b".snd" | b"dns.":
            return _check_au
        case _ if head == EBML_HEADER:
            return _check_matroska
        case _ if data[4:8] in MP4_FIRST_BOXES:
            return _check_mp4
        case _ if data.startswith(W64_RIFF):
            return lambda data: _check_chunks(data, W64)
        case _ if data.startswith(ASF_HEADER):
            return lambda data: _check_chunks(data, ASF)
        case _:
            return None


def find_streamed_wav(data: bytes) -> int | None:
    """Offset of the size field of a WAV whose data chunk was never given a size (0, with audio behind it), else None.

    libsndfile takes the 0 at its word. A file without samples differs: its RIFF size agrees with the file.
    """
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE" or int.from_bytes(data[4:8], "little") + 8 >= len(data):
        return None
    for name, start, end in _walk(data, WAV):
        if name == b"data":
            return start - 4 if end == start and len(data) > start else None
    return None


def check_tail(data: bytes, start: int) -> None:
    """Raise `undecodable` when a decoder stopped at `start`, and what follows may well be more audio.

    That is anything but chunks, tags, zeros and the rest of a disk block: samples that the data chunk does not count
    (a recorder died before it wrote the size), frames that the header does not count, a second file behind the first.
    """
    layout = _LAYOUTS.get(data[:4])
    if layout is not None:  # the pad byte behind an odd size may be there or not
        start = max(_skip_chunks(data, first, layout) for first in (start, start + start % layout.align))
    end = _skip_tags_backwards(data)
    has_tag = data.startswith(TAGS, start)
    num_bytes = end - start
    if num_bytes > TAIL_BYTES and not has_tag and data.count(0, start, end) < num_bytes:
        raise AudioRejected(RejectReason.UNDECODABLE, f"{num_bytes} bytes follow behind the end of the audio")


def _skip_chunks(data: bytes, start: int, layout: Layout) -> int:
    """Offset behind the chunks that begin at `start` and lie in the file."""
    for name, _, end in _walk(data, replace(layout, first=start, last=None)):
        if end > len(data) or name in _LAYOUTS:  # no chunk, or the first of another file
            break
        start = end + end % layout.align
    return start


def _skip_tags_backwards(data: bytes) -> int:
    """Where the tags at the end of a file begin: ID3v1 has 128 bytes, APE announces its size in its last 32."""
    end = len(data)
    if data[-128:-125] == b"TAG":
        end -= 128
    if data[end - 32 : end - 24] == b"APETAGEX":
        end -= 32 + int.from_bytes(data[end - 20 : end - 16], "little")
    return end


def _check_chunks(data: bytes, layout: Layout) -> None:
    for name, start, end in _walk(data, layout):
        if end > len(data):
            raise cut_short(_printable(name), end - start, len(data) - start)


def _walk(data: bytes, layout: Layout) -> Iterator[tuple[bytes, int, int]]:
    """(id, payload start, payload end) of each chunk up to the last that matters; sizes that mean "unknown" end it."""
    size_bytes = struct.calcsize(layout.size)
    header_bytes = layout.id_bytes + size_bytes
    offset = layout.first
    long_data = _rf64_data_bytes(data)
    while offset + header_bytes <= len(data):
        name = data[offset : offset + layout.id_bytes]
        (size,) = struct.unpack_from(layout.size, data, offset + layout.id_bytes)
        size -= header_bytes if layout.counts_header else 0
        if layout.id_bytes == 4 and not (name.isascii() and name.decode("ascii").isprintable()):
            return  # no chunk: the one before it has an odd length and no pad byte, or a foreign tag follows
        if name == b"data" and long_data is not None:
            size = long_data
        elif size < 0 or (size_bytes == 4 and size >= STREAMED_BYTES):
            return
        start = offset + header_bytes
        yield name, start, start + size
        if name == layout.last:
            return
        offset = -(-(start + size) // layout.align) * layout.align


def _rf64_data_bytes(data: bytes) -> int | None:
    """Data size of an RF64 file from its `ds64` chunk, which must come first; None where there is none or it is 0."""
    if data[:4] not in (b"RF64", b"BW64") or data[12:16] != b"ds64" or len(data) < 36:
        return None
    return int.from_bytes(data[28:36], "little") or None


def _check_nist(data: bytes) -> None:
    """NIST SPHERE: the text header gives its own length and the sample count."""
    header_bytes = int(data[8:16]) if data[8:16].strip().isdigit() else 0
    header = data[:header_bytes].decode("latin-1")
    if "shorten" in header:
        return
    fields = dict(re.findall(r"^(sample_count|channel_count|sample_n_bytes) -i (\d+)", header, re.MULTILINE))
    size = (
        int(fields.get("sample_count", 0)) * int(fields.get("channel_count", 1)) * int(fields.get("sample_n_bytes", 1))
    )
    if header_bytes + size > len(data):
        raise cut_short("samples", size, len(data) - header_bytes)


def _check_au(data: bytes) -> None:
    if len(data) < 12:
        return
    start, size = struct.unpack_from(">II" if data[:4] == b".snd" else "<II", data, 4)
    if size < STREAMED_BYTES and start + size > len(data):
        raise cut_short("data", size, len(data) - start)


def _check_mp4(data: bytes) -> None:
    """Top-level boxes must end inside the file, and the index (`moov`) must be among them."""
    names: set[bytes] = set()
    offset = 0
    while offset + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, offset)
        if name not in MP4_BOXES:
            break  # a foreign tag behind the last box (ID3v1, padding)
        if size == 1 and offset + 16 <= len(data):
            (size,) = struct.unpack_from(">Q", data, offset + 8)
        if name == b"ftyp" and b"moov" in names:
            raise AudioRejected(RejectReason.UNDECODABLE, f"a second MP4 file begins at byte {offset}")
        names.add(name)
        if offset + size > len(data):
            raise cut_short(_printable(name), size, len(data) - offset)
        if size < 8:  # 0: to the end of the file
            break
        offset += size
    if b"mdat" in names and b"moov" not in names:
        raise AudioRejected(RejectReason.TRUNCATED, "MP4 without its index (moov box)")


def _check_matroska(data: bytes) -> None:
    """The EBML header and the Segment behind it; live recordings have a Segment of unknown size."""
    _, offset = _ebml_number(data, 4)
    header_bytes, _ = _ebml_number(data, 4)
    offset += header_bytes or 0
    if data[offset : offset + 4] != EBML_SEGMENT:
        return
    size, start = _ebml_number(data, offset + 4)
    if size is not None and start + size > len(data):
        raise cut_short("Segment", size, len(data) - start)


def _ebml_number(data: bytes, offset: int) -> tuple[int | None, int]:
    """(value, offset behind it) of a variable-length number; None when it is all ones ("unknown") or not there."""
    first = data[offset] if offset < len(data) else 0
    length = 9 - first.bit_length()
    if length > 8:
        return None, offset + 1
    bits = 7 * length
    value = int.from_bytes(data[offset : offset + length], "big") & ((1 << bits) - 1)
    return (None if value == (1 << bits) - 1 else value), offset + length


def _printable(name: bytes) -> str:
    """A chunk id as text; those of ASF and W64 are binary GUIDs."""
    return name.decode("ascii").strip() if name.isascii() else f"chunk {name.hex()}"


def cut_short(what: str, announced_bytes: int, present_bytes: int) -> AudioRejected:
    """The `truncated` reject of a structure that reaches beyond the file."""
    return AudioRejected(
        RejectReason.TRUNCATED,
        f"{what} announces {announced_bytes} bytes, the file holds {max(0, present_bytes)}",
    )
