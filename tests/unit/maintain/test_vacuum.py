import os
import time

import pytest
from fsspec.implementations.local import LocalFileSystem

from tests.unit.embed.sink import DEAD, ELSEWHERE, LAYOUTS_WITH_FRAMES, NAMES, Driver
from w2vb_ray.embed.forgotten import write_forgotten
from w2vb_ray.embed.tables import FRAMES, REJECTS, UTTERANCES, Table
from w2vb_ray.errors import SinkError, TableHeld
from w2vb_ray.maintain import leftovers
from w2vb_ray.maintain.vacuum import vacuum

from .tables import Sink, killed, rows

LANGUAGES = ("eng", "a b", "x/y", "ə%", "%20", "_u", ".d")


def age(path, hours):
    then = time.time() - hours * 3600
    os.utime(path, (then, then))


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """Live files, replaced ones, orphans old and new, and what is not the tables' own."""
    sink = Sink(tmp_path_factory.mktemp("filled") / "sink")
    source = [row for number, language in enumerate(LANGUAGES) for row in rows(f"u{number}", language=language)]
    source += rows("r", reason="empty")
    sink.embed(*source)
    sink.embed(*[{**row, "version": "v2"} for row in source if row["id"] in ("u0", "u2", "r")])
    write_forgotten(str(sink.folder), {}, "r", {"utterance_id": ["x"]})
    for other in ("_runs/run1/report.json", "_runs/run1/part.parquet", "README.md", "mine/language=eng/x.parquet"):
        (sink.folder / other).parent.mkdir(parents=True, exist_ok=True)
        (sink.folder / other).write_bytes(b"other")
    return sink.folder


def orphan(sink, name, path, hours):
    place = sink.folder / name / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(b"orphan")
    age(place, hours)
    return path


def vacuumed(config, sink, **maintain):
    return vacuum(config("vacuum", maintain=maintain), sink.tables(), "m1")


def names(done):
    return sorted((file.table, file.path) for file in done.files)


def test_old_orphans_go_and_all_that_is_in_use_stays(filled, config):
    contents = filled.contents()
    live = {name: filled.live(name) for name in NAMES}
    others = {path: hash_ for path, hash_ in filled.state().items() if path.split("/")[0] not in NAMES}
    old = [
        (UTTERANCES, orphan(filled, UTTERANCES, "language=eng/run0-1.parquet", 200)),
        (FRAMES, orphan(filled, FRAMES, "language=new%2Fone/run0-2.parquet", 169)),
        (REJECTS, orphan(filled, REJECTS, "language=eng/.run0-3.parquet.abc.tmp", 200)),
    ]
    orphan(filled, UTTERANCES, "language=eng/run0-4.parquet", 167)
    orphan(filled, REJECTS, "language=eng/run0-5.parquet", 0)
    for name in NAMES:  # live files are old too
        for path in live[name]:
            age(filled.folder / name / path, 10_000)
    done = vacuumed(config, filled)
    assert names(done) == sorted(old)
    assert {file.num_bytes for file in done.files} == {6}
    assert (filled.folder / UTTERANCES / "language=eng/run0-4.parquet").exists()
    assert not any((filled.folder / name / path).exists() for name, path in old)
    assert filled.contents() == contents
    assert {path: hash_ for path, hash_ in filled.state().items() if path.split("/")[0] not in NAMES} == others
    assert vacuumed(config, filled).files == []


def test_replaced_files_go_when_nothing_is_to_be_kept(filled, config):
    contents = filled.contents()
    assert any(filled.on_disk(name) > filled.live(name) for name in NAMES)
    assert vacuumed(config, filled).files == []  # they were replaced just now
    done = vacuumed(config, filled, retention_h=0)
    assert {name for name, _ in names(done)} == set(NAMES)
    assert {name: filled.on_disk(name) for name in NAMES} == {name: filled.live(name) for name in NAMES}
    assert filled.contents() == contents


def test_a_dry_run_shows_the_same_and_deletes_nothing(filled, config):
    orphan(filled, UTTERANCES, "language=eng/run0-1.parquet", 200)
    state = filled.state()
    shown = vacuumed(config, filled, retention_h=0, dry_run=True)
    assert filled.state() == state
    assert names(shown) == names(vacuumed(config, filled, retention_h=0))
    assert (UTTERANCES, "language=eng/run0-1.parquet") in names(shown)


def test_a_short_retention_needs_the_tables_to_itself(filled, config):
    orphan(filled, UTTERANCES, "language=eng/run0-1.parquet", 200)
    run = Driver(filled.folder, "run", ELSEWHERE)
    assert run.hold(LAYOUTS_WITH_FRAMES)
    uncommitted = orphan(filled, UTTERANCES, "language=eng/run-2.parquet", 1)
    state = filled.state()
    with pytest.raises(TableHeld, match=r"run run .* holds these tables.*With maintain\.retention_h=24 or more"):
        vacuumed(config, filled, retention_h=23)
    assert filled.state() == state
    assert names(vacuumed(config, filled, retention_h=24)) == [(UTTERANCES, "language=eng/run0-1.parquet")]
    assert (filled.folder / UTTERANCES / uncommitted).exists()
    run.commit(["x"])  # it was not disturbed


def test_what_a_dead_run_left_half_done_is_undone_first(filled, config, monkeypatch):
    """Its commit took files out of rejects; undoing it needs them."""
    before = filled.ids()

    def die():
        filled.embed(*rows("r", version="v3"), holder=DEAD)

    assert killed(monkeypatch, Table, "append", 6, die)  # three claims, rejects, frames, and then utterances
    assert filled.ids() != before
    vacuumed(config, filled, retention_h=0)
    assert filled.ids() == before
    filled.contents()  # every live file can be read


def test_being_killed_between_deletions_costs_nothing(filled, config, monkeypatch):
    contents = filled.contents()
    monkeypatch.setattr(leftovers, "_TOGETHER", 1)

    assert killed(monkeypatch, LocalFileSystem, "rm", 3, lambda: vacuumed(config, filled, retention_h=0))
    assert filled.contents() == contents
    assert vacuumed(config, filled, retention_h=0).files
    assert {name: filled.on_disk(name) for name in NAMES} == {name: filled.live(name) for name in NAMES}
    assert filled.contents() == contents


def test_what_cannot_be_deleted_is_an_error(filled, config, monkeypatch):

    monkeypatch.setattr(LocalFileSystem, "rm", lambda *_: None)  # as s3fs does with what the store refuses
    with pytest.raises(SinkError, match=r"of \d+ files under sink.uri .* could not be deleted, .*right to delete"):
        vacuumed(config, filled, retention_h=0)
    Driver(filled.folder, "next").claim.check_free()
