"""The members of a tar, in one pass over its headers: names, places and sizes. Nothing is extracted.

A tar comes from strangers: long names are capped, damage ends the pass with an `Entry` that says where, and what is no
regular file is told apart. Understands ustar, pax and GNU headers, and tars that were written one behind the other.
"""

import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

BLOCK_BYTES = tarfile.BLOCKSIZE
_MAX_HEADER_BYTES = 1024**2  # of a pax header or a long name
_MAX_NAME_LENGTH = 4096
_SIZE = re.compile(r"[0-9]{1,18}")
_PAX_LENGTH = re.compile(rb"([0-9]{1,7}) ")
_ENCODING, _ERRORS = "utf-8", "surrogateescape"
_REGULAR = {tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE}
_NO_DATA = {tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE}


@dataclass(frozen=True, slots=True)
class Entry:
    """A member of a tar.

    Args:
        name: as it stands in the tar, bytes that are not UTF-8 written as `\\udcXX`; empty for damage.
        kind: `file`, `folder`, `sparse`, `special` (links, devices, pipes), or `damage`: no header where one must be,
            so that what comes behind it cannot be found.
        offset: where its data begins; where the header should be for damage.
        num_bytes: of its data. It may reach beyond the end of a tar that was cut.
    """

    name: str
    kind: str
    offset: int
    num_bytes: int


def entries(file: BinaryIO, total_bytes: int) -> Iterator[Entry]:
    """All members in order. The caller may move `file` between two of them.

    Args:
        file: seekable, from its start.
        total_bytes: the tar's size.
    """
    position = 0
    extended: dict[str, str] = {}
    while position < total_bytes:
        file.seek(position)
        block = file.read(BLOCK_BYTES)
        if not block.strip(b"\0"):  # the end of a tar; another may follow
            position += BLOCK_BYTES
            continue
        header = parse_header(block)
        if header is None:
            yield Entry("", "damage", position, 0)
            return
        data = position + BLOCK_BYTES
        if header.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, b"g", b"K"):
            found = _extended(file, header)
            if found is None:
                yield Entry("", "damage", position, 0)
                return
            extended.update(found)
            position = data + padded(header.size)
            continue
        entry = _entry(header, extended, _data_start(file, header, data))
        if entry is None:
            yield Entry("", "damage", position, 0)
            return
        yield entry
        position = entry.offset + padded(entry.num_bytes)
        extended = {}


def parse_header(block: bytes) -> tarfile.TarInfo | None:
    """A block as a header, or None where it is none."""
    try:
        header = tarfile.TarInfo.frombuf(block, _ENCODING, _ERRORS)
    except tarfile.HeaderError:
        return None
    return header if header.size >= 0 else None


def padded(num_bytes: int) -> int:
    """Bytes that data of this length takes in a tar."""
    return -(-num_bytes // BLOCK_BYTES) * BLOCK_BYTES


def _entry(header: tarfile.TarInfo, extended: dict[str, str], offset: int) -> Entry | None:
    size = extended.get("size", str(header.size))
    name = extended.get("path", header.name)
    if not _SIZE.fullmatch(size) or len(name) > _MAX_NAME_LENGTH:
        return None
    num_bytes = 0 if header.type in _NO_DATA else int(size)
    return Entry(_printable(name), _kind(header, extended), offset, num_bytes)


def _kind(header: tarfile.TarInfo, extended: dict[str, str]) -> str:
    if header.type == tarfile.DIRTYPE:
        return "folder"
    if header.type == tarfile.GNUTYPE_SPARSE or any(key.startswith("GNU.sparse.") for key in extended):
        return "sparse"
    return "file" if header.type in _REGULAR else "special"


def _data_start(file: BinaryIO, header: tarfile.TarInfo, data: int) -> int:
    """Old GNU sparse files have more blocks of header."""
    more = header.type == tarfile.GNUTYPE_SPARSE and header._sparse_structs[1]  # pyright: ignore[reportAttributeAccessIssue, reportPrivateUsage]
    while more:
        file.seek(data)
        block = file.read(BLOCK_BYTES)
        more = len(block) == BLOCK_BYTES and block[504] != 0
        data += BLOCK_BYTES
    return data


def _extended(file: BinaryIO, header: tarfile.TarInfo) -> dict[str, str] | None:
    """What a pax header or a GNU long name says of the next member; None for damage."""
    if header.size > _MAX_HEADER_BYTES:
        return None
    data = file.read(header.size)
    if len(data) < header.size:
        return None
    if header.type == tarfile.GNUTYPE_LONGNAME:
        return {"path": data.split(b"\0", 1)[0].decode(_ENCODING, _ERRORS)}
    if header.type in (b"g", tarfile.GNUTYPE_LONGLINK):  # for all members (nothing that we want), or a link's aim
        return {}
    return _pax(data)


def _pax(data: bytes) -> dict[str, str] | None:
    """`<length> <key>=<value>\\n`, the length being that of the whole record; None for damage."""
    found: dict[str, str] = {}
    position, end = 0, len(data.rstrip(b"\0"))
    while position < end:
        match = _PAX_LENGTH.match(data, position)
        stop = position + int(match[1]) if match else end + 1
        if match is None or not match.end() < stop <= end or data[stop - 1] != ord("\n"):
            return None
        key, equals, value = data[match.end() : stop - 1].partition(b"=")
        if not equals:
            return None
        name = key.decode(_ENCODING, _ERRORS)
        if name in ("path", "size") or name.startswith("GNU.sparse."):
            found[name] = value.decode(_ENCODING, _ERRORS)
        position = stop
    return found


def _printable(name: str) -> str:
    return name if name.isascii() else name.encode("utf-8", "backslashreplace").decode("utf-8")
