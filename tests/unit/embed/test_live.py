"""What tables hold, read from real files."""

import pyarrow as pa
import pytest
from deltalake import CommitProperties

from w2vb_ray.embed import live as module
from w2vb_ray.embed.live import Known, Live
from w2vb_ray.embed.tables import UTTERANCES, DataFile, add_action
from w2vb_ray.embed.write import WriteTask, write_units
from w2vb_ray.source.keys import SECRETS, Keys, hashes

from .rows import encoded, packed
from .sink import LAYOUTS_WITH_FRAMES, VECTORS, open_tables

COMMIT = CommitProperties()


def keys(*ids):
    return Keys.of(pa.array(ids, pa.string()))


@pytest.fixture
def tables(tmp_path, monkeypatch):
    """Three tables of several files: 0 to 9 embedded, 10 to 13 rejected, 10 and 12 for a reason of the moment."""
    monkeypatch.setattr(module, "_BATCH_ROWS", 2)
    opened = open_tables(tmp_path)
    for name, layout in LAYOUTS_WITH_FRAMES.items():
        opened[name].create(layout, COMMIT)
    rows = [{"id": f"u{i}", "version": f"v{i}", "language": "eng" if i % 3 else "nan"} for i in range(10)]
    reasons = ["unreadable", "empty", "changed", "missing"]
    rows += [{"id": f"u{10 + i}", "version": f"v{10 + i}", "reason": reason} for i, reason in enumerate(reasons)]
    task = WriteTask(str(tmp_path), {}, VECTORS, "run-1", {})
    for start in range(0, len(rows), 5):
        (made,) = write_units(packed(encoded(rows[start : start + 5], frames=True)), task).to_pylist()
        for file in made["files"]:
            data_file = DataFile(file["path"], file["language"], file["num_rows"], file["num_bytes"])
            opened[file["table"]].append([add_action(data_file)], COMMIT)
            opened[file["table"]].reload()
    return opened


def test_every_row_is_found_with_its_version_and_file(tables):
    held = Live.read(tables)
    wanted = [f"u{i}" for i in (3, 12, 0, 99, 9)]
    found = held.utterances.find(keys(*wanted))
    assert found.is_there.tolist() == [True, False, True, False, True]
    assert found.has_version(hashes(pa.array(["v3", "v12", "other", "v99", "v9"]))).tolist() == [
        True,
        *[False] * 3,
        True,
    ]
    places = {row["utterance_id"]: row["file"] for row in tables[UTTERANCES].scan(["utterance_id"]).to_pylist()}
    assert found.paths(found.is_there) == [places[f"u{i}"] for i in (3, 0, 9)]
    assert found.num_doubled() == 0
    assert held.frames is not None
    assert held.frames.find(keys("u0", "u12")).is_there.tolist() == [True, False]
    assert len(held.utterances.keys) == tables[UTTERANCES].num_rows() == 10


def test_rejects_know_which_reasons_pass(tables):
    found = Live.read(tables).rejects.find(keys("u10", "u11", "u12", "u13", "u0"))
    assert found.is_there.tolist() == [True, True, True, True, False]
    assert found.is_retried().tolist() == [True, False, True, False, False]


def test_tables_that_do_not_exist_hold_nothing(tmp_path):
    held = Live.read(open_tables(tmp_path))
    assert held.frames is None
    for known in (held.utterances, held.rejects):
        found = known.find(keys("a", "b"))
        assert not found.is_there.any()
        assert not found.has_version(hashes(pa.array(["v", "v"]))).any()
        assert not found.is_retried().any()
        assert (found.num_doubled(), found.paths(found.is_there)) == (0, [])


def test_an_id_in_two_files_is_counted(tables):
    (first, *_) = tables[UTTERANCES].files()
    again = Known.of([*_held(tables[UTTERANCES], first), *_held(tables[UTTERANCES], first)])
    ids = tables[UTTERANCES].read(first.path, ["utterance_id"])["utterance_id"]
    assert again.find(Keys.of(ids)).num_doubled() == first.num_rows
    assert again.find(keys("stranger")).num_doubled() == 0


def _held(table, file):
    return module._read(table, ["utterance_id", "source_version"], SECRETS, file)
