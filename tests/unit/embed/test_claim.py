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
    HERE,
    LAYOUTS,
    LAYOUTS_WITH_FRAMES,
    REUSED,
    Died,
    Driver,
    data_file,
    held_by,
    log,
    open_tables,
)


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    """What a driver would have slept between attempts, in seconds."""
    slept = []
    monkeypatch.setattr(module.time, "sleep", slept.append)
    return slept


@pytest.fixture
def driver(tmp_path):
    def driver(run_id, *arguments, **options):
        return Driver(tmp_path, run_id, *arguments, **options)

    driver.folder = tmp_path
    return driver


@pytest.fixture
def run_a(driver):
    """A run that holds new tables."""
    run = driver("a")
    assert run.hold()
    return run


def refused(action):
    with pytest.raises(TableHeld) as caught:
        action()
    return str(caught.value)


# Taking and letting go


def test_the_first_commit_of_a_new_table_is_the_claim(driver, run_a):
    assert run_a.claim.is_held
    assert [(run, kind) for run, kind, _ in log(driver.folder)] == [("a", "claim")]
    last = last_commit(run_a.tables[UTTERANCES])
    assert (last.run_id, last.kind, last.number, last.holder) == ("a", "claim", 0, HERE)
    assert last.holds
    assert time.time() * 1000 < last.expires_ms < time.time() * 1000 + 121_000
    assert not run_a.tables[FRAMES].exists


def test_while_it_lives_nobody_else_may(driver, run_a):
    for _ in range(2):  # after a batch as well
        message = refused(driver("b").claim.check_free)
        assert message.startswith(
            f"run a (host {HERE.host}, process {HERE.pid}) holds these tables; its claim runs until 20"
        )
        assert "Wait for it to end" in message
        run_a.claim.check_free()  # but it may itself
        run_a.commit(["x"])


def test_once_released_everybody_may(driver, run_a):
    run_a.commit(["x"])
    run_a.claim.release()
    assert not run_a.claim.is_held
    run_a.claim.release()  # nothing left to release
    run_b = driver("b")
    run_b.claim.check_free()
    assert run_b.hold()
    run_b.commit(["y"])
    assert held_by(driver.folder) == ["x", "y"]
    assert refused(driver("c").claim.check_free).startswith("run b ")


@pytest.mark.parametrize("holder", [DEAD, REUSED])
def test_a_dead_process_holds_nothing(driver, holder):
    assert driver("a", holder).hold()
    run_b = driver("b")
    run_b.claim.check_free()
    assert run_b.hold()


def test_another_machine_holds_until_its_lease_ends(driver):
    assert driver("a", ELSEWHERE, lease_s=3600).hold()
    refused(driver("b").claim.check_free)


def test_a_lease_that_has_ended_may_be_taken_over(driver):
    assert driver("a", ELSEWHERE, lease_s=-1).hold()
    run_b = driver("b")
    run_b.claim.check_free()
    assert run_b.hold()


def test_tables_that_do_not_exist_are_free(driver):
    run = driver("a")
    run.claim.check_free()
    assert not run.claim.has_unconfirmed()
    assert not run.claim.is_held
    run.claim.release()
    assert list(driver.folder.iterdir()) == []


def test_two_that_look_at_the_same_moment(driver):
    driver("old", DEAD).hold()
    run_a, run_b = driver("a"), driver("b")
    assert run_a.claim.take()
    assert not run_b.claim.take()  # its plan is stale: it must look again
    run_b.tables[UTTERANCES].reload()
    assert refused(run_b.claim.check_free).startswith("run a ")
    run_a.commit(["x"])
    assert held_by(driver.folder) == ["x"]


def test_two_that_create_at_the_same_moment(driver):
    run_a, run_b = driver("a"), driver("b")
    assert run_a.hold()
    assert not run_b.claim.create_missing(LAYOUTS)
    assert refused(run_b.claim.check_free).startswith("run a ")
    run_a.commit(["x"], ["r"])
    assert (held_by(driver.folder), held_by(driver.folder, REJECTS)) == (["x"], ["r"])


