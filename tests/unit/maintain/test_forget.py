import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.local import LocalFileSystem

from tests.unit.embed.rows import inventory
from tests.unit.embed.sink import ELSEWHERE, LAYOUTS_WITH_FRAMES, NAMES, Driver
from w2vb_ray.config.maintain import MaintainConfig
from w2vb_ray.embed.forgotten import FOLDER, Forgotten
from w2vb_ray.embed.tables import FRAMES, REJECTS, UTTERANCES, Table
from w2vb_ray.errors import SinkError, SourceError, TableHeld
from w2vb_ray.maintain import forget as module
from w2vb_ray.maintain import leftovers
from w2vb_ray.maintain.compact import compact
from w2vb_ray.maintain.forget import forget
from w2vb_ray.source import Batch

from .tables import Sink, killed, rows

SOURCE = (
    *rows("alpha-utterance", "beta-utterance", "gamma-utterance"),
    *rows("delta-utterance", language="a b"),
    *rows("rejected-one", reason="empty"),
    *rows("rejected-two", reason="too_short", language="a b"),
)
ALL = {
    UTTERANCES: ["alpha-utterance", "beta-utterance", "delta-utterance", "gamma-utterance"],
    FRAMES: ["alpha-utterance", "beta-utterance", "delta-utterance", "gamma-utterance"],
    REJECTS: ["rejected-one", "rejected-two"],
}


def without(*ids):
    return {name: [id_ for id_ in held if id_ not in ids] for name, held in ALL.items()}


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    sink = Sink(tmp_path_factory.mktemp("filled") / "sink")
    sink.embed(*SOURCE)
    sink.embed(*({**row, "version": "v2"} for row in SOURCE if row["id"] in ("beta-utterance", "rejected-two")))
    settings = {"maintain": {"action": "compact", "dry_run": False}, "sink": {"uri": str(sink.folder)}}
    compact(MaintainConfig.model_validate(settings), sink.tables(), "m0")
    return sink.folder


def forgotten(config, sink, **section):
    maintain = {"dry_run": section.pop("dry_run", False)}
    source = section.pop("source", None)
    return forget(config("forget", maintain=maintain, forget=section, source=source), sink.tables(), "m1")


def everything(folder):
    """All that can be read under a sink: bytes as they are, and the rows of every Parquet file, logs included."""
    for path in folder.rglob("*"):
        if path.is_file():
            yield path.read_bytes().decode(errors="replace")
            if path.suffix == ".parquet":
                yield repr(pq.read_table(path, partitioning=None).to_pylist())


@pytest.mark.parametrize(
    ("section", "gone"),
    [
        ({"values": ["alpha-utterance"]}, ["alpha-utterance"]),
        ({"values": ["alpha-utterance", "rejected-one", "unknown"]}, ["alpha-utterance", "rejected-one"]),
        ({"column": "audio_uri", "values": ["/audio/delta-utterance.wav"]}, ["delta-utterance"]),
        ({"column": "audio_uri", "values": ["file:///audio/../audio/rejected-two.wav"]}, ["rejected-two"]),
        ({"column": "text", "values": ["text of beta-utterance"]}, ["beta-utterance"]),
        ({"column": "Text", "values": ["text of beta-utterance"]}, ["beta-utterance"]),
        ({"column": "language", "values": ["a b"]}, ["delta-utterance", "rejected-two"]),
    ],
)
def test_rows_go_from_all_tables_and_from_every_file(filled, config, section, gone):
    done = forgotten(config, filled, **section)
    assert filled.ids() == without(*gone)
    assert {name: filled.on_disk(name) for name in NAMES} == {name: filled.live(name) for name in NAMES}
    for text in everything(filled.folder):
        assert not [id_ for id_ in gone if id_ in text]
    expected = {name: sum(id_ in held for id_ in gone) for name, held in ALL.items()}
    assert done.num_rows == expected
    assert done.num_suppressed > 0


def test_the_rows_that_stay_are_the_same(filled, config):
    before = filled.contents()
    forgotten(config, filled, values=["alpha-utterance", "rejected-one"])
    after = filled.contents()
    for name in NAMES:
        assert after[name] == [
            row for row in before[name] if row["utterance_id"] not in ("alpha-utterance", "rejected-one")
        ]


def test_what_is_forgotten_is_not_embedded_again(filled, config):
    forgotten(config, filled, column="text", values=["text of alpha-utterance"])
    latest = [{**row, "version": "v2"} for row in SOURCE if row["id"] in ("beta-utterance", "rejected-two")]
    source = [row for row in SOURCE if row["id"] not in ("beta-utterance", "rejected-two")] + latest
    assert filled.embed(*source).num_planned == 0
    # Nor a new version of it, nor its recording under another id, nor another recording with the same value.
    again = [
        {"id": "alpha-utterance", "version": "v9", "uri": "/audio/moved.wav"},
        {"id": "renamed", "uri": "/audio/alpha-utterance.wav"},
    ]
    other = inventory([{"id": "other"}])
    other = other.set_column(other.column_names.index("text"), "text", pa.array(["text of alpha-utterance"]))
    filled.embed(*source, *again)
    assert filled.ids() == without("alpha-utterance")
    assert Forgotten.read(str(filled.folder), {}).without(Batch.of(other))[1] == 1


