import io
import os
import tarfile
import wave
from collections import Counter

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.local import LocalFileSystem

from w2vb_ray import storage
from w2vb_ray.audio import table_cells
from w2vb_ray.audio.ranges import Ranges
from w2vb_ray.config.sections import AudioSection, SourceSection
from w2vb_ray.embed import members
from w2vb_ray.embed.read import read_unit
from w2vb_ray.errors import SourceError
from w2vb_ray.source import build_inventory

from .rows import planned


def noise(num_samples, seed):
    return np.random.default_rng(seed).integers(-5_000, 5_000, num_samples).astype("<i2")


def wav(samples):
    memory = io.BytesIO()
    with wave.open(memory, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(samples.tobytes())
    return memory.getvalue()


def write_tar(path, contents):
    with tarfile.open(path, "w") as file:
        for name, data in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            if data is None:
                info.type = tarfile.SYMTYPE
            file.addfile(info, io.BytesIO(data))
    return path


def rows_of(path, source_format="webdataset"):
    """A unit as planning would make it."""
    table = build_inventory(SourceSection(uri=str(path), format=source_format)).table
    names = {
        "id": "audio_uri",
        "uri": "audio_uri",
        "bytes": "source_bytes",
        "version": "source_version",
        "container": "container_uri",
        "part": "container_part",
        "offset": "member_offset",
    }
    return [{name: row[column] for name, column in names.items()} for row in table.to_pylist()]


def read(rows, **audio):
    """Member -> (samples or None, reason)."""
    table = read_unit(planned(rows), SourceSection(uri="x"), AudioSection(**audio))
    return {
        row["audio_uri"].rpartition("#")[2]: (
            None if row["waveform"] is None else np.frombuffer(row["waveform"], np.int16),
            row["reason"],
        )
        for row in table.to_pylist()
    }


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


AUDIO = pa.struct({"bytes": pa.binary(), "path": pa.string()})


def write_table(path, contents, part_rows=4, **options):
    table = pa.table({"audio": pa.array([{"bytes": data, "path": "x.wav"} for data in contents], AUDIO)})
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=part_rows, **options)
    else:
        with pa.OSFile(str(path), "wb") as out, pa.ipc.new_stream(out, table.schema) as file:
            file.write_table(table, max_chunksize=part_rows)
    return path


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_cells_of_a_table(tmp_path, suffix):
    waves = [noise(2000 + 10 * i, i) for i in range(11)]
    rows = rows_of(write_table(tmp_path / f"a{suffix}", map(wav, waves)), "parquet")
    assert sorted({row["part"] for row in rows})[0] == (0 if suffix == ".parquet" else rows[0]["part"])
    assert len({row["part"] for row in rows}) == 3
    found = read(rows[::-2])
    assert sorted(found, key=int) == [str(i) for i in range(0, 11, 2)]
    for name, (samples, reason) in found.items():
        assert reason is None
        np.testing.assert_array_equal(samples, waves[int(name)])


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_bad_cells_become_reasons(tmp_path, suffix):
    contents = [wav(noise(2000, 0)), None, b"", b"no audio" * 20, wav(noise(40_000, 1)), wav(noise(2000, 2))]
    table = pa.table({"audio": pa.array(contents, pa.binary())})
    path = tmp_path / f"a{suffix}"
    if suffix == ".parquet":
        pq.write_table(table, path)
    else:
        with pa.OSFile(str(path), "wb") as out, pa.ipc.new_file(out, table.schema) as file:
            file.write_table(table)
    rows = rows_of(path, "parquet")
    reasons = [reason for _, reason in read(rows, max_bytes=40_000).values()]
    assert reasons == [None, "empty", "empty", "undecodable", "too_large", None]
    path.write_bytes(path.read_bytes() + b"1")
    assert {reason for _, reason in read(rows).values()} == {"changed"}


def test_damaged_tables(tmp_path):
    for suffix in (".parquet", ".arrow"):
        path = write_table(tmp_path / f"a{suffix}", [wav(noise(2000, i)) for i in range(8)])
        path.write_bytes(path.read_bytes()[:-3000])
    found = read(rows_of(tmp_path, "parquet"))
    assert found[str(tmp_path / "a.parquet")] == (None, "undecodable")
    assert found[str(tmp_path / "a.arrow")] == (None, "undecodable")
    assert [found[str(i)][1] for i in range(4)] == [None] * 4, "the batches before the damage stay"


def test_a_huge_part_is_read_some_cells_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(table_cells, "_BATCH_BYTES", 20_000)
    monkeypatch.setattr(table_cells, "_BUFFER_BYTES", 8192)
    waves = [noise(3000, i) for i in range(40)]
    pages = {"use_dictionary": False, "data_page_size": 8192, "write_batch_size": 1}
    rows = rows_of(write_table(tmp_path / "a.parquet", map(wav, waves), part_rows=40, **pages), "parquet")
    largest = 0
    original = Ranges.read

    def watching(self, start, num_bytes):
        nonlocal largest
        largest = max(largest, num_bytes)
        return original(self, start, num_bytes)

    monkeypatch.setattr(Ranges, "read", watching)
    found = read(rows[5:7])
    np.testing.assert_array_equal(found["6"][0], waves[6])
    assert largest <= 65_536 < 40 * 6044  # the footer


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".tar"])
def test_any_damage_costs_rows_and_never_the_run(tmp_path, suffix):
    rng = np.random.default_rng(5)
    contents = [wav(noise(500, i)) for i in range(6)]
    path = tmp_path / f"a{suffix}"
    if suffix == ".tar":
        write_tar(path, {f"{i}.wav": data for i, data in enumerate(contents)})
    else:
        write_table(path, contents, part_rows=2)
    whole = path.read_bytes()
    reasons = Counter()
    for _ in range(60):
        data = bytearray(whole)
        for position in rng.integers(0, len(data), rng.integers(1, 20)):
            data[-position if rng.random() < 0.5 else position // 8] = rng.integers(256)
        path.write_bytes(data[: rng.integers(len(data)) if rng.random() < 0.2 else None])
        try:
            rows = rows_of(path, "webdataset" if suffix == ".tar" else "parquet")
        except SourceError:
            reasons["no audio"] += 1
        else:
            reasons.update(reason for _, reason in read(rows).values())
    assert len(reasons) > 1, reasons
    assert reasons[None] > 30, "neighbours stay"


def test_containers_of_any_store(tmp_path):
    store = fsspec.filesystem("memory")
    waves = [noise(2000 + i, i) for i in range(5)]
    files = {
        "webdataset": write_tar(tmp_path / "a.tar", {f"{i}.wav": wav(samples) for i, samples in enumerate(waves)}),
        "parquet": write_table(tmp_path / "a.parquet", map(wav, waves)),
    }
    for source_format, file in files.items():
        store.pipe_file(f"/members/{file.name}", file.read_bytes())
        found = read(rows_of(f"memory://members/{file.name}", source_format))
        assert len(found) == 5
        for name, (samples, reason) in found.items():
            assert reason is None
            np.testing.assert_array_equal(samples, waves[int(name.removesuffix(".wav"))])
