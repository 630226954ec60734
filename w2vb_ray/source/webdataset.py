"""WebDataset: tars whose members of one key are one sample (`a/b.wav`, `a/b.json`, `a/b.txt`) -> rows.

The key is the path up to the first dot of the file's name. The audio member is the utterance; the keys of `.json` and
the text of all other small members (`.txt`, `.cls`, …) are its columns, with `__key__`. One pass over the headers of
each tar, several tars at a time.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NamedTuple, cast

from w2vb_ray import storage
from w2vb_ray.audio.ranges import RangeFile, Ranges
from w2vb_ray.config.sections import SourceSection
from w2vb_ray.errors import AudioRejected
from w2vb_ray.source import identity, shards, tar
from w2vb_ray.source.embedded import MemberRow, Part, part_of_tar, to_pieces
from w2vb_ray.source.folder import AUDIO_SUFFIXES, RAW_SUFFIXES
from w2vb_ray.source.listing import Entry
from w2vb_ray.source.peek import Peek
from w2vb_ray.source.rows import Pieces

KEY = "__key__"
_AHEAD_BYTES = 8 * 1024**2
_AHEAD_BYTES_LOCAL = 16 * 1024  # a disk answers at once, and most of a tar is audio, which planning does not need
_NAME = re.compile(r"((?:.*/|)[^./]+)\.([^/]+)", re.DOTALL)
_MAX_TEXT_BYTES = 256 * 1024
_MAX_JSON_KEYS = 256


class _Names(NamedTuple):
    """Which members are audio: those of one suffix, or of every known one; and which may be texts."""

    asked: str | None
    known: frozenset[str]

    def are_audio(self, suffix: str) -> bool:
        suffix = suffix.lower()
        return suffix == self.asked if self.asked else suffix.rpartition(".")[2] in self.known

    def may_be_text(self, member: tar.Entry) -> bool:
        match = _NAME.fullmatch(member.name)
        is_small_file = member.kind == "file" and member.num_bytes <= _MAX_TEXT_BYTES
        return is_small_file and match is not None and not self.are_audio(match[2])


@dataclass(slots=True)
class _Sample:
    audio: list[tar.Entry] = field(default_factory=list)
    columns: dict[str, Any] = field(default_factory=dict)
    num_members: int = 0
    num_texts: int = 0


def recognises(peek: Peek) -> str | None:
    """By the end of its name, or by tars in a folder without audio files."""
    if shards.is_tar(peek.uri):
        return "the end of its name"
    suffixes = {name.rpartition(".")[2].lower() for name in peek.files}
    return "the tars in it" if "tar" in suffixes and not suffixes & AUDIO_SUFFIXES else None


def read(section: SourceSection) -> Pieces:
    """Index the tars of `source.uri`.

    Raises:
        SourceError: no tar, a compressed tar, or no audio in any.
    """
    found = shards.find(section)
    return to_pieces(
        parts(found.entries, section),
        section,
        root=found.root,
        num_skipped=found.num_skipped,
        source_format="webdataset",
    )


def parts(entries: list[Entry], section: SourceSection) -> Iterator[Part]:
    """The samples of each tar, in order."""
    asked = section.columns.get("audio")
    known = AUDIO_SUFFIXES | (RAW_SUFFIXES if section.raw_sampling_rate else frozenset())
    names = _Names(asked.lower().removeprefix(".") if asked else None, known)
    return shards.in_threads(lambda entry: _index(entry, section, names), entries)


def members(
    entry: Entry, section: SourceSection, wanted: Callable[[tar.Entry], bool] = lambda _: False
) -> Iterator[tuple[tar.Entry, bytes]]:
    """The members of one tar, with the data of those that are wanted. A tar that cannot be read ends with damage."""
    fs = storage.filesystem(entry.uri, section.storage)
    ranges = Ranges(fs, storage.fs_path(entry.uri, fs), entry.version)
    ahead_bytes = _AHEAD_BYTES_LOCAL if storage.is_local(entry.uri) else _AHEAD_BYTES
    file = cast(BinaryIO, RangeFile(ranges, ahead_bytes))
    position = 0
    try:
        for member in tar.entries(file, ranges.num_bytes):
            position = member.offset + tar.padded(member.num_bytes)
            file.seek(member.offset)
            yield member, file.read(member.num_bytes) if wanted(member) else b""
        ranges.check_version()
    except AudioRejected:  # reading will say what it is, and the next run tries again
        yield tar.Entry("", "damage", position, 0), b""


def _index(entry: Entry, section: SourceSection, names: _Names) -> Part:
    if entry.num_bytes is None:  # named, but not there
        return part_of_tar(entry, [MemberRow(entry.uri, None, None)])
    samples: dict[str, _Sample] = {}
    rows: list[MemberRow] = []
    num_skipped = 0
    for member, data in members(entry, section, names.may_be_text):
        match = _NAME.fullmatch(member.name)
        if member.kind == "damage":
            rows.append(MemberRow(entry.uri, None, member.offset))
        elif match is None or member.name.endswith("__"):
            num_skipped += member.kind != "folder"
        elif member.kind != "folder":
            sample = samples.setdefault(match[1], _Sample())
            sample.num_members += 1
            if names.are_audio(match[2]):
                sample.audio.append(member)
            elif len(data) == member.num_bytes:
                _take_text(sample, match[2].lower(), data)
    for key, sample in samples.items():
        rows += _utterances(entry, key, sample)
        num_skipped += sample.num_members - len(sample.audio) - (sample.num_texts if sample.audio else 0)
    return part_of_tar(entry, rows, num_skipped)


def _utterances(entry: Entry, key: str, sample: _Sample) -> Iterator[MemberRow]:
    """One per audio member. The second and later ones have the id of the first, so that they are rejected for it."""
    for number, audio in enumerate(sample.audio):
        offset = audio.offset if audio.kind == "file" else None
        first = identity.hashed_id(f"{entry.uri}#{sample.audio[0].name}") if number else None
        uri = f"{entry.uri}#{audio.name}"
        yield MemberRow(uri, audio.num_bytes, offset, {KEY: key, **sample.columns}, first)


def _take_text(sample: _Sample, suffix: str, data: bytes) -> None:
    """Keys and values of a JSON object, or the text as it is; what is neither is passed by."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return
    sample.num_texts += 1
    found = _json_object(text) if suffix == "json" else None
    for name, value in ({suffix: text.rstrip("\r\n")} if found is None else found).items():
        sample.columns[f"{suffix}.{name}" if name in sample.columns else name] = value


def _json_object(text: str) -> dict[str, Any] | None:
    """What a small JSON object says; None for any other text."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    is_small = isinstance(found, dict) and len(cast(dict[str, Any], found)) <= _MAX_JSON_KEYS
    return cast(dict[str, Any], found) if is_small else None
