import pytest

from w2vb_ray.config.embed import PlanSection
from w2vb_ray.embed.ledger import Refusal, Standing
from w2vb_ray.embed.plan import make_plan
from w2vb_ray.embed.rounds import PIECES, TOO_MANY, Retries, Rounds
from w2vb_ray.errors import ClusterError

from .rows import batches, inventory, live


def rounds_of(rows, unit_utterances):
    plan = make_plan(batches(inventory(rows)), live(), PlanSection(unit_utterances=unit_utterances))
    return plan, Rounds(plan)


def utterances(num):
    return [{"id": f"u{index:03d}", "duration": 0.01} for index in range(num)]


class Cluster:
    """Runs rounds, and refuses every unit that `kills` says it must.

    Args:
        kills: of the ids of a unit, the stage that dies at it, or None.
    """

    def __init__(self, kills):
        self.kills = kills
        self.refused = {}
        self.deaths = 0
        self.came_out = {}  # id -> reason, once each
        self.units = []

    def run(self, rounds, max_rounds=20):
        for _ in range(max_rounds):
            units = rounds.next()
            if not units:
                return
            for number in units:
                rows = rounds.rows(number)
                todo = rows.filter(rows["reason"].is_null())
                stage = self.kills(todo["utterance_id"].to_pylist(), todo["audio_uri"].to_pylist())
                if number in self.refused or stage:
                    self.refused[number] = Refusal(stage, 2)
                    self.deaths += 2
                    continue
                for row in rows.select(["utterance_id", "reason", "detail"]).to_pylist():
                    assert row["utterance_id"] not in self.came_out
                    self.came_out[row["utterance_id"]] = (row["reason"], row["detail"])
                rounds.came_out([number])
                self.units.append(number)
            assert rounds.close(Standing(dict(self.refused), self.deaths))
        raise AssertionError("it does not end")

    @property
    def rejected(self):
        return sorted(id_ for id_, (reason, _) in self.came_out.items() if reason is not None)


def deadly(*bad, stage="encode"):
    return lambda ids, _: stage if set(bad) & set(ids) else None


def test_without_deaths_there_is_one_round():
    plan, rounds = rounds_of(utterances(40), 8)
    cluster = Cluster(deadly())
    cluster.run(rounds)
    assert rounds.expected == set(range(len(plan.units))) == set(cluster.units)
    assert rounds.retries == Retries()
    assert rounds.seconds(range(len(plan.units))) == pytest.approx(40 * 0.01)


@pytest.mark.parametrize("bad", [["u000"], ["u511"], ["u007", "u300", "u301"]])
def test_the_few_that_kill_are_found_and_everything_else_comes_out(bad):
    _, rounds = rounds_of(utterances(600), 512)
    cluster = Cluster(deadly(*bad))
    cluster.run(rounds)
    assert cluster.rejected == bad
    assert cluster.came_out[bad[0]] == ("worker_crash", "2 workers died or hung in the encode stage, in the end alone")
    assert len(cluster.came_out) == 600
    assert set(cluster.units) == rounds.expected
    assert rounds.retries.rounds <= 4, "three of eighths, one for the rejects"
    assert rounds.retries.worker_deaths <= 2 * 5 * len(bad)


def test_an_utterance_is_not_rejected_before_an_empty_unit_came_through():
    _, rounds = rounds_of(utterances(1), 8)
    cluster = Cluster(deadly("u000"))
    cluster.run(rounds)
    assert cluster.rejected == ["u000"]
    assert cluster.deaths == 4, "two in the plan's unit, two beside the empty one"


def test_what_does_not_kill_alone_is_embedded():
    _, rounds = rounds_of(utterances(64), 64)
    cluster = Cluster(lambda ids, _: "encode" if len(ids) > 8 else None)
    cluster.run(rounds)
    assert cluster.rejected == []
    assert len(cluster.came_out) == 64


def test_a_recording_that_kills_when_it_is_read_is_rejected_with_all_its_segments():
    rows = [{"id": f"s{i}", "uri": "/audio/long.wav", "start": i * 0.1, "end": i * 0.1 + 0.1} for i in range(30)]
    _, rounds = rounds_of([*rows, *utterances(30)], 64)
    cluster = Cluster(lambda _, uris: "read" if "/audio/long.wav" in uris else None)
    cluster.run(rounds)
    assert cluster.rejected == sorted(row["id"] for row in rows)
    assert len(cluster.came_out) == 60
    assert cluster.deaths < 12


def test_a_cluster_that_kills_everything_rejects_nothing():
    _, rounds = rounds_of(utterances(20), 20)
    cluster = Cluster(lambda *_: "read")
    with pytest.raises(ClusterError, match="an empty unit has cost two of them, as did 8 with audio"):
        cluster.run(rounds)
    assert cluster.came_out == {}


def test_a_cluster_that_kills_whatever_has_audio_rejects_nothing():
    _, rounds = rounds_of(utterances(500), 500)
    cluster = Cluster(lambda ids, _: "read" if ids else None)
    with pytest.raises(ClusterError, match="workers die whatever they work on: 73 units"):
        cluster.run(rounds)
    assert cluster.came_out == {}


def test_a_stream_of_dead_workers_is_stopped_on_the_way():
    _, rounds = rounds_of(utterances(100), 1)
    rounds.next()
    refused = {unit: Refusal("read", 2) for unit in range(TOO_MANY)}
    rounds.check(Standing(dict(list(refused.items())[1:])))
    with pytest.raises(ClusterError, match="Nothing was rejected"):
        rounds.check(Standing(refused))
    rounds.came_out(range(50, 50 + TOO_MANY))
    rounds.check(Standing(refused))


def test_what_was_lost_without_a_suspect_runs_again_as_it_was():
    _, rounds = rounds_of(utterances(40), 8)
    first = rounds.next()
    rounds.came_out(first[:1])
    assert rounds.close(Standing())
    assert rounds.next() == first[1:]
    assert rounds.close(Standing()), "once without any progress"
    rounds.next()
    assert not rounds.close(Standing())


def test_pieces_keep_the_audio_of_their_unit():
    _, rounds = rounds_of(utterances(64), 64)
    (unit,) = rounds.next()
    rounds.close(Standing({unit: Refusal("encode", 2)}, 2))
    pieces = rounds.next()
    assert [rounds.rows(piece).num_rows for piece in pieces] == [0] + [8] * PIECES
    assert rounds.seconds(pieces) == pytest.approx(64 * 0.01)
    assert unit not in rounds.expected
    assert rounds.retries == Retries(2, 0, 1, 1)
