import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from w2vb_ray.config.sections import SourceSection
from w2vb_ray.errors import SourceError
from w2vb_ray.schema import INVENTORY
from w2vb_ray.source import build_inventory


def _put(root: Path, *names: str, data: bytes = b"x") -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)


def _rows(uri, **settings):
    table = build_inventory(SourceSection(uri=str(uri), **settings)).table
    table.validate(full=True)
    return {row["audio_uri"]: row for row in table.to_pylist()}


def _names(root, rows):
    return {os.path.relpath(uri, root) for uri in rows}


def test_any_depth_any_case_and_what_is_not_audio(tmp_path):
    audio = ["a.wav", "deu/b.FLAC", "deu/x/y/c.Opus", "d.e.mp3"]
    _put(tmp_path, *audio, "readme.txt", "deu/noext", "wav")
    _put(tmp_path, ".hidden/e.wav", "_delta_log/f.wav", "__MACOSX/g.wav", "._h.wav", ".i.wav", "j.raw")
    inventory = build_inventory(SourceSection(uri=str(tmp_path)))
    assert inventory.format == "folder"
    assert inventory.num_skipped == 4  # readme.txt, noext, wav, j.raw
    assert inventory.table.schema.names == [*INVENTORY.names, "reason", "detail"]
    assert inventory.table.schema.field("utterance_id").nullable is False
    rows = _rows(tmp_path)
    assert _names(tmp_path, rows) == set(audio)
    row = rows[str(tmp_path / "a.wav")]
    assert row["source_bytes"] == 1
    assert row["language"] == "und"
    assert len(row["utterance_id"]) == 32
    assert row["start_s"] is row["end_s"] is row["announced_duration_s"] is row["announced_sampling_rate"] is None


def test_the_version_changes_with_the_file_and_the_id_does_not(tmp_path):
    _put(tmp_path, "a.wav")
    (before,) = _rows(tmp_path).values()
    assert _rows(f"file://{tmp_path}/") == {before["audio_uri"]: before}
    os.utime(tmp_path / "a.wav", ns=(0, 1_000_000_000))
    (after,) = _rows(tmp_path).values()
    assert after["source_version"] == "1-1000000000" != before["source_version"]
    assert after["utterance_id"] == before["utterance_id"]


def test_headerless_files_need_a_sampling_rate(tmp_path):
    _put(tmp_path, "a.raw", "b.PCM", "c.wav")
    rows = _rows(tmp_path, raw_sampling_rate=8000, raw_num_channels=2)
    announced = {
        os.path.basename(uri): (row["announced_sampling_rate"], row["announced_num_channels"])
        for uri, row in rows.items()
    }
    assert announced == {"a.raw": (8000, 2), "b.PCM": (8000, 2), "c.wav": (None, None)}


def test_a_single_file_and_a_glob(tmp_path):
    _put(tmp_path, "x/a.wav", "x/y/b.wav", "x/c.flac", "x/d.bin", "x/[1].wav")
    assert _names(tmp_path, _rows(tmp_path / "x/a.wav")) == {"x/a.wav"}
    assert _names(tmp_path, _rows(tmp_path / "x/d.bin")) == {"x/d.bin"}
    assert _names(tmp_path, _rows(tmp_path / "x/[1].wav")) == {"x/[1].wav"}
    assert _names(tmp_path, _rows(tmp_path / "**/*.wav")) == {"x/a.wav", "x/y/b.wav", "x/[1].wav"}
    assert _names(tmp_path, _rows(tmp_path / "x/*.wav")) == {"x/a.wav", "x/[1].wav"}
    assert _names(tmp_path, _rows(tmp_path / "x/*")) == {"x/a.wav", "x/c.flac", "x/[1].wav"}
    assert _names(tmp_path, _rows(tmp_path / "x/*.bin")) == {"x/d.bin"}


def test_links(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    root = tmp_path / "root"
    _put(elsewhere, "far.wav")
    _put(root, "a/near.wav")
    (root / "a" / "loop").symlink_to(root, target_is_directory=True)
    (root / "b").symlink_to(elsewhere, target_is_directory=True)
    (root / "c").symlink_to(elsewhere, target_is_directory=True)
    (root / "gone.wav").symlink_to(root / "nowhere")
    (root / "self.wav").symlink_to(root / "self.wav")
    os.mkfifo(root / "pipe.wav")
    rows = _rows(root)
    assert _names(root, rows) == {"a/near.wav", "b/far.wav", "gone.wav", "self.wav"}
    assert rows[str(root / "gone.wav")]["source_bytes"] is None
    assert rows[str(root / "gone.wav")]["source_version"] == ""


def test_a_name_that_is_not_utf8_is_a_missing_row(tmp_path):
    with open(os.fsencode(tmp_path) + b"/\xff.wav", "wb") as file:
        file.write(b"x")
    (row,) = _rows(tmp_path).values()
    assert row["audio_uri"].endswith(r"\udcff.wav")
    assert row["source_bytes"] is None


@settings(max_examples=60, deadline=None)
@given(
    st.sets(
        st.text(
            st.characters(exclude_characters="/\0", exclude_categories=["Cs"]) | st.sampled_from(" #%?*[]\n'\"&="),
            min_size=1,
            max_size=20,
        ).filter(lambda name: name[0] != "."),
        min_size=1,
        max_size=5,
    )
)
def test_odd_names_are_listed_as_they_are(names):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve()
        for name in names:
            _put(root, f"{name} dir/{name}.wav")
        rows = _rows(root, language="path:{language}/")
        assert {Path(uri) for uri in rows} == {root / f"{name} dir/{name}.wav" for name in names}
        for uri, row in rows.items():
            assert row["language"] == Path(uri).parent.name.strip()
            (single,) = _rows(uri).values()
            assert (single["utterance_id"], single["source_version"]) == (row["utterance_id"], row["source_version"])


def test_errors_say_what_to_do(tmp_path):
    with pytest.raises(SourceError, match=r"`source\.uri`.*nowhere.*does not exist"):
        _rows(tmp_path / "nowhere")
    with pytest.raises(SourceError, match="does not exist or is empty"):
        _rows(tmp_path)
    _put(tmp_path, "a.pcm")
    with pytest.raises(SourceError, match=r"1 other file\(s\) such as .*a\.pcm; set `source\.raw_sampling_rate`"):
        _rows(tmp_path)
    _put(tmp_path, "0.csv")
    (tmp_path / "a.pcm").unlink()
    with pytest.raises(SourceError, match=r"set `source\.format: manifest`"):
        _rows(tmp_path)


def test_the_second_run_in_a_process_sees_new_files(tmp_path):
    _put(tmp_path, "a.wav")
    assert len(_rows(tmp_path)) == 1
    _put(tmp_path, "b.wav")
    assert len(_rows(tmp_path)) == 2
