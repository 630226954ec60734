import io
import threading
import wave
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from fsspec.implementations.local import LocalFileSystem

from tests.unit.audio import hostile
from w2vb_ray import schema, storage
from w2vb_ray.config.sections import AudioSection, SourceSection
from w2vb_ray.embed import read
from w2vb_ray.embed.read import read_unit, read_units

from .rows import planned


def wav(samples, rate=16_000):
    memory = io.BytesIO()
    with wave.open(memory, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.astype("<i2").tobytes())
    return memory.getvalue()


def noise(duration_s, seed=0, rate=16_000):
    return np.random.default_rng(seed).integers(-5_000, 5_000, round(duration_s * rate)).astype(np.int16)


@pytest.fixture
def store(tmp_path):
    """Write objects and describe them as inventory rows would."""

    def store(name, data, **row):
        path = tmp_path / name
        path.write_bytes(data)
        version = storage.version_of(LocalFileSystem().info(str(path)))
        return {"id": name, "uri": str(path), "bytes": len(data), "version": version, **row}

    return store


def run(rows, reasons=(), source=None, **audio):
    return read_unit(planned(rows, reasons), source or SourceSection(uri="x"), AudioSection(**audio))


def pcm(table):
    """The waveforms; those of these tests are 16-bit at 16 kHz, so int16."""
    assert set(table["sample_bytes"].to_pylist()) <= {2, None}
    return [None if raw is None else np.frombuffer(raw, np.int16) for raw in table["waveform"].to_pylist()]


@pytest.fixture
def fetches(monkeypatch):
    """How often each object was read."""
    counts = Counter()

    class Counting(LocalFileSystem):
        cachable = False

        def cat_file(self, path, *args, **kwargs):
            counts[path.rpartition("/")[2]] += 1
            return super().cat_file(path, *args, **kwargs)

    monkeypatch.setattr(storage, "filesystem", lambda *_: Counting())
    return counts


def test_rows_stay_in_order_and_get_their_own_audio(store):
    waves = {f"{i}.wav": noise(0.1 + 0.03 * i, seed=i) for i in range(40)}
    table = run([store(name, wav(samples)) for name, samples in waves.items()])
    assert table["utterance_id"].to_pylist() == list(waves)
    for found, samples, duration_s in zip(pcm(table), waves.values(), table["duration_s"].to_pylist(), strict=True):
        np.testing.assert_array_equal(found, samples)
        assert duration_s == len(samples) / 16_000
    assert set(table["sampling_rate"].to_pylist()) == {16_000}
    assert table["reason"].null_count == table.num_rows
    assert table["start_s"].to_pylist() == [0.0] * 40
    assert table["end_s"].to_pylist() == table["duration_s"].to_pylist()


def test_versions_are_compared_without_their_segment_and_only_where_the_store_gave_them(store):
    row = store("a.wav", wav(noise(1.0)))
    segment = {**row, "id": "segment", "version": f"{row['version']}#t=0.0,0.5", "start": 0.0, "end": 0.5}
    opaque = {**store("b.wav", wav(noise(1.0))), "version": "release-7", "bytes": -1}
    table = run([segment, opaque])
    assert table["reason"].to_pylist() == [None, None]
    assert table["duration_s"].to_pylist() == [0.5, 1.0]


def test_columns_are_the_inventory_without_what_only_reading_needs(store):
    unit = planned([store("a.wav", wav(noise(0.1)))])
    table = read_unit(unit, SourceSection(uri="x"), AudioSection())
    added = ["duration_s", "sampling_rate", "waveform", "sample_bytes"]
    assert set(table.column_names) == {*unit.column_names, *added} - set(read.DROPPED)
    assert table["text"].to_pylist() == ["text of a.wav"]
    types = {field.name: field.type for field in table.schema}
    assert [types[name] for name in ("start_s", "end_s", "duration_s")] == [pa.float64()] * 3
    assert (types["waveform"], types["sampling_rate"]) == (
        schema.WAVEFORM.type,
        schema.UTTERANCES_HEAD.field("sampling_rate").type,
    )


