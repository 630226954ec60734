import pytest

from w2vb_ray.config.sections import SourceSection
from w2vb_ray.errors import SourceError
from w2vb_ray.source import build_inventory

ODD = ["a b.wav", "h#ash.wav", "per%20cent.wav", "qu?ery.wav", "żółć.wav", "-dash.wav"]


@pytest.fixture
def data(tmp_path):
    """A folder `data/train` beside a folder `wav`, as recipes have them."""
    (tmp_path / "wav").mkdir()
    (tmp_path / "data/train").mkdir(parents=True)
    for name in ["one.wav", "two.wav", *ODD]:
        (tmp_path / "wav" / name).write_bytes(b"123")
    return tmp_path / "data/train"


def _write(folder, **files):
    for name, lines in files.items():
        path = folder / name.replace("__", ".")
        path.write_bytes("".join(f"{line}\n" for line in lines).encode() if isinstance(lines, list) else lines)


def _read(folder, **settings):
    inventory = build_inventory(SourceSection(uri=str(folder), **settings))
    inventory.table.validate(full=True)
    return inventory, {row["utterance_id"]: row for row in inventory.table.to_pylist()}


def test_recordings_with_what_the_other_files_say(data):
    _write(
        data,
        wav__scp=["ann-1 ../../wav/one.wav", "bob-1\t ../../wav/two.wav  ", "", "eve-1 ../../wav/gone.wav"],
        text=["ann-1 hello  world", "bob-1", "other text"],
        utt2spk=["ann-1 ann", "bob-1 bob"],
        spk2utt=["ann ann-1"],
        spk2gender=["ann f"],
        utt2lang=["ann-1 nan", "bob-1 no"],
        utt2dur=["ann-1 1.5"],
        utt2uniq=["ann-1 u"],
        **{"cmvn.scp": ["ann cmvn.ark:4"]},
    )
    inventory, rows = _read(data)
    assert inventory.format == "kaldi"
    wav = data.parent.parent / "wav"
    assert [row["audio_uri"] for row in rows.values()] == [str(wav / f"{n}.wav") for n in ("one", "two", "gone")]
    assert [row["source_bytes"] for row in rows.values()] == [3, 3, None]
    assert [row["language"] for row in rows.values()] == ["nan", "no", "und"]
    assert [row["text"] for row in rows.values()] == ["hello  world", "", None]
    assert [row["speaker"] for row in rows.values()] == ["ann", "bob", None]
    assert [row["gender"] for row in rows.values()] == ["f", None, None]
    assert [row["uniq"] for row in rows.values()] == ["u", None, None]
    assert [row["announced_duration_s"] for row in rows.values()] == [1.5, None, None]
    assert [row["start_s"] for row in rows.values()] == [None] * 3
    assert rows["ann-1"]["recording_id"] == "ann-1"
    assert [row["reason"] for row in rows.values()] == [None, None, "missing"]
    assert "`source.audio_root`" in rows["eve-1"]["detail"]
    assert "utt" not in inventory.table.column_names


def test_segments(data):
    _write(
        data,
        wav__scp=["r1 ../../wav/one.wav", "r2 ../../wav/two.wav"],
        segments=["u1 r1 0.00 1.50", "u2 r1 1.5 -1", "u3 r9 0 1", "u4 r2 0 1 2", "u5 r2 2 1"],
        text=["u2 second"],
    )
    _, rows = _read(data)
    assert [(row["start_s"], row["end_s"]) for row in rows.values()][:2] == [(0.0, 1.5), (1.5, None)]
    assert [row["reason"] for row in rows.values()] == [None, None, "missing", "undecodable", None]
    assert rows["u3"]["detail"] == "wav.scp has no recording r9"
    assert "channel cannot be chosen" in rows["u4"]["detail"]
    assert rows["u2"]["text"] == "second"
    assert rows["u1"]["source_version"].endswith("#t=0.0,1.5")
    assert rows["u1"]["recording_id"] == "r1"


def test_commands_are_never_run(data, tmp_path):
    wav = data.parent.parent / "wav"
    _write(
        data,
        wav__scp=[
            f"plain sph2pipe -f wav -p {wav}/one.wav |",
            f"channel sph2pipe -f wav -c 2 {wav}/one.wav |",
            f"shell touch {tmp_path}/owned; cat {wav}/one.wav |",
            f"nested cat $(touch {tmp_path}/owned) |",
            f"ark {wav}/one.ark:77",
            "nothing",
        ],
    )
    _, rows = _read(data)
    reasons = {key: row["reason"] for key, row in rows.items()}
    forbidden = dict.fromkeys(["channel", "shell", "nested"], "forbidden")
    assert reasons == {"plain": None, **forbidden, "ark": "undecodable", "nothing": "missing"}
    assert (rows["plain"]["audio_uri"], rows["plain"]["source_bytes"]) == (str(wav / "one.wav"), 3)
    assert rows["shell"]["audio_uri"] == rows["shell"]["source_version"] == ""
    assert not (tmp_path / "owned").exists()


def test_odd_names(data):
    _write(data, wav__scp=[f"u{number} ../../wav/{name}" for number, name in enumerate(ODD)])
    _, rows = _read(data / "wav.scp")
    assert [row["audio_uri"].rpartition("/")[2] for row in rows.values()] == ODD
    assert {row["source_bytes"] for row in rows.values()} == {3}


def test_relative_paths_of_recipes_start_elsewhere(data):
    _write(data, wav__scp=["a wav/one.wav", "b wav/two.wav"])
    with pytest.raises(
        SourceError, match=r"none of the 2 relative paths .*one\.wav.*`source\.audio_root` says where they start"
    ):
        _read(data)
    _, rows = _read(data, audio_root=str(data.parent.parent))
    assert [row["source_bytes"] for row in rows.values()] == [3, 3]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"wav__scp": [""]}, "has no utterances.*took it for kaldi, because of its wav.scp"),
        ({"wav__scp": b"a /x\nb /\xff\n"}, r"wav\.scp, line 2 is not UTF-8"),
        ({"wav__scp": ["r /x"], "segments": ["u r 0 1", "", "u r 0"]}, r"segments, line 3 is not `utterance recording"),
    ],
)
def test_malformed_files(data, files, message):
    _write(data, **files)
    with pytest.raises(SourceError, match=message):
        _read(data)


def test_a_time_that_is_none(data):
    _write(data, wav__scp=["r ../../wav/one.wav"], segments=["u r zero 1"])
    with pytest.raises(SourceError, match="`start_s` is 'zero', not a number"):
        _read(data)


def test_a_folder_above_it_is_told_where_to_look(data):
    _write(data, wav__scp=["a /x.wav"])
    for path in (data.parent.parent / "wav").iterdir():
        path.unlink()
    with pytest.raises(SourceError, match=r"holds no audio.*name the one that holds wav\.scp"):
        _read(data.parent)
    with pytest.raises(SourceError, match=r"holds no wav\.scp"):
        _read(data.parent, format="kaldi")
