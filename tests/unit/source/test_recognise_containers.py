"""What `auto` takes tars and tables with audio inside for, and what it does not."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from w2vb_ray.config.sections import SourceSection
from w2vb_ray.source.recognise import recognise

from .tars import member, tar

INSIDE = pa.array([{"bytes": b"1", "path": "a.wav"}], pa.struct({"bytes": pa.binary(), "path": pa.string()}))
A_TAR = tar(member("a.wav", b"1"))


@pytest.mark.parametrize(
    ("files", "uri", "expected"),
    [
        (["a.tar"], "", "webdataset"),
        (["a.tar", "README.md"], "a.tar", "webdataset"),
        (["a.tar"], "*.tar", "webdataset"),
        (["a-0.tar"], "a-{0..0}.tar", "webdataset"),
        (["a.tar.gz"], "a.tar.gz", "webdataset"),
        (["a.tar", "b.wav"], "", "folder"),
        (["cuts.000000.jsonl.gz", "recording.000000.tar"], "", "shar"),
        (["cuts.jsonl.gz", "recording.tar"], "", "shar"),
        (["state.json", "data-00000-of-00001.arrow"], "", "parquet"),
        (["dataset_dict.json"], "", "parquet"),
        (["a.arrow"], "a.arrow", "parquet"),
        (["a.txt"], "", "folder"),
    ],
)
def test_by_names(tmp_path, files, uri, expected):
    for name in files:
        (tmp_path / name).write_bytes(A_TAR)
    assert recognise(SourceSection(uri=str(tmp_path / uri))).format == expected


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"audio": INSIDE, "path": ["a.wav"]}, "parquet"),
        ({"speech": INSIDE}, "parquet"),
        ({"audio": [b"1"]}, "parquet"),
        ({"audio": ["a.wav"]}, "manifest"),
        ({"path": ["a.wav"], "image": INSIDE}, "manifest"),
        ({"path": ["a.wav"], "cover": [b"1"]}, "manifest"),
    ],
)
def test_by_columns(tmp_path, columns, expected):
    (tmp_path / "data").mkdir()
    pq.write_table(pa.table(columns), tmp_path / "data/a.parquet")
    for uri in ("data/a.parquet", "data/*.parquet"):
        assert recognise(SourceSection(uri=str(tmp_path / uri))).format == expected
    folder = "parquet" if expected == "parquet" else "folder"
    for uri in ("data", ""):  # a folder of tables is a folder, unless audio is inside
        assert recognise(SourceSection(uri=str(tmp_path / uri))).format == folder
    (tmp_path / "data/a.parquet").write_bytes(b"PAR1 and no more")
    assert recognise(SourceSection(uri=str(tmp_path / "data/*.parquet"))).format == "manifest"
