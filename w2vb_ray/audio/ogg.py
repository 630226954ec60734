"""Are the pages of an Ogg file whole? Walks pages (RFC 3533); decodes nothing.

libsndfile drops a page with a wrong checksum together with all that follows: one flipped bit, and 61,440 of 132,300
frames of a Vorbis file came back without an error.
"""

import zlib
from collections.abc import Iterator

from w2vb_ray.errors import AudioRejected, RejectReason

HEADER_BYTES = 27
BEGIN_OF_STREAM = 2
END_OF_STREAM = 4
REVERSED_BITS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
NO_CHECKSUM = bytes(4)


def check_ogg(data: bytes) -> None:
    """Raise `truncated` unless every logical stream ends with a page that says so, `undecodable` on a bad page."""
    ended: dict[bytes, bool] = {}
    end = 0
    for num_pages, (start, end) in enumerate(_pages(data)):
        if _checksum(data, start, end) != int.from_bytes(data[start + 22 : start + 26], "little"):
            raise AudioRejected(RejectReason.UNDECODABLE, f"Ogg page {num_pages} fails its checksum")
        ended[data[start + 14 : start + 18]] = bool(data[start + 5] & END_OF_STREAM)
    if data.find(b"OggS", end) >= 0:  # behind the last page, anything else is a foreign tag
        raise AudioRejected(RejectReason.UNDECODABLE, f"bytes at {end} belong to no Ogg page, but pages follow")
    if not all(ended.values()):
        raise AudioRejected(RejectReason.TRUNCATED, f"the last Ogg page ({end} bytes) does not end its stream")


def find_links(data: bytes) -> list[tuple[int, int]]:
    """(start, end) of each link of a chained file: a new stream that begins behind the pages of another."""
    starts = [0]
    has_begun = False
    for start, _ in _pages(data):
        begins = bool(data[start + 5] & BEGIN_OF_STREAM)
        if begins and has_begun:
            starts.append(start)
        has_begun = not begins
    return list(zip(starts, [*starts[1:], len(data)], strict=True))


def _pages(data: bytes) -> Iterator[tuple[int, int]]:
    """(start, end) of the pages that follow each other from the first byte on."""
    start = 0
    while data[start : start + 4] == b"OggS":
        end = _page_end(data, start)
        if end is None or end > len(data):
            raise AudioRejected(RejectReason.TRUNCATED, f"the Ogg page at byte {start} ends beyond the file")
        yield start, end
        start = end


def _page_end(data: bytes, offset: int) -> int | None:
    """Offset behind the page, from its segment table; None when the table itself is cut."""
    table = offset + HEADER_BYTES
    if table > len(data):
        return None
    num_segments = data[table - 1]
    sizes = data[table : table + num_segments]
    return table + num_segments + sum(sizes) if len(sizes) == num_segments else None


def _checksum(data: bytes, offset: int, end: int) -> int:
    """CRC-32 of a page with its checksum field zeroed.

    Ogg's CRC has zlib's polynomial with the bits the other way round, start 0 and no final inversion. Reversing the
    bits of every byte and of the result makes it zlib's, instead of a Python loop over bytes.
    """
    page = data[offset : offset + 22] + NO_CHECKSUM + data[offset + 26 : end]
    crc = zlib.crc32(page.translate(REVERSED_BITS), 0xFFFF_FFFF) ^ 0xFFFF_FFFF
    return int(f"{crc:032b}"[::-1], 2)
