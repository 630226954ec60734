import os
import tarfile
from collections import Counter

import numpy as np
import pytest
from fsspec.implementations.local import LocalFileSystem

from w2vb_ray import storage
from w2vb_ray.config.sections import AudioSection, SourceSection
from w2vb_ray.embed import members
from w2vb_ray.embed.read import read_unit

from .containers import noise, read, rows_of, wav, write_tar
from .rows import planned


@pytest.fixture
def reads(monkeypatch):
    counts = Counter()

    class Counting(LocalFileSystem):
        cachable = False

        def cat_file(self, path, start=None, end=None, **kwargs):
            counts[os.path.basename(path)] += 1
            return super().cat_file(path, start=start, end=end, **kwargs)

    monkeypatch.setattr(storage, "filesystem", lambda *_: Counting())
    return counts


def test_members_are_read_from_where_they_lie_neighbours_at_once(tmp_path, reads):
    waves = {f"{i}.wav": noise(2000 + 100 * i, i) for i in range(30)}
    for number in range(2):
        write_tar(tmp_path / f"{number}.tar", {f"{number}-{name}": wav(samples) for name, samples in waves.items()})
    rows = rows_of(tmp_path)
    reads.clear()
    found = read(rows[::-1])
    assert reads == {"0.tar": 1, "1.tar": 1}
    for name, samples in waves.items():
        for number in range(2):
            np.testing.assert_array_equal(found[f"{number}-{name}"][0], samples)


def test_reads_are_bounded_and_jump_over_gaps(tmp_path, reads, monkeypatch):
    monkeypatch.setattr(members, "READ_BYTES", 10_000)
    monkeypatch.setattr(members, "GAP_BYTES", 5_000)
    waves = {f"{i}.wav": wav(noise(1600, i)) for i in range(9)}
    waves["4.bin"] = b"\xff" * 300_000
    rows = rows_of(write_tar(tmp_path / "a.tar", dict(sorted(waves.items()))))
    reads.clear()
    assert {reason for _, reason in read(rows).values()} == {None}
    assert reads["a.tar"] == 5  # two of 4 KiB at a time, and not over the gap


def test_bad_members_become_reasons_and_their_neighbours_stay(tmp_path):
    fine = wav(noise(3000, 0))
    contents = {
        "a.wav": fine,
        "empty.wav": b"",
        "text.wav": b"no audio at all" * 9,
        "large.wav": wav(noise(40_000, 1)),
        "../up.wav": fine,
        "x/../../up.wav": fine,
        "b.wav": fine,
        "last.wav": fine,
    }
    path = write_tar(tmp_path / "a.tar", contents)
    with tarfile.open(path, "a") as file:
        for name, kind in (("link.wav", tarfile.SYMTYPE), ("device.wav", tarfile.CHRTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            file.addfile(info)
    found = read(rows_of(path), max_bytes=40_000)
    assert {name: reason for name, (_, reason) in found.items()} == {
        "a.wav": None,
        "empty.wav": "empty",
        "text.wav": "undecodable",
        "large.wav": "too_large",
        "../up.wav": "forbidden",
        "x/../../up.wav": "forbidden",
        "b.wav": None,
        "last.wav": None,
        "link.wav": "forbidden",
        "device.wav": "forbidden",
    }
    assert sorted(os.listdir(tmp_path)) == ["a.tar"]


def test_a_cut_tar_and_one_with_a_broken_header(tmp_path):
    contents = {f"{i}.wav": wav(noise(3000, i)) for i in range(4)}
    data = write_tar(tmp_path / "cut.tar", contents).read_bytes()
    offsets = {row["uri"].rpartition("#")[2]: row["offset"] for row in rows_of(tmp_path / "cut.tar")}
    (tmp_path / "cut.tar").write_bytes(data[: offsets["3.wav"] + 1000])
    found = read(rows_of(tmp_path / "cut.tar"))
    assert [reason for _, reason in found.values()] == [None, None, None, "truncated"]
    np.testing.assert_array_equal(found["2.wav"][0], noise(3000, 2))
    header = offsets["2.wav"] - 512
    (tmp_path / "broken.tar").write_bytes(data[:header] + b"\xff" * 512 + data[header + 512 :])
    rows = rows_of(tmp_path / "broken.tar")
    found = read(rows)
    assert {name: reason for name, (_, reason) in found.items()} == {
        "0.wav": None,
        "1.wav": None,
        str(tmp_path / "broken.tar"): "truncated",
    }
    table = read_unit(planned(rows), SourceSection(uri="x"), AudioSection())
    assert f"no tar header at byte {header}" in "".join(table["detail"].drop_null().to_pylist())


def test_a_tar_that_was_replaced_since_is_changed(tmp_path):
    path = write_tar(tmp_path / "a.tar", {"a.wav": wav(noise(3000, 0))})
    rows = rows_of(path)
    write_tar(path, {"b.wav": wav(noise(3000, 1)), "a.wav": wav(noise(3000, 0))})
    assert read(rows)["a.wav"] == (None, "changed")
    path.unlink()
    assert read(rows)["a.wav"] == (None, "missing")


def test_a_tar_that_is_replaced_while_it_is_read_is_changed(tmp_path, monkeypatch):
    path = write_tar(tmp_path / "a.tar", {"a.wav": wav(noise(3000, 0))})
    rows = rows_of(path)

    class Replacing(LocalFileSystem):
        cachable = False

        def cat_file(self, *args, **kwargs):
            data = super().cat_file(*args, **kwargs)
            os.utime(path, ns=(1, 1))
            return data

    monkeypatch.setattr(storage, "filesystem", lambda *_: Replacing())
    assert read(rows)["a.wav"] == (None, "changed")


def test_a_tar_that_could_not_be_read_when_planned_is_tried_again(tmp_path, monkeypatch):
    path = write_tar(tmp_path / "a.tar", {"a.wav": wav(noise(3000, 0))})

    class Denying(LocalFileSystem):
        cachable = False

        def cat_file(self, *_args, **_kwargs):
            raise PermissionError("denied")

    with monkeypatch.context() as patch:
        patch.setattr(storage, "filesystem", lambda *_: Denying())
        rows = rows_of(path)
        assert read(rows) == {str(path): (None, "unreadable")}
    assert read(rows) == {str(path): (None, "unreadable")}


def test_plain_objects_and_members_in_one_unit_and_a_tar_that_is_not_there(tmp_path):
    path = write_tar(tmp_path / "a.tar", {"a.wav": wav(noise(3000, 0))})
    (tmp_path / "b.wav").write_bytes(wav(noise(4000, 1)))
    rows = rows_of(tmp_path / "{a,gone}.tar")
    rows.append({"id": "b", "uri": str(tmp_path / "b.wav"), "bytes": 8044, "version": ""})
    found = {os.path.basename(name): reason for name, (_, reason) in read(rows).items()}
    assert found == {"a.wav": None, "gone.tar": "missing", "b.wav": None}
    assert os.path.exists(path)
