"""A tree of audio files, with or without `metadata.csv` beside them (the Hub's AudioFolder), -> rows."""

import re
from collections.abc import Iterator
from itertools import islice

import pyarrow as pa

from w2vb_ray import storage
from w2vb_ray.arrow import pc
from w2vb_ray.config.sections import SourceSection
from w2vb_ray.errors import SourceError
from w2vb_ray.source import columns, listing, metadata, s3_inventory, tabular, versions
from w2vb_ray.source.access import not_found
from w2vb_ray.source.objects import OBJECT
from w2vb_ray.source.rows import Rows, flat

_SUFFIXES = """wav wave flac ogg oga opus mp3 mp2 mpga m4a m4b aac mp4 webm mka mkv mov 3gp 3g2 aiff aif aifc au snd
    caf w64 rf64 wma asf amr awb ac3 eac3 spx wv ape tta gsm sph nist voc rm ra"""
AUDIO_SUFFIXES = frozenset(_SUFFIXES.split())
RAW_SUFFIXES = frozenset({"raw", "pcm"})
_BATCH_ROWS = 65_536
_SUFFIX = re.compile(r"[a-z0-9]+")
_FILES = pa.schema([*OBJECT, pa.field("is_audio", pa.bool_())])


def read(section: SourceSection) -> Rows:
    """List the audio under `source.uri`, and join what metadata files say of it.

    Raises:
        SourceError: nothing there, access denied, no audio, or a malformed metadata file.
    """
    by_inventory = section.inventory_uri is not None
    place = s3_inventory.locate(section) if by_inventory else listing.locate(section.uri, section.storage)
    files, metadata_uris = _single(section) if place.literal else _list(place, section)
    audio_uri, details = metadata.read(metadata_uris, section.storage)
    if place.pattern is not None and len(audio_uri):
        meant = pa.array([place.holds(uri) for uri in audio_uri.to_pylist()])
        audio_uri, details = audio_uri.filter(meant), details.filter(meant)
    objects, own = metadata.join(files, audio_uri, details, section)
    if not objects.num_rows:
        raise _no_audio(section, files)
    fields = columns.map_fields(own.column_names, section, section.uri)
    return Rows(
        **{name: flat(objects[name]) for name in OBJECT.names},
        fields={field: own[name] for field, name in fields.items()},
        own=columns.own_columns(own, fields),
        root=place.root,
        num_skipped=files.num_rows - pc.sum(pc.is_in(files["audio_uri"], value_set=flat(objects["audio_uri"]))).as_py(),
        format="folder",
    )


def _single(section: SourceSection) -> tuple[pa.Table, list[str]]:
    """A file that is named is audio, whatever its name."""
    uris = pa.array([storage.normalise(section.uri)])
    nothing = pa.nulls(1, pa.string())
    stats = versions.stat(uris, section.storage)
    return pa.table([uris, *stats, nothing, nothing, pa.array([True])], schema=_FILES), []


def _list(place: listing.Place, section: SourceSection) -> tuple[pa.Table, list[str]]:
    """All visible files that are meant, and the metadata files anywhere under the root."""
    suffixes = _suffixes(section, place)
    metadata_uris: list[str] = []
    by_inventory = section.inventory_uri is not None
    entries = s3_inventory.walk(place, section) if by_inventory else listing.walk(place, section.storage)
    batches = list(_batches(entries, place, suffixes, metadata_uris))
    if not batches and not metadata_uris:
        raise not_found(section.uri)
    return pa.Table.from_batches(batches, _FILES), metadata_uris


def _batches(
    entries: Iterator[listing.Entry], place: listing.Place, suffixes: frozenset[str], metadata_uris: list[str]
) -> Iterator[pa.RecordBatch]:
    while batch := list(islice(entries, _BATCH_ROWS)):
        files: list[tuple[str, int | None, str, float | None, None, None, bool]] = []
        for uri, num_bytes, version, modified_s in batch:
            name = uri[uri.rfind("/") + 1 :]
            if name in metadata.FILE_NAMES:
                metadata_uris.append(uri)
            elif place.holds(uri):
                stem, _, suffix = name.rpartition(".")
                is_audio = stem != "" and suffix.lower() in suffixes
                files.append((uri, num_bytes, version, modified_s, None, None, is_audio))
        if files:
            columns = zip(_FILES.types, zip(*files, strict=True), strict=True)
            yield pa.record_batch([pa.array(column, dtype) for dtype, column in columns], schema=_FILES)


def _suffixes(section: SourceSection, place: listing.Place) -> frozenset[str]:
    """What counts as audio: the usual, headerless files once their rate is known, and what a glob ends in."""
    suffixes = AUDIO_SUFFIXES | (RAW_SUFFIXES if section.raw_sampling_rate else frozenset())
    asked = section.uri.rpartition(".")[2].lower()
    by_glob = place.pattern is not None and _SUFFIX.fullmatch(asked) and asked not in RAW_SUFFIXES
    return suffixes | {asked} if by_glob else suffixes


def _no_audio(section: SourceSection, files: pa.Table) -> SourceError:
    uris = files["audio_uri"].to_pylist()
    seen = f"saw {len(uris)} other file(s) such as {min(uris)}" if uris else "saw only metadata files"
    hint = "check the folder"
    if any(uri.rpartition(".")[2].lower() in RAW_SUFFIXES for uri in uris):
        hint = "set `source.raw_sampling_rate` to read headerless .raw and .pcm files"
    elif any(uri.rpartition("/")[2] == "wav.scp" for uri in uris):
        hint = "to read a Kaldi data folder, name the one that holds wav.scp"
    elif any(tabular.kind_of(uri) for uri in uris):
        hint = "if that is a list of audio files, set `source.format: manifest`"
    return SourceError(
        f"`source.uri`: {section.uri} holds no audio: looked for .wav, .flac, .mp3, .ogg, .opus, .m4a and "
        f"{len(AUDIO_SUFFIXES) - 6} more kinds, {seen}; {hint}."
    )