def test_a_table_that_comes_later_is_claimed_too(driver, run_a):
    run_a.claim.release()
    run_b = driver("b")
    assert run_b.hold(LAYOUTS_WITH_FRAMES)
    run_b.commit(["x"], frames=["fx"])
    assert held_by(driver.folder, FRAMES) == ["fx"]
    assert log(driver.folder, FRAMES)[0][:2] == ("b", "claim")


@pytest.mark.parametrize("used", [False, True])
def test_a_table_that_a_lost_run_creates_first_is_still_claimed(driver, used):
    # The old run seemed dead after its first table, and comes to life again as the new one makes the second.
    zombie = driver("zombie", DEAD)
    assert zombie.claim.create_missing({UTTERANCES: LAYOUTS[UTTERANCES]})
    run_b = driver("b")
    assert run_b.claim.take()
    zombie.claim.create_missing(LAYOUTS)
    if used:
        refused(lambda: zombie.commit(["z"], ["zr"]))
    assert run_b.claim.create_missing(LAYOUTS)
    refused(lambda: zombie.commit(["z"], ["zr"]))
    run_b.commit(["x"], ["r"])
    assert (held_by(driver.folder), held_by(driver.folder, REJECTS)) == (["x"], ["r"])


# Losing the hold


def taken_over(driver, run_a):
    """Run B comes while A, still working, looks dead."""
    run_a.commit(["a1"])
    run_b = driver("b")
    run_b.claim.check_free()
    assert run_b.hold()
    return run_b


@pytest.fixture
def zombie(driver):
    run = driver("a", DEAD)
    assert run.hold(LAYOUTS_WITH_FRAMES)
    return run


def test_a_run_that_was_taken_over_commits_nothing_more(driver, zombie):
    run_b = taken_over(driver, zombie)
    message = refused(lambda: zombie.commit(["a2"], ["a2r"], ["a2f"]))
    assert message.startswith(f"run b (host {HERE.host}) took over")
    assert "what it has committed stays" in message
    run_b.commit(["b1"], ["b1r"], ["b1f"])
    refused(lambda: zombie.commit(["a3"]))
    assert [held_by(driver.folder, name) for name in (UTTERANCES, REJECTS, FRAMES)] == [["a1", "b1"], ["b1r"], ["b1f"]]


@pytest.mark.parametrize("batch", [{"utterances": ["a2"]}, {"rejects": ["a2"]}, {"frames": ["a2"]}, {}])
def test_whatever_it_wants_to_commit(driver, zombie, batch):
    taken_over(driver, zombie)
    refused(lambda: zombie.commit(**batch))
    assert [held_by(driver.folder, name) for name in (UTTERANCES, REJECTS, FRAMES)] == [["a1"], [], []]


WIDER = pa.schema([*LAYOUTS[UTTERANCES].columns, pa.field("speaker", pa.string())])
LOST = {
    "renew": lambda run: run.claim.renew_if_due(),
    "release": lambda run: run.claim.release(),
    "extend": lambda run: run.claim.extend(run.tables[UTTERANCES], WIDER),
}


@pytest.mark.parametrize("kind", LOST)
def test_nor_may_it_do_anything_else(driver, zombie, monkeypatch, kind):
    taken_over(driver, zombie)
    monkeypatch.setattr(zombie.claim, "_renewed", -1e9)
    for _ in range(2):  # nor when it has looked at the log since
        assert refused(lambda: LOST[kind](zombie)).startswith("run b ")
    zombie.claim.release_quietly()
    assert "speaker" not in Table(UTTERANCES, str(driver.folder), {}).columns.names
    assert [run for run, _, _ in log(driver.folder)][-1] == "b"
    assert refused(driver("c").claim.check_free).startswith("run b ")


@pytest.mark.parametrize("place", [REJECTS, FRAMES, UTTERANCES])
def test_it_is_taken_over_in_the_middle_of_a_batch(driver, zombie, place):
    successors = []
    zombie.commit(["a0"], ["a0r"], ["a0f"])

    def take_over():
        run_b = driver("b")
        run_b.claim.check_free()
        if run_b.claim.has_unconfirmed():
            assert run_b.claim.take()
        assert run_b.hold()
        successors.append(run_b)

    zombie.tables[place].script = [take_over]
    refused(lambda: zombie.commit(["a1"], ["a1r"], ["a1f"]))
    (run_b,) = successors
    run_b.commit(["b1"], ["b1r"], ["b1f"])
    assert [held_by(driver.folder, name) for name in (UTTERANCES, REJECTS, FRAMES)] == [
        ["a0", "b1"],
        ["a0r", "b1r"],
        ["a0f", "b1f"],
    ]


