import time
from collections import Counter
from dataclasses import replace
from itertools import groupby, pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from w2vb_ray import schema
from w2vb_ray.config.embed import PlanSection
from w2vb_ray.embed import units
from w2vb_ray.embed.live import Held, Known, Live
from w2vb_ray.embed.plan import make_plan
from w2vb_ray.embed.units import SHARED_UTTERANCES
from w2vb_ray.errors import RETRIED_REASONS, RejectReason, SinkError

from .rows import batches, inventory, live

REASONS = [RejectReason.EMPTY, RejectReason.MISSING, RejectReason.UNREADABLE, RejectReason.CHANGED]
VERSIONS = st.sampled_from(["v1", "v2", ""])
SIZES = {"/a.wav": 64_000, "/b.flac": 150_000, "s3://c/d.MP3": -1, "/no suffix": None}
ROW = st.fixed_dictionaries(
    {"version": VERSIONS, "language": st.sampled_from(["eng", "no", "nan", "a b"])},
    optional={
        "uri": st.sampled_from(sorted(SIZES)),
        "start": st.none() | st.floats(0, 5),
        "end": st.none() | st.floats(0, 9),
        "duration": st.none() | st.floats(0.1, 20),
    },
)
ROWS = st.lists(ROW, max_size=25).map(
    lambda rows: [{"id": f"u{i}", "bytes": SIZES.get(row.get("uri"), 32_000), **row} for i, row in enumerate(rows)]
)
IDS = st.sampled_from([f"u{i}" for i in range(25)] + ["stranger"])
LIVE = st.fixed_dictionaries(
    {
        "utterances": st.dictionaries(IDS, VERSIONS, max_size=15),
        "rejects": st.dictionaries(IDS, st.tuples(VERSIONS, st.sampled_from(REASONS)), max_size=15),
        "frames": st.none() | st.sets(IDS, max_size=10),
    }
)
SECTION = st.builds(
    PlanSection,
    unit_audio_s=st.floats(0.5, 60),
    unit_utterances=st.integers(1, 8),
    unit_bytes=st.integers(1, 500_000),
    retry_rejects=st.booleans(),
)


def tables(held):
    rejects = [(id_, version, str(reason)) for id_, (version, reason) in held["rejects"].items()]
    return live(held["utterances"].items(), rejects, held["frames"])


def ids(unit):
    return unit["utterance_id"].to_pylist()


def todo(rows, held, section, want_frames):
    """The rule, one row after the other."""
    for row in rows:
        embedded = held["utterances"].get(row["id"])
        done = embedded is not None and (
            row["version"] == ""
            or (embedded == row["version"] and (not want_frames or row["id"] in (held["frames"] or ())))
        )
        rejected, reason = held["rejects"].get(row["id"], (None, None))
        refused = rejected == row["version"] and reason not in RETRIED_REASONS and not section.retry_rejects
        yield row, done, refused


@settings(max_examples=60)
@given(ROWS, LIVE, SECTION, st.booleans(), st.sets(IDS, max_size=3))
def test_every_row_is_planned_or_unchanged_by_the_rule(rows, held, section, want_frames, doubles):
    plan = make_plan(batches(inventory(rows), doubles), tables(held), section, want_frames=want_frames)
    judged = list(todo(rows, held, section, want_frames))
    expected = {row["id"]: row for row, done, refused in judged if not done and not refused}

    planned = [row for unit in plan.units for row in unit.to_pylist()]
    assert Counter(row["utterance_id"] for row in planned) == Counter(expected.keys())
    assert (plan.num_input, plan.num_planned) == (len(rows), len(expected))
    assert plan.num_unchanged == len(rows) - len(expected)
    assert plan.num_known_rejects == sum(refused and not done for _, done, refused in judged)
    assert plan.num_gone == sum(row["version"] == "" and row["id"] in held["utterances"] for row in rows)
    assert plan.num_changed == sum(id_ in held["utterances"] for id_ in expected)
    assert plan.languages == sorted({row["language"] for row in rows})
    for row in planned:
        id_ = row["utterance_id"]
        assert row["in_utterances"] == (id_ in held["utterances"])
        assert row["in_rejects"] == (id_ in held["rejects"])
        assert row["reason"] == ("duplicate_id" if id_ in doubles else None)
        assert (row["detail"] is None) == (row["reason"] is None)
        assert row["text"] == f"text of {id_}"
    for files, table, letter in (
        (plan.utterance_files, held["utterances"], "u"),
        (plan.reject_files, held["rejects"], "r"),
        (plan.frame_files, held["frames"] or (), "f"),
    ):
        assert files == {id_: f"{letter}/{id_}" for id_ in expected if id_ in table}