def test_a_dry_run_says_the_same_and_changes_nothing(filled, config):
    section = {"column": "language", "values": ["a b"]}
    state = filled.state()
    shown = forgotten(config, filled, **section, dry_run=True)
    assert filled.state() == state
    done = forgotten(config, filled, **section)
    assert (shown.num_rows, shown.num_suppressed, shown.num_reports) == (
        done.num_rows,
        done.num_suppressed,
        done.num_reports,
    )


def test_doing_it_again_changes_nothing(filled, config):
    forgotten(config, filled, values=["alpha-utterance"])
    files = {name: filled.live(name) for name in NAMES}
    parts = list((filled.folder / FOLDER).iterdir())
    done = forgotten(config, filled, values=["alpha-utterance"])
    assert (sum(done.num_rows.values()), done.num_suppressed, done.files) == (0, 0, [])
    assert {name: filled.live(name) for name in NAMES} == files
    assert list((filled.folder / FOLDER).iterdir()) == parts


@pytest.fixture
def meetings(sink):
    """Segments of a meeting with two speakers, one of a talk, and rejects, whose speakers the table does not know."""
    spoken = [
        ("meeting-1", "/audio/meeting.wav", "ann"),
        ("meeting-2", "/audio/meeting.wav", "bob"),
        ("talk-1", "/audio/talk.wav", "ann"),
        ("talk-2", "/audio/talk.wav", "ann"),
        ("other-1", "/audio/other.wav", None),
    ]
    refused = [
        ("meeting-3", "/audio/meeting.wav", "bad_segment"),
        ("talk-3", "/audio/talk.wav", "bad_segment"),
        ("talk-1#2", "/audio/elsewhere.wav", "duplicate_id"),
        ("broken-1", "/audio/broken.wav", "undecodable"),
    ]
    sink.widen(pa.field("speaker", pa.string()), pa.field("age", pa.int64()))
    sink.add(UTTERANCES, *({"utterance_id": i, "audio_uri": u, "speaker": s, "age": 7} for i, u, s in spoken))
    sink.add(FRAMES, *({"utterance_id": i} for i, *_ in spoken))
    sink.add(REJECTS, *({"utterance_id": i, "audio_uri": u, "reason": r} for i, u, r in refused))
    return sink


def planned(sink, *rows):
    """Ids of these `(id, uri, speaker)` that a later run still plans."""
    table = inventory([{"id": id_, "uri": uri} for id_, uri, _ in rows])
    table = table.append_column("speaker", pa.array([speaker for *_, speaker in rows], pa.string()))
    return Forgotten.read(str(sink.folder), {}).without(Batch.of(table))[0].table["utterance_id"].to_pylist()


def test_one_of_several_speakers_of_a_recording(meetings, config):
    forgotten(config, meetings, column="speaker", values=["ann"])
    ids = meetings.ids()
    assert ids[UTTERANCES] == ids[FRAMES] == ["meeting-2", "other-1"]
    assert ids[REJECTS] == ["broken-1", "meeting-3"]  # of a recording that nobody else speaks in, the rejects go too
    later = [
        ("meeting-4", "/audio/meeting.wav", "bob"),
        ("meeting-1", "/audio/meeting.wav", None),
        ("talk-9", "/audio/talk.wav", None),
        ("new-1", "/audio/new.wav", "ann"),
        ("new-2", "/audio/new.wav", "anna"),
    ]
    assert planned(meetings, *later) == ["meeting-4", "new-2"]


def test_the_source_knows_whose_the_rejects_are(meetings, config, tmp_path):
    lines = [
        {"id": "broken-1", "audio": "broken.wav", "Speaker": "ann"},
        {"id": "meeting-3", "audio": "meeting.wav", "Speaker": "ann"},
        {"id": "talk-8", "audio": "talk.wav", "Speaker": "bob"},
    ]
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text("".join(json.dumps({**line, "audio": f"/audio/{line['audio']}"}) + "\n" for line in lines))
    source = {"uri": str(manifest), "columns": {"utterance_id": "id", "audio": "audio"}}
    forgotten(config, meetings, column="speaker", values=["ann"], source=source)
    assert meetings.ids()[REJECTS] == ["talk-3"]  # bob speaks in the talk too
    assert planned(meetings, ("talk-8", "/audio/talk.wav", "bob"), ("talk-2", "/audio/talk.wav", None)) == ["talk-8"]
    with pytest.raises(SourceError, match="with source=null only what the embedded rows say is erased"):
        forgotten(config, meetings, column="speaker", values=["ann"], source={"uri": str(tmp_path / "gone.jsonl")})


