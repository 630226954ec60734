"""Lhotse Shar: `cuts.000000.jsonl.gz` beside `recording.000000.tar`, in which each cut has a member -> rows.

A member is called like its cut, and holds what the cut is of its recording: Shar cuts begin at 0. A cut without audio
has an empty `.nodata`. `source.columns.audio` names another field than `recording`. Lhotse itself is not needed.
"""

import gzip
import io
import re
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, cast

from w2vb_ray import storage
from w2vb_ray.config.sections import SourceSection
from w2vb_ray.errors import SourceError
from w2vb_ray.source import jsonl, lhotse, listing, shards, tar, webdataset
from w2vb_ray.source.access import not_found, readable
from w2vb_ray.source.embedded import MemberRow, Part, part_of_tar, to_pieces
from w2vb_ray.source.listing import Entry
from w2vb_ray.source.peek import Peek
from w2vb_ray.source.rows import Pieces

_CUTS = re.compile(r"cuts((?:\.[^./]+)?)\.jsonl(?:\.gz)?")
_FIELD = "recording"
_NOT_AUDIO = ("json", "nodata", "nometa")
_GZIP_MAGIC = b"\x1f\x8b"


class _Shard(NamedTuple):
    cuts: Entry
    audio: Entry


def recognises(peek: Peek) -> str | None:
    """By cuts beside tars of their recordings."""
    cuts = [match for name in peek.files if (match := _CUTS.fullmatch(name))]
    both = any(f"{_FIELD}{match[1]}.tar" in peek.files for match in cuts)
    return f"{cuts[0][0]} and tars of recordings beside it" if both else None


def read(section: SourceSection) -> Pieces:
    """Every cut of the shards in the folder `source.uri`, or of those whose cuts a glob names.

    Raises:
        SourceError: nothing there, no cuts, or a line that is not JSON.
    """
    place = listing.locate(section.uri, section.storage)
    field = section.columns.get("audio", _FIELD)
    seen = {entry.uri: entry for entry in listing.walk(place, section.storage)}
    if not seen:
        raise not_found(section.uri)
    found = list(_shards(seen, place, field))
    if not found:
        raise SourceError(f"`source.uri`: {section.uri} holds no cuts.*.jsonl.gz, but {len(seen)} other file(s).")
    by_cuts = {shard.cuts: shard for shard in found}
    return to_pieces(
        shards.in_threads(lambda cuts: _index(by_cuts[cuts], section), sorted(by_cuts)),
        section,
        root=place.root,
        num_skipped=len(seen) - sum(1 + (shard.audio.uri in seen) for shard in found) if place.pattern is None else 0,
        source_format="shar",
    )


def _shards(seen: Mapping[str, Entry], place: listing.Place, field: str) -> Iterator[_Shard]:
    for uri, cuts in seen.items():
        folder, _, name = uri.rpartition("/")
        if (match := _CUTS.fullmatch(name)) and place.holds(uri):
            audio = f"{folder}/{field}{match[1]}.tar"
            yield _Shard(cuts, seen.get(audio, Entry(audio, None, "")))


def _index(shard: _Shard, section: SourceSection) -> Part:
    """The cuts of one shard, each with its member; a cut without one is a row that leads nowhere."""
    found: dict[str, list[tar.Entry]] = {}
    damage, num_members = None, 0
    for member, _ in webdataset.members(shard.audio, section) if shard.audio.num_bytes is not None else ():
        key, _, suffix = member.name.rpartition(".")
        if member.kind == "damage":
            damage = member.offset
        elif suffix == "nodata" or (member.kind != "folder" and suffix not in _NOT_AUDIO):
            found.setdefault(key, []).append(member)
            num_members += 1
    rows: list[MemberRow] = []
    for cut in _cuts(shard.cuts, section):
        waiting = found.get(str(cut.get("id")), [])
        num_members -= bool(waiting)
        rows.append(_row(cut, waiting.pop(0) if waiting else None, shard.audio.uri, damage))
    return part_of_tar(shard.audio, rows, num_members)


def _row(cut: dict[str, Any], member: tar.Entry | None, tar_uri: str, damage: int | None) -> MemberRow:
    recording = cut.get("recording")
    recording_id = cast(dict[str, Any], recording).get("id") if isinstance(recording, dict) else None
    details = {
        **lhotse.described(cut),
        "utterance_id": cut.get("id"),
        "recording_id": recording_id,
        "duration_s": cut.get("duration"),
    }
    if member is None:
        return MemberRow(f"{tar_uri}#{cut.get('id')}", None, damage, details)
    offset = member.offset if member.kind == "file" else None
    return MemberRow(f"{tar_uri}#{member.name}", member.num_bytes, offset, details)


def _cuts(entry: Entry, section: SourceSection) -> Iterator[dict[str, Any]]:
    fs = storage.filesystem(entry.uri, section.storage)
    with readable(entry.uri):
        data = cast(bytes, fs.cat_file(storage.fs_path(entry.uri, fs)))
    if data.startswith(_GZIP_MAGIC):
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as err:
            raise SourceError(f"{entry.uri} is not a whole gzip file: {err}.") from err
    return jsonl.objects(io.BytesIO(data), entry.uri)