def test_bad_recordings_become_reasons_and_the_unit_goes_on(store, tmp_path):
    fine = wav(noise(0.1))
    rows = [
        store("fine.wav", fine),
        store("empty.wav", b""),
        store("text.wav", b"this is no audio at all, " * 20),
        store("cut.wav", fine[:-500]),
        store("short.wav", wav(noise(0.02))),
        {**store("gone.wav", fine), "bytes": None},
        {**store("deleted.wav", fine), "uri": str(tmp_path / "deleted" / "x.wav")},
        {**store("grew.wav", fine), "bytes": len(fine) - 1},
        store("rewritten.wav", fine, version=f"{len(fine)}-1500000000000000000"),
        store("large.wav", wav(noise(2.0))),
        store("slow.wav", wav(noise(0.5, rate=2_000), rate=2_000)),
        store("fine2.wav", fine),
    ]
    table = run(rows, max_bytes=40_000)
    assert dict(zip(table["utterance_id"].to_pylist(), table["reason"].to_pylist(), strict=True)) == {
        "fine.wav": None,
        "empty.wav": "empty",
        "text.wav": "undecodable",
        "cut.wav": "truncated",
        "short.wav": "too_short",
        "gone.wav": "missing",
        "deleted.wav": "missing",
        "grew.wav": "changed",
        "rewritten.wav": "changed",
        "large.wav": "too_large",
        "slow.wav": "out_of_range",
        "fine2.wav": None,
    }
    for row in table.to_pylist():
        fields = [
            row[name] is None
            for name in ("waveform", "sample_bytes", "duration_s", "sampling_rate", "start_s", "end_s")
        ]
        assert set(fields) == {row["reason"] is not None}
        assert (row["detail"] is None) == (row["reason"] is None)


def test_segments_of_one_recording_are_cut_from_one_fetch(store, fetches):
    samples = noise(2.0)
    whole = store("a.wav", wav(samples))
    other = store("b.wav", wav(noise(0.5, seed=9)))
    rows = [
        {**whole, "id": "first", "end": 0.5},
        other,
        {**whole, "id": "middle", "start": 0.5, "end": 1.25},
        {**whole, "id": "outside", "start": 2.5, "end": 3.0},
        {**whole, "id": "last", "start": 1.25},
        {**whole, "id": "all"},
    ]
    table = run(rows)
    assert fetches == {"a.wav": 1, "b.wav": 1}
    found = dict(zip(table["utterance_id"].to_pylist(), pcm(table), strict=True))
    assert found["outside"] is None
    assert table["reason"].to_pylist() == [None, None, None, "bad_segment", None, None]
    np.testing.assert_array_equal(np.concatenate([found["first"], found["middle"], found["last"]]), samples)
    np.testing.assert_array_equal(found["all"], samples)
    times = {row["utterance_id"]: (row["start_s"], row["end_s"], row["duration_s"]) for row in table.to_pylist()}
    assert times["middle"] == (0.5, 1.25, 0.75)
    assert times["last"] == (1.25, 2.0, 0.75)


def test_a_bad_recording_rejects_all_its_segments(store, fetches):
    bad = store("bad.wav", b"RIFFnope" * 10)
    table = run([{**bad, "id": "a", "end": 1.0}, {**bad, "id": "b", "start": 1.0}])
    assert len(set(table["reason"].to_pylist())) == 1
    assert table["reason"].null_count == 0
    assert fetches == {"bad.wav": 1}


def test_reasons_that_planning_gave_stay_and_cost_no_fetch(store, fetches):
    first, second = store("a.wav", wav(noise(0.1))), store("b.wav", wav(noise(0.1)))
    table = run([{**first, "id": "double"}, second], reasons=["duplicate_id"])
    assert table["reason"].to_pylist() == ["duplicate_id", None]
    assert fetches == {"b.wav": 1}
    everything = run([first, second], reasons=["duplicate_id", "duplicate_id"])
    assert everything["waveform"].null_count == 2


