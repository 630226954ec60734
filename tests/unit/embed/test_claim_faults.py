import time

import pyarrow as pa
import pytest
from deltalake import CommitProperties
from deltalake.exceptions import DeltaError

from w2vb_ray.embed import claim as module
from w2vb_ray.embed.claim import BATCH, SCOPE, last_commit, number_of
from w2vb_ray.embed.tables import FRAMES, REJECTS, UTTERANCES, Table, add_action, remove_action
from w2vb_ray.errors import TableHeld, W2vbError

from .sink import (
    DEAD,
    ELSEWHERE,
    LAYOUTS,
    WIDER,
    data_file,
    dies,
    held_by,
    log,
    open_tables,
)


def test_a_run_that_was_overtaken_before_it_held_every_table_takes_none_back(driver):
    slow, quick = driver("slow", lease_s=0.0), driver("quick")
    slow.claim._holder = quick.claim._holder = ELSEWHERE.to_json()
    assert driver("first", DEAD).hold()
    for run in (slow, quick):
        for table in run.tables.values():
            table.reload()

    def overtake():
        quick.tables[UTTERANCES].reload()
        assert quick.hold()
        quick.commit(["x"], ["r"])

    slow.tables[REJECTS].script = [overtake]  # between its claim in `utterances` and that in `rejects`
    with pytest.raises(TableHeld, match="quick"):
        slow.hold()
    quick.commit(["y"], ["s"])
    assert (held_by(driver.folder), held_by(driver.folder, REJECTS)) == (["x", "y"], ["r", "s"])


# Lost replies, stores that are away for a moment, crashes


@pytest.mark.parametrize("name", [UTTERANCES, REJECTS])
def test_a_commit_whose_reply_is_lost_counts_once(driver, run_a, name):
    run_a.tables[name].script = ["lose"]
    run_a.commit(["x"], ["r"])
    run_a.commit(["y"])
    assert (held_by(driver.folder), held_by(driver.folder, REJECTS)) == (["x", "y"], ["r"])
    assert [kind for _, kind, _ in log(driver.folder)] == ["claim", "batch", "batch"]


@pytest.mark.parametrize("name", [UTTERANCES, REJECTS])
@pytest.mark.parametrize("script", [["refuse"], ["refuse"] * 4, ["refuse", "lose"]])
def test_a_commit_that_did_not_arrive_is_tried_again(driver, run_a, waits, name, script):
    run_a.tables[name].script = list(script)
    run_a.commit(["x"], ["r"])
    run_a.commit(["y"])
    assert (held_by(driver.folder), held_by(driver.folder, REJECTS)) == (["x", "y"], ["r"])
    assert waits == sorted(waits)
    assert len(waits) == script.count("refuse")


def test_a_store_that_stays_away_is_an_error_and_the_batch_did_not_happen(driver, run_a):
    run_a.commit(["x"])
    run_a.tables[UTTERANCES].script = ["refuse"] * 99
    with pytest.raises(W2vbError, match=r"refused commit \d+ of run a 5 times") as caught:
        run_a.commit(["y"], ["yr"])
    assert isinstance(caught.value.__cause__, OSError)
    assert not isinstance(caught.value, TableHeld)
    run_a.claim.release_quietly()
    run_a.tables[UTTERANCES].script = []
    run_a.claim.release_quietly()
    run_b = driver("b")
    run_b.claim.check_free()
    assert run_b.claim.has_unconfirmed()
    assert run_b.hold()
    assert (held_by(driver.folder), held_by(driver.folder, REJECTS)) == (["x"], [])


def test_a_lost_reply_to_a_claim_is_a_claim(driver):
    driver("old", DEAD).hold()
    run = driver("a")
    run.tables[UTTERANCES].script = run.tables[REJECTS].script = ["lose"]
    assert run.claim.take()
    run.commit(["x"], ["r"])
    assert (held_by(driver.folder), held_by(driver.folder, REJECTS)) == (["x"], ["r"])


@pytest.mark.parametrize("name", [UTTERANCES, REJECTS])
def test_a_claim_that_did_not_arrive_is_tried_again(driver, name):
    driver("old", DEAD).hold()
    run = driver("a")
    run.tables[name].script = ["refuse", "refuse"]
    assert run.claim.take()
    run.commit(["x"], ["r"])
    assert (held_by(driver.folder), held_by(driver.folder, REJECTS)) == (["x"], ["r"])


@pytest.mark.parametrize("name", [UTTERANCES, REJECTS])
def test_a_store_that_refuses_every_claim_is_not_taken_for_another_run(driver, name):
    driver("old", DEAD).hold()
    run = driver("a")
    run.tables[name].script = ["refuse"] * 99
    with pytest.raises(W2vbError, match="refused the claim of run a 5 times") as caught:
        run.claim.take()
    assert not isinstance(caught.value, TableHeld)
    assert isinstance(caught.value.__cause__, OSError)


def test_a_claim_that_did_not_arrive_is_not_tried_on_another_snapshot(driver):
    driver("old", DEAD).hold()
    run_a, run_b = driver("a"), driver("b", DEAD)

    def overtake():
        assert run_b.hold()
        run_b.commit(["x"])
        raise OSError("timeout")

    run_a.tables[UTTERANCES].script = [overtake]
    assert not run_a.claim.take()  # its plan knows nothing of x
    assert [run for run, _, _ in log(driver.folder)][-1] == "b"


