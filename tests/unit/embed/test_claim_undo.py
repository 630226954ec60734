"""A batch that a dead run left half done is undone by the next one."""

import pytest
from deltalake import CommitProperties

from w2vb_ray.embed.claim import last_commit
from w2vb_ray.embed.tables import FRAMES, REJECTS, UTTERANCES, Table, add_action, remove_action

from .sink import DEAD, Died, data_file, dies, held_by, log


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


@pytest.mark.parametrize("fault", ["refuse", "lose"])
def test_undoing_survives_what_every_commit_does(driver, zombie, fault):
    zombie.commit(["w"], ["wr"], ["wf"])
    dies(zombie, at=UTTERANCES)
    run_b = driver("b")
    run_b.tables[REJECTS].script = [None, fault]  # its claim, then the undo
    assert run_b.hold()
    run_b.commit(["x"], ["xr"], ["xf"])
    assert [held_by(driver.folder, name) for name in (UTTERANCES, REJECTS)] == [["w", "x"], ["wr", "xr"]]
    assert [kind for run_id, kind, _ in log(driver.folder, REJECTS) if run_id == "b"] == ["claim", "undo", "batch"]


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
