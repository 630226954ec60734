import json

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.embed.sink import ELSEWHERE, LAYOUTS_WITH_FRAMES, NAMES, Driver
from w2vb_ray.embed import claim as claim_module
from w2vb_ray.embed import rewrite
from w2vb_ray.embed.tables import FRAMES, REJECTS, UTTERANCES, DataFile, Table
from w2vb_ray.errors import TableHeld, W2vbError
from w2vb_ray.maintain import compact as module
from w2vb_ray.maintain.compact import compact, plan_merges

from .tables import Sink, killed, rows

LANGUAGES = ("eng", "a b", "x/y", "ə%")


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """Small files of several runs, languages and tables."""
    sink, source = Sink(tmp_path_factory.mktemp("filled") / "sink"), []
    for number in range(3):
        for language in LANGUAGES:
            source += rows(*(f"{language}-{number}{letter}" for letter in "abc"), language=language)
        source += rows(f"r{number}", reason="empty")
        sink.embed(*source)
    return sink.folder


def read_by_others(sink, name):
    """The live files of a table as readers without Delta see them."""
    table = sink.table(name)
    paths = [f"{table.uri}/{path}" for path in sink.live(name)]
    arrow = ds.dataset(paths, format="parquet").to_table().to_pylist()
    duck = duckdb.sql(f"select utterance_id from read_parquet({paths}, hive_partitioning = true)").fetchall()
    assert sorted(id_ for (id_,) in duck) == sorted(row["utterance_id"] for row in arrow)
    return sorted(arrow, key=lambda row: row["utterance_id"])


def test_every_row_is_the_same_afterwards_in_fewer_files(filled, config):
    before = filled.contents()
    others = {name: read_by_others(filled, name) for name in NAMES}
    num_files = {name: len(filled.live(name)) for name in NAMES}
    assert compact(config("compact"), filled.tables(), "m1")
    assert filled.contents() == before
    assert {name: read_by_others(filled, name) for name in NAMES} == others
    assert {name: len(filled.live(name)) for name in NAMES} == {UTTERANCES: 4, FRAMES: 4, REJECTS: 1}
    assert min(num_files.values()) > 1


def test_a_second_time_there_is_nothing_to_do(filled, config):
    compact(config("compact"), filled.tables(), "m1")
    files = {name: filled.live(name) for name in NAMES}
    assert compact(config("compact"), filled.tables(), "m2") == []
    assert {name: filled.live(name) for name in NAMES} == files


def test_a_dry_run_says_the_same_and_does_nothing(filled, config):
    state = filled.state()
    shown = compact(config("compact", maintain={"dry_run": True}), filled.tables(), "m1")
    assert filled.state() == state
    assert [merge.files for merge in shown] == [m.files for m in compact(config("compact"), filled.tables(), "m1")]


def test_runs_go_on_as_before(filled, config):
    compact(config("compact"), filled.tables(), "m1")
    every = [
        {"id": row["utterance_id"], "language": row["language"], **({"reason": "empty"} if "reason" in row else {})}
        for name in (UTTERANCES, REJECTS)
        for row in filled.contents()[name]
    ]
    assert filled.embed(*every).num_planned == 0
    changed = [{**row, "version": "v2"} if row["id"] in ("eng-0a", "a b-2c", "r1") else row for row in every]
    assert filled.embed(*changed, *rows("new")).num_changed == 2
    found = filled.ids()
    assert found[UTTERANCES] == sorted([row["id"] for row in every if not row["id"].startswith("r")] + ["new"])
    assert found[FRAMES] == found[UTTERANCES]
    assert found[REJECTS] == ["r0", "r1", "r2"]


def test_the_log_says_that_no_data_changed_and_has_a_checkpoint(filled, config):
    compact(config("compact"), filled.tables(), "m1")
    for name in NAMES:
        log = filled.folder / name / "_delta_log"
        actions = [json.loads(line) for path in log.glob("*.json") for line in path.read_text().splitlines()]
        moved = [
            action[kind]["dataChange"]
            for action in actions
            for kind in ("add", "remove")
            if kind in action and (kind == "remove" or "m1-" in action[kind]["path"])
        ]
        assert len(moved) > 2
        assert not any(moved)
        newest = max(int(path.name.split(".")[0]) for path in log.glob("*.checkpoint.parquet"))
        assert newest >= filled.table(name).version - 1  # only the release may come after it


def test_a_column_that_came_later(sink, config):
    sink.embed(*rows("a", "b"))
    table = sink.table(UTTERANCES)
    driver = Driver(sink.folder, "wider")
    assert driver.hold()
    driver.claim.extend(driver.tables[UTTERANCES], pa.schema([*table.columns, pa.field("speaker", pa.string())]))
    driver.claim.release()
    sink.embed(*rows("a", "b", "c"))
    compact(config("compact"), sink.tables(), "m1")
    (file,) = sink.live(UTTERANCES)
    stored = sink.table(UTTERANCES).read(file)
    assert (stored.num_rows, stored["speaker"].null_count) == (3, 3)


