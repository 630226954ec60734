import gzip
import json
import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2vb_ray.config.sections import SourceSection
from w2vb_ray.errors import SourceError
from w2vb_ray.source import build_inventory, paths


@pytest.fixture
def audio(tmp_path):
    for name in ("a.wav", "sub/b.wav", "c.raw"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"123")
    return tmp_path


def _read(uri, text=None, **settings):
    if text is not None:
        data = text if isinstance(text, bytes) else text.encode()
        uri.write_bytes(gzip.compress(data) if uri.suffix == ".gz" else data)
    table = build_inventory(SourceSection(uri=str(uri), **settings)).table
    table.validate(full=True)
    return table.to_pylist()


def test_csv_cells_stay_what_they_are(audio):
    rows = _read(
        audio / "m.csv",
        b"\xef\xbb\xbfpath,lang,text,,Text,start_s\r\n"
        b'a.wav, nan ,"x, ""y""\r\nz",007,NA,\r\n'
        b'./sub/../sub//b.wav,no,,null,5" nail,0.25\r\n'
        b"gone.wav,,nan,,,\r\n",
    )
    assert [row["language"] for row in rows] == ["nan", "no", "und"]
    assert [row["text"] for row in rows] == ['x, "y"\r\nz', "", "nan"]
    assert [row["column_2"] for row in rows] == ["007", "null", ""]
    assert [row["source_Text"] for row in rows] == ["NA", '5" nail', ""]
    assert [row["start_s"] for row in rows] == [None, 0.25, None]
    assert [row["source_bytes"] for row in rows] == [3, 3, None]
    assert rows[1]["audio_uri"] == str(audio / "sub/b.wav")
    assert rows[1]["source_version"].endswith("#t=0.25,")
    assert rows[2]["source_version"] == ""


@pytest.mark.parametrize("name", ["m.tsv", "m.tsv.gz"])
def test_tsv_is_never_quoted(audio, name):
    rows = _read(audio / name, 'filename\tlocale\ttext\na.wav\tzh-CN\t"he said\nsub/b.wav\t\t"x" and \\t\n')
    assert [row["text"] for row in rows] == ['"he said', '"x" and \\t']
    assert [row["language"] for row in rows] == ["zh-CN", "und"]


@pytest.mark.parametrize("name", ["m.jsonl", "m.ndjson", "m.jsonl.gz"])
def test_jsonl_types(audio, name):
    records = [
        {"audio_filepath": "a.wav", "id": 5, "lang": False, "snr": 1, "tags": ["x"], "odd": 1, "info": {"a": 1}},
        {"audio_filepath": "sub/b.wav", "id": "", "lang": "no", "snr": 2.5, "odd": "one", "info": {"b": "x"}, "e": {}},
        {"audio_filepath": None, "id": None, "lang": None, "odd": [1, "é"], "half": "\ud800"},
    ]
    text = "\n".join(json.dumps(record) for record in records) + "\n\n"
    rows = _read(audio / name, text)
    assert rows[0]["utterance_id"] == "5"
    assert len(rows[1]["utterance_id"]) == len(rows[2]["utterance_id"]) == 32
    assert [row["language"] for row in rows] == ["false", "no", "und"]
    assert [row["snr"] for row in rows] == [1.0, 2.5, None]
    assert [row["odd"] for row in rows] == ["1", "one", '[1, "é"]']
    assert rows[0]["info"] == {"a": 1, "b": None}
    assert rows[1]["e"] == "{}"
    assert rows[2]["half"] == "?"
    assert (rows[2]["audio_uri"], rows[2]["source_bytes"]) == ("", None)


