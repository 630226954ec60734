import numpy as np
import pytest

from w2vb_ray.errors import SourceError
from w2vb_ray.evaluate.alignment import Phones, frame_of, match, moment_between, parse_ctm

CTM = """;; a comment
deu/one.flac 1 0.10 0.08 a
deu/one.flac 1 0.18 0.10 t extra
two A 0.5 0.1 o

deu/one.flac 1 0.02 0.08 m
"""


def test_phones_are_in_order_and_comments_are_none():
    found = parse_ctm(CTM, "x.ctm")
    assert found.keys() == {"deu/one.flac", "two"}
    one = found["deu/one.flac"]
    assert one.names == ["m", "a", "t"]
    np.testing.assert_allclose(one.start_s, [0.02, 0.10, 0.18])
    np.testing.assert_allclose(one.end_s, [0.10, 0.18, 0.28])


@pytest.mark.parametrize("line", ["one 1 0.1 0.2", "one 1 zero 0.2 a", "just words and nothing else then"])
def test_a_line_that_is_none_of_ctm(line):
    with pytest.raises(SourceError, match=r"must be CTM .*, but line 2 of x.ctm is"):
        parse_ctm(f"one 1 0 1 a\n{line}\n", "x.ctm")


@pytest.mark.parametrize(
    ("utterance_id", "audio_uri", "is_found"),
    [
        ("two", "s3://b/x.wav", True),
        ("id", "/data/deu/one.flac", True),
        ("id", "s3://bucket/two.wav", True),
        ("id", "/data/one.flac", False),
    ],
)
def test_utterances_are_named_by_id_or_the_end_of_a_path(utterance_id, audio_uri, is_found):
    assert (match(parse_ctm(CTM, "x"), utterance_id, audio_uri) is not None) == is_found


def test_frames_have_the_phone_at_their_middle():
    phones = Phones(np.array([0.0, 0.06, 0.2]), np.array([0.06, 0.1, 0.3]), ["a", "b", "c"])
    middles = np.arange(16) * 0.02 + 0.0175
    expected = [
        next((place for place in range(3) if phones.start_s[place] <= moment < phones.end_s[place]), -1)
        for moment in middles
    ]
    assert phones.at_frames(16).tolist() == expected
    assert -1 in expected


def test_boundaries_are_counted_once():
    phones = Phones(np.array([0.0, 0.06, 0.2]), np.array([0.06, 0.1, 0.3]), ["a", "b", "c"])
    np.testing.assert_allclose(phones.boundaries(), [0, 0.06, 0.1, 0.2, 0.3])


def test_frames_and_moments():
    assert frame_of(np.array([0.0175, 0.0375, 0.05])).tolist() == [0, 1, 2]
    np.testing.assert_allclose(moment_between(np.array([0, 1])), [0.0275, 0.0475])
