import os
import time

import pytest

from w2vb_ray.config.embed import PlanSection
from w2vb_ray.config.sections import SourceSection
from w2vb_ray.embed.live import Known, Live
from w2vb_ray.embed.plan import make_plan
from w2vb_ray.embed.report import describe_plan
from w2vb_ray.source import build_inventory


@pytest.fixture
def folder(tmp_path):
    now = time.time()
    for name, age_s in (("old.wav", 3600), ("young.wav", 5), ("skewed.wav", -5), ("future.wav", -3600)):
        (tmp_path / name).write_bytes(b"1234")
        os.utime(tmp_path / name, (now - age_s, now - age_s))
    lines = [
        '{"path": "young.wav", "id": "twice"}',
        '{"path": "old.wav", "id": "twice"}',
        '{"path": "old.wav", "id": "o"}',
        '{"path": "gone.wav", "id": "g"}',
        '{"path": "young.wav", "id": "segment", "start": 0, "end": 1}',
        '{"path": "s3://b/x.wav", "id": "f"}',
        '{"path": "young.wav", "id": "f"}',
    ]
    (tmp_path / "m.jsonl").write_text("\n".join(lines))
    return tmp_path


def _plan(uri, **settings):
    inventory = build_inventory(SourceSection(uri=str(uri), **settings))
    live = Live(Known.of([]), Known.of([]), None)
    return inventory, make_plan(inventory.batches(), live, PlanSection())


def _names(plan):
    return {uri.rpartition("/")[2] for unit in plan.units for uri in unit["audio_uri"].to_pylist()}


def test_young_objects_wait_and_are_no_input(folder):
    inventory, plan = _plan(folder, min_age_s=600)
    assert _names(plan) == {"old.wav", "future.wav"}
    assert (plan.num_input, plan.num_planned, plan.num_waiting) == (2, 2, 2)
    assert "2 more younger than source.min_age_s wait for the next run" in describe_plan(
        plan, inventory.format, inventory.num_skipped
    )


def test_by_default_nothing_waits(folder):
    inventory, plan = _plan(folder)
    assert (plan.num_input, plan.num_waiting) == (4, 0)
    assert "wait" not in describe_plan(plan, inventory.format, inventory.num_skipped)


def test_a_source_that_is_all_young_has_nothing_to_do(folder):
    _, plan = _plan(folder, min_age_s=1e9)
    assert (plan.num_input, len(plan.units), plan.num_waiting) == (0, 0, 4)


def test_ids_and_refusals_stay_with_their_rows(folder):
    """Which of two rows has the id must not depend on which of them is young today."""
    _, plan = _plan(folder / "m.jsonl", min_age_s=600)
    rows = {row["utterance_id"]: row["reason"] for unit in plan.units for row in unit.to_pylist()}
    assert rows == {"twice#2": "duplicate_id", "o": None, "g": None, "f": "forbidden"}
    assert (plan.num_input, plan.num_waiting) == (4, 3)
    _, whole = _plan(folder / "m.jsonl")
    again = {row["utterance_id"]: row["reason"] for unit in whole.units for row in unit.to_pylist()}
    assert rows.items() <= again.items()
    assert (whole.num_input, whole.num_waiting) == (7, 0)
