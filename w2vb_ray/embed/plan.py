"""What is there to do: the inventory minus what the tables already hold, cut into units. Pure Arrow, no Ray.

A row is *unchanged* when its id is embedded, or was rejected for good, at the same `source_version`. Everything else
is planned, and carries two flags for the commit: whether earlier rows of its id must go from `utterances` (and
`frames`) and from `rejects`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from w2vb_ray import schema
from w2vb_ray.arrow import pc
from w2vb_ray.config.embed import PlanSection
from w2vb_ray.errors import RETRIED_REASONS, RejectReason, SinkError

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


@dataclass(frozen=True)
class Live:
    """What the tables hold, one row per id: `utterance_id`, `source_version`, `file` (and `reason` in rejects)."""

    utterances: pa.Table
    rejects: pa.Table
    frames: pa.Table | None = None  # None where there is no frames table


@dataclass(frozen=True)
class Plan:
    """The units of a run and the counts that say why they are all there is.

    `num_input = num_planned + num_unchanged`, and `num_known_rejects` of the unchanged ones have no embedding.
    """

    units: list[pa.Table]
    num_input: int
    num_planned: int
    num_unchanged: int
    num_known_rejects: int
    num_changed: int
    num_gone: int
    audio_s: float  # announced, of the planned rows
    num_without_duration: int
    languages: list[str]
    unit_s: list[float] = field(default_factory=list)  # estimated audio of each unit, for progress
    utterance_files: Mapping[str, str] = field(default_factory=dict)  # replaced id -> file that holds it
    frame_files: Mapping[str, str] = field(default_factory=dict)
    reject_files: Mapping[str, str] = field(default_factory=dict)


def make_plan(
    inventory: pa.Table, duplicates: pa.Array, live: Live, section: PlanSection, *, want_frames: bool = False
) -> Plan:
    """Anti-join an inventory with the tables and cut the rest into units.

    Args:
        inventory: rows of `schema.INVENTORY` and the source's own columns, ids unique.
        duplicates: ids that stand for a repeated row; they are planned as rejects.
        live: what the tables hold.
        section: unit sizes.
        want_frames: plan embedded utterances again that have no frames yet.
    """
    found = _look_up(inventory, live)
    version = inventory["source_version"]
    embedded = pc.is_valid(found["utterance_version"])
    gone = pc.and_(embedded, pc.equal(version, ""))  # its audio went away: the row stays, it may be the only one left
    done = pc.or_(gone, pc.and_(embedded, pc.fill_null(pc.equal(found["utterance_version"], version), False)))
    if want_frames:
        done = pc.and_(done, pc.or_(gone, pc.is_valid(found["frame_file"])))
    retried = pc.is_in(found["reason"], pa.array([str(reason) for reason in RETRIED_REASONS]))
    refused = pc.and_(
        pc.fill_null(pc.equal(found["reject_version"], version), False),
        pc.invert(pc.or_(retried, pa.scalar(section.retry_rejects))),
    )
    known_rejects = pc.and_(refused, pc.invert(done))
    todo = pc.invert(pc.or_(done, refused))

    planned = _with_flags(inventory, found, duplicates).filter(todo)
    replaced = found.filter(todo)
    seconds = _estimated_s(planned)
    announced = planned["announced_duration_s"]
    units, unit_s = _cut(planned, seconds, section)
    return Plan(
        units=units,
        num_input=inventory.num_rows,
        num_planned=planned.num_rows,
        num_unchanged=inventory.num_rows - planned.num_rows,
        num_known_rejects=_count(known_rejects),
        num_changed=_count(planned["in_utterances"]),
        num_gone=_count(gone),
        audio_s=pc.sum(announced).as_py() or 0.0,
        num_without_duration=announced.null_count,
        languages=sorted(pc.unique(inventory["language"]).to_pylist()),
        unit_s=unit_s,
        utterance_files=_files(planned, replaced, "utterance_file"),
        frame_files=_files(planned, replaced, "frame_file"),
        reject_files=_files(planned, replaced, "reject_file"),
    )


def _count(mask: pa.ChunkedArray) -> int:
    return pc.sum(mask).as_py() or 0


def _look_up(inventory: pa.Table, live: Live) -> pa.Table:
    """Left join with the tables, in inventory order; null where a table does not know the id."""
    utterances = live.utterances.select(["utterance_id", "source_version", "file"])
    utterances = utterances.rename_columns(["utterance_id", "utterance_version", "utterance_file"])
    rejects = live.rejects.select(["utterance_id", "source_version", "reason", "file"])
    rejects = rejects.rename_columns(["utterance_id", "reject_version", "reason", "reject_file"])
    rows = pa.table({"utterance_id": inventory["utterance_id"], "row": pa.array(np.arange(inventory.num_rows))})
    frames = (
        live.frames if live.frames is not None else utterances.slice(0, 0).select(["utterance_id", "utterance_file"])
    )
    frames = frames.rename_columns(["utterance_id", "frame_file"])
    joined = rows.join(utterances, "utterance_id").join(rejects, "utterance_id").join(frames, "utterance_id")
    if joined.num_rows != inventory.num_rows:
        raise SinkError(
            f"the tables hold {joined.num_rows - inventory.num_rows} utterances of this source twice, which no run of "
            "this job does; look for rows that something else wrote, and remove them"
        )
    return joined.sort_by("row")


def _with_flags(inventory: pa.Table, found: pa.Table, duplicates: pa.Array) -> pa.Table:
    is_duplicate = pc.is_in(inventory["utterance_id"], duplicates)
    reason = pc.if_else(is_duplicate, str(RejectReason.DUPLICATE_ID), pa.scalar(None, pa.string()))
    detail = pc.if_else(is_duplicate, "an earlier row of this source has the same id", pa.scalar(None, pa.string()))
    flags = [pc.is_valid(found["utterance_version"]), pc.is_valid(found["reject_version"]), reason, detail]
    for planned_field, column in zip(schema.PLANNED, flags, strict=True):
        inventory = inventory.append_column(planned_field, column)
    return inventory


def _files(planned: pa.Table, found: pa.Table, column: str) -> dict[str, str]:
    known = pc.is_valid(found[column])
    ids, files = planned["utterance_id"].filter(known), found[column].filter(known)
    return dict(zip(ids.to_pylist(), files.to_pylist(), strict=True))


def _estimated_s(planned: pa.Table) -> np.ndarray:
    """(N,) seconds of audio: announced, or the segment's length, or a guess from the size."""
    size = pc.fill_null(planned["source_bytes"], 0).to_numpy().astype(np.float64).clip(min=0)
    suffixes = pc.ascii_lower(pc.replace_substring_regex(planned["audio_uri"], r"^.*?(\.[A-Za-z0-9]{1,5})?$", r"\1"))
    coded = suffixes.combine_chunks().dictionary_encode()
    rates = np.array([_BYTES_PER_S.get(s, _BYTES_PER_S_OTHER) for s in coded.dictionary.to_pylist()], np.float64)
    guessed = size / rates[coded.indices.to_numpy()] if len(size) else size
    segment = pc.subtract(planned["end_s"], pc.fill_null(planned["start_s"], 0.0))
    known = pc.coalesce(segment, planned["announced_duration_s"]).to_numpy()
    return np.where(np.isfinite(known), known, guessed).clip(min=0.0)  # a manifest may say `inf`


