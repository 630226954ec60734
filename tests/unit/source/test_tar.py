import io
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from w2vb_ray.source import tar as tars

from .tars import member, raw_header, tar


def listed(data):
    return list(tars.entries(io.BytesIO(data), len(data)))


def names(data):
    return [entry.name for entry in listed(data)]


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_offsets_and_sizes_are_those_of_the_data(kind):
    long = "d" * 60 + "/" + "é" * 40 + ".wav"
    given = {"a.wav": b"x" * 700, long: b"y" * 512, "empty.wav": b"", "b c#%.json": b"{}"}
    data = tar(*(member(name, content) for name, content in given.items()), format=kind)
    found = {entry.name: entry for entry in listed(data)}
    assert list(found) == list(given)
    for name, content in given.items():
        entry = found[name]
        assert data[entry.offset : entry.offset + entry.num_bytes] == content
        assert entry.kind == "file"


def test_very_long_names_in_pax_and_gnu_headers():
    long = "/".join(["folder-of-some-length"] * 40) + ".wav"
    for kind in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        assert names(tar(member(long, b"1"), member("b.wav", b"2"), format=kind)) == [long, "b.wav"]
        too_long = listed(tar(member("a.wav", b"1"), member("x/" * 3000 + "c.wav", b"1"), format=kind))
        assert [entry.kind for entry in too_long] == ["file", "damage"]


def test_what_is_no_plain_file_is_told_apart():
    types = {
        "folder": tarfile.DIRTYPE,
        "link.wav": tarfile.SYMTYPE,
        "hard.wav": tarfile.LNKTYPE,
        "device.wav": tarfile.CHRTYPE,
        "pipe.wav": tarfile.FIFOTYPE,
        "odd.wav": b"V",
    }
    odd = [member(name, type=kind, linkname="/etc/passwd") for name, kind in types.items()]
    data = tar(*odd, member("a.wav", b"1"))
    kinds = {entry.name: entry.kind for entry in listed(data)}
    assert kinds == {"folder": "folder", **dict.fromkeys(list(types)[1:], "special"), "a.wav": "file"}


def test_tars_behind_each_other_are_one():
    assert names(tar(member("a.wav", b"1")) + tar(member("b.wav", b"2"))) == ["a.wav", "b.wav"]


def test_damage_in_the_middle_is_said_with_its_place_and_what_came_before_stays():
    data = tar(member("a.wav", b"1" * 600), member("b.wav", b"2"), member("c.wav", b"3"))
    position = listed(data)[1].offset - 512
    broken = data[:position] + b"\xff" * 512 + data[position + 512 :]
    assert [(entry.name, entry.kind, entry.offset) for entry in listed(broken)] == [
        ("a.wav", "file", 512),
        ("", "damage", position),
    ]


def test_a_cut_tar_lists_the_member_that_was_cut():
    data = tar(member("a.wav", b"1" * 600), member("b.wav", b"2" * 5000))
    last = listed(data)[1]
    cut = data[: last.offset + 100]
    assert listed(cut) == listed(data)
    assert last.offset + last.num_bytes > len(cut)
    in_header = data[: last.offset - 100]
    assert [entry.kind for entry in listed(in_header)] == ["file", "damage"]


def test_sizes_that_lie():
    beyond = raw_header("a.wav", 8**20)  # an exabyte
    (entry,) = listed(beyond + b"\0" * 1024)
    assert (entry.name, entry.kind) in {("a.wav", "file"), ("", "damage")}
    assert entry.num_bytes < 2**63
    negative = bytearray(raw_header("a.wav", 0))
    negative[124:136] = b"\xff" * 12
    negative[148:156] = b"%06o\0 " % (sum(negative[:148]) + 8 * 32 + sum(negative[156:]))
    assert [entry.kind for entry in listed(bytes(negative))] == ["damage"]


@pytest.mark.parametrize(
    "record",
    [b"0 path=x\n", b"99 path=x\n", b"9 path=x", b"path=x\n", b"8 pathx\n", b"2 \n", b"-9 path=x\n", b"12 size=-99\n"],
)
def test_malformed_pax_records_are_damage(record):
    data = raw_header("pax", len(record), b"x") + record.ljust(512, b"\0") + raw_header("a.wav", 0)
    assert [entry.kind for entry in listed(data)][-1:] == ["damage"]


def test_extended_headers_have_a_limit():
    for kind in (b"x", b"L", b"g"):
        data = raw_header("head", 50 * 1024**2, kind) + b"1" * 512
        assert [entry.kind for entry in listed(data)] == ["damage"]
    many = b"8 k0=vv\n" * 10
    data = raw_header("pax", len(many), b"x") + many.ljust(512, b"\0") + raw_header("a.wav", 3) + b"abc".ljust(512)
    assert [entry.name for entry in listed(data)] == ["a.wav"]


def test_sparse_files_are_told_apart_and_jumped_over():
    block = bytearray(raw_header("sparse.wav", 512, b"S", b"ustar  \0"))
    block[482] = 1  # more blocks of header follow
    block[148:156] = b"%06o\0 " % (sum(block[:148]) + 8 * 32 + sum(block[156:]))
    more = b"\0" * 504 + b"\1" + b"\0" * 7 + b"\0" * 512
    data = bytes(block) + more + b"x" * 512 + tar(member("a.wav", b"1"))
    assert [(entry.name, entry.kind) for entry in listed(data)] == [("sparse.wav", "sparse"), ("a.wav", "file")]


@settings(max_examples=150)
@given(st.binary(max_size=1500), st.integers(0, 3000))
def test_any_bytes_end(noise, where):
    data = tar(member("é" * 120, b"1" * 700), member("b.wav", b"2"))
    where = min(where, len(data))
    for entry in listed(data[:where] + noise + data[where + len(noise) :]):
        entry.name.encode()
        assert entry.offset >= 0
        assert 0 <= entry.num_bytes < 2**63
