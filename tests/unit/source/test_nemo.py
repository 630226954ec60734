import json

import pytest

from w2vb_ray.config.sections import SourceSection
from w2vb_ray.source import build_inventory


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a b#%?.wav").write_bytes(b"123")
    return tmp_path


def _read(uri, *rows, **settings):
    uri.write_text("".join(json.dumps(row) + "\n" for row in rows))
    inventory = build_inventory(SourceSection(uri=str(uri), **settings))
    inventory.table.validate(full=True)
    return inventory, inventory.table.to_pylist()


@pytest.mark.parametrize(("name", "settings"), [("m.json", {}), ("m.jsonl", {}), ("manifest", {"format": "nemo"})])
def test_it_is_recognised(folder, name, settings):
    row = {"audio_filepath": "a b#%?.wav", "duration": 2.5, "text": "hi", "lang": "no"}
    inventory, rows = _read(folder / name, row, **settings)
    assert inventory.format == "nemo"
    assert (rows[0]["audio_uri"], rows[0]["source_bytes"]) == (str(folder / "a b#%?.wav"), 3)
    assert (rows[0]["start_s"], rows[0]["end_s"], rows[0]["announced_duration_s"]) == (None, None, 2.5)
    assert (rows[0]["text"], rows[0]["language"]) == ("hi", "no")


@pytest.mark.parametrize(
    ("offset", "duration", "segment"),
    [
        (0, 2.0, (0.0, 2.0)),  # of a file that may be longer
        (0.0, 2.0, (0.0, 2.0)),
        (1.5, 2.0, (1.5, 3.5)),
        (1.5, None, (1.5, None)),
        (1.5, -1, (1.5, None)),  # NeMo: to the end
        (None, 2.0, (None, None)),
    ],
)
def test_an_offset_makes_a_segment_of_its_row(folder, offset, duration, segment):
    row = {"audio_filepath": "a b#%?.wav", "offset": offset, "duration": duration}
    other = {"audio_filepath": "a b#%?.wav", "offset": 7, "duration": 1.0}
    for rows in ([row], [row, other]):
        _, found = _read(folder / "m.json", *rows)
        assert (found[0]["start_s"], found[0]["end_s"]) == segment


def test_one_file_per_channel_is_refused(folder):
    single, several = ["a b#%?.wav"], ["a b#%?.wav", "b.wav"]
    for paths in ([single, several], [single, several, "a b#%?.wav"]):
        _, rows = _read(folder / "m.json", *({"audio_filepath": path, "id": str(path)} for path in paths))
        assert [row["source_bytes"] for row in rows] == [3, None, 3][: len(paths)]
        assert [row["reason"] for row in rows] == [None, "undecodable", None][: len(paths)]
        assert "one file per channel is not read" in rows[1]["detail"]


def test_a_start_with_a_duration_is_a_segment(folder):
    _, rows = _read(folder / "m.jsonl", {"path": "a b#%?.wav", "start": 1.0, "duration": 0.5}, format="manifest")
    assert (rows[0]["start_s"], rows[0]["end_s"]) == (1.0, 1.5)