def _cut(planned: pa.Table, seconds: np.ndarray, section: PlanSection) -> tuple[list[pa.Table], list[float]]:
    """Units of one language each, rows of one recording together, long before short; the longest unit first.

    Languages too small for a unit of their own share one: alone, their few utterances would be padded to each other.
    """
    if planned.num_rows == 0:
        return [], []
    fair_s = min(section.unit_audio_s, max(MIN_UNIT_S, float(seconds.sum()) / MIN_UNITS))
    alone = pc.and_(
        pc.is_null(planned["container_uri"]), pc.and_(pc.is_null(planned["start_s"]), pc.is_null(planned["end_s"]))
    ).to_numpy()
    keys = pa.table(
        {
            "row": np.arange(planned.num_rows),
            "language": planned["language"],
            # Segments by recording and members by container first, so that these are read once.
            "length": np.where(alone, -seconds, -np.inf),
            "object": pc.coalesce(planned["container_uri"], planned["audio_uri"]),
            "part": planned["container_part"],
            "member": planned["member_offset"],
            "start_s": planned["start_s"],
        }
    )
    order = [(name, "ascending") for name in ("length", "object", "part", "member", "start_s")]
    rows = keys.sort_by([("language", "ascending"), *order])["row"].to_numpy()
    pieces = np.split(rows, _unit_starts(planned, rows, seconds, section, fair_s)[1:])
    rank = np.empty(len(rows), np.int64)
    rank[keys.sort_by(order)["row"].to_numpy()] = np.arange(len(rows))
    pieces = [piece[np.argsort(rank[piece])] for piece in _share(planned, pieces, seconds, section, fair_s)]
    unit_s = np.array([seconds[piece].sum() for piece in pieces])
    units = [
        (planned.take(pa.array(pieces[i])).combine_chunks(), float(unit_s[i]))
        for i in np.argsort(-unit_s, kind="stable")
    ]
    return [unit for unit, _ in units], [length for _, length in units]


