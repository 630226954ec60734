"""The parts that know no files: languages, ids, column names, storable types."""

import datetime as dt
import random
from decimal import Decimal
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2vb_ray.errors import ConfigError
from w2vb_ray.schema import RESERVED_COLUMNS
from w2vb_ray.source import identity, language
from w2vb_ray.source.columns import own_names
from w2vb_ray.source.keys import Keys
from w2vb_ray.source.rows import Rows
from w2vb_ray.source.storable import as_text, storable


def _rows(uris, root, **fields):
    return Rows(pa.array(uris, pa.string()), pa.nulls(0), pa.nulls(0), fields, pa.table({}), root, 0, "folder")


@pytest.mark.parametrize(
    ("template", "path", "expected"),
    [
        ("path:{language}/", "deu/a.wav", {"language": "deu"}),
        ("path:{language}/", "nan/x/a.wav", {"language": "nan"}),
        ("path:{language}/", "a.wav", {"language": "und"}),
        ("path:{language}", "no/a.wav", {"language": "no"}),
        ("path:*/{language}/", "train/gsw/a.wav", {"language": "gsw"}),
        ("path:*/{language}/", "train/a.wav", {"language": "und"}),
        ("path:{language}/{speaker}/", "deu/s 1#/a.wav", {"language": "deu", "speaker": "s 1#"}),
        ("path:{language}/{speaker}/", "deu/a.wav", {"language": "und", "speaker": None}),
        ("path:{language}_{region}/", "zh_TW/a.wav", {"language": "zh", "region": "TW"}),
        ("path:lang={language}/", "lang=de-CH/a.wav", {"language": "de-CH"}),
    ],
)
@pytest.mark.parametrize("root", ["/data/a+b (1)", "s3://bucket/pre.fix"])
def test_path_templates(template, path, expected, root):
    languages, captured = language.resolve(template, _rows([f"{root}/{path}", "/elsewhere/x/y/z/a.wav"], root))
    assert {"language": languages.to_pylist()[0], **captured.slice(0, 1).to_pylist()[0]} == expected
    assert languages.to_pylist()[1] == "und"


@pytest.mark.parametrize(
    "template", ["path:*/", "path:{lang}/", "path:{language}/{language}/", "path:{language}/{a b}/"]
)
def test_malformed_templates(template):
    with pytest.raises(ConfigError, match=r"`source\.language` is `path:"):
        language.resolve(template, _rows(["/a/b"], "/a"))


@given(st.lists(st.none() | st.text(st.characters(exclude_categories=["Cs"]))))
def test_languages_are_never_null_or_blank(given_languages):
    column = pa.array(given_languages, pa.string())
    languages, _ = language.resolve(None, _rows(["/a"] * len(given_languages), "/", language=column))
    for before, after in zip(given_languages, languages.to_pylist(), strict=True):
        assert after
        assert after == "und" or after in (before or "")


def test_ids_depend_on_uri_and_segment_only():
    uris, starts, ends = ["a", "b", "a", "a"], [None, None, 0.5, 0.5], [None, None, None, 1.0]
    rows = list(zip(uris, starts, ends, strict=True))

    def ids(rows):
        columns = zip(*rows, strict=True)
        arrays = [
            pa.array(column, dtype)
            for column, dtype in zip(columns, [pa.string(), pa.float64(), pa.float64()], strict=True)
        ]
        return dict(zip(rows, identity.utterance_ids(*arrays, None).to_pylist(), strict=True))

    expected = ids(rows)
    assert len(set(expected.values())) == 4
    assert expected["a", None, None] == "27c35e6e9373877f29e562464e46497e"  # ids in tables must outlive releases
    random.Random(0).shuffle(rows)
    assert ids(rows) == expected
    assert ids(rows[:1]) == {rows[0]: expected[rows[0]]}


def test_segment_versions_show_every_edit():
    none = pa.array([None], pa.float64())
    versions = {
        identity.segment_versions(pa.array([version]), start, pa.array([end])).to_pylist()[0]
        for version in ("v", "w")
        for start in (none, pa.array([0.1]))
        for end in (1.0, 1.0000000000000002)
    }
    assert len(versions) == 8
    assert identity.segment_versions(pa.array([""]), pa.array([0.1]), none).to_pylist() == [""]


def _unique(batches):
    """Ids of batches -> the ids that are kept as given, in order, and the new ones of the other rows."""
    repeats, kept, again = identity.Repeats(), [], []
    for ids in batches:
        ids = np.array(ids, object)
        repeated = repeats.repeated(Keys.of(pa.array(ids, pa.string())))
        kept += ids[~repeated].tolist()
        again += ids[repeated].tolist()
    return kept, repeats.rename(pa.array(again, pa.string())).to_pylist()


