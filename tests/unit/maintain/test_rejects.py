import pytest

from tests.unit.embed.sink import ELSEWHERE, LAYOUTS_WITH_FRAMES, Driver
from w2vb_ray.embed.tables import REJECTS, Table
from w2vb_ray.errors import TableHeld
from w2vb_ray.maintain.rejects import rejects

from .tables import Sink, killed, rows

SOURCE = (
    *rows("a", "b"),
    *rows("e1", "e2", "e3", reason="empty"),
    *rows("e4", reason="empty", language="no"),
    *rows("u1", reason="undecodable"),
    *rows("m1", reason="missing", language="no"),
)


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    sink = Sink(tmp_path_factory.mktemp("filled") / "sink")
    sink.embed(*SOURCE)
    return sink.folder


def listed(config, sink, dry_run=False, **section):
    done = rejects(config("rejects", maintain={"dry_run": dry_run}, rejects=section), sink.tables(), "m1")
    return [(group.reason, group.language, group.num_rows) for group in done]


def test_rejects_are_listed_by_reason_and_language(filled, config):
    state = filled.state()
    everything = [("empty", "eng", 3), ("empty", "no", 1), ("missing", "no", 1), ("undecodable", "eng", 1)]
    assert listed(config, filled) == everything
    assert listed(config, filled, reasons=["empty"]) == everything[:2]
    assert listed(config, filled, languages=["no"]) == everything[1:3]
    assert listed(config, filled, reasons=["missing", "undecodable"], languages=["eng"]) == everything[3:]
    assert listed(config, filled, reasons=["too_long"]) == []
    assert filled.state() == state


def test_each_comes_with_an_example(filled, config):
    (group,) = rejects(config("rejects", rejects={"reasons": ["undecodable"]}), filled.tables(), "m1")
    assert (group.audio_uri, group.detail) == ("/audio/u1.wav", "why")


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({}, {"e1", "e2", "e3", "e4", "u1", "m1"}),
        ({"reasons": ["undecodable", "missing"]}, {"u1", "m1"}),
        ({"reasons": ["empty"], "languages": ["eng"]}, {"e1", "e2", "e3"}),
        ({"reasons": ["too_long"]}, set()),
    ],
)
def test_exactly_these_are_tried_again(filled, config, section, expected):
    assert sum(number for *_, number in listed(config, filled, retry=True, **section)) == len(expected)
    assert set(filled.ids()[REJECTS]) == {"e1", "e2", "e3", "e4", "u1", "m1"} - expected
    mended = [{**row, "reason": None} for row in SOURCE]
    plan = filled.embed(*mended)
    assert {id_ for unit in plan.units for id_ in unit["utterance_id"].to_pylist()} == expected
    assert filled.ids()["utterances"] == sorted({"a", "b"} | expected)


def test_a_dry_run_says_what_would_be_tried(filled, config):
    state = filled.state()
    assert listed(config, filled, retry=True, dry_run=True, reasons=["empty"]) == [
        ("empty", "eng", 3),
        ("empty", "no", 1),
    ]
    assert filled.state() == state


@pytest.mark.parametrize("at", range(1, 6))
def test_the_same_command_finishes_what_a_crash_left(filled, config, monkeypatch, at):
    assert killed(monkeypatch, Table, "append", at, lambda: listed(config, filled, retry=True))
    listed(config, filled, retry=True)
    assert filled.ids()[REJECTS] == []
    assert filled.embed(*SOURCE).num_planned == 6


def test_they_are_not_taken_from_under_a_run(filled, config):
    assert Driver(filled.folder, "run", ELSEWHERE).hold(LAYOUTS_WITH_FRAMES)
    with pytest.raises(TableHeld):
        listed(config, filled, retry=True)
    assert len(listed(config, filled)) == 4  # looking is free
