import io
import json
import tarfile

import pytest
from fsspec.implementations.local import LocalFileSystem

from w2vb_ray import storage
from w2vb_ray.config.sections import SourceSection
from w2vb_ray.errors import SourceError
from w2vb_ray.source import build_inventory, embedded, shards

from .tars import member, tar


def read(uri, **settings):
    inventory = build_inventory(SourceSection(uri=str(uri), **{"format": "webdataset", **settings}))
    inventory.table.validate(full=True)
    return inventory, inventory.table.to_pylist()


def sample(key, audio=b"12345", suffix="wav", **columns):
    return [member(f"{key}.{suffix}", audio), member(f"{key}.json", json.dumps(columns).encode())]


@pytest.fixture
def folder(tmp_path):
    for number in range(3):
        data = tar(*sample(f"x/{number}a", suffix="b.wav", text=f"t{number}", n=number), *sample(f"x/{number}b", n=0.5))
        (tmp_path / f"deu-{number:03d}.tar").write_bytes(data)
    (tmp_path / "README.md").touch()
    return tmp_path


def test_samples_of_a_folder_of_shards(folder):
    inventory, rows = read(folder)
    assert (inventory.format, inventory.num_skipped, len(inventory.duplicates)) == ("webdataset", 1, 0)
    assert len(rows) == len({row["utterance_id"] for row in rows}) == 6
    first = rows[0]
    shard = folder / "deu-000.tar"
    assert first["audio_uri"] == f"{shard}#x/0a.b.wav"
    assert first["container_uri"] == str(shard)
    assert shard.read_bytes()[first["member_offset"] :][: first["source_bytes"]] == b"12345"
    assert (first["__key__"], first["text"], first["n"], first["container_part"]) == ("x/0a", "t0", 0.0, None)
    assert first["source_version"] == f"{shard.stat().st_size}-{round(shard.stat().st_mtime * 1e9)}"


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("deu-*.tar", 6),
        ("deu-001.tar", 2),
        ("deu-{000..001}.tar", 4),
        ("deu-{000,002}.tar", 4),
        ("{deu,fra}-{000..002}.tar", 6 + 3),  # what is named and absent is a row, to be rejected
    ],
)
def test_globs_and_braces(folder, pattern, expected):
    _, rows = read(folder / pattern)
    assert len(rows) == expected
    absent = [row for row in rows if row["source_bytes"] is None]
    assert {row["audio_uri"] for row in absent} == {
        str(folder / f"fra-{number:03d}.tar") for number in range(3) if "fra" in pattern
    }
    assert all(row["source_version"] == "" and row["container_uri"] is None for row in absent)


def test_ids_do_not_depend_on_offsets_and_versions_do_on_the_shard(tmp_path):
    shard = tmp_path / "a.tar"
    shard.write_bytes(tar(*sample("1"), *sample("2")))
    _, before = read(shard)
    shard.write_bytes(tar(*sample("0"), *sample("1"), *sample("2")))
    _, after = read(shard)
    ids = {row["audio_uri"]: row["utterance_id"] for row in after}
    assert all(ids[row["audio_uri"]] == row["utterance_id"] for row in before)
    assert {row["source_version"] for row in before}.isdisjoint({row["source_version"] for row in after})


@pytest.mark.parametrize(
    ("template", "expected"),
    [("path:{language}-*/", "deu"), ("path:*/{language}/", "x"), ("column:lang", "nan"), ("no", "no")],
)
def test_languages(folder, template, expected):
    with tarfile.open(folder / "deu-000.tar", "a") as file:
        for info, data in [member("x/9.wav", b"1"), member("x/9.lang", b"nan\n")]:
            file.addfile(info, io.BytesIO(data))
    _, rows = read(folder, language=template)
    assert next(row for row in rows if row["__key__"] == "x/9")["language"] == expected


def test_columns_of_json_and_texts(tmp_path):
    odd = [
        *sample("a", id="given", duration=1.5, start=3.0, offset=7.0, path="orig.wav", tags=["x"], txt="of json"),
        member("a.txt", "héllo\n".encode()),
        member("a.cls", b"3"),
        member("a.npy", b"\x93NUMPY"),
        member("b.flac", b"1"),
        member("b.json", b"[" * 200_000),
        member("c.wav", b"1"),
        member("c.json", b'["no object"]'),
        member("d.json", b"{}"),
    ]
    (tmp_path / "a.tar").write_bytes(tar(*odd))
    inventory, rows = read(tmp_path)
    assert inventory.num_skipped == 2  # a.npy, and d.json, which has no audio
    a, b, c = rows
    assert (a["utterance_id"], a["announced_duration_s"]) == ("given", 1.5)
    assert (a["start_s"], a["start"], a["offset"]) == (None, 3.0, 7.0), "times are those of the original"
    assert (a["txt"], a["txt.txt"], a["cls"], a["tags"], a["path"]) == ("of json", "héllo", "3", ["x"], "orig.wav")
    assert b["json"] == "[" * 200_000
    assert c["json"] == '["no object"]'
    assert len(b["utterance_id"]) == 32
    named = {"columns": {"start_s": "start", "utterance_id": "__key__"}}
    a = read(tmp_path, **named)[1][0]
    assert (a["utterance_id"], a["start_s"]) == ("a", 3.0)