@pytest.mark.parametrize("error", [OSError, DeltaError])
@pytest.mark.parametrize("name", [UTTERANCES, REJECTS])
def test_a_lost_reply_to_the_creation_of_a_table(driver, monkeypatch, error, name):
    run = driver("a")
    create = run.tables[name].create

    def create_and_lose(*arguments):
        create(*arguments)
        run.tables[name].delta = None
        raise error("connection reset")

    monkeypatch.setattr(run.tables[name], "create", create_and_lose)
    if not run.hold():  # look again, as after a race
        run.claim.check_free()
        assert run.hold()
    run.commit(["x"], ["r"])
    assert (held_by(driver.folder), held_by(driver.folder, REJECTS)) == (["x"], ["r"])


def test_rows_that_another_tool_moves_meanwhile_are_not_doubled(driver, run_a):
    run_a.commit(["old"])

    def compact():
        table = Table(UTTERANCES, str(driver.folder), {})
        moved = [remove_action(data_file("old")), add_action(data_file("compacted"))]
        table.append(moved, CommitProperties(custom_metadata={"tool": "other"}))

    run_a.tables[UTTERANCES].script = [compact]
    with pytest.raises(W2vbError, match="something else rewrote files"):
        run_a.claim.commit_batch({UTTERANCES: [remove_action(data_file("old")), add_action(data_file("new"))]})
    assert held_by(driver.folder) == ["compacted"]


# Numbers and leases


def test_numbers_only_grow_over_all_runs_and_tables(driver, zombie):
    zombie.commit(["a1"], ["a1r"])
    dies(zombie, at=UTTERANCES)
    driver("short", DEAD).hold()  # dies after its claims, those of rejects and frames being its last commits
    run_b = driver("b")
    run_b.hold()
    run_b.commit(["b1"], ["b1r"], ["b1f"])
    run_b.claim.extend(run_b.tables[UTTERANCES], pa.schema([pa.field("speaker", pa.string())]))
    run_b.commit(["b2"])
    run_b.claim.release()
    numbers = {name: [number for _, _, number in log(driver.folder, name)] for name in (UTTERANCES, REJECTS, FRAMES)}
    for name, found in numbers.items():
        assert found == sorted(set(found)), name
        assert number_of(run_b.tables[name], SCOPE) == found[-1]
    assert number_of(run_b.tables[UTTERANCES], BATCH) == next(
        number for _, kind, number in reversed(log(driver.folder)) if kind == "batch"
    )


def test_a_batch_has_one_number_in_all_its_tables(driver, zombie):
    zombie.commit(["u"], ["r"], ["f"])
    assert len({log(driver.folder, name)[-1] for name in (UTTERANCES, REJECTS, FRAMES)}) == 1
    zombie.commit(rejects=["r2"])  # only rejects: utterances still says that the batch counts
    assert log(driver.folder)[-1] == log(driver.folder, REJECTS)[-1]
    assert not driver("b").claim.has_unconfirmed()


def test_a_claim_is_renewed_when_a_third_of_its_lease_is_over(driver, run_a, monkeypatch):
    now = [time.monotonic()]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    kinds = lambda: [kind for _, kind, _ in log(driver.folder)]  # noqa: E731
    run_a.commit(["x"])
    for passed_s, expected in ((39, 0), (2, 1), (39, 1), (2, 2)):
        now[0] += passed_s
        run_a.claim.renew_if_due()
        assert kinds().count("renew") == expected
    run_a.commit(["y"])  # renews by itself
    now[0] += 39
    run_a.claim.renew_if_due()
    assert kinds().count("renew") == 2
    assert held_by(driver.folder) == ["x", "y"]


def test_a_lost_reply_to_an_extension(driver, run_a, monkeypatch):
    table = run_a.tables[UTTERANCES]
    add_columns = table.add_columns

    def add_and_lose(*arguments):
        add_columns(*arguments)
        raise OSError("connection reset")

    monkeypatch.setattr(table, "add_columns", add_and_lose)
    run_a.claim.extend(table, WIDER)
    run_a.commit(["x"])
    assert (table.columns.names[-1], held_by(driver.folder)) == ("speaker", ["x"])


def test_extending_adds_what_is_missing_and_nothing_else(driver, run_a):
    table = run_a.tables[UTTERANCES]
    wider = pa.schema([*LAYOUTS[UTTERANCES].columns, pa.field("age", pa.int64()), pa.field("speaker", pa.string())])
    run_a.commit(["x"])
    run_a.claim.extend(table, wider)
    run_a.claim.extend(table, wider)
    assert table.columns.names == wider.names
    assert [kind for _, kind, _ in log(driver.folder)] == ["claim", "batch", "schema"]
    run_a.commit(["y"])
    assert held_by(driver.folder) == ["x", "y"]
    assert last_commit(Table(UTTERANCES, str(driver.folder), {})).run_id == "a"


def test_tables_of_another_tool_have_no_last_commit(driver):
    tables = open_tables(driver.folder)
    assert last_commit(tables[UTTERANCES]) is None
    tables[UTTERANCES].create(LAYOUTS[UTTERANCES], CommitProperties())
    assert last_commit(tables[UTTERANCES]) is None
    assert number_of(tables[UTTERANCES], SCOPE) == -1
    run = driver("a")
    run.claim.check_free()
    assert run.hold()
    run.commit(["x"])
    assert held_by(driver.folder) == ["x"]