def _share(
    planned: pa.Table, pieces: list[np.ndarray], seconds: np.ndarray, section: PlanSection, fair_s: float
) -> list[np.ndarray]:
    """Join the pieces of languages that have only one, and a small one, until `SHARED_UTTERANCES` are together."""
    language = planned["language"].combine_chunks().dictionary_encode().indices.to_numpy()
    num_pieces = np.bincount([language[piece[0]] for piece in pieces])
    small = [p for p in pieces if len(p) < SHARED_UTTERANCES and num_pieces[language[p[0]]] == 1]
    shared = [p for p in pieces if not (len(p) < SHARED_UTTERANCES and num_pieces[language[p[0]]] == 1)]
    size = pc.fill_null(planned["source_bytes"], 0).to_numpy().clip(min=0)
    together: list[np.ndarray] = []
    for piece in sorted(small, key=lambda rows: -seconds[rows].mean()):  # of like lengths
        joined = np.concatenate([*together, piece])
        if together and (
            len(joined) - len(piece) >= SHARED_UTTERANCES
            or len(joined) > section.unit_utterances
            or seconds[joined].sum() > fair_s
            or size[joined].sum() > section.unit_bytes
        ):
            shared.append(np.concatenate(together))
            together = []
        together.append(piece)
    return [*shared, np.concatenate(together)] if together else shared


def _unit_starts(
    planned: pa.Table, rows: np.ndarray, seconds: np.ndarray, section: PlanSection, fair_s: float
) -> list[int]:
    """Positions in `rows` where a unit begins: a new language, or a unit that is full.

    A recording, or a part of a table, is only split where it must be, since each unit reads it again.
    """
    language = planned["language"].combine_chunks().dictionary_encode().indices.to_numpy()[rows]
    uri = planned["audio_uri"].combine_chunks().dictionary_encode().indices.to_numpy()[rows]
    again = np.append(False, uri[1:] == uri[:-1])
    together = again | _same_part(planned, rows)
    size = pc.fill_null(planned["source_bytes"], 0).to_numpy().clip(min=0)[rows]
    length = seconds[rows]
    starts, count, audio_s, num_bytes = [0], 0, 0.0, 0
    for i in range(len(rows)):
        cost = 0 if again[i] else int(size[i])  # segments of one recording share one fetch
        full = (
            count >= section.unit_utterances
            or audio_s + length[i] > (section.unit_audio_s if together[i] else fair_s)
            or (cost and num_bytes + cost > section.unit_bytes)
        )
        if count and (full or language[i] != language[i - 1]):
            starts.append(i)
            count, audio_s, num_bytes, cost = 0, 0.0, 0, int(size[i])
        count, audio_s, num_bytes = count + 1, audio_s + length[i], num_bytes + cost
    return starts


def _same_part(planned: pa.Table, rows: np.ndarray) -> np.ndarray:
    """(N,) bool: the row before is of the same part of a table."""
    part = pc.fill_null(planned["container_part"], -2).to_numpy()[rows]
    container = pc.fill_null(planned["container_uri"], "").combine_chunks().dictionary_encode()
    code = container.indices.to_numpy()[rows]
    return np.append(False, (part[1:] == part[:-1]) & (code[1:] == code[:-1]) & (part[1:] != -2))