def test_its_last_commit_slips_in_between_the_claims_of_two_tables(driver, zombie):
    run_b = driver("b")

    def slip():
        refused(lambda: zombie.commit(["a1"], ["a1r"], ["a1f"]))

    run_b.tables[REJECTS].script = run_b.tables[FRAMES].script = [slip]
    assert run_b.claim.take()
    assert [held_by(driver.folder, name) for name in (UTTERANCES, REJECTS, FRAMES)] == [[], [], []]
    run_b.commit(["b1"], ["b1r"])
    assert (held_by(driver.folder), held_by(driver.folder, REJECTS)) == (["b1"], ["b1r"])


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


def dies(run, *, at):
    run.tables[at].script = ["die"]
    with pytest.raises(Died):
        run.commit(["a1"], ["a1r"], ["a1f"])


@pytest.mark.parametrize("at", [REJECTS, FRAMES, UTTERANCES])
@pytest.mark.parametrize("batches_before", [0, 2])
def test_the_next_run_undoes_exactly_the_batch_that_a_dead_one_left_half_done(driver, zombie, at, batches_before):
    whole = [f"w{i}" for i in range(batches_before)]
    for id_ in whole:
        zombie.commit([id_], [f"{id_}r"], [f"{id_}f"])
    dies(zombie, at=at)
    run_b = driver("b")
    run_b.claim.check_free()
    assert run_b.claim.has_unconfirmed() == (at != REJECTS)
    assert run_b.hold()
    found = [held_by(driver.folder, name) for name in (UTTERANCES, REJECTS, FRAMES)]
    assert found == [whole, [f"{id_}r" for id_ in whole], [f"{id_}f" for id_ in whole]]
    assert not run_b.claim.has_unconfirmed()
    assert not driver("c").claim.has_unconfirmed()
    run_b.commit(["b1"], ["b1r"], ["b1f"])
    assert [held_by(driver.folder, name)[0] for name in (UTTERANCES, REJECTS, FRAMES)] == ["b1", "b1r", "b1f"]
    assert not driver("c").claim.has_unconfirmed()


def test_undoing_brings_back_what_the_half_batch_took_out(driver, zombie):
    zombie.commit(["u"], ["r"], ["f"])
    (driver.folder / REJECTS / "language=eng").mkdir()
    (driver.folder / REJECTS / data_file("r").path).touch()  # a removed file stays until a vacuum
    zombie.tables[UTTERANCES].script = ["die"]
    with pytest.raises(Died):
        zombie.claim.commit_batch({REJECTS: [remove_action(data_file("r")), add_action(data_file("r2"))]})
    assert held_by(driver.folder, REJECTS) == ["r2"]
    assert driver("b").hold()
    assert held_by(driver.folder, REJECTS) == ["r"]


def test_the_one_that_undoes_may_die_too(driver, zombie):
    zombie.commit(["w"], ["wr"], ["wf"])
    dies(zombie, at=UTTERANCES)
    second = driver("b", DEAD)
    second.tables[FRAMES].script = ["die"]
    with pytest.raises(Died):
        second.claim.take()
    third = driver("c")
    third.claim.check_free()
    assert third.claim.has_unconfirmed()
    assert third.hold()
    assert [held_by(driver.folder, name) for name in (UTTERANCES, REJECTS, FRAMES)] == [["w"], ["wr"], ["wf"]]


def test_undoing_leaves_other_peoples_commits_alone(driver, zombie):
    zombie.commit(["w"], ["wr"], ["wf"])
    dies(zombie, at=UTTERANCES)
    for _ in range(6):  # maintenance in between, with commits of its own kind
        table = Table(UTTERANCES, str(driver.folder), {})
        table.append([], CommitProperties(custom_metadata={"tool": "other"}))
    run_b = driver("b")
    assert last_commit(run_b.tables[UTTERANCES]).run_id == "a"
    assert run_b.claim.has_unconfirmed()
    assert run_b.hold()
    assert (held_by(driver.folder), held_by(driver.folder, REJECTS)) == (["w"], ["wr"])


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
