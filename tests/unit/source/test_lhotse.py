"""`tests/data/lhotse/cuts.jsonl` was written by Lhotse 1.33: one cut of each kind."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from w2vb_ray.config.sections import SourceSection
from w2vb_ray.errors import SourceError
from w2vb_ray.source import build_inventory

CUTS = Path(__file__).parents[2] / "data/lhotse/cuts.jsonl"


@pytest.fixture
def folder(tmp_path):
    soundfile.write(tmp_path / "mono.wav", np.zeros(64_000), 16_000)
    soundfile.write(tmp_path / "stereo.wav", np.zeros((32_000, 2)), 16_000)
    return tmp_path


def _read(uri, **settings):
    inventory = build_inventory(SourceSection(uri=str(uri), **settings))
    inventory.table.validate(full=True)
    return inventory, {row["utterance_id"]: row for row in inventory.table.to_pylist()}


def _cut(audio, **more):
    recording = {"id": "r", "sources": [{"type": "file", "channels": [0], "source": audio}], "duration": 4.0}
    return {"id": "c", "start": 0, "duration": 4.0, "channel": 0, "supervisions": [], "recording": recording, **more}


def _write(path, *cuts):
    path.write_text("".join(json.dumps(cut) + "\n" for cut in cuts))
    return path


@pytest.mark.parametrize("name", ["cuts.jsonl", "cuts.jsonl.gz", "cut*.jsonl.gz"])
def test_cuts_that_lhotse_wrote(folder, name):
    if name.endswith("gz"):
        (folder / "cuts.jsonl.gz").write_bytes(gzip.compress(CUTS.read_bytes()))
    else:
        (folder / name).write_bytes(CUTS.read_bytes())
    inventory, rows = _read(folder / name)
    assert inventory.format == "lhotse"
    assert {key for key, row in rows.items() if row["reason"] is None} == {"whole", "part", "both", "resampled"}
    assert {key: row["reason"] for key, row in rows.items() if row["reason"]} == {
        **dict.fromkeys(["ch1", "mixed", "padded", "speed", "volume"], "undecodable"),
        **dict.fromkeys(["command", "url"], "forbidden"),
    }
    whole, part = rows["whole"], rows["part"]
    assert (whole["start_s"], whole["end_s"], whole["announced_duration_s"]) == (None, None, 4.0)
    assert (part["start_s"], part["end_s"], part["announced_duration_s"]) == (0.5, 1.75, 1.25)
    assert whole["audio_uri"] == part["audio_uri"] == str(folder / "mono.wav")
    assert whole["source_bytes"] == (folder / "mono.wav").stat().st_size
    assert (whole["text"], whole["language"], whole["speaker"], whole["gender"]) == (
        *("hello again", "English"),
        *(None, None),  # its two supervisions do not agree
    )
    assert (part["recording_id"], part["quality"], part["snr"], whole["quality"]) == ("mono", 0.5, 3, None)
    assert "type" not in inventory.table.column_names
    assert "sph2pipe" in rows["command"]["detail"]
    assert "Speed" in rows["speed"]["detail"]
    assert "https://example.com/a.wav is outside" in rows["url"]["detail"]


def test_odd_names_and_cuts_that_are_none(folder):
    for name in ("a b#%?.wav", "-é\n.wav"):
        (folder / name).write_bytes(b"12")
    memory = _cut("UklGRg==")
    memory["recording"]["sources"][0]["type"] = "memory"
    cuts = [
        _cut("a b#%?.wav", id="odd"),
        _cut("-é\n.wav", id="line", duration=1),
        memory | {"id": "memory"},
        _cut("mono.wav", id="no recording", recording=None),
        _cut("mono.wav", id="no number", start="0"),
        _cut("mono.wav", id="custom", custom={"text": "mine", "audio_uri": "x", "lang": "y"}),
        _cut("mono.wav", id="one", supervisions=[{"text": "hi", "speaker": "s", "language": None, "start": 0}]),
        _cut("gone.wav", id="gone"),
    ]
    _, rows = _read(_write(folder / "odd.jsonl", *cuts))
    assert {key: row["reason"] for key, row in rows.items()} == {
        **dict.fromkeys(["odd", "line", "custom", "one"]),
        **{"memory": "undecodable", "no recording": "missing", "no number": "bad_segment", "gone": "missing"},
    }
    assert (rows["odd"]["source_bytes"], rows["line"]["source_bytes"], rows["line"]["end_s"]) == (2, 2, 1.0)
    assert "UklGRg" not in json.dumps(rows["memory"])
    custom = rows["custom"]
    assert (custom["custom_text"], custom["custom_audio_uri"], custom["lang"], custom["text"]) == (
        "mine",
        "x",
        "y",
        None,
    )
    assert (rows["one"]["text"], rows["one"]["speaker"], rows["one"]["language"]) == ("hi", "s", "und")


def test_relative_paths_of_programs_start_elsewhere(folder):
    path = _write(folder / "cuts.jsonl", _cut("corpus/mono.wav"))
    with pytest.raises(SourceError, match=r"none of the 1 relative paths .*`source\.audio_root` says where they start"):
        _ = _read(path)
    (folder / "corpus").mkdir()
    (folder / "mono.wav").rename(folder / "corpus/mono.wav")
    assert _read(path)[1]["c"]["source_bytes"]
    assert _read(path, audio_root=str(folder / "corpus/.."))[1]["c"]["source_bytes"]


def test_another_format_can_be_forced(folder):
    path = _write(folder / "m.jsonl", {"recording": "mono.wav", "supervisions": "x"})
    (row,) = _read(path)[1].values()
    assert row["reason"] == "missing"
    (row,) = _read(path, format="manifest", columns={"audio": "recording"})[1].values()
    assert row["source_bytes"]
