import pytest

from w2vb_ray.errors import AudioRejected, RejectReason
from w2vb_ray.source.rxfilename import file_of


@pytest.mark.parametrize(
    ("entry", "file"),
    [
        ("/data/a.wav", "/data/a.wav"),
        ("a b #1 %20 ?.wav", "a b #1 %20 ?.wav"),
        ("-dash.wav", "-dash.wav"),
        ("s3://bucket/a.flac", "s3://bucket/a.flac"),
        ("sph2pipe -f wav -p /d/a.sph |", "/d/a.sph"),
        ("/opt/kaldi/tools/sph2pipe_v2.5/sph2pipe -f wav a.sph|", "a.sph"),
        ("flac -c -d -s /d/a.flac |", "/d/a.flac"),
        ("flac -dcs '/d/a #1 (x).flac' |", "/d/a #1 (x).flac"),
        (r"flac -cd /d/a\ b.flac |", "/d/a b.flac"),
        ("sox /d/a.mp3 -t wav -r 16000 -b 16 -c 1 - |", "/d/a.mp3"),
        ("ffmpeg -v 8 -i a.m4a -f wav -acodec pcm_s16le -ar 16000 -ac 1 - |", "a.m4a"),
        ("ffmpeg -nostdin -i a.opus -f wav pipe:1 |", "a.opus"),
        ("cat a.wav |", "a.wav"),
    ],
)
def test_entries_that_are_one_file(entry, file):
    assert file_of(entry) == file


@pytest.mark.parametrize(
    "entry",
    [
        "sph2pipe -f wav -c 1 a.sph |",
        "sph2pipe -f wav -t 0:3 a.sph |",
        "sph2pipe -f wav a.sph b.sph |",
        "sox a.wav -t wav - speed 0.9 |",
        "sox a.wav -t wav - remix 1 |",
        "sox -v 0.5 a.wav -t wav - |",
        "sox a.wav b.wav |",
        "ffmpeg -ss 3 -i a.wav -f wav - |",
        "ffmpeg -i a.wav -af volume=2 -f wav - |",
        "ffmpeg -i a.wav out.wav |",
        "flac -dcs $HOME/a.flac |",
        "flac -dcs a*.flac |",
        "flac -dcs a.flac | sox -t wav - -r 8000 -t wav - |",
        "cat a.wav; touch /tmp/owned |",
        "cat a.wav > b.wav |",
        "cat `touch owned` |",
        'cat "$(touch owned)" |',
        "cat - |",
        "cat |",
        "cat 'a |",
        "wget -O - http://169.254.169.254/ |",
        "|",
        "-",
        "| tee out.wav",
    ],
)
def test_other_commands_are_forbidden(entry):
    with pytest.raises(AudioRejected) as rejected:
        file_of(entry)
    assert rejected.value.reason == RejectReason.FORBIDDEN
    assert entry.removesuffix("|").strip() in rejected.value.detail


@pytest.mark.parametrize("entry", ["foo.ark:123", "/d/foo.ark:0", "s3://b/wav.ark:17", "foo.ark:5[0:10]"])
def test_parts_of_archives_are_not_read(entry):
    with pytest.raises(AudioRejected, match="part of a Kaldi archive") as rejected:
        file_of(entry)
    assert rejected.value.reason == RejectReason.UNDECODABLE


def test_an_entry_without_a_file():
    with pytest.raises(AudioRejected) as rejected:
        file_of(" ")
    assert rejected.value.reason == RejectReason.MISSING