def _unique_by_rule(ids):
    seen, kept, new = set(), [], []
    for id_ in ids:
        if id_ not in seen:
            kept.append(id_)
            seen.add(id_)
            continue
        number = next(
            n for n in range(2, 99) if f"{id_}#{n}" not in {*ids, *new} and n > ids[: len(kept + new)].count(id_)
        )
        new.append(f"{id_}#{number}")
    return kept, new


@given(st.lists(st.sampled_from(["a", "b", "a#2", "a#3", "a#2#2"]), min_size=1, max_size=12), st.data())
def test_duplicates_get_ids_of_their_own_wherever_batches_end(given_ids, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(given_ids)), max_size=4)))
    batches = [given_ids[start:end] for start, end in pairwise([0, *cuts, len(given_ids)])]
    kept, new = _unique(batches)
    assert (kept, new) == _unique_by_rule(given_ids)
    assert len({*kept, *new}) == len(given_ids)


def test_ten_thousand_duplicates_of_one_id():
    kept, new = _unique([["x"] * 10_000])
    assert kept == ["x"]
    assert (new[0], new[-1], len(new)) == ("x#2", "x#10000", 9_999)


def test_own_names_never_collide():
    names = own_names(["text", "Text", "WAVEFORM", "source_waveform", "", " ", "embedding_layer_08", "embeddings"])
    assert names == [
        "text",
        "source_Text",
        "source_WAVEFORM",
        "source_source_waveform",
        "column_5",
        "column_6",
        "source_embedding_layer_08",
        "embeddings",
    ]
    assert not {name.casefold() for name in names} & RESERVED_COLUMNS


_NOW = dt.datetime(2026, 1, 2, 3, 4, 5, 6)


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (pa.array(["a", None]).dictionary_encode(), pa.array(["a", None])),
        (pa.array(["a"], pa.large_string()), pa.array(["a"])),
        (pa.array(["a"], pa.string_view()), pa.array(["a"])),
        (pa.array([b"a"], pa.binary(1)), pa.array([b"a"])),
        (pa.array([[1]], pa.large_list(pa.uint16())), pa.array([[1]], pa.list_(pa.int32()))),
        (pa.array([[1, 2]], pa.list_(pa.float32(), 2)), pa.array([[1, 2]], pa.list_(pa.float32()))),
        (pa.array([255], pa.uint8()), pa.array([255], pa.int16())),
        (pa.array([2**32 - 1], pa.uint32()), pa.array([2**32 - 1])),
        (pa.array([2**63 - 1], pa.uint64()), pa.array([2**63 - 1])),
        (pa.array([2**64 - 1, None], pa.uint64()), pa.array([str(2**64 - 1), None])),
        (pa.array([np.float16(0.5)]), pa.array([0.5], pa.float32())),
        (pa.array([_NOW], pa.timestamp("us")), pa.array([_NOW], pa.timestamp("us"))),
        (pa.array([1_001], pa.timestamp("ns", "Europe/Oslo")), pa.array([1], pa.timestamp("us", "UTC"))),
        (pa.array([_NOW.time()]), pa.array(["03:04:05.000006"])),
        (pa.array([dt.timedelta(seconds=90), None]), pa.array(["0:01:30", None])),
        (pa.array([Decimal("1.5")], pa.decimal256(40, 1)), pa.array(["1.5"])),
        (pa.array([Decimal("1.5")], pa.decimal128(5, 1)), pa.array([Decimal("1.5")], pa.decimal128(5, 1))),
        (pa.nulls(2), pa.nulls(2, pa.string())),
        (pa.array([{}], pa.struct([])), pa.array(["{}"])),
        (
            pa.array(
                [{"a": {"b": 1}, "c": [{"d": "x"}]}],
                pa.struct({"a": pa.struct({"b": pa.uint8()}), "c": pa.large_list(pa.struct({"d": pa.large_string()}))}),
            ),
            pa.array(
                [{"a": {"b": 1}, "c": [{"d": "x"}]}],
                pa.struct({"a": pa.struct({"b": pa.int16()}), "c": pa.list_(pa.struct({"d": pa.string()}))}),
            ),
        ),
        (
            pa.array([[("k", 1)]], pa.map_(pa.large_string(), pa.uint8())),
            pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int16())),
        ),
    ],
    ids=lambda array: str(array.type)[:40],
)
def test_storable(array, expected):
    column = storable(pa.table({"x": array}))["x"]
    assert column.type == expected.type
    assert column.to_pylist() == expected.to_pylist()


def test_as_text():
    assert as_text(pa.array([True, False])).to_pylist() == ["true", "false"]
    assert as_text(pa.array([5])).to_pylist() == ["5"]
    assert as_text(pa.array([["no"]])).to_pylist() == ['["no"]']
