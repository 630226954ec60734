from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import CommitProperties, DeltaTable
from deltalake.exceptions import DeltaError

from w2vb_ray import schema
from w2vb_ray.embed.tables import REJECTS, UTTERANCES, DataFile, Layout, Table, add_action, remove_action
from w2vb_ray.embed.write import WriteTask, write_units
from w2vb_ray.errors import SinkError

from .rows import encoded, packed
from .sink import LAYOUTS, VECTORS
from .test_write import LANGUAGES

COMMIT = CommitProperties()


@pytest.fixture
def table(tmp_path):
    """The utterances table, just created."""
    table = Table(UTTERANCES, str(tmp_path), {})
    table.create(LAYOUTS[UTTERANCES], COMMIT)
    return table


def written(table, rows):
    """Data files of encoded rows, not committed."""
    task = WriteTask(table.uri.rpartition("/")[0], {}, VECTORS, "run-1", {})
    (descriptor,) = write_units(packed(encoded(rows)), task).to_pylist()
    return [DataFile(f["path"], f["language"], f["num_rows"], f["num_bytes"]) for f in descriptor["files"]]


def ids(table, name="utterance_id"):
    return sorted(table.scan([name])[name].to_pylist())


def test_where_there_is_no_table(tmp_path):
    table = Table(REJECTS, str(tmp_path), {})
    assert (table.exists, table.files(), table.num_rows(), table.properties) == (False, [], 0, {})
    assert table.scan(["utterance_id", "reason"]).to_pylist() == []
    assert table.scan(["utterance_id"]).column_names == ["utterance_id", "file"]
    with pytest.raises(SinkError, match=f"there is no table at {tmp_path}/rejects"):
        table.append([], COMMIT)
    assert list(tmp_path.iterdir()) == []


def test_a_created_table_says_what_it_is(table):
    for opened in (table, Table(UTTERANCES, table.uri.rpartition("/")[0], {})):
        assert opened.exists
        assert opened.properties["w2vb.pooling"] == "mean"
        assert opened.columns.names == LAYOUTS[UTTERANCES].columns.names
        assert [opened.columns.field(i).type for i in range(8)] == [field.type for field in schema.UTTERANCES_HEAD]
        assert opened.columns.field("embedding").type == schema.VECTOR
        assert (opened.files(), opened.num_rows()) == ([], 0)
    with pytest.raises(DeltaError):
        table.create(LAYOUTS[UTTERANCES], COMMIT)


def test_what_is_appended_is_there_and_what_is_only_written_is_not(table):
    first, second = written(table, [{"id": "a"}, {"id": "b"}]), written(table, [{"id": "c"}])
    table.append([add_action(file) for file in first], COMMIT)
    table.reload()
    assert ids(table) == ["a", "b"]
    assert table.num_rows() == 2
    assert table.files() == first
    assert [row["file"] for row in table.scan(["utterance_id"]).to_pylist()] == [first[0].path] * 2
    table.append([add_action(second[0]), remove_action(first[0])], COMMIT)
    table.reload()
    assert (ids(table), table.files()) == (["c"], second)


@pytest.mark.parametrize("language", LANGUAGES)
def test_any_language_can_be_added_read_and_removed(table, language):
    files = written(table, [{"id": "a", "language": language}, {"id": "b", "language": "tlh"}])
    table.append([add_action(file) for file in files], COMMIT)
    table.reload()
    assert {file.path: file for file in table.files()} == {file.path: file for file in files}
    assert ids(table) == ["a", "b"]
    log = DeltaTable(table.uri)  # what another reader of the log makes of it
    assert {value["language"] for value in log.partitions()} == {language, "tlh"}
    stored = [pq.ParquetFile(uri).read(["utterance_id"], use_threads=False) for uri in log.file_uris()]
    assert sorted(pa.concat_tables(stored)["utterance_id"].to_pylist()) == ["a", "b"]
    table.append([remove_action(file) for file in table.files() if file.language == language], COMMIT)
    table.reload()
    assert [file.language for file in table.files()] == ["tlh"]


def test_bytes_that_changed_in_the_store_are_not_read_as_vectors(table):
    (file,) = written(table, [{"id": str(number)} for number in range(50)])
    stored = Path(table.uri, file.path)
    column = pq.read_metadata(stored).row_group(0).column(table.columns.names.index("embedding"))
    assert column.path_in_schema == "embedding.list.element"
    data = bytearray(stored.read_bytes())
    data[column.data_page_offset + column.total_compressed_size - 20] ^= 1
    stored.write_bytes(data)
    with pytest.raises(OSError, match="CRC"):
        table.read(file.path)


def test_added_columns_read_as_null_in_older_files(table):
    table.append([add_action(file) for file in written(table, [{"id": "a"}])], COMMIT)
    table.reload()
    table.add_columns([pa.field("speaker", pa.string()), pa.field("age", pa.int64())], COMMIT)
    table.reload()
    assert table.columns.names[-2:] == ["speaker", "age"]
    assert ids(table) == ["a"]
    assert table.num_rows() == 1


def test_a_snapshot_stands_until_it_is_reloaded(table):
    other = Table(UTTERANCES, table.uri.rpartition("/")[0], {})
    other.append([add_action(file) for file in written(table, [{"id": "a"}])], COMMIT)
    assert ids(table) == []
    table.reload()
    assert ids(table) == ["a"]


def test_other_columns_of_many_files(table):
    files = [file for i in range(40) for file in written(table, [{"id": f"u{i}", "version": f"v{i}"}])]
    table.append([add_action(file) for file in files], COMMIT)
    table.reload()
    rows = table.scan(["source_version", "utterance_id"])
    assert rows.column_names == ["source_version", "utterance_id", "file"]
    assert {row["utterance_id"]: row["source_version"] for row in rows.to_pylist()} == {
        f"u{i}": f"v{i}" for i in range(40)
    }
    assert sorted(rows["file"].to_pylist()) == sorted(file.path for file in files)
    assert table.read(files[0].path).column_names == [n for n in LAYOUTS[UTTERANCES].columns.names if n != "language"]


def test_a_layout_with_every_type_of_own_columns(tmp_path):
    own = pa.schema(
        [
            pa.field("n", pa.int64()),
            pa.field("b", pa.bool_()),
            pa.field("x", pa.float32()),
            pa.field("raw", pa.binary()),
            pa.field("day", pa.date32()),
            pa.field("at", pa.timestamp("us", "UTC")),
            pa.field("tags", pa.list_(pa.string())),
            pa.field("who", pa.struct([("name", pa.string())])),
            pa.field("with blank", pa.string()),
        ]
    )
    table = Table(UTTERANCES, str(tmp_path), {})
    table.create(Layout(schema.utterances_schema(schema.Vectors([1]), own), {}), COMMIT)
    assert [table.columns.field(field.name).type for field in own] == [field.type for field in own]
