"""Tars for the tests of this folder: plain ones, and those that nobody should trust."""

import io
import tarfile


def member(name, data=b"", **header):
    """(header, data) of one member; `header` sets fields of `TarInfo`."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in header.items():
        setattr(info, key, value)
    return info, data


def tar(*members, format=tarfile.PAX_FORMAT):
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w", format=format) as file:
        for info, data in members:
            file.addfile(info, io.BytesIO(data))
    return memory.getvalue()


def raw_header(name, size, kind=b"0", magic=b"ustar\x0000"):
    """A header block with any size, its checksum right."""
    digits = b"%011o\0" % size if size < 8**11 else b"\x80" + size.to_bytes(11, "big")
    head = name.encode().ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + digits + b"00000000000\0"
    block = (head + b" " * 8 + kind + b"\0" * 100 + magic).ljust(512, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]
