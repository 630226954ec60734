"""Segments of long recordings, from a list to waveforms: read once in each unit that has a part of the recording."""

import json
from collections import Counter

import numpy as np
import pytest
import soundfile
from fsspec.implementations.local import LocalFileSystem

from w2vb_ray.config.embed import PlanSection
from w2vb_ray.config.sections import AudioSection, SourceSection
from w2vb_ray.embed import read
from w2vb_ray.embed.live import Known, Live
from w2vb_ray.embed.plan import make_plan
from w2vb_ray.source import build_inventory

NUM_SEGMENTS = 12
LENGTH_S = 0.5


@pytest.fixture
def folder(tmp_path):
    """Two recordings, cut into segments by a list of each kind; the samples of a segment tell its number."""
    for name in ("long", "other"):
        samples = np.repeat(np.arange(1, NUM_SEGMENTS + 1) * 100, round(LENGTH_S * 16_000)).astype(np.int16)
        soundfile.write(tmp_path / f"{name}.wav", samples, 16_000)
    times = [(name, i, i * LENGTH_S, (i + 1) * LENGTH_S) for name in ("long", "other") for i in range(NUM_SEGMENTS)]
    (tmp_path / "wav.scp").write_text("long long.wav\nother cat other.wav |\n")
    (tmp_path / "segments").write_text("".join(f"{name}-{i} {name} {start} {end}\n" for name, i, start, end in times))
    nemo = [
        {"id": f"{name}-{i}", "audio_filepath": f"{name}.wav", "offset": start, "duration": LENGTH_S}
        for name, i, start, _ in times
    ]
    cuts = [
        {
            **{"id": f"{name}-{i}", "start": start, "duration": LENGTH_S, "channel": 0, "supervisions": []},
            "recording": {"id": name, "sources": [{"type": "file", "channels": [0], "source": f"{name}.wav"}]},
        }
        for name, i, start, _ in times
    ]
    for file, rows in (("nemo.json", nemo), ("cuts.jsonl", cuts)):
        (tmp_path / file).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


@pytest.fixture
def work(monkeypatch):
    """How often each file was fetched, and how often something was decoded."""
    fetched, decoded = Counter(), Counter()
    cat, decode = LocalFileSystem.cat_file, read.decode

    def cat_file(self, path, *args, **kwargs):
        fetched[path.rpartition("/")[2]] += 1
        return cat(self, path, *args, **kwargs)

    def counted(data, name, *args, **kwargs):
        decoded[name.rpartition("/")[2]] += 1
        return decode(data, name, *args, **kwargs)

    monkeypatch.setattr(LocalFileSystem, "cat_file", cat_file)
    monkeypatch.setattr(read, "decode", counted)
    return fetched, decoded


@pytest.mark.parametrize("per_unit", [512, 5])
@pytest.mark.parametrize("place", ["", "nemo.json", "cuts.jsonl"])
def test_one_fetch_and_one_decode_for_all_segments_of_a_unit(folder, work, place, per_unit):
    source = SourceSection(uri=f"{folder}/{place}")
    batches = build_inventory(source).batches()
    plan = make_plan(batches, Live(Known.of([]), Known.of([]), None), PlanSection(unit_utterances=per_unit))
    for counts in work:
        counts.clear()  # a list is read with the same calls
    rows = {}
    for unit in plan.units:
        found = read.read_unit(unit, source, AudioSection())
        rows |= {row["utterance_id"]: row for row in found.to_pylist()}
    assert sorted(rows) == sorted(f"{name}-{i}" for name in ("long", "other") for i in range(NUM_SEGMENTS))
    for key, row in rows.items():
        number = int(key.partition("-")[2])
        assert row["reason"] is None
        assert set(np.frombuffer(row["waveform"], np.int16)) == {(number + 1) * 100}
    holders = Counter(uri.rpartition("/")[2] for unit in plan.units for uri in set(unit["audio_uri"].to_pylist()))
    fetched, decoded = work
    assert fetched == decoded == holders
    assert holders == ({"long.wav": 1, "other.wav": 1} if per_unit == 512 else holders)
    assert sum(holders.values()) <= len(plan.units) + 1, "units take a recording in one run of its segments"
