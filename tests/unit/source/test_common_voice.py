import pytest

from w2vb_ray.config.sections import SourceSection
from w2vb_ray.errors import SourceError
from w2vb_ray.source import build_inventory

HEADER = "client_id\tpath\tsentence\tup_votes\tage\tlocale\n"


@pytest.fixture
def release(tmp_path):
    """Two languages, as a release has them."""
    for language, names in (("de", ["a.mp3", "b.mp3"]), ("nan-tw", ["c #1%?.mp3"])):
        clips = tmp_path / language / "clips"
        clips.mkdir(parents=True)
        for name in names:
            (clips / name).write_bytes(b"1234")
        rows = "".join(f'c1\t{name}\t"quoted {name}\t2\t\t{language}\n' for name in names)
        (tmp_path / language / "validated.tsv").write_text(HEADER + rows)
        (tmp_path / language / "reported.tsv").write_text("sentence_id\tsentence\treason\n")
    (tmp_path / "de/dev.tsv").write_text(HEADER + "c2\tb.mp3\tdev\t2\t\tde\nc2\tgone.mp3\tgone\t0\t\tde\n")
    (tmp_path / "de/clip_durations.tsv").write_text("clip\tduration[ms]\nb.mp3\t2500\na.mp3\t1000\n")
    return tmp_path


def _read(uri, **settings):
    inventory = build_inventory(SourceSection(uri=str(uri), **settings))
    inventory.table.validate(full=True)
    return inventory, inventory.table.to_pylist()


def test_a_file_of_a_release(release):
    inventory, rows = _read(release / "de/dev.tsv")
    assert inventory.format == "common_voice"
    assert [row["audio_uri"] for row in rows] == [str(release / "de/clips" / name) for name in ("b.mp3", "gone.mp3")]
    assert [row["source_bytes"] for row in rows] == [4, None]
    assert [row["announced_duration_s"] for row in rows] == [2.5, None]
    assert [row["language"] for row in rows] == ["de", "de"]
    assert (rows[0]["client_id"], rows[0]["sentence"], rows[0]["up_votes"], rows[0]["age"]) == ("c2", "dev", "2", "")


@pytest.mark.parametrize("where", ["", "*/validated.tsv", "*/*d.tsv"])
def test_all_languages(release, where):
    inventory, rows = _read(f"{release}/{where}")
    assert inventory.format == "common_voice"
    assert {(row["audio_uri"].rpartition("/")[2], row["language"]) for row in rows} == {
        *(("a.mp3", "de"), ("b.mp3", "de")),
        ("c #1%?.mp3", "nan-tw"),
    }
    assert {row["source_bytes"] for row in rows} == {4}
    assert inventory.num_skipped == (2 if where == "*/*d.tsv" else 0)
    assert {row["sentence"] for row in rows if row["language"] == "nan-tw"} == {'"quoted c #1%?.mp3'}


def test_one_language_and_paths_that_start_elsewhere(release):
    assert len(_read(release / "de")[1]) == 2
    (release / "de/clips").rename(release / "de/audio")
    _, rows = _read(release / "de", format="common_voice", audio_root=str(release / "de/audio"))
    assert [row["source_bytes"] for row in rows] == [4, 4]


def test_a_tsv_without_clips_is_a_manifest(release):
    (release / "de/clips").rename(release / "elsewhere")
    inventory, rows = _read(release / "de/dev.tsv")
    assert inventory.format == "manifest"
    assert [row["source_bytes"] for row in rows] == [None, None]


def test_what_is_no_release(release):
    with pytest.raises(SourceError, match=r"is no Common Voice release: looked for validated\.tsv"):
        _read(release / "de/clips", format="common_voice")
    with pytest.raises(SourceError, match=r"has no column `path`"):
        _read(release / "de/reported.tsv", format="common_voice")
    (release / "de/dev.tsv").write_text(HEADER + "c2\tb.mp3\n")
    with pytest.raises(
        SourceError, match=r"dev\.tsv, line 2 has 2 cells.*took it for common_voice, because of the col"
    ):
        _read(release / "de/dev.tsv")