@settings(max_examples=40)
@given(ROWS, LIVE, SECTION, st.booleans(), st.sets(IDS, max_size=3), st.integers(1, 7))
def test_a_source_cut_into_batches_is_planned_like_the_whole(rows, held, section, want_frames, doubles, size):
    table, options = inventory(rows), {"want_frames": want_frames}
    whole = make_plan(batches(table, doubles), tables(held), section, **options)
    cut = make_plan(batches(table, doubles, size), tables(held), section, **options)
    assert [unit.to_pylist() for unit in cut.units] == [unit.to_pylist() for unit in whole.units]
    assert replace(cut, units=[], audio_s=0.0) == replace(whole, units=[], audio_s=0.0)
    assert whole.columns == (table.schema if rows else schema.INVENTORY)
    assert cut.audio_s == pytest.approx(whole.audio_s)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=12), st.data())
def test_rows_are_taken_from_any_shelf_in_the_order_asked_for(sizes, data):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(units, "_SHELF_ROWS", 5)
        planned, names = units.Planned(), iter(range(100))
        for size in sizes:
            planned.add(inventory([{"id": f"u{next(names)}"} for _ in range(size)]))
        rows = data.draw(st.lists(st.integers(0, max(0, planned.num_rows - 1)), max_size=8)) if planned.num_rows else []
        if rows:
            taken = planned.take(np.array(rows))
            assert ids(taken) == [f"u{row}" for row in rows]
            assert all(column.num_chunks == 1 for column in taken.columns)


@pytest.mark.parametrize(
    "held",
    [
        live([("a", "v1"), ("b", "v1"), ("a", "v2")]),
        live(rejects=[("a", "v1", "empty"), ("a", "v1", "empty")]),
        live([("a", "v1")], frames=["a", "a"]),
    ],
)
def test_an_id_that_a_table_has_twice_is_refused(held):
    with pytest.raises(SinkError, match="the tables hold 1 utterances of this source twice"):
        make_plan(batches(inventory([{"id": "a"}, {"id": "c"}])), held, PlanSection())
    assert make_plan(batches(inventory([{"id": "c"}])), held, PlanSection()).num_planned == 1


def seconds(row):
    """Announced, or the segment's length, or a guess from the size."""
    if row["end_s"] is not None:
        return max(0.0, row["end_s"] - (row["start_s"] or 0.0))
    if row["announced_duration_s"] is not None:
        return row["announced_duration_s"]
    rate = {".wav": 32_000, "flac": 16_000}.get(row["audio_uri"][-4:].lower(), 8_000)
    return max(row["source_bytes"] or 0, 0) / rate


def is_segment(row):
    return row["start_s"] is not None or row["end_s"] is not None


@settings(max_examples=60)
@given(ROWS, SECTION)
def test_units_keep_to_one_language_or_to_small_ones_and_to_their_limits(rows, section):
    plan = make_plan(batches(inventory(rows)), live(), section)
    units = [unit.to_pylist() for unit in plan.units]
    assert plan.unit_s == pytest.approx([sum(map(seconds, unit)) for unit in units])
    assert plan.unit_s == sorted(plan.unit_s, reverse=True)
    for unit, unit_s in zip(units, plan.unit_s, strict=True):
        languages = {row["language"] for row in unit}
        if len(languages) > 1:  # only languages that are small and wholly in this unit share it
            planned = [row for other in units for row in other if row["language"] in languages]
            assert len(planned) == len(unit)
            assert max(Counter(row["language"] for row in unit).values()) < SHARED_UTTERANCES
        assert 0 < len(unit) <= section.unit_utterances
        assert unit_s <= section.unit_audio_s + 1e-6 or len(unit) == 1
        fetched = {row["audio_uri"]: max(row["source_bytes"] or 0, 0) for row in unit}
        assert sum(fetched.values()) <= section.unit_bytes or sum(size > 0 for size in fetched.values()) == 1

        kinds = [is_segment(row) for row in unit]
        assert kinds == sorted(kinds, reverse=True)
        recordings = [uri for uri, _ in groupby(row["audio_uri"] for row in unit if is_segment(row))]
        assert len(recordings) == len(set(recordings))
        lengths = [seconds(row) for row in unit if not is_segment(row)]
        assert lengths == sorted(lengths, reverse=True)


def cut(rows, **limits):
    plan = make_plan(batches(inventory(rows)), live(), PlanSection(**limits))
    return [ids(unit) for unit in plan.units]


def test_long_before_short_and_the_longest_unit_first():
    rows = [{"id": f"{length}", "duration": float(length)} for length in (1, 9, 3, 8, 2, 5)]
    assert cut(rows, unit_utterances=2) == [["9", "8"], ["5", "3"], ["2", "1"]]
    assert cut(rows, unit_audio_s=10.5) == [["5", "3", "2"], ["9"], ["8"], ["1"]]


