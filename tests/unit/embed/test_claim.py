import time

import pytest

from w2vb_ray.embed.claim import last_commit
from w2vb_ray.embed.tables import FRAMES, REJECTS, UTTERANCES, Table
from w2vb_ray.errors import TableHeld

from .sink import (
    DEAD,
    ELSEWHERE,
    HERE,
    LAYOUTS,
    LAYOUTS_WITH_FRAMES,
    REUSED,
    WIDER,
    held_by,
    log,
)


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
