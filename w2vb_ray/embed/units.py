"""Rows to embed -> units: one language each, rows of one recording together, long before short.

What decides is held as numbers, 37 bytes a row; the rows themselves are only copied into a unit when it is asked for.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import overload

import numpy as np
import pyarrow as pa

from w2vb_ray.arrow import pc
from w2vb_ray.config.embed import PlanSection
from w2vb_ray.source.keys import hashes

# Bytes per second of audio where nobody announced a duration: only to order and cut units. Compressed speech is taken
# at 64 kbit/s, so that a unit of 24 kbit/s files is at most 2.7 times as long as asked for.
_BYTES_PER_S = {".wav": 32_000, ".aiff": 32_000, ".aif": 32_000, ".raw": 32_000, ".pcm": 32_000, ".flac": 16_000}
_BYTES_PER_S_OTHER = 8_000

SHARED_UTTERANCES = 64
"""A language with fewer utterances to embed shares its unit with others, up to about as many: with 117 clips in 20
languages padding falls from 22 % to 11 % of the frames."""

MIN_UNITS = 64
"""A run is cut into at least so many units, for encoders to share, unless they would be under `MIN_UNIT_S`."""

MIN_UNIT_S = 30.0
"""About a micro-batch on a CPU. Smaller units leave nothing to pack, larger ones let encoders end apart: two of them
with four minutes of short clips waited 9 % of the time at 60 s, and 2 % at 30 s."""

_SHELF_ROWS = 1_000_000
_MAX_BYTES = 2**40  # of one object, in sums that must not overflow


@dataclass(frozen=True, slots=True)
class Measures:
    """What decides in which unit a row goes, and where in it; (N,) each."""

    language: np.ndarray  # number in `Planned.languages`
    recording: np.ndarray  # hash of the URI, or (`numbered`) the first row that has it
    seconds: np.ndarray  # estimated audio
    num_bytes: np.ndarray  # of the object, 0 where not known
    start_s: np.ndarray  # NaN: from the beginning
    is_whole: np.ndarray  # an object, neither a segment nor a member of another
    place: np.ndarray  # hash of what is read at once: the recording, or the part of a table that it lies in

    def numbered(self) -> "Measures":
        """Recordings by their first row, so that the order of the source decides between equals."""
        _, first, inverse = np.unique(self.recording, return_index=True, return_inverse=True)
        return replace(self, recording=first[inverse])

    def order(self, rows: np.ndarray | None = None, *, by_language: bool = False) -> np.ndarray:
        """Rows, all unless given, in the order they have in a unit: segments by recording, so that it is read once,
        then whole recordings, long before short."""
        chosen = slice(None) if rows is None else rows
        length = np.where(self.is_whole[chosen], -self.seconds[chosen], -np.inf)
        keys = [self.start_s[chosen], self.recording[chosen], length]
        order = np.lexsort([*keys, self.language[chosen]] if by_language else keys)
        return order if rows is None else rows[order]


class Planned:
    """The rows to embed, as planning finds them."""

    def __init__(self) -> None:
        self.num_rows = 0
        self.languages: dict[str, int] = {}
        self._measures: list[Measures] = []
        self._shelves: list[pa.Table] = []  # one chunk each: Arrow copies all chunks of a column to take a row of it
        self._waiting: list[pa.Table] = []

    def add(self, table: pa.Table) -> None:
        """Keep more rows; of all the same columns."""
        if not table.num_rows:
            return
        self.num_rows += table.num_rows
        self._measures.append(self._measure(table))
        self._waiting.append(table)
        if sum(waiting.num_rows for waiting in self._waiting) >= _SHELF_ROWS:
            self._shelve()

    def _shelve(self) -> None:
        if self._waiting:
            self._shelves.append(pa.concat_tables(self._waiting).combine_chunks())
            self._waiting = []

    def _measure(self, table: pa.Table) -> Measures:
        coded = table["language"].combine_chunks().dictionary_encode()
        codes = [self.languages.setdefault(name, len(self.languages)) for name in coded.dictionary.to_pylist()]
        return Measures(
            language=np.array(codes, np.int32)[coded.indices.to_numpy()],
            recording=hashes(table["audio_uri"]),
            seconds=estimated_s(table),
            num_bytes=pc.fill_null(table["source_bytes"], 0).to_numpy().clip(min=0, max=_MAX_BYTES),
            start_s=pc.fill_null(table["start_s"], np.nan).to_numpy(),
            is_whole=_is_whole(table),
            place=hashes(_place(table)),
        )

    def measures(self) -> Measures:
        """Of all rows; languages are numbered in the order of their names."""
        whole = Measures(
            *(np.concatenate([getattr(part, field.name) for part in self._measures]) for field in fields(Measures))
        )
        rank = np.argsort(np.argsort(np.array(list(self.languages), object))).astype(np.int32)
        return replace(whole, language=rank[whole.language]).numbered()

    def take(self, rows: np.ndarray) -> pa.Table:
        """Some rows, in the given order, in one chunk."""
        self._shelve()
        ends = np.cumsum([shelf.num_rows for shelf in self._shelves])
        where = np.searchsorted(ends, rows, side="right")
        order = np.argsort(where, kind="stable")
        parts = [
            shelf.take(pa.array(rows[where == number] - (ends[number] - shelf.num_rows)))
            for number, shelf in enumerate(self._shelves)
        ]
        back = np.empty(len(rows), np.int64)
        back[order] = np.arange(len(rows))
        table = parts[0] if len(parts) == 1 else pa.concat_tables(parts).combine_chunks().take(pa.array(back))
        return table.combine_chunks()


class Units(Sequence[pa.Table]):
    """The units of a plan, made when they are asked for.

    Args:
        planned: all rows.
        pieces: the rows of each unit.
    """

    def __init__(self, planned: Planned, pieces: list[np.ndarray]) -> None:
        self._planned = planned
        self._pieces = pieces

    def __len__(self) -> int:
        return len(self._pieces)

    @overload
    def __getitem__(self, index: int) -> pa.Table: ...
    @overload
    def __getitem__(self, index: slice) -> "Units": ...
    def __getitem__(self, index: int | slice) -> "pa.Table | Units":
        if isinstance(index, slice):
            return Units(self._planned, self._pieces[index])
        return self._planned.take(self._pieces[index])


def _is_whole(table: pa.Table) -> np.ndarray:
    inside = [pc.is_null(table[name]).to_numpy() for name in ("start_s", "end_s", "container_uri")]
    return np.logical_and.reduce(inside)


def _place(table: pa.Table) -> pa.ChunkedArray:
    parts = pc.cast(table["container_part"], pa.string())
    return pc.coalesce(pc.binary_join_element_wise(table["container_uri"], parts, "#"), table["audio_uri"])


def estimated_s(planned: pa.Table) -> np.ndarray:
    """(N,) seconds of audio: announced, or the segment's length, or a guess from the size."""
    size = pc.fill_null(planned["source_bytes"], 0).to_numpy().astype(np.float64).clip(min=0)
    suffixes = pc.ascii_lower(pc.replace_substring_regex(planned["audio_uri"], r"^.*?(\.[A-Za-z0-9]{1,5})?$", r"\1"))
    coded = suffixes.combine_chunks().dictionary_encode()
    rates = np.array([_BYTES_PER_S.get(s, _BYTES_PER_S_OTHER) for s in coded.dictionary.to_pylist()], np.float64)
    guessed = size / rates[coded.indices.to_numpy()] if len(size) else size
    segment = pc.subtract(planned["end_s"], pc.fill_null(planned["start_s"], 0.0))
    known = pc.coalesce(segment, planned["announced_duration_s"]).to_numpy()
    return np.where(np.isfinite(known), known, guessed).clip(min=0.0)  # a manifest may say `inf`