def test_a_row_beyond_a_limit_is_a_unit_of_its_own():
    rows = [{"id": "huge", "duration": 1e4, "bytes": 10**9}, *({"id": f"s{i}", "duration": 1.0} for i in range(3))]
    assert cut(rows) == [["huge"], ["s0", "s1", "s2"]]
    assert cut([{**row, "duration": 1.0} for row in rows], unit_bytes=100_000) == [["s0", "s1", "s2"], ["huge"]]


def test_there_are_units_for_many_encoders_as_soon_as_there_is_work_for_them():
    def lengths(count, seconds, **limits):
        rows = [{"id": f"u{i}", "duration": seconds, "bytes": 1000} for i in range(count)]
        return make_plan(batches(inventory(rows)), live(), PlanSection(**limits)).unit_s

    assert lengths(30, 10.0) == [30.0] * 10
    assert lengths(100, 96.0) == [96.0] * 100  # two would be more than a 64th
    assert lengths(1280, 10.0) == [200.0] * 64
    assert lengths(640, 1000.0) == [1000.0] * 640  # 1800 at most


def segments(uri, count, **row):
    return [{"id": f"{uri}{i}", "uri": uri, "start": float(i), "end": i + 1.0, **row} for i in range(count)]


def test_segments_of_one_recording_are_counted_once_in_bytes():
    assert cut([*segments("a", 3, bytes=100), *segments("b", 3, bytes=100)], unit_bytes=200) == [
        ["a0", "a1", "a2", "b0", "b1", "b2"]
    ]


def test_a_recording_that_goes_on_in_the_next_unit_is_counted_there_again():
    rows = [*segments("a", 3, bytes=100), *segments("b", 2, bytes=100)]
    assert sorted(cut(rows, unit_bytes=150, unit_utterances=2)) == [["a0", "a1"], ["a2"], ["b0", "b1"]]


def test_segments_of_a_recording_beyond_the_limit_are_still_read_together():
    rows = [*segments("huge", 50, bytes=10**9), *segments("small", 2, bytes=10)]
    assert cut(rows, unit_bytes=1000) == [[f"huge{i}" for i in range(50)], ["small0", "small1"]]


def test_segments_keep_the_order_of_the_recording():
    rows = segments("a", 12)
    assert cut(rows[::-1]) == [[row["id"] for row in rows]]


def test_an_empty_source_and_one_that_is_done():
    for rows in ([], [{"id": "a"}]):
        plan = make_plan(batches(inventory(rows)), live([("a", "v1")]), PlanSection())
        assert (plan.units, plan.unit_s, plan.num_planned, plan.num_unchanged) == ([], [], 0, len(rows))


def test_units_have_the_columns_that_reading_needs():
    (unit,) = make_plan(batches(inventory([{"id": "a"}])), live(), PlanSection()).units
    assert unit.schema.names == [*schema.INVENTORY.names, "text", *schema.PLANNED.names]
    assert all(column.num_chunks == 1 for column in unit.columns)


def test_two_hundred_thousand_rows_are_planned_in_seconds_and_little_memory():
    count, rng = 200_000, np.random.default_rng(0)
    names = pa.array([f"utterance-{i:09d}" for i in range(count)])
    versions = pa.array(["v1"] * count)
    columns = {
        **{name: pa.nulls(count, schema.INVENTORY.field(name).type) for name in schema.INVENTORY.names},
        "utterance_id": names,
        "audio_uri": pa.array([f"s3://bucket/audio/{i:09d}.flac" for i in range(count)]),
        "source_version": versions,
        "source_bytes": pa.array(rng.integers(1_000, 900_000, count)),
        "announced_duration_s": pa.array(rng.uniform(0.5, 30, count)),
        "language": pa.array([f"l{i:02d}" for i in range(100)]).take(pa.array(rng.integers(0, 100, count))),
    }
    table = pa.table(columns).cast(schema.INVENTORY)
    half = pa.table({"utterance_id": names[::2], "source_version": versions[::2]})
    held = Live(utterances=Known.of([Held.of(half, "some/file")]), rejects=live().rejects)
    before, started = pa.total_allocated_bytes(), time.process_time()
    plan = make_plan(batches(table), held, PlanSection())
    assert time.process_time() - started < 10
    assert pa.total_allocated_bytes() - before < 3 * table.nbytes
    assert plan.num_planned == count // 2 == sum(unit.num_rows for unit in plan.units)
    assert all(long >= short for long, short in pairwise(plan.unit_s))