def test_parquet_types_and_parts(audio):
    parts = audio / "parts"
    for language, name in (("nan", "../a.wav"), ("x%3Dy", str(audio / "sub/b.wav"))):
        folder = parts / f"language={language}"
        folder.mkdir(parents=True)
        table = pa.table({"audio": [name], "kind": pa.array(["k"]).dictionary_encode(), "n": pa.array([7], pa.uint8())})
        pq.write_table(table, folder / "part-0.parquet")
    (parts / "_SUCCESS").touch()
    inventory = build_inventory(SourceSection(uri=str(parts), format="manifest"))
    rows = {row["language"]: row for row in inventory.table.to_pylist()}
    assert inventory.num_skipped == 1
    assert rows["nan"]["audio_uri"] == str(audio / "a.wav")
    assert rows["x=y"]["audio_uri"] == str(audio / "sub/b.wav")
    assert all(row["source_bytes"] == 3 for row in rows.values())
    assert inventory.table.schema.field("kind").type == pa.string()
    assert inventory.table.schema.field("n").type == pa.int16()
    assert len(_read(parts / "**/*.parquet")) == 2
    (parts / "_delta_log").mkdir()
    with pytest.raises(SourceError, match="Delta table"):
        _read(parts, format="manifest")


def test_column_mapping(audio):
    text = "clip,key,tongue,path,from,to\na.wav,k1,gd,P,1,2\n"
    columns = {"audio": "clip", "utterance_id": "key", "language": "tongue", "start_s": "from", "end_s": "to"}
    (row,) = _read(audio / "m.csv", text, columns=columns)
    assert (row["utterance_id"], row["language"], row["start_s"], row["end_s"]) == ("k1", "gd", 1.0, 2.0)
    assert (row["path"], row["announced_duration_s"]) == ("P", 1.0)
    with pytest.raises(SourceError, match=r"`source\.columns\.audio` asks for column `clpi`.*did you mean `clip`"):
        _read(audio / "m.csv", columns={"audio": "clpi"})
    with pytest.raises(SourceError, match=r"`source\.columns\.adio` is no field"):
        _read(audio / "m.csv", columns={"adio": "clip"})


@pytest.mark.parametrize(
    ("language", "expected", "own"),
    [
        (None, "no", set()),
        ("no", "no", {"source_language"}),
        ("column:accent", "nb", {"source_language"}),
        ("column:language", "no", set()),
        ("path:{language}/", "sub", {"source_language"}),
    ],
)
def test_language_settings(audio, language, expected, own):
    (row,) = _read(audio / "m.csv", "path,language,accent\nsub/b.wav,no,nb\n", language=language)
    assert row["language"] == expected
    assert {name for name in row if name.startswith("source_")} - {"source_version", "source_bytes"} == own


def test_missing_language_column_is_an_error_with_the_nearest_name(audio):
    with pytest.raises(SourceError, match=r"`source\.language`.*`langauge`.*did you mean `language`"):
        _read(audio / "m.csv", "path,language\na.wav,no\n", language="column:langauge")


def test_a_given_version_spares_the_stat(audio):
    rows = _read(audio / "m.csv", "path,source_version\nnowhere.wav,v1\na.wav,\n")
    assert (rows[0]["source_bytes"], rows[0]["source_version"]) == (-1, "v1")
    assert rows[1]["source_bytes"] == 3


def test_headerless_rates_come_from_columns_then_settings(audio):
    text = "path,sampling_rate,channels,duration\nc.raw,8000,,0.5\na.wav,44100,2,\n"
    rows = _read(audio / "m.csv", text, raw_sampling_rate=16000, raw_num_channels=3)
    assert [row["announced_sampling_rate"] for row in rows] == [8000, None]
    assert [row["announced_num_channels"] for row in rows] == [3, None]
    assert [row["announced_duration_s"] for row in rows] == [0.5, None]
    assert [row["channels"] for row in rows] == ["", "2"]
    assert "duration" not in rows[0]
    assert "source_sampling_rate" not in rows[0]