def cut(planned: Planned, section: PlanSection) -> tuple[Sequence[pa.Table], list[float]]:
    """Units, the longest first, and the seconds of audio in each.

    Languages too small for a unit of their own share one: alone, their few utterances would be padded to each other.
    """
    if not planned.num_rows:
        return [], []
    measures = planned.measures()
    fair_s = min(section.unit_audio_s, max(MIN_UNIT_S, float(measures.seconds.sum()) / MIN_UNITS))
    rows = measures.order(by_language=True)
    pieces = np.split(rows, list(_starts(measures, rows, section, fair_s))[1:])
    pieces = _share(measures, pieces, section, fair_s)
    unit_s = np.array([measures.seconds[piece].sum() for piece in pieces])
    order = np.argsort(-unit_s, kind="stable")
    return Units(planned, [pieces[i] for i in order]), unit_s[order].tolist()


def _share(measures: Measures, pieces: list[np.ndarray], section: PlanSection, fair_s: float) -> list[np.ndarray]:
    """Join the pieces of languages that have only one, and a small one, until `SHARED_UTTERANCES` are together."""
    languages = np.array([measures.language[piece[0]] for piece in pieces])
    num_pieces = np.bincount(languages)[languages]
    is_small = [len(piece) < SHARED_UTTERANCES and num == 1 for piece, num in zip(pieces, num_pieces, strict=True)]
    small = [piece for piece, joins in zip(pieces, is_small, strict=True) if joins]
    shared = [piece for piece, joins in zip(pieces, is_small, strict=True) if not joins]
    together: list[np.ndarray] = []
    for piece in sorted(small, key=lambda rows: -measures.seconds[rows].mean()):  # of like lengths
        joined = np.concatenate([*together, piece])
        if together and (
            len(joined) - len(piece) >= SHARED_UTTERANCES
            or len(joined) > section.unit_utterances
            or measures.seconds[joined].sum() > fair_s
            or measures.num_bytes[joined].sum() > section.unit_bytes
        ):
            shared.append(measures.order(np.concatenate(together)))
            together = []
        together.append(piece)
    return [*shared, measures.order(np.concatenate(together))] if together else shared