@pytest.mark.parametrize(("step", "stride"), [("write", 2), ("append", 2), ("reload", 12), ("fetch", 12)])
def test_being_killed_at_any_step_loses_nothing(filled, config, monkeypatch, step, stride):
    monkeypatch.setattr(module, "_COMMIT_BYTES", 20_000)  # several batches
    before = filled.contents()
    deaths = 0
    while killed(
        monkeypatch,
        Table,
        step,
        at := 1 + stride * deaths,
        lambda: compact(config("compact"), filled.tables(), f"m{at}"),
    ):
        deaths += 1
        assert filled.contents() == before
    assert deaths > 1
    assert {name: len(filled.live(name)) for name in NAMES} == {UTTERANCES: 4, FRAMES: 4, REJECTS: 1}
    filled.embed(*rows("after"))
    assert len(filled.contents()[UTTERANCES]) == len(before[UTTERANCES]) + 1


def test_a_file_that_was_written_wrong_is_never_committed(filled, config, monkeypatch):
    before, files = filled.contents(), filled.live(UTTERANCES)
    write = Table.write

    def write_wrong(table, file, row_groups, columns):
        return write(table, file, [rows.take(pa.array(range(rows.num_rows))[::-1]) for rows in row_groups], columns)

    monkeypatch.setattr(Table, "write", write_wrong)
    with pytest.raises(W2vbError, match="does not hold the rows that were written to it"):
        compact(config("compact"), filled.tables(), "m1")
    assert (filled.contents(), filled.live(UTTERANCES)) == (before, files)
    Driver(filled.folder, "next").claim.check_free()  # it let go


def test_a_log_that_counts_other_rows_than_there_are_is_not_made_worse(filled, config, monkeypatch):
    files = Table.files
    monkeypatch.setattr(
        Table, "files", lambda table: [DataFile(f.path, f.language, f.num_rows + 1, f.num_bytes) for f in files(table)]
    )
    with pytest.raises(W2vbError, match="hold other numbers of rows than its log says"):
        compact(config("compact"), filled.tables(), "m1")


def test_a_run_and_a_compaction_keep_out_of_each_others_way(filled, config, monkeypatch):
    before = filled.contents()
    run = Driver(filled.folder, "run", ELSEWHERE)
    assert run.hold(LAYOUTS_WITH_FRAMES)
    with pytest.raises(TableHeld, match=r"run run .* holds these tables"):
        compact(config("compact"), filled.tables(), "m1")
    run.claim.release()
    check_same = rewrite.check_same

    def look_meanwhile(*arguments, **options):
        with pytest.raises(TableHeld, match=r"run m2 .* holds these tables"):
            Driver(filled.folder, "run2").claim.check_free()
        check_same(*arguments, **options)

    monkeypatch.setattr(module, "check_same", look_meanwhile)
    assert compact(config("compact"), filled.tables(), "m2")
    assert filled.contents() == before


def test_a_compaction_that_was_taken_for_dead_commits_nothing(filled, config, monkeypatch):
    before, files = filled.contents(), {name: filled.live(name) for name in NAMES}
    check_same = rewrite.check_same

    def sleep_meanwhile(*arguments, **options):
        monkeypatch.setattr(module, "check_same", check_same)
        with monkeypatch.context() as patch:
            patch.setattr(claim_module.LastCommit, "holds", False)
            assert Driver(filled.folder, "run").hold(LAYOUTS_WITH_FRAMES)
        check_same(*arguments, **options)

    monkeypatch.setattr(module, "check_same", sleep_meanwhile)
    with pytest.raises(TableHeld, match=r"run run .* took over"):
        compact(config("compact"), filled.tables(), "m1")
    assert (filled.contents(), {name: filled.live(name) for name in NAMES}) == (before, files)


class Listed:
    """A table that has these files."""

    def __init__(self, files):
        self._files = files

    def files(self):
        return self._files


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 150)), max_size=60))
def test_merges_are_of_small_files_of_one_language_and_fit_the_target(sizes):
    files = [DataFile(f"{number:03d}", language, 1, size) for number, (language, size) in enumerate(sizes)]
    merges = plan_merges({"utterances": Listed(files)}, 100)
    merged = [file for merge in merges for file in merge.files]
    assert len(merged) == len(set(merged))
    for merge in merges:
        assert len(merge.files) > 1
        assert len({file.language for file in merge.files}) == 1
        assert merge.num_bytes <= 100
        assert all(file.num_bytes < 50 for file in merge.files)
        assert merge.files == sorted(merge.files, key=lambda file: file.path)
    # What is left small would not fit together, but for one file of a language.
    after = [file for file in files if file not in merged]
    after += [DataFile(f"9{i}", merge.files[0].language, 1, merge.num_bytes) for i, merge in enumerate(merges)]
    for language in "ab":
        assert sum(file.language == language and file.num_bytes < 50 for file in after) <= 1
