"""Utterance ids, segments inside versions, and what happens when an id comes twice."""

from hashlib import blake2b

import numpy as np
import pyarrow as pa

from w2vb_ray.arrow import pc
from w2vb_ray.source.keys import Keys, KeySet
from w2vb_ray.source.rows import Column, flat
from w2vb_ray.source.storable import as_text

_ID_BYTES = 16


def utterance_ids(audio_uri: Column, start_s: Column, end_s: Column, given: Column | None) -> Column:
    """The given ids; where none is given, 32 hex digits from the URI and the segment.

    They depend on nothing else: not on the order of rows, the machine or the version of the audio.
    """
    if given is None:
        return _hashed(audio_uri, start_s, end_s)
    ids = pc.fill_null(as_text(given), "")
    absent = pc.equal(pc.utf8_trim_whitespace(ids), "")
    if not pc.any(absent).as_py():
        return ids
    hashed = _hashed(*(column.filter(absent) for column in (audio_uri, start_s, end_s)))
    return pc.replace_with_mask(flat(ids), flat(absent), flat(hashed))


def _hashed(audio_uri: Column, start_s: Column, end_s: Column) -> pa.Array:
    if start_s.null_count == end_s.null_count == len(audio_uri):
        keys = audio_uri.to_pylist()
    else:
        segments = zip(audio_uri.to_pylist(), start_s.to_pylist(), end_s.to_pylist(), strict=True)
        keys = [uri if start is None and end is None else f"{uri}\0{start!r}\0{end!r}" for uri, start, end in segments]
    return pa.array([hashed_id(key) for key in keys], pa.string())


def hashed_id(uri: str) -> str:
    """The id of what has this URI and is no segment."""
    return blake2b(uri.encode(), digest_size=_ID_BYTES).hexdigest()


def segment_versions(version: Column, start_s: Column, end_s: Column) -> Column:
    """Versions that also change with the segment: `<version>#t=<start>,<end>`; empty ones stay empty."""
    if start_s.null_count == end_s.null_count == len(version):
        return version
    rows = zip(version.to_pylist(), start_s.to_pylist(), end_s.to_pylist(), strict=True)
    return pa.array([_segment_version(*row) for row in rows], pa.string())


def _segment_version(version: str, start_s: float | None, end_s: float | None) -> str:
    if not version or (start_s is None and end_s is None):
        return version
    start, end = ("" if moment is None else repr(moment) for moment in (start_s, end_s))
    return f"{version}#t={start},{end}"


def object_version(source_version: str) -> str:
    """The version of the recording: without what `segment_versions` added."""
    return source_version.partition("#t=")[0]


class Repeats:
    """Makes ids unique, batch by batch: the second and later rows of an id become `<id>#2`, `<id>#3`, …

    What they become is only known when all ids are, so the rows that need a new one wait for the end.
    """

    def __init__(self) -> None:
        self._given = KeySet()

    def repeated(self, keys: Keys) -> np.ndarray:
        """(N,) whether an earlier row, of this or an earlier batch, has the same id."""
        repeated = keys.repeated() | self._given.holds(keys)
        self._given.add(keys.take(np.flatnonzero(~repeated)))
        return repeated

    def rename(self, ids: Column) -> pa.Array:
        """New ids of all repeated rows, which are in the order of the source; none is an id that any row was given."""
        encoded = flat(ids).dictionary_encode()
        numbers = (_ranks(encoded.indices.to_numpy()) + 2).tolist()
        names = [f"{id_}#{number}" for id_, number in zip(ids.to_pylist(), numbers, strict=True)]
        given = self._given.holds(Keys.of(pa.array(names, pa.string())))
        used: set[str] = set()
        for row, (id_, number) in enumerate(zip(ids.to_pylist(), numbers, strict=True)):
            is_given = given[row]
            while is_given or names[row] in used:
                number += 1
                names[row] = f"{id_}#{number}"
                is_given = names[row] in self._given
            used.add(names[row])
        return pa.array(names, pa.string())


def _ranks(codes: np.ndarray) -> np.ndarray:
    """How many earlier rows have the same code. (N,) -> (N,)"""
    order = np.argsort(codes, kind="stable")
    grouped = codes[order]
    starts = np.flatnonzero(np.r_[True, grouped[1:] != grouped[:-1]])
    sizes = np.diff(np.r_[starts, len(codes)])
    ranks = np.empty(len(codes), np.int64)
    ranks[order] = np.arange(len(codes)) - np.repeat(starts, sizes)
    return ranks