def _starts(measures: Measures, rows: np.ndarray, section: PlanSection, fair_s: float) -> Iterator[int]:
    """Positions in `rows` where a unit begins: a new language, or a unit that is full.

    A recording, or a part of a table, is only split where it must be, since each unit reads it again. Sums up to each
    row tell where a unit ends without a look at the rows in it.
    """
    recording, language = measures.recording[rows], measures.language[rows]
    is_first = np.append(True, recording[1:] != recording[:-1])
    place = measures.place[rows]
    firsts = np.append(np.flatnonzero(np.append(True, place[1:] != place[:-1])), len(rows))
    languages = np.append(np.flatnonzero(language[1:] != language[:-1]) + 1, len(rows))
    seconds = measures.seconds[rows].clip(max=2 * section.unit_audio_s)  # one huge row must not swallow the others' sum
    size = measures.num_bytes[rows]
    audio_s = np.append(0.0, np.cumsum(seconds))
    num_bytes = np.append(0, np.cumsum(np.where(is_first, size, 0)))  # segments of one recording share one fetch
    start = 0
    while start < len(rows):
        yield start
        over_fair = max(start + 1, _beyond(audio_s, audio_s[start] + fair_s))
        room = max(0, section.unit_bytes - int(size[start]))
        start = min(
            start + section.unit_utterances,
            languages[np.searchsorted(languages, start, side="right")],
            firsts[np.searchsorted(firsts, over_fair)],
            max(start + 1, _beyond(audio_s, audio_s[start] + section.unit_audio_s)),
            _beyond(num_bytes, num_bytes[start + 1] + room),
        )


def _beyond(sums: np.ndarray, limit: float) -> int:
    """The first row with which the sum, from the first row on, is beyond a limit; the number of rows if none is."""
    return int(np.searchsorted(sums, limit, side="right")) - 1
