import numpy as np
import pyarrow as pa
import pytest

from w2vb_ray.config.embed import PlanSection, SinkSection
from w2vb_ray.embed import claim as claim_module
from w2vb_ray.embed import commit as module
from w2vb_ray.embed.commit import Committer, Waiting
from w2vb_ray.embed.live import Live
from w2vb_ray.embed.plan import make_plan
from w2vb_ray.embed.tables import FRAMES, REJECTS, UTTERANCES
from w2vb_ray.embed.write import WriteTask, rounded, write_units
from w2vb_ray.errors import TableHeld

from .rows import batches, encoded, inventory, packed
from .sink import DEAD, LAYOUTS, LAYOUTS_WITH_FRAMES, VECTORS, Died, Driver, open_tables


class Run:
    """A whole run but for Ray, audio and the model: plan, claim, write, commit."""

    def __init__(self, folder, run_id, rows, holder=None, layouts=LAYOUTS_WITH_FRAMES, **plan):
        driver = Driver(folder, run_id) if holder is None else Driver(folder, run_id, holder)
        self.claim, self.tables = driver.claim, driver.tables
        self.claim.check_free()
        if self.claim.has_unconfirmed():
            assert self.claim.take()
        live = Live.read(self.tables)
        self.rows = {row["id"]: row for row in rows}
        self.frames = FRAMES in layouts
        self.plan = make_plan(
            batches(inventory(rows)), live, PlanSection(unit_utterances=2, **plan), want_frames=self.frames
        )
        assert driver.hold(layouts)
        self.task = WriteTask(str(folder), {}, VECTORS, run_id, {"w2vb.pooling": "mean"})
        self.committer = Committer(self.claim, self.tables, self.plan, self.task)

    def descriptors(self):
        """One per unit; a row's `reason` is what reading or encoding found."""
        made = []
        for number, unit in enumerate(self.plan.units):
            rows = [{**self.rows[row["utterance_id"]], **flags(row)} for row in unit.to_pylist()]
            table = encoded(rows, frames=self.frames, seed=len(made))
            made += write_units(packed(table, number), self.task).to_pylist()
        return made

    def finish(self, batch=1):
        """Commit so many descriptors at a time, check the counts, let go."""
        made = self.descriptors()
        for start in range(0, len(made), batch):
            self.committer.commit(made[start : start + batch])
        assert self.committer.expected_rows == self.committer.found_rows()
        self.claim.release()
        return self


def flags(row):
    return {"in_utterances": row["in_utterances"], "in_rejects": row["in_rejects"]}


def contents(folder, column="source_version"):
    """Table -> sorted (id, column) of its live rows."""
    columns = {UTTERANCES: column, REJECTS: "reason", FRAMES: "run_id"}
    found = {}
    for name, table in open_tables(folder).items():
        rows = table.scan(["utterance_id", columns[name]])
        found[name] = sorted(zip(rows["utterance_id"].to_pylist(), rows[columns[name]].to_pylist(), strict=True))
    return found


def rows(*ids, **fields):
    return [{"id": id_, **fields} for id_ in ids]