def test_headerless_pcm(store):
    samples = noise(0.2, rate=8_000)
    rows = [
        store("own.raw", samples.tobytes(), rate=8_000),
        store("section.PCM", samples.tobytes()),
    ]
    for given, reasons in (
        (SourceSection(uri="x"), [None, "undecodable"]),
        (SourceSection(uri="x", raw_sampling_rate=16_000), [None, None]),
    ):
        table = run(rows, source=given)
        assert table["reason"].to_pylist() == reasons
        assert table["sampling_rate"].to_pylist() == [8_000, None if reasons[1] else 16_000]
    assert table["duration_s"].to_pylist() == [0.2, 0.1]


def test_more_recordings_than_threads_each_once(store, fetches, monkeypatch):
    monkeypatch.setattr(read, "_AHEAD_BYTES", 20_000)  # a few of them at a time
    rows = [store(f"{i}.wav", wav(noise(0.1 + 0.01 * (i % 7), seed=i))) for i in range(100)]
    table = run(rows)
    assert table["reason"].null_count == 100
    assert fetches == {f"{i}.wav": 1 for i in range(100)}
    for i, found in enumerate(pcm(table)):
        np.testing.assert_array_equal(found, noise(0.1 + 0.01 * (i % 7), seed=i))


def test_a_read_that_hangs_holds_up_no_other(store, monkeypatch):
    others_are_decoded, fetch_one, decode_one = threading.Event(), read._fetch, read.decode
    num_decoded = 0

    def fetch(row, *more):
        if row["audio_uri"].endswith("first.wav"):
            assert others_are_decoded.wait(20)
        return fetch_one(row, *more)

    def decode(*arguments):
        nonlocal num_decoded
        num_decoded += 1
        if num_decoded == 39:
            others_are_decoded.set()
        return decode_one(*arguments)

    monkeypatch.setattr(read, "_fetch", fetch)
    monkeypatch.setattr(read, "decode", decode)
    rows = [store(f"{number}.wav", wav(noise(0.1))) for number in range(39)]
    table = run([store("first.wav", wav(noise(0.1))), *rows])
    assert table["reason"].null_count == 40


def test_what_is_not_about_one_recording_is_not_swallowed(store, monkeypatch):
    def fail(*_):
        raise MemoryError("of the process")

    monkeypatch.setattr(read, "decode", fail)
    with pytest.raises(MemoryError):
        run([store("a.wav", wav(noise(0.1)))])


def test_units_stay_apart(store):
    first, second = store("a.wav", wav(noise(0.1))), store("b.wav", wav(noise(0.2)))
    both = pa.concat_tables(
        [schema.pack_planned(planned([first]), 3), schema.pack_planned(planned([second, first]), 1)]
    )
    units = schema.unpack(read_units(both, SourceSection(uri="x"), AudioSection()))
    assert [(number, table["utterance_id"].to_pylist()) for number, table in units] == [
        (3, ["a.wav"]),
        (1, ["b.wav", "a.wav"]),
    ]
    np.testing.assert_array_equal(pcm(units[1][1])[0], noise(0.2))


def test_a_unit_without_rows():
    table = run([])
    assert table.num_rows == 0
    assert table.schema.field("waveform").type == pa.large_binary()


def test_hostile_files_leave_their_neighbours_as_they_are(store):
    bad = {f"{i}.wav": (make(), reason) for i, (make, reason) in enumerate(hostile.REJECTED.values())}
    good = {f"good{i}.wav": noise(0.1 + 0.01 * i, seed=i) for i in range(len(bad))}
    rows = []
    for (bad_name, (data, _)), (good_name, samples) in zip(bad.items(), good.items(), strict=True):
        rows += [store(bad_name, data), store(good_name, wav(samples))]
    rows.append(store("bomb.m4a", hostile.memory_bomb()))
    table = run(rows, decoder_memory_bytes=64 * 1024**2)
    found = dict(zip(table["utterance_id"].to_pylist(), table["reason"].to_pylist(), strict=True))
    expected = {name: reason for name, (_, reason) in bad.items()}
    assert found == {**expected, **dict.fromkeys(good), "bomb.m4a": "decoder_limit"}
    waveforms = dict(zip(table["utterance_id"].to_pylist(), pcm(table), strict=True))
    for name, samples in good.items():
        np.testing.assert_array_equal(waveforms[name], samples)
