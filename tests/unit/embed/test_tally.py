import pytest

from w2vb_ray.config.embed import PlanSection
from w2vb_ray.embed import tally as module
from w2vb_ray.embed.plan import make_plan
from w2vb_ray.embed.tally import Tally
from w2vb_ray.errors import NotReconciled

from .rows import batches, inventory, live

ROWS = {"utterances": 3, "rejects": 1}


def descriptor(units, *outcomes, num_frames=100, num_padding_frames=25, started=0.0, lengths=(0, 1)):
    return {
        "units": units,
        "outcomes": [{"language": lang, "reason": why, "count": n, "audio_s": s} for lang, why, n, s in outcomes],
        "num_frames": num_frames,
        "num_padding_frames": num_padding_frames,
        "num_by_length": list(lengths),
        "read_s": 0.25,
        "encode_s": 0.5,
        "write_s": 0.125,
        "encode_started": started,
    }


@pytest.fixture
def plan():
    """Five rows, one of them unchanged: two units of two rows."""
    rows = [{"id": f"u{i}"} for i in range(5)]
    return make_plan(batches(inventory(rows)), live([("u0", "v1")]), PlanSection(unit_utterances=2))


def tally(*descriptors):
    counted = Tally()
    counted.add(descriptors)
    return counted


FIRST = descriptor([0], ("eng", None, 1, 2.0), ("no", None, 1, 3.0))
SECOND = descriptor([1], ("eng", None, 1, 4.0), ("eng", "empty", 1, None), num_frames=50, num_padding_frames=25)


def test_totals():
    counted = tally(FIRST, SECOND)
    counted.add([descriptor([2], ("no", "empty", 2, None), ("no", "missing", 1, None))])
    assert (counted.embedded, counted.rejected, counted.audio_s) == (3, 4, 9.0)
    assert counted.reasons == {"empty": 3, "missing": 1}
    assert (counted.languages["eng"].embedded, counted.languages["eng"].audio_s) == (2, 6.0)
    assert counted.languages["no"].rejected == {"empty": 2, "missing": 1}
    assert (counted.num_frames, counted.num_padding_frames, counted.encode_s) == (250, 75, 1.5)
    assert counted.padding_waste == 75 / 325
    assert Tally().padding_waste == 0
    assert (counted.read_s, counted.write_s) == (0.75, 0.375)
    assert counted.num_by_length == {0: 0, 1: 3}


def test_the_steady_part_goes_from_the_first_unit_to_the_last_commit(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(module.time, "time", lambda: now[0])
    counted = Tally()
    assert counted.steady_s == 0
    for finished, started in ((1000.0, 990.0), (1020.0, 980.0), (1050.0, 1030.0)):
        now[0] = finished
        counted.add([descriptor([0], ("eng", None, 1, 2.0), started=started)], commit_s=1.5)
    now[0] = 2000.0
    assert counted.timeline == [(1000.0, 2.0), (1020.0, 4.0), (1050.0, 6.0)]
    assert counted.commit_s == 4.5
    assert counted.steady_s == 70.0


def test_what_adds_up_passes(plan):
    tally(FIRST, SECOND).reconcile(plan, ROWS, dict(ROWS))


@pytest.mark.parametrize(
    ("descriptors", "found", "message"),
    [
        ([FIRST], ROWS, r"input 5 != 2 embedded \+ 0 rejected \+ 1 unchanged"),
        ([FIRST, SECOND, descriptor([2], ("eng", None, 1, 1.0))], ROWS, r"input 5 != 4 embedded \+ 1 rejected"),
        ([FIRST, SECOND, descriptor([1])], ROWS, "2 of 2 units came out, 1 of them twice"),
        ([descriptor([0], ("eng", None, 4, 1.0))], ROWS, "1 of 2 units came out, 0 of them twice"),
        (
            [FIRST, SECOND],
            {"utterances": 4, "rejects": 1},
            "should hold .*'utterances': 3.* but hold .*'utterances': 4",
        ),
        ([FIRST, SECOND], {"utterances": 3}, "should hold"),
    ],
)
def test_what_does_not_add_up_is_told(plan, descriptors, found, message):
    with pytest.raises(NotReconciled, match=message):
        tally(*descriptors).reconcile(plan, ROWS, found)
