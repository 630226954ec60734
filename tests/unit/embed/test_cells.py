"""Recordings in cells of tables; and damage to any object that holds recordings."""

from collections import Counter

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from w2vb_ray.audio import table_cells
from w2vb_ray.audio.ranges import Ranges
from w2vb_ray.errors import SourceError

from .containers import noise, read, rows_of, wav, write_table, write_tar


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