def test_a_sample_is_one_utterance(tmp_path):
    two = [member("a.wav", b"1"), member("a.flac", b"2"), member("b.wav", b"3"), member("a.wav", b"4")]
    (tmp_path / "a.tar").write_bytes(tar(*two))
    inventory, rows = read(tmp_path)
    assert len(rows) == 4
    first = rows[0]["utterance_id"]
    assert set(inventory.duplicates.to_pylist()) == {f"{first}#2", f"{first}#3"}
    inventory, rows = read(tmp_path, columns={"audio": "flac"})
    assert [row["audio_uri"].rpartition("#")[2] for row in rows] == ["a.flac"]


def test_hostile_members_hurt_nobody_else(tmp_path):
    hostile = [
        *sample("good1"),
        member("../../etc/x.wav", b"1"),
        member("/abs/y.wav", b"2"),
        member("link.wav", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        member("device.wav", type=tarfile.BLKTYPE),
        member("folder.wav", type=tarfile.DIRTYPE),
        member(".hidden.wav", b"1"),
        member("__meta__", b"1"),
        member("no-suffix", b"1"),
        *sample("good2"),
    ]
    data = tar(*hostile)
    (tmp_path / "a.tar").write_bytes(data)
    (tmp_path / "b.tar").write_bytes(b"not a tar" * 1000)
    (tmp_path / "c.tar").write_bytes(b"")
    inventory, rows = read(tmp_path)
    assert inventory.num_skipped == 3
    found = {row["audio_uri"].removeprefix(str(tmp_path)): row for row in rows}
    assert set(found) == {
        "/a.tar#good1.wav",
        "/a.tar#good2.wav",
        "/a.tar#../../etc/x.wav",
        "/a.tar#/abs/y.wav",
        "/a.tar#link.wav",
        "/a.tar#device.wav",
        "/b.tar",
    }
    assert found["/a.tar#link.wav"]["member_offset"] is None
    assert (found["/b.tar"]["source_bytes"], found["/b.tar"]["member_offset"]) == (None, 0)
    assert not [path for path in tmp_path.iterdir() if path.suffix != ".tar"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.tar.gz", r"a\.tar\.gz is compressed.*decompress"),
        ("a.tgz", "is compressed"),
        ("a.txt", r"holds no \.tar, but 1 other file"),
        (None, "does not exist or is empty"),
    ],
)
def test_what_is_no_tar(tmp_path, name, message):
    if name:
        (tmp_path / name).write_bytes(b"\x1f\x8b")
    with pytest.raises(SourceError, match=message):
        read(tmp_path)


def test_tars_without_audio(tmp_path):
    (tmp_path / "a.tar").write_bytes(tar(member("a.json", b"{}"), member("b.jpg", b"1")))
    with pytest.raises(SourceError, match="holds no audio"):
        read(tmp_path)


def test_braces():
    assert shards.expand_braces("s3://b/{a,b}-{08..11}.tar")[-3:] == [f"s3://b/b-{n}.tar" for n in ("09", "10", "11")]
    assert shards.expand_braces("plain.tar") == []
    for bad in ("{3..1}.tar", "{0..99999999}.tar", "{000..999}{000..999}{0..9}.tar"):
        with pytest.raises(SourceError, match="ranges such as"):
            shards.expand_braces(bad)


def test_a_store_that_fails_while_a_tar_is_indexed_leaves_what_it_gave(tmp_path, monkeypatch):
    padding = [member("x.bin", b"\xff" * 400_000)]
    (tmp_path / "a.tar").write_bytes(tar(*sample("a", text="t"), *padding, *sample("b"), *padding, *sample("c")))
    _, whole = read(tmp_path)

    class Failing(LocalFileSystem):
        cachable = False
        text_of_b = whole[1]["member_offset"] + 512 + 512

        def cat_file(self, path, start=None, end=None, **kwargs):
            if start is not None and end > self.text_of_b:
                raise PermissionError("denied")
            return super().cat_file(path, start=start, end=end, **kwargs)

    monkeypatch.setattr(storage, "filesystem", lambda *_: Failing())
    _, rows = read(tmp_path)
    assert "a" in [row["__key__"] for row in rows]
    (left,) = [row for row in rows if row["source_bytes"] is None]
    assert (left["audio_uri"], left["container_uri"]) == (str(tmp_path / "a.tar"),) * 2


def test_a_text_that_the_tar_does_not_hold_whole_is_no_text(tmp_path):
    data = tar(*sample("a"), member("b.wav", b"1"), member("b.txt", b"t" * 3000))
    (tmp_path / "a.tar").write_bytes(data[: data.index(b"t" * 3000) + 1000])
    _, rows = read(tmp_path)
    assert [row["__key__"] for row in rows] == ["a", "b"]
    assert not any(row.get("txt") for row in rows)


def test_pieces_have_the_columns_and_types_of_the_whole(tmp_path, monkeypatch):
    for number, columns in enumerate([{"n": 1}, {"text": "t"}, {"n": 0.5, "id": "given"}, {"n": None}]):
        two = [member(f"{number}.flac", b"2")] if number == 3 else []
        (tmp_path / f"{number}.tar").write_bytes(tar(*sample(str(number), **columns), *two))
    _, whole = read(tmp_path)
    monkeypatch.setattr(embedded, "_PIECE_ROWS", 1)
    inventory, rows = read(tmp_path)
    assert len(list(inventory.batches())) > 3
    assert {batch.table.schema for batch in inventory.batches()} == {inventory.table.schema}
    assert rows == whole
    assert [row["n"] for row in rows] == [1.0, None, 0.5, None, None]
    assert rows[2]["utterance_id"] == "given"
    assert inventory.duplicates.to_pylist() == [f"{rows[3]['utterance_id']}#2"]