def test_whole_numbers_and_the_rows_of_a_recording(meetings, config):
    forgotten(config, meetings, column="audio_uri", values=["/audio/meeting.wav"])
    assert meetings.ids()[UTTERANCES] == ["other-1", "talk-1", "talk-2"]
    assert meetings.ids()[REJECTS] == ["broken-1", "talk-1#2", "talk-3"]
    forgotten(config, meetings, column="age", values=[7])
    assert meetings.ids() == {UTTERANCES: [], FRAMES: [], REJECTS: ["broken-1"]}


def test_one_utterance_leaves_its_recording_alone(meetings, config):
    forgotten(config, meetings, values=["talk-1"])
    assert meetings.ids()[UTTERANCES] == ["meeting-1", "meeting-2", "other-1", "talk-2"]
    assert "talk-1#2" not in meetings.ids()[REJECTS]
    assert planned(meetings, ("talk-1", "/audio/talk.wav", None), ("talk-5", "/audio/talk.wav", None)) == ["talk-5"]


def test_values_of_a_file(filled, config, tmp_path):
    (tmp_path / "ids.txt").write_bytes("\ufeffalpha-utterance\r\n\n rejected-one\nrejected-one\n".encode())
    forgotten(config, filled, values_uri=str(tmp_path / "ids.txt"), values=["rejected-two"])
    assert filled.ids() == without("alpha-utterance", "rejected-one", "rejected-two")


def test_a_file_of_values_that_cannot_be_read(filled, config, tmp_path):
    (tmp_path / "latin").write_bytes(b"\xe9")
    for path in ("absent", "latin"):
        with pytest.raises(SourceError, match=r"forget\.values_uri must be a text file in UTF-8"):
            forgotten(config, filled, values_uri=str(tmp_path / path))


@pytest.mark.parametrize("column", ["embedding", "run_id", "speaker", "start_s"])
def test_a_column_that_cannot_be_asked_for(filled, config, column):
    state = filled.state()
    with pytest.raises(SinkError, match=r"forget\.column must be utterance_id, .*\(text\), but is '") as caught:
        forgotten(config, filled, column=column, values=["x"], dry_run=True)
    assert repr(column) in str(caught.value)
    assert filled.state() == state


def test_reports_that_name_it_go_and_others_stay(filled, config):
    runs = filled.folder / "_runs"
    named = {
        "run1/report.json": json.dumps({"example": "/audio/alpha-utterance.wav"}),
        "run1/report.html": "<td>alpha-utterance</td>",
        "run2/short.json": '{"id": "x"}',
    }
    others = {"run2/report.json": '{"embedded": 1, "next": "xx"}', "run3/config.yaml": "source: {uri: x}"}
    for path, text in {**named, **others}.items():
        (runs / path).parent.mkdir(parents=True, exist_ok=True)
        (runs / path).write_text(text)
    done = forgotten(config, filled, values=["alpha-utterance", "x"])
    assert done.num_reports == 3
    assert {str(path.relative_to(runs)) for path in runs.rglob("*") if path.is_file()} == set(others)


STEPS = [
    (module, "write_forgotten", 1),
    (module, "delete_reports", 1),
    *((Table, "write", at) for at in (1, 2)),
    *((Table, "append", at) for at in range(1, 8)),
    (module, "leftovers", 2),
    (module, "delete", 1),
    *((LocalFileSystem, "rm", at) for at in (1, 3)),
]


@pytest.mark.parametrize(("owner", "name", "at"), STEPS, ids=[f"{name}-{at}" for _, name, at in STEPS])
def test_the_same_command_finishes_what_a_crash_left(filled, config, monkeypatch, owner, name, at):
    gone = ["alpha-utterance", "delta-utterance", "rejected-two"]
    section = {"column": "audio_uri", "values": [f"/audio/{id_}.wav" for id_ in gone]}
    monkeypatch.setattr(leftovers, "_TOGETHER", 1)
    assert killed(monkeypatch, owner, name, at, lambda: forgotten(config, filled, **section))
    before = filled.ids()  # all tables can be read
    assert set(before[UTTERANCES]) <= set(ALL[UTTERANCES])
    if (filled.folder / FOLDER).exists():  # whatever else happened, it does not come back
        filled.embed(*SOURCE)
    forgotten(config, filled, **section)
    assert filled.ids() == without(*gone)
    for text in everything(filled.folder):
        assert not [id_ for id_ in gone if id_ in text]


def test_a_run_and_a_forgetting_keep_out_of_each_others_way(filled, config, monkeypatch):
    run = Driver(filled.folder, "run", ELSEWHERE)
    assert run.hold(LAYOUTS_WITH_FRAMES)
    state = filled.state()
    with pytest.raises(TableHeld, match=r"run run .* holds these tables"):
        forgotten(config, filled, values=["alpha-utterance"])
    assert filled.state() == state
    run.claim.release()
    run = Driver(filled.folder, "run2")  # it has planned, and not yet claimed
    forgotten(config, filled, values=["alpha-utterance"])
    assert not run.hold(LAYOUTS_WITH_FRAMES)  # so it plans again, with the list as it is now