@pytest.mark.parametrize("batch", [1, 2, 9])
def test_a_first_run_puts_every_row_in_its_table(tmp_path, batch):
    source = rows("a", "b", "c") + rows("d", language="no") + rows("e", reason="empty") + rows("f", reason="unreadable")
    run = Run(tmp_path, "r1", source).finish(batch)
    assert contents(tmp_path) == {
        UTTERANCES: [("a", "v1"), ("b", "v1"), ("c", "v1"), ("d", "v1")],
        REJECTS: [("e", "empty"), ("f", "unreadable")],
        FRAMES: [("a", "r1"), ("b", "r1"), ("c", "r1"), ("d", "r1")],
    }
    assert run.committer.found_rows() == {UTTERANCES: 4, REJECTS: 2, FRAMES: 4}
    assert run.committer.num_commits == -(-len(run.plan.units) // batch)


def test_a_second_run_has_only_what_the_first_did_not_finish(tmp_path):
    source = rows("a", "b", "c", "d") + rows("e", reason="empty") + rows("f", reason="unreadable")
    first = Run(tmp_path, "r1", source, holder=DEAD)
    made = first.descriptors()
    first.committer.commit(made[:1])  # and then it dies
    done = {row["utterance_id"] for row in first.plan.units[0].to_pylist()}
    second = Run(tmp_path, "r2", source)
    planned = {row["utterance_id"] for unit in second.plan.units for row in unit.to_pylist()}
    assert planned == set("abcdef") - (done - {"f"})
    second.finish()
    third = Run(tmp_path, "r3", source)
    assert [unit["utterance_id"].to_pylist() for unit in third.plan.units] == [["f"]]  # tried again for ever
    assert [id_ for id_, _ in contents(tmp_path)[UTTERANCES]] == ["a", "b", "c", "d"]
    assert [id_ for id_, _ in contents(tmp_path)[FRAMES]] == ["a", "b", "c", "d"]


@pytest.mark.parametrize("batch", [1, 2, 9])
@pytest.mark.parametrize("language", ["eng", "a b", "x/y", "ə%"])
def test_changed_rows_are_replaced_and_their_neighbours_kept(tmp_path, batch, language):
    ids = list("abcdefghi")
    Run(tmp_path, "r1", rows(*ids, language=language)).finish(batch=9)
    changed = rows("b", "c", "e", "f", "h", language=language, version="v2")
    same = rows("a", "d", "g", "i", language=language)
    run = Run(tmp_path, "r2", same + changed + rows("new", language=language)).finish(batch)
    assert run.plan.num_changed == 5
    found = contents(tmp_path)
    assert dict(found[UTTERANCES]) == {id_: "v2" if id_ in "bcefh" else "v1" for id_ in ids} | {"new": "v1"}
    assert dict(found[FRAMES]) == {id_: "r1" if id_ in "adgi" else "r2" for id_ in [*ids, "new"]}
    assert len(found[UTTERANCES]) == len(found[FRAMES]) == 10
    assert dict(contents(tmp_path, "run_id")[UTTERANCES]) == dict(found[FRAMES])


def test_a_kept_row_is_rewritten_bit_by_bit(tmp_path):
    Run(tmp_path, "r1", rows("a", "b")).finish()

    def row(id_):
        table = open_tables(tmp_path)[UTTERANCES]
        (file,) = {row["file"] for row in table.scan(["utterance_id"]).to_pylist() if row["utterance_id"] == id_}
        stored = table.read(file)
        return file, stored.filter(pa.compute.equal(stored["utterance_id"], id_)).to_pylist()

    before_file, before = row("a")
    Run(tmp_path, "r2", rows("a") + rows("b", version="v2")).finish()
    after_file, after = row("a")
    assert after == before
    assert after_file != before_file
    np.testing.assert_array_equal(rounded(np.array(after[0]["embedding"])), np.array(after[0]["embedding"], np.float32))


@pytest.mark.parametrize("batch", [1, 9])
def test_a_file_that_loses_all_its_rows_goes(tmp_path, batch):
    first = Run(tmp_path, "r1", rows("a", "b", "c", "d", "e")).finish(batch=9)
    second = Run(tmp_path, "r2", rows("a", "b", "c", "d", "e", version="v2")).finish(batch)
    old = {file["path"] for d in first.descriptors() for file in d["files"]}
    assert not old & {file.path for file in second.tables[UTTERANCES].files()}
    assert contents(tmp_path)[UTTERANCES] == [(id_, "v2") for id_ in "abcde"]
    assert all(file.num_rows for table in open_tables(tmp_path).values() for file in table.files())


def test_one_file_loses_its_rows_one_batch_after_the_other(tmp_path):
    # All six rows in one file; each later unit takes two of them out of what the one before left.
    Run(tmp_path, "r0", rows("seed")).finish()
    run = Run(tmp_path, "r1", rows("seed"))
    table = encoded(rows(*"abcdef"))
    (descriptor,) = write_units(packed(table), WriteTask(str(tmp_path), {}, VECTORS, "r1", {})).to_pylist()
    run.committer.commit([descriptor])
    run.claim.release()
    second = Run(tmp_path, "r2", rows("seed") + rows(*"abcdef", version="v2"), layouts=LAYOUTS)
    assert len(second.plan.units) == 3
    sizes = []
    for made in second.descriptors():
        second.committer.commit([made])
        sizes.append(sorted(file.num_rows for file in second.tables[UTTERANCES].files()))
        assert second.committer.expected_rows == second.committer.found_rows()
    assert sizes == [[1, 2, 4], [1, 2, 2, 2], [1, 2, 2, 2]]
    assert contents(tmp_path)[UTTERANCES] == [*((id_, "v2") for id_ in "abcdef"), ("seed", "v1")]


def test_between_the_tables(tmp_path):
    first = rows("to_reject", "hiccup", "moved", "stays") + rows("to_embed", "still", reason="empty")
    Run(tmp_path, "r1", first + rows("busy", reason="unreadable")).finish()
    second = [
        {"id": "to_reject", "version": "v2", "reason": "undecodable"},
        {"id": "hiccup", "version": "v2", "reason": "unreadable"},
        {"id": "moved", "version": "v2", "reason": "changed"},
        {"id": "stays"},
        {"id": "to_embed", "version": "v2"},
        {"id": "still", "reason": "empty"},
        {"id": "busy", "reason": "unreadable"},
    ]
    Run(tmp_path, "r2", second).finish()
    found = contents(tmp_path)
    # A store that does not answer keeps the vectors of before; a recording that became bad loses them.
    assert found[UTTERANCES] == [("hiccup", "v1"), ("moved", "v1"), ("stays", "v1"), ("to_embed", "v2")]
    assert [id_ for id_, _ in found[FRAMES]] == ["hiccup", "moved", "stays", "to_embed"]
    assert found[REJECTS] == [
        ("busy", "unreadable"),
        ("hiccup", "unreadable"),
        ("moved", "changed"),
        ("still", "empty"),
        ("to_reject", "undecodable"),
    ]
    third = [{"id": "hiccup", "version": "v2"}, {"id": "moved", "version": "v2"}, {"id": "busy"}]
    Run(tmp_path, "r3", third).finish()
    found = contents(tmp_path)
    assert [id_ for id_, _ in found[REJECTS]] == ["still", "to_reject"]
    assert dict(found[UTTERANCES]) == {"hiccup": "v2", "moved": "v2", "stays": "v1", "to_embed": "v2", "busy": "v1"}


def test_frames_that_come_later(tmp_path):
    source = rows("a", "b", "c")
    Run(tmp_path, "r1", source, layouts=LAYOUTS).finish()
    run = Run(tmp_path, "r2", [*source, *rows("d")]).finish()
    assert run.plan.num_changed == 3
    found = contents(tmp_path, "run_id")
    assert found[UTTERANCES] == found[FRAMES] == [(id_, "r2") for id_ in "abcd"]


def test_a_run_without_frames_still_removes_those_it_outdates(tmp_path):
    Run(tmp_path, "r1", rows("a", "b")).finish()
    run = Run(tmp_path, "r2", rows("a") + rows("b", version="v2"), layouts=LAYOUTS).finish()
    assert contents(tmp_path)[FRAMES] == [("a", "r1")]
    assert run.committer.found_rows() == {UTTERANCES: 2, REJECTS: 0, FRAMES: 1}


def test_retrying_rejects_replaces_them(tmp_path):
    source = rows("a") + rows("b", "c", reason="empty")
    Run(tmp_path, "r1", source).finish()
    run = Run(tmp_path, "r2", rows("a", "b") + rows("c", reason="too_short"), retry_rejects=True).finish()
    assert run.plan.num_planned == 2
    found = contents(tmp_path)
    assert (found[UTTERANCES], found[REJECTS]) == ([("a", "v1"), ("b", "v1")], [("c", "too_short")])


@pytest.fixture
def _no_waiting(monkeypatch):
    monkeypatch.setattr(claim_module.time, "sleep", lambda _: None)


@pytest.mark.parametrize("at", [REJECTS, FRAMES, UTTERANCES])
def test_dying_inside_a_replacement_loses_nothing(tmp_path, at):
    before = rows("a", "b", "c") + rows("r", "s", reason="empty")
    Run(tmp_path, "r1", before).finish(batch=9)
    held = contents(tmp_path)
    after = rows("a") + rows("b", "c", "r", version="v2") + rows("s", version="v2", reason="too_short")
    dying = Run(tmp_path, "r2", after, holder=DEAD)
    dying.tables[at].script = ["die"]
    with pytest.raises(Died):
        dying.committer.commit(dying.descriptors())
    third = Run(tmp_path, "r3", after)
    assert contents(tmp_path) == held
    third.finish()
    found = contents(tmp_path)
    assert found[UTTERANCES] == [("a", "v1"), ("b", "v2"), ("c", "v2"), ("r", "v2")]
    assert found[REJECTS] == [("s", "too_short")]
    assert [id_ for id_, _ in found[FRAMES]] == ["a", "b", "c", "r"]


@pytest.mark.usefixtures("_no_waiting")
@pytest.mark.parametrize("script", [["lose"], ["refuse", "lose"], ["refuse"] * 3])
def test_a_replacement_whose_reply_is_lost_counts_once(tmp_path, script):
    Run(tmp_path, "r1", rows("a", "b")).finish()
    run = Run(tmp_path, "r2", rows("a") + rows("b", version="v2"))
    for table in run.tables.values():
        table.script = list(script)
    run.finish()
    assert contents(tmp_path)[UTTERANCES] == [("a", "v1"), ("b", "v2")]


@pytest.mark.parametrize("sees_it", [False, True])
def test_a_run_that_was_taken_over_replaces_nothing(tmp_path, sees_it):
    Run(tmp_path, "r1", rows("a", "b")).finish()
    old = Run(tmp_path, "r2", rows("a") + rows("b", version="v2"), holder=DEAD)
    new = Run(tmp_path, "r3", rows("a") + rows("b", version="v3"))
    if sees_it:  # that the file of its rows is no longer there
        new.finish()
        old.tables[UTTERANCES].reload()
    with pytest.raises(TableHeld):
        old.committer.commit(old.descriptors())
    if not sees_it:
        new.finish()
    assert contents(tmp_path)[UTTERANCES] == [("a", "v1"), ("b", "v3")]
    assert contents(tmp_path)[FRAMES] == [("a", "r1"), ("b", "r3")]


def descriptor(num_files):
    return {"files": [{}] * num_files}


def test_a_commit_is_due_after_enough_files_or_enough_time(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    waiting = Waiting(SinkSection(uri="x", commit_files=4, commit_interval_s=30))
    assert not waiting.is_due
    now[0] += 1000
    assert not waiting.is_due  # nothing waits
    waiting.add(descriptor(3))
    assert not waiting.is_due
    now[0] += 29
    waiting.add(descriptor(0))
    assert not waiting.is_due
    now[0] += 2
    assert waiting.is_due  # since the oldest came
    assert waiting.take() == [descriptor(3), descriptor(0)]
    assert waiting.take() == []
    assert not waiting.is_due
    waiting.add(descriptor(1))
    waiting.add(descriptor(3))
    assert waiting.is_due
