import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Audio, Dataset, DatasetDict, DatasetInfo, Features, Value
from datasets.table import InMemoryTable

from w2vb_ray.audio.ranges import Ranges
from w2vb_ray.config.sections import SourceSection
from w2vb_ray.errors import SourceError
from w2vb_ray.source import build_inventory

AUDIO = Audio().pa_type  # struct<bytes: binary, path: string>


def read(uri, **settings):
    inventory = build_inventory(SourceSection(uri=str(uri), **{"format": "parquet", **settings}))
    inventory.table.validate(full=True)
    return inventory, inventory.table.to_pylist()


def cells(num, size=1000):
    rng = np.random.default_rng(0)
    return [{"bytes": rng.bytes(size), "path": f"clips/{i}.wav"} for i in range(num)]


def table(num=5, **more):
    return pa.table({"audio": pa.array(cells(num), AUDIO), "text": [f"t{i}" for i in range(num)], **more})


def test_rows_of_a_folder_of_shards_as_on_the_hub(tmp_path):
    for shard in range(2):
        (tmp_path / "data").mkdir(exist_ok=True)
        more = {"duration": [1.5] * 5, "start": [9.0] * 5, "cover": [b"\xff"] * 5, "locale": ["nan"] * 5}
        pq.write_table(table(**more), tmp_path / f"data/train-{shard:05d}-of-00002.parquet", row_group_size=2)
    (tmp_path / "README.md").touch()
    inventory, rows = read(tmp_path)
    assert (inventory.format, inventory.num_skipped, len(rows)) == ("parquet", 1, 10)
    assert len({row["utterance_id"] for row in rows}) == 10
    file = tmp_path / "data/train-00000-of-00002.parquet"
    row = rows[3]
    assert (row["audio_uri"], row["container_uri"]) == (f"{file}#3", str(file))
    assert (row["container_part"], row["member_offset"], row["text"]) == (1, 1, "t3")
    assert (row["audio_path"], row["language"], row["announced_duration_s"]) == ("clips/3.wav", "nan", 1.5)
    assert (row["start_s"], row["start"]) == (None, 9.0), "times are those of the original"
    assert "cover" not in row
    assert 900 < row["source_bytes"] < 2200  # pages and a dictionary
    assert len(read(tmp_path / "data/*.parquet")[1]) == 10
    assert len(read(file)[1]) == 5


def test_planning_never_touches_the_audio(tmp_path, monkeypatch):
    size = 300_000
    ids = [f"u{i}" for i in range(40)]
    pq.write_table(pa.table({"audio": pa.array(cells(40, size), AUDIO), "id": ids}), tmp_path / "a.parquet")
    read_bytes = 0
    original = Ranges.read

    def counting(self, start, num_bytes):
        nonlocal read_bytes
        read_bytes += num_bytes
        return original(self, start, num_bytes)

    monkeypatch.setattr(Ranges, "read", counting)
    _, rows = read(tmp_path)
    assert [row["utterance_id"] for row in rows] == ids
    assert 0 < read_bytes < size


def test_rows_without_bytes_are_those_of_a_manifest_or_rejects(tmp_path):
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips/1.wav").write_bytes(b"12345")
    audio = cells(4)
    audio[1]["bytes"] = None
    audio[2]["bytes"] = None
    audio += [None, {"bytes": None, "path": None}, {"bytes": b"", "path": "x"}]
    pq.write_table(pa.table({"audio": pa.array(audio, AUDIO)}), tmp_path / "a.parquet")
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as out, pa.ipc.new_file(out, pa.schema({"audio": AUDIO})) as file:
        file.write_table(pa.table({"audio": pa.array(audio, AUDIO)}))
    for name in ("a.parquet", "a.arrow"):
        _, rows = read(tmp_path / name)
        uris = [row["audio_uri"].removeprefix(f"{tmp_path}/") for row in rows]
        assert uris == [f"{name}#0", "clips/1.wav", "clips/2.wav", *(f"{name}#{i}" for i in range(3, 7))]
        assert [row["source_bytes"] for row in rows[1:3]] == [5, None]
        assert [row["container_uri"] is None for row in rows] == [False, True, True, *[False] * 4]
        assert rows[1]["source_version"] != rows[0]["source_version"]
    everything = [{"bytes": None, "path": "clips/1.wav"}] * 2
    pq.write_table(pa.table({"audio": pa.array(everything, AUDIO)}), tmp_path / "b.parquet")
    inventory, rows = read(tmp_path / "b.parquet")
    assert [row["source_bytes"] for row in rows] == [5, 5]
    assert len(inventory.duplicates) == 1


