import pytest

from w2vb_ray.embed.ledger import MAX_ATTEMPTS, Ledger, Place, Refusal


def at(pid, node="a"):
    return Place(node, pid, "100")


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def nodes():
    return {"a", "b"}


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def ledger(nodes, clock):
    return Ledger(60.0, lambda: nodes, clock)


def test_a_unit_is_refused_after_its_second_dead_worker(ledger):
    assert ledger.begin("read", [7], at(1)) == [7]
    assert ledger.begin("read", [7], at(2)) == [7]
    assert ledger.begin("read", [7], at(3)) == []
    standing = ledger.standing()
    assert standing.refused == {7: Refusal("read", 2)}
    assert standing.num_deaths == 2


def test_stages_count_apart(ledger):
    for pid, stage in enumerate(["read", "encode", "write", "read", "encode", "write"]):
        assert ledger.begin(stage, [7], at(pid)) == [7]
    assert ledger.begin("encode", [7], at(9)) == []
    assert ledger.standing().refused == {7: Refusal("encode", 2)}


def test_what_has_ended_is_no_death(ledger):
    for pid in range(3):
        assert ledger.begin("read", [7, 8], at(pid)) == [7, 8]
        ledger.end("read", [7, 8], at(pid))
    assert ledger.standing().num_deaths == 0


def test_a_worker_that_says_the_same_twice_lives(ledger):
    for _ in range(5):
        assert ledger.begin("read", [7], at(1)) == [7]
    assert ledger.standing().num_deaths == 0


def test_a_pid_that_is_used_again_is_another_worker(ledger):
    assert ledger.begin("read", [7], Place("a", 1, "100")) == [7]
    assert ledger.begin("read", [7], Place("a", 1, "200")) == [7]
    assert ledger.begin("read", [7], Place("a", 1, "300")) == []


def test_only_the_units_that_died_are_refused(ledger):
    for pid in range(2):
        assert ledger.begin("write", [7], at(pid)) == [7]
    assert ledger.begin("write", [6, 7, 8], at(3)) == [6, 8]


def test_workers_that_went_with_their_node_do_not_count(ledger, nodes):
    ledger.begin("read", [7], at(1, "a"))
    ledger.begin("read", [7], at(2, "b"))
    nodes.discard("b")
    assert ledger.begin("read", [7], at(3, "a")) == [7]
    nodes.add("c")
    assert ledger.begin("read", [7], at(4, "c")) == [], "two on nodes that are there"
    assert ledger.standing().num_deaths == 3


def test_a_worker_may_not_die_of_its_result_for_ever(ledger):
    for pid in range(MAX_ATTEMPTS):
        assert ledger.begin("read", [7], at(pid)) == [7]
        ledger.end("read", [7], at(pid))
    assert ledger.begin("read", [7], at(99)) == []
    assert ledger.standing().refused == {7: Refusal("read", MAX_ATTEMPTS)}


def test_overdue_is_whoever_showed_no_progress_for_long(ledger, clock):
    ledger.begin("read", [1], at(1))
    ledger.begin("encode", [2], at(2))
    ledger.begin("write", [3, 4], at(3))
    clock.now = 50.0
    ledger.beat("encode", [2], at(2))
    assert ledger.standing().overdue == []
    clock.now = 70.0
    ledger.begin("read", [5], at(5))
    assert ledger.standing().overdue == [at(1), at(3)]
    assert ledger.standing().overdue == [], "once, until it is late again"
    ledger.end("write", [3, 4], at(3))
    clock.now = 131.0
    assert ledger.standing().overdue == [at(1), at(2), at(5)]


def test_a_dead_worker_is_not_overdue(ledger, clock):
    ledger.begin("read", [1], at(1))
    clock.now = 50.0
    ledger.begin("read", [1], at(2))
    clock.now = 70.0
    assert ledger.standing().overdue == []
    ledger.note_hung()
    assert ledger.standing().num_hung == 1


def test_a_late_word_of_a_worker_that_was_taken_for_dead_ends_nothing_of_the_next(ledger, clock):
    ledger.begin("read", [1], at(1))
    ledger.begin("read", [1], at(2))
    ledger.end("read", [1], at(1))
    clock.now = 61.0
    assert ledger.standing().overdue == [at(2)]


def test_a_process_that_falls_silent_is_overdue_once_whatever_it_was_doing(ledger, clock):
    ledger.alive(at(1))
    ledger.alive(at(2))
    clock.now = 50.0
    ledger.alive(at(2))
    clock.now = 70.0
    assert ledger.standing().overdue == [at(1)]
    clock.now = 105.0
    assert ledger.standing().overdue == []


def test_quiet_is_the_time_since_anything_moved(ledger, clock):
    clock.now = 10.0
    assert ledger.standing().quiet_s == 10.0
    ledger.begin("read", [1], at(1))
    clock.now = 25.0
    ledger.alive(at(1))
    assert ledger.standing().quiet_s == 15.0, "to be alive is not to move"
    ledger.beat("read", [1], at(1))
    clock.now = 30.0
    assert ledger.standing().quiet_s == 5.0
    ledger.end("read", [1], at(1))
    assert ledger.standing().quiet_s == 0.0