def test_odd_bounds_are_kept_for_the_pipeline_to_reject(audio):
    rows = _read(audio / "m.csv", "path,start,end\na.wav,nan,1\na.wav, 3 ,2e0\na.wav,,\n")
    assert math.isnan(rows[0]["start_s"])
    assert (rows[1]["start_s"], rows[1]["end_s"], rows[1]["announced_duration_s"]) == (3.0, 2.0, None)
    assert (rows[2]["start_s"], rows[2]["end_s"]) == (None, None)
    assert len({row["utterance_id"] for row in rows}) == 3


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("m.csv", "path,t\na.wav,1\n\na.wav,1,2\n", r"m\.csv, line 4 has 3 cells, but the header has 2"),
        ("m.csv", 'path,t\na.wav,1\na.wav,"open\na.wav,2\n', "line 3: a quote opens in this row and never closes"),
        ("m.tsv", "path\tt\na.wav\n", "line 2 has 1 cells"),
        ("m.tsv", b"path\tt\na.wav\t1\na.wav\t\xff\n", "line 3 is not UTF-8"),
        ("m.csv", b"p\xe9th,t\na.wav,1\n", "line 1 is not UTF-8"),
        ("m.jsonl", '{"path": "a.wav"}\n{"path"\n', r"m\.jsonl, line 2 is not JSON"),
        ("m.jsonl", b'{"path": "\xff"}\n', "line 1 is not JSON in UTF-8"),
        ("m.jsonl", "[1]\n", "line 1 is not a JSON object"),
        ("m.parquet", "nothing", "not a readable Parquet file"),
        ("m.csv.gz", None, "not a whole gzip file"),
        ("m.csv", "", "has no rows"),
        ("m.csv", "path,t", "has no rows"),
        ("m.csv", "a,b\n1,2\n", r"no column for the audio.*it has a, b; set `source\.columns\.audio`"),
        ("m.csv", "path,start\na.wav,1\na.wav,soon\n", "row 2 .*`start_s` is 'soon', not a number"),
        ("m.jsonl", '{"audio": {"bytes": "x"}}\n', "not paths of audio files"),
        ("m.jsonl", '{"audio": "a.wav", "start": true}\n', "`start_s` of .* is bool, not a number"),
    ],
)
def test_malformed_manifests(audio, name, text, message):
    if text is None:
        (audio / name).write_bytes(gzip.compress(b"path\n" * 1000)[:-9])
    with pytest.raises(SourceError, match=message):
        _read(audio / name, text)


def test_absent_manifest(tmp_path):
    with pytest.raises(SourceError, match=r"`source\.uri`.*m\.csv does not exist"):
        _read(tmp_path / "m.csv")
    (tmp_path / "a.txt").touch()
    with pytest.raises(SourceError, match=r"holds no manifest.*1 other file.*a\.txt"):
        _read(tmp_path, format="manifest")


def test_paths_resolve_against_the_manifest():
    given_paths = ["a b#.wav", "/abs/%20.wav", "s3://b/k?.wav", "file:///x.wav", "~/a.wav", "../u.wav", "a:b.wav", " "]
    assert paths.resolve(pa.chunked_array([given_paths]), "s3://c/m").to_pylist() == [
        "s3://c/m/a b#.wav",
        "/abs/%20.wav",
        "s3://b/k?.wav",
        "/x.wav",
        "s3://c/m/~/a.wav",
        "s3://c/u.wav",
        "s3://c/m/a:b.wav",
        "",
    ]


@given(st.lists(st.tuples(*[st.text(st.characters(exclude_characters="\r\n\t\0", exclude_categories=["Cs"]))] * 2)))
def test_any_language_and_text_survive_tsv(tmp_path_factory, cells):
    uri = tmp_path_factory.mktemp("tsv") / "m.tsv"
    lines = ["path\tsource_version\tlanguage\ttext", *(f"/x\tv\t{language}\t{text}" for language, text in cells)]
    rows = _read(uri, "\n".join([*lines, "/x\tv\tlast\t"]))
    assert [row["text"] for row in rows] == [*(text for _, text in cells), ""]
    # Arrow and Python disagree on a few control characters being white space.
    assert all(row["language"] for row in rows)
    assert [row["language"] for row in rows if row["language"].isalnum()][-1] == "last"
