"""What Kaldi calls an rxfilename -> the audio file that it reads. A command is looked at and never run.

Many `wav.scp` entries are commands that do nothing but decode one file, which this project does itself. Only those
whose every word is known here are taken for that; all others are rejected.
"""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field

from w2vb_ray.errors import AudioRejected, RejectReason

_OFFSET = re.compile(r":\d+$|\[[\d:,]*\]$")
_QUOTED = re.compile(r"'[^']*'|\\.|\"[^\"$`\\]*\"", re.DOTALL)
_ACTIVE = re.compile(r"[|&;<>()$`*?\[\]{}\n\"'\\]|(^|\s)[#~]")
"""What a shell does not take literally, once the quoted parts are away."""
_ANY = re.compile(r".*")
_WAV = re.compile(r"wav|wavpcm|wave|rif|riff")
_STDOUT = frozenset({"-", "pipe:", "pipe:1", "/dev/stdout"})


@dataclass(frozen=True)
class _Decoder:
    """Words of a command that do not change what is heard."""

    flags: re.Pattern[str] = re.compile(r"(?!)")
    values: Mapping[str, re.Pattern[str]] = field(default_factory=dict)
    """Options that take a value, and the values."""
    to_stdout: bool = False
    """Whether standard output is named."""
    input_option: str | None = None
    """The option that names the file, where its place does not."""


_DECODERS = {
    "sph2pipe": _Decoder(re.compile(r"-p|-h"), {"-f": _WAV}),
    "flac": _Decoder(re.compile(r"-[cdsF]+|--(decode|stdout|silent|totally-silent)")),
    "cat": _Decoder(),
    "sox": _Decoder(
        re.compile(r"-V\d?|-q|-G"),
        {"-t": _WAV, "-r": _ANY, "-b": _ANY, "-e": re.compile(r"signed(-integer)?"), "-c": re.compile("1")},
        to_stdout=True,
    ),
    "ffmpeg": _Decoder(
        re.compile(r"-nostdin|-hide_banner|-y|-vn"),
        {
            **dict.fromkeys(["-v", "-loglevel", "-threads", "-ar", "-ab", "-i"], _ANY),
            **dict.fromkeys(["-acodec", "-codec:a", "-c:a"], re.compile(r"pcm_s16le")),
            "-f": _WAV,
            "-ac": re.compile("1"),
        },
        to_stdout=True,
        input_option="-i",
    ),
}


def file_of(rxfilename: str) -> str:
    """The path or URI of the audio file that an entry of `wav.scp` stands for.

    Raises:
        AudioRejected: `forbidden` for a command that is more than the decoding of one file, `undecodable` for a part
            of a Kaldi archive, `missing` for nothing.
    """
    entry = rxfilename.strip()
    if not entry:
        raise AudioRejected(RejectReason.MISSING, "wav.scp names no file")
    if entry.endswith("|"):
        return _file_of_command(entry[:-1].strip())
    if entry == "-" or entry.startswith("|"):
        raise AudioRejected(RejectReason.FORBIDDEN, f"`{entry}` is no file; write the path of an audio file")
    if _OFFSET.search(entry):
        raise AudioRejected(
            RejectReason.UNDECODABLE,
            f"`{entry}` is a part of a Kaldi archive, which is not read; write the path of an audio file",
        )
    return entry


def _file_of_command(command: str) -> str:
    try:
        words = shlex.split(command)
    except ValueError:
        words = []
    decoder = _DECODERS.get(words[0].rpartition("/")[2]) if words else None
    plain = decoder is not None and not _ACTIVE.search(_QUOTED.sub("", command))
    found = _single_file(words[1:], decoder) if plain and decoder is not None else None
    if found is None:
        raise AudioRejected(
            RejectReason.FORBIDDEN,
            f"`{command} |` is a command and does more than decode one file; commands are never run: write its "
            "output to a file and name that in wav.scp",
        )
    return found


def _single_file(words: list[str], decoder: _Decoder) -> str | None:
    """The one file among the words, or None where there is none, or a word that is not known."""
    files: list[str] = []
    outputs = 0
    remaining = iter(words)
    for word in remaining:
        if word in decoder.values:
            value = next(remaining, "")
            if not decoder.values[word].fullmatch(value):
                return None
            if word == decoder.input_option:
                files.append(value)
        elif word in _STDOUT:
            outputs += 1
        elif not decoder.flags.fullmatch(word):
            if word.startswith("-") or decoder.input_option is not None:
                return None
            files.append(word)
    return files[0] if len(files) == 1 and outputs == decoder.to_stdout and files[0] not in ("", "-") else None
