import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from w2vb_ray.config.sections import SourceSection
from w2vb_ray.errors import SourceError
from w2vb_ray.source import build_inventory


@pytest.fixture
def tree(tmp_path):
    for name in ("train/a.wav", "train/b c.wav", "train/deep/c.wav", "test/a.wav", "test/d.sph2", "plain.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def _read(tree, **settings):
    inventory = build_inventory(SourceSection(uri=str(tree), **settings))
    root = len(str(tree)) + 1
    return inventory, {(row["audio_uri"][root:], row["start_s"]): row for row in inventory.table.to_pylist()}


def test_columns_join_by_file_name(tree):
    (tree / "train/metadata.csv").write_text(
        "file_name,text,utterance_id,lang,start_s,end_s\n"
        "a.wav,007,first,nan,,\n"
        '"b c.wav","x, ""y""",,no,0.5,1.5\n'
        "b c.wav,NA,,no,1.5,2\n"
        "./deep/c.wav,,c,,,\n"
        "gone.wav,lost,,deu,,\n"
    )
    (tree / "test/metadata.jsonl").write_text(json.dumps({"file_name": "d.sph2", "score": 1.5}) + "\n")
    inventory, rows = _read(tree)
    assert inventory.table.num_rows == len(rows) == 8
    assert inventory.num_skipped == 0
    assert inventory.table.schema.names[-2:] == ["score", "text"]
    assert (
        rows["train/a.wav", None] | {"text": "007", "language": "nan", "utterance_id": "first"}
        == rows["train/a.wav", None]
    )
    assert rows["train/b c.wav", 0.5]["text"] == 'x, "y"'
    assert rows["train/b c.wav", 1.5]["text"] == "NA"
    assert rows["train/b c.wav", 1.5]["language"] == "no"
    assert rows["train/b c.wav", 0.5]["source_version"].endswith("#t=0.5,1.5")
    assert rows["train/deep/c.wav", None]["utterance_id"] == "c"
    assert rows["train/gone.wav", None]["source_bytes"] is None
    assert rows["train/gone.wav", None]["text"] == "lost"
    assert rows["test/d.sph2", None]["score"] == 1.5
    assert rows["test/d.sph2", None]["source_bytes"] == 1
    assert rows["test/a.wav", None]["text"] is None
    assert rows["plain.wav", None]["language"] == "und"


def test_column_types_that_disagree_meet_as_text(tree):
    pq.write_table(pa.table({"file_name": ["a.wav"], "speaker": [7]}), tree / "train/metadata.parquet")
    (tree / "test/metadata.tsv").write_text('file_name\tspeaker\na.wav\t"q\n')
    _, rows = _read(tree)
    assert rows["train/a.wav", None]["speaker"] == "7"
    assert rows["test/a.wav", None]["speaker"] == '"q'
    assert rows["plain.wav", None]["speaker"] is None


def test_a_glob_takes_metadata_of_what_it_matches(tree):
    (tree / "train/metadata.csv").write_text("file_name,text\na.wav,A\ngone.flac,lost\n")
    (tree / "test/metadata.csv").write_text("file_name,text\na.wav,T\n")
    _, rows = _read(tree)
    section = SourceSection(uri=f"{tree}/train/**/*.wav")
    table = build_inventory(section).table
    assert sorted(table["text"].to_pylist(), key=str) == ["A", None, None]
    assert len(rows) == 6


def test_metadata_of_another_kind_is_left_alone(tree):
    (tree / "metadata.csv").write_text("LJ001-0001|Printing, in the only sense|with which\nx|y|z\n")
    (tree / "train/metadata.jsonl").write_text("[1]\n")
    inventory, rows = _read(tree)
    assert len(rows) == 5
    assert inventory.table.schema.names[-3:] == ["language", "reason", "detail"]


def test_malformed_metadata_names_the_line(tree):
    (tree / "train/metadata.csv").write_text("file_name,text\na.wav,A,B\n")
    with pytest.raises(SourceError, match=r"train/metadata\.csv, line 2 has 3 cells, but the header has 2"):
        _read(tree)


def test_given_ids_come_twice(tree):
    (tree / "train/metadata.csv").write_text("file_name,id\na.wav,x\nb c.wav,x\ndeep/c.wav,x#2\n")
    inventory, rows = _read(tree)
    assert inventory.duplicates.to_pylist() == ["x#3"]
    assert rows["train/a.wav", None]["utterance_id"] == "x"
    assert rows["train/b c.wav", None]["utterance_id"] == "x#3"
    assert inventory.table["utterance_id"].combine_chunks().value_counts().field("counts").to_pylist() == [1] * 5


def test_language_column_for_a_folder_without_metadata(tree):
    with pytest.raises(SourceError, match=r"`source\.language` asks for column `lang`"):
        _read(tree, language="column:lang")
