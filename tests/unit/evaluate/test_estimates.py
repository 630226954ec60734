"""Against what the figures are by hand, and what an interval must hold."""

import numpy as np
import pytest

from w2vb_ray.evaluate.estimates import Estimate, Figure, macro_estimate, ratio

RNG = np.random.default_rng(0)


def estimate(totals, groups, **options):
    return macro_estimate(np.array(totals), np.array(groups), 400, np.random.default_rng(0), **options)


def test_groups_count_alike():
    found = estimate([[9, 10], [8, 10], [1, 2]], ["a", "a", "b"])
    assert found.value == pytest.approx((17 / 20 + 1 / 2) / 2)
    assert found.low <= found.value <= found.high


def test_another_figure_of_the_sums():
    found = estimate([[1, 2], [3, 4]], ["a", "a"], figure=lambda sums: sums[..., 0] * sums[..., 1])
    assert found.value == 24


def test_what_never_varies_has_no_width():
    found = estimate([[1, 2]] * 5, ["a", "a", "b", "b", "b"])
    assert (found.low, found.value, found.high) == (0.5, 0.5, 0.5)


def test_groups_that_are_all_there_are_leave_less_doubt():
    totals = [[float(group == "a"), 1] for group in "aabb" * 20]
    assert estimate(totals, list("aabb" * 20), draw_groups=False).high == 0.5
    assert estimate(totals, list("aabb" * 20)).high == 1


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    held = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        totals = np.stack([rng.random(200) < 0.3, np.ones(200)], axis=1).astype(float)
        found = macro_estimate(totals, np.zeros(200), 200, rng, draw_groups=False)
        held += found.low <= 0.3 <= found.high
    assert 88 <= held <= 100


def test_nothing_tried_is_nothing_hit():
    assert ratio(np.array([[0.0, 0.0], [1.0, 4.0]])).tolist() == [0, 0.25]
    found = Estimate.of(500, np.arange(1001.0))
    assert (found.low, found.value, found.high) == (25, 500, 975)


def test_a_lead_is_paired():
    """Utterances vary far more than two rows differ on them: intervals overlap, that of the difference does not."""
    truth = np.random.default_rng(0).random((200, 1))
    rows = {
        name: estimate(np.hstack([truth + bonus, np.ones((200, 1))]), ["a"] * 200)
        for name, bonus in {"layer": 0.02, "low": 0.0, "near": 0.015}.items()
    }
    rows["alone"] = Estimate(0.9, 0.8, 1.0)
    figure = Figure("share", 0.5, rows)
    assert rows["low"].high > rows["layer"].low
    rival, lead = figure.lead("layer", ["low", "near"])
    assert rival == "near"
    assert lead.value == pytest.approx(0.005)
    assert 0 < lead.low <= lead.high
    assert Figure("error", 0.5, rows, higher_is_better=False).lead("layer", ["low"])[1].high < 0
    assert figure.lead("layer", ["alone"]) is None