@pytest.mark.parametrize(
    ("columns", "asked", "found"),
    [
        ({"speech": pa.array(cells(1), AUDIO)}, None, True),
        ({"wav": [b"12"]}, None, True),
        ({"cover": [b"12"]}, None, False),
        ({"cover": [b"12"]}, "cover", True),
        ({"a": pa.array(cells(1), AUDIO), "b": pa.array(cells(1), AUDIO)}, None, False),
        ({"a": pa.array(cells(1), AUDIO), "Audio": pa.array(cells(1), AUDIO)}, None, True),
        ({"audio": ["a.wav"]}, None, False),
        ({"audio": pa.array([{"array": [0.5], "sampling_rate": 16000}])}, None, False),
    ],
)
def test_which_column_is_the_audio(tmp_path, columns, asked, found):
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    settings = {"columns": {"audio": asked}} if asked else {}
    if found:
        (row,) = read(tmp_path, **settings)[1]
        assert row["container_uri"] == str(tmp_path / "a.parquet")
    else:
        with pytest.raises(SourceError, match=r"holds no audio.*source\.columns\.audio"):
            read(tmp_path, **settings)


def dataset(num=7):
    features = Features({"audio": Audio(decode=False), "text": Value("string")})
    return Dataset(InMemoryTable(table(num)), info=DatasetInfo(features=features))


def test_a_dataset_saved_to_disk(tmp_path):
    dataset().save_to_disk(tmp_path / "one", num_shards=2)
    (tmp_path / "one/cache-1234.arrow").write_bytes(b"of datasets itself")
    inventory, rows = read(tmp_path / "one")
    assert inventory.num_skipped == 3
    assert [row["text"] for row in rows] == [f"t{i}" for i in range(7)]
    assert rows[0]["audio_uri"] == f"{tmp_path}/one/data-00000-of-00002.arrow#0"
    DatasetDict({"train": dataset(), "test": dataset(2)}).save_to_disk(tmp_path / "two")
    assert len(read(tmp_path / "two")[1]) == 9
    state = tmp_path / "one/state.json"
    state.write_text(json.dumps({"_data_files": [{"filename": "../../gone.arrow"}]}))
    with pytest.raises(SourceError, match=r"one/gone\.arrow is missing"):
        read(tmp_path / "one")
    state.write_text("{}")
    with pytest.raises(SourceError, match=r"is not the state\.json"):
        read(tmp_path / "one")


def test_a_damaged_file_is_one_row_and_its_neighbours_stay(tmp_path):
    pq.write_table(table(), tmp_path / "a.parquet")
    (tmp_path / "b.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-20])
    pq.write_table(pa.table({"other": [1]}), tmp_path / "c.parquet")
    inventory, rows = read(tmp_path)
    assert inventory.num_skipped == 1
    assert len(rows) == 6
    (damaged,) = [row for row in rows if row["container_part"] == -1]
    assert (damaged["audio_uri"], damaged["text"]) == (str(tmp_path / "b.parquet"), None)


def test_nothing_there(tmp_path):
    with pytest.raises(SourceError, match="does not exist or is empty"):
        read(tmp_path / "nothing")
    (tmp_path / "a.wav").touch()
    with pytest.raises(SourceError, match=r"holds no \.parquet or \.arrow, but 1 other file"):
        read(tmp_path)
