import gzip
import json

import pytest

from w2vb_ray.config.sections import SourceSection
from w2vb_ray.errors import SourceError
from w2vb_ray.source import build_inventory

from .tars import member, tar


def cut(name):
    """A cut as Lhotse writes it into Shar."""
    source = {"type": "shar", "channels": [0], "source": ""}
    recording = {"id": f"rec-{name}", "sources": [source], "sampling_rate": 16000, "duration": 1.0}
    supervision = {"id": name, "recording_id": f"rec-{name}", "start": 0.0, "duration": 1.0, "channel": 0}
    supervision |= {"text": f"text of {name}", "language": "deu", "speaker": "s1"}
    times = {"id": name, "start": 0, "duration": 1.0, "channel": 0, "type": "MonoCut"}
    return {**times, "supervisions": [supervision], "recording": recording}


def shard(folder, number, cuts, members, field="recording"):
    data = "".join(json.dumps(cut) + "\n" for cut in cuts).encode()
    (folder / f"cuts.{number:06d}.jsonl.gz").write_bytes(gzip.compress(data))
    (folder / f"{field}.{number:06d}.tar").write_bytes(tar(*members))


def audio(name, data=b"12345"):
    return [member(f"{name}.flac", data), member(f"{name}.json", b'{"id": "x"}')]


def read(uri, **settings):
    inventory = build_inventory(SourceSection(uri=str(uri), **settings))
    inventory.table.validate(full=True)
    return inventory, inventory.table.to_pylist()


def test_each_cut_has_its_member(tmp_path):
    shard(tmp_path, 0, [cut("a"), cut("b/c.d")], [*audio("a"), *audio("b/c.d", b"67")])
    shard(tmp_path, 1, [cut("e")], audio("e"))
    (tmp_path / "features.000000.tar").touch()
    inventory, rows = read(tmp_path)
    assert (inventory.format, inventory.num_skipped) == ("shar", 1)
    assert [row["utterance_id"] for row in rows] == ["a", "b/c.d", "e"]
    row = rows[1]
    shard_0 = tmp_path / "recording.000000.tar"
    assert (row["audio_uri"], row["container_uri"]) == (f"{shard_0}#b/c.d.flac", str(shard_0))
    assert shard_0.read_bytes()[row["member_offset"] :][: row["source_bytes"]] == b"67"
    assert (row["text"], row["language"], row["speaker"]) == ("text of b/c.d", "deu", "s1")
    assert (row["recording_id"], row["announced_duration_s"], row["start_s"]) == ("rec-b/c.d", 1.0, None)
    assert len(read(tmp_path / "cuts.000001.*", format="shar")[1]) == 1


def test_cuts_without_audio_are_rows_and_members_without_cuts_are_counted(tmp_path):
    members = [*audio("a"), member("b.nodata"), member("b.nometa"), *audio("nobody")]
    shard(tmp_path, 0, [cut("a"), cut("b"), cut("gone")], members)
    shard(tmp_path, 1, [cut("d")], [])
    (tmp_path / "recording.000001.tar").unlink()
    inventory, rows = read(tmp_path)
    assert inventory.num_skipped == 1
    state = {row["utterance_id"]: (row["container_uri"] is None, row["source_bytes"]) for row in rows}
    assert state == {"a": (False, 5), "b": (False, 0), "gone": (True, None), "d": (True, None)}
    assert [row["source_version"] == "" for row in rows] == [False, False, True, True]


def test_a_damaged_tar_leaves_the_cuts_behind_the_damage_to_be_rejected(tmp_path):
    names = ["a", "b", "c"]
    shard(tmp_path, 0, map(cut, names), [part for name in names for part in audio(name)])
    path = tmp_path / "recording.000000.tar"
    offset = read(tmp_path)[1][1]["member_offset"] - 512
    data = path.read_bytes()
    path.write_bytes(data[:offset] + b"\xff" * 512 + data[offset + 512 :])
    _, rows = read(tmp_path)
    assert [(row["source_bytes"], row["member_offset"]) for row in rows] == [(5, 512), (None, offset), (None, offset)]


def test_another_field(tmp_path):
    shard(tmp_path, 0, [cut("a")], audio("a"), field="target")
    _, (row,) = read(tmp_path, format="shar", columns={"audio": "target"})
    assert row["container_uri"] == str(tmp_path / "target.000000.tar")


def test_what_is_no_shar(tmp_path):
    with pytest.raises(SourceError, match="does not exist or is empty"):
        read(tmp_path / "nothing", format="shar")
    (tmp_path / "a.wav").touch()
    with pytest.raises(SourceError, match=r"holds no cuts\.\*\.jsonl\.gz"):
        read(tmp_path, format="shar")
    (tmp_path / "cuts.000000.jsonl.gz").write_bytes(gzip.compress(b'{"id": "a"}\n[1]\n'))
    with pytest.raises(SourceError, match="line 2 is not a JSON object"):
        read(tmp_path, format="shar")
    (tmp_path / "cuts.000000.jsonl.gz").write_bytes(gzip.compress(b"{}" * 1000)[:-9])
    with pytest.raises(SourceError, match="not a whole gzip file"):
        read(tmp_path, format="shar")
