"""How long recordings are taken to be before anyone has read them."""

import math
from collections import Counter

import pytest

from w2vb_ray.config.embed import PlanSection
from w2vb_ray.embed.plan import make_plan

from .rows import batches, inventory, live


@pytest.mark.parametrize("time_s", [math.inf, math.nan, -math.inf, -5.0])
def test_a_time_that_is_none_does_not_spoil_the_estimate(time_s):
    rows = [{"id": "bad", "start": 0.0, "end": time_s, "bytes": 64_000}, {"id": "fine", "duration": 1.0}]
    plan = make_plan(batches(inventory(rows)), live(), PlanSection())
    assert all(0 <= unit_s < 10 for unit_s in plan.unit_s)
    assert Counter(id_ for unit in plan.units for id_ in unit["utterance_id"].to_pylist()) == Counter(["bad", "fine"])


@pytest.mark.parametrize(
    ("name", "length_s"),
    [
        ("a.wav", 10),
        ("a.WAV", 10),
        ("a.aiff", 10),
        ("a.raw", 10),
        ("a.flac", 20),
        ("a.opus", 40),
        ("a", 40),
        ("x.wav/a", 40),
    ],
)
def test_unknown_lengths_are_guessed_from_size_and_suffix(name, length_s):
    plan = make_plan(batches(inventory([{"id": "a", "uri": name, "bytes": 320_000}])), live(), PlanSection())
    assert plan.unit_s == [length_s]
    assert (plan.audio_s, plan.num_without_duration) == (0.0, 1)


def test_announced_audio_is_summed_where_it_is_known():
    rows = [{"id": "a", "duration": 2.5}, {"id": "b", "duration": 1.5}, {"id": "c"}]
    plan = make_plan(batches(inventory(rows)), live([("a", "v1")]), PlanSection())
    assert (plan.audio_s, plan.num_without_duration) == (1.5, 1)
