import json

import pyarrow as pa
import pytest

from w2vb_ray.config.embed import PlanSection
from w2vb_ray.embed.forgotten import FOLDER, Forgotten, fingerprint, write_forgotten
from w2vb_ray.embed.plan import make_plan
from w2vb_ray.embed.report import describe_plan, report
from w2vb_ray.embed.tally import Tally
from w2vb_ray.errors import SinkError
from w2vb_ray.source import Batch

from .rows import batches, inventory, live

OWN = (pa.field("text", pa.string()), pa.field("Speaker", pa.string()), pa.field("age", pa.int64()))


def source(*rows):
    table = inventory([{"id": id_} for id_, *_ in rows])
    speakers = pa.array([speaker for _, speaker, _ in rows], pa.string())
    ages = pa.array([age for *_, age in rows], pa.int64())
    return table.append_column("Speaker", speakers).append_column("age", ages)


ROWS = source(("a", "ann", 30), ("b", "bob", None), ("c", None, 31), ("d", "ann", 31), ("ann", "eve", 5))


def forget(folder, values, run_id="r1"):
    write_forgotten(str(folder), {}, run_id, Forgotten.read(str(folder), {}).missing(values))


def left(folder, rows=ROWS, *, repeated=False):
    kept, num_forgotten = Forgotten.read(str(folder), {}).without(Batch.of(rows, repeated=repeated))
    assert kept.table.num_rows + num_forgotten == rows.num_rows == len(kept.keys) + num_forgotten
    assert kept.table.schema == rows.schema
    return kept.table["utterance_id"].to_pylist()


def test_where_nothing_was_forgotten_all_rows_stay(tmp_path):
    assert left(tmp_path / "nowhere") == ["a", "b", "c", "d", "ann"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"utterance_id": ["b", "gone"]}, ["a", "c", "d", "ann"]),
        ({"audio_uri": ["/audio/c.wav"]}, ["a", "b", "d", "ann"]),
        ({"speaker": ["ann"]}, ["b", "c", "ann"]),  # another case of the name, and not the id that is called so too
        ({"SPEAKER": ["ann"], "utterance_id": ["a", "c"]}, ["b", "ann"]),
        ({"age": ["31"]}, ["a", "b", "ann"]),
        ({"language": ["eng"]}, []),
        ({"dialect": ["x"]}, ["a", "b", "c", "d", "ann"]),  # the source has no such column
        ({"start_s": ["0.0"]}, ["a", "b", "c", "d", "ann"]),
    ],
)
def test_rows_are_left_out_by_any_of_their_values(tmp_path, values, expected):
    forget(tmp_path, values)
    assert left(tmp_path) == expected
    chunked = pa.concat_tables([ROWS.slice(0, 2), ROWS.slice(2, 0), ROWS.slice(2)])
    assert left(tmp_path, chunked) == expected


def test_parts_of_the_list_add_up(tmp_path):
    forget(tmp_path, {"utterance_id": ["a"]}, "r1")
    forget(tmp_path, {"utterance_id": ["b", "a"], "speaker": ["eve"]}, "r2")
    (tmp_path / FOLDER / "notes.txt").write_text("not a part of it")
    assert left(tmp_path) == ["c", "d"]
    second = json.loads((tmp_path / FOLDER / "r2.json").read_text())["fingerprints"]
    assert {column: len(of_column) for column, of_column in second.items()} == {"utterance_id": 1, "speaker": 1}
    assert Forgotten.read(str(tmp_path), {}).missing({"utterance_id": ["a", "b"], "Speaker": ["eve"]}) == {}


def test_the_list_names_nobody(tmp_path):
    forget(tmp_path, {"utterance_id": ["some-utterance"], "audio_uri": ["s3://b/ann.wav"], "speaker": ["ann smith"]})
    text = (tmp_path / FOLDER / "r1.json").read_text()
    assert not [name for name in ("some-utterance", "ann", "s3:") if name in text]
    assert fingerprint("speaker", "ann smith") in text


def test_a_value_of_one_column_is_not_one_of_another():
    assert fingerprint("speaker", "a") != fingerprint("text", "a")
    assert fingerprint("Speaker", "a") == fingerprint("speaker", "a") != fingerprint("speaker", "A")


def test_repeated_rows_of_a_forgotten_id_stay_away_too(tmp_path):
    forget(tmp_path, {"utterance_id": ["a", "b"]})
    rows = source(("a#2", "x", 1), ("c#2", "x", 1))
    assert left(tmp_path, rows, repeated=True) == ["c#2"]
    assert left(tmp_path, rows) == ["a#2", "c#2"], "given by the source as they are"


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"fingerprints": ["a"]}', "\x00"])
def test_a_list_that_cannot_be_read_stops_the_plan(tmp_path, content):
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "r1.json").write_text(content)
    with pytest.raises(SinkError, match=r"r1\.json must be a list of what was forgotten, but is not; restore it"):
        Forgotten.read(str(tmp_path), {})


def test_the_counts_of_a_plan_still_add_up(tmp_path):
    forget(tmp_path, {"speaker": ["ann"]})
    forgotten = Forgotten.read(str(tmp_path), {})
    plan = make_plan(batches(ROWS), live([("b", "v1")]), PlanSection(), forgotten=forgotten)
    assert (plan.num_input, plan.num_planned, plan.num_unchanged, plan.num_forgotten) == (5, 2, 3, 2)
    assert describe_plan(plan, "manifest", 0).endswith("3 unchanged, 0 of them known rejects, 2 of them forgotten")
    assert report(Tally(), plan)["forgotten"] == 2
    nothing = make_plan(batches(ROWS), live(), PlanSection())
    assert "forgotten" not in describe_plan(nothing, "manifest", 0)
