"""What is there to do: the inventory minus what the tables already hold, cut into units. Knows no Ray.

A row is *unchanged* when its id is embedded, or was rejected for good, at the same `source_version`. Everything else
is planned, and carries two flags for the commit: whether earlier rows of its id must go from `utterances` (and
`frames`) and from `rejects`. The inventory passes by in batches, and only the rows to plan stay in memory.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from w2vb_ray import schema
from w2vb_ray.arrow import pc
from w2vb_ray.config.embed import PlanSection
from w2vb_ray.embed.forgotten import NOTHING, Forgotten
from w2vb_ray.embed.live import Found, Live
from w2vb_ray.embed.units import Planned, cut
from w2vb_ray.errors import RejectReason, SinkError
from w2vb_ray.source import Batch
from w2vb_ray.source.keys import hashes


@dataclass(frozen=True)
class Plan:
    """The units of a run and the counts that say why they are all there is.

    `num_input = num_planned + num_unchanged`; of the unchanged ones `num_known_rejects` have no embedding, and
    `num_forgotten` were erased and stay away.
    """

    units: Sequence[pa.Table]
    num_input: int
    num_planned: int
    num_unchanged: int
    num_known_rejects: int
    num_changed: int
    num_gone: int
    audio_s: float  # announced, of the planned rows
    num_without_duration: int
    languages: list[str]
    columns: pa.Schema  # of the inventory
    num_waiting: int = 0  # too young, and not part of the input
    unit_s: list[float] = field(default_factory=list)  # estimated audio of each unit, for progress
    utterance_files: Mapping[str, str] = field(default_factory=dict)  # replaced id -> file that holds it
    frame_files: Mapping[str, str] = field(default_factory=dict)
    reject_files: Mapping[str, str] = field(default_factory=dict)
    num_forgotten: int = 0


def make_plan(
    batches: Iterable[Batch],
    live: Live,
    section: PlanSection,
    *,
    want_frames: bool = False,
    forgotten: Forgotten = NOTHING,
) -> Plan:
    """Anti-join an inventory with the tables and cut the rest into units.

    Args:
        batches: of an inventory; repeated rows are planned as rejects.
        live: what the tables hold.
        section: unit sizes.
        want_frames: plan embedded utterances again that have no frames yet.
        forgotten: what must not be embedded again.
    """
    rows, sums = Planned(), _Sums()
    files: dict[str, dict[str, str]] = {"utterances": {}, "frames": {}, "rejects": {}}
    for whole in batches:
        batch, num_forgotten = forgotten.without(whole)
        sums.num_forgotten += num_forgotten
        judged = _judge(batch, live, section, want_frames)
        planned = _with_flags(batch, judged).filter(pa.array(judged.todo))
        rows.add(planned)
        sums.add(batch, planned, judged)
        for name, found in (("utterances", judged.utterances), ("frames", judged.frames), ("rejects", judged.rejects)):
            replaced = judged.todo & found.is_there
            ids = batch.table["utterance_id"].filter(pa.array(replaced)).to_pylist()
            files[name].update(zip(ids, found.paths(replaced), strict=True))
    if sums.num_doubled:
        raise SinkError(
            f"the tables hold {sums.num_doubled} utterances of this source twice, which no run of "
            "this job does; look for rows that something else wrote, and remove them"
        )
    units, unit_s = cut(rows, section)
    return Plan(
        units=units,
        num_input=sums.num_input + sums.num_forgotten,
        num_planned=rows.num_rows,
        num_unchanged=sums.num_input + sums.num_forgotten - rows.num_rows,
        num_forgotten=sums.num_forgotten,
        num_known_rejects=sums.num_known_rejects,
        num_changed=len(files["utterances"]),
        num_gone=sums.num_gone,
        audio_s=sums.audio_s,
        num_without_duration=sums.num_without_duration,
        languages=sorted(sums.languages),
        columns=sums.columns,
        num_waiting=sums.num_waiting,
        unit_s=unit_s,
        utterance_files=files["utterances"],
        frame_files=files["frames"],
        reject_files=files["rejects"],
    )


@dataclass(frozen=True, slots=True)
class _Judged:
    """What is to become of the rows of a batch; (N,) each."""

    todo: np.ndarray
    known_reject: np.ndarray
    gone: np.ndarray
    utterances: Found
    rejects: Found
    frames: Found


def _judge(batch: Batch, live: Live, section: PlanSection, want_frames: bool) -> _Judged:
    version = batch.table["source_version"]
    versions = hashes(version)
    utterances, rejects = live.utterances.find(batch.keys), live.rejects.find(batch.keys)
    frames = Found.nothing(len(batch.keys)) if live.frames is None else live.frames.find(batch.keys)
    no_version = pc.equal(version, "").to_numpy()
    gone = utterances.is_there & no_version  # its audio went away: the row stays, it may be the only one left
    done = gone | utterances.has_version(versions)
    if want_frames:
        done &= gone | frames.is_there
    refused = rejects.has_version(versions) & ~rejects.is_retried() & (not section.retry_rejects)
    return _Judged(~(done | refused), refused & ~done, gone, utterances, rejects, frames)


def _with_flags(batch: Batch, judged: _Judged) -> pa.Table:
    num_rows, text = batch.table.num_rows, pa.string()
    refusal = [schema.REASON.name, schema.DETAIL.name]
    reason, detail = (
        batch.table[name] if name in batch.table.column_names else pa.nulls(num_rows, text) for name in refusal
    )
    table = batch.table.drop_columns([name for name in refusal if name in batch.table.column_names])
    if batch.repeated:
        reason = pa.repeat(pa.scalar(str(RejectReason.DUPLICATE_ID), text), num_rows)
        detail = pa.repeat(pa.scalar("an earlier row of this source has the same id", text), num_rows)
    flags = [pa.array(judged.utterances.is_there), pa.array(judged.rejects.is_there), reason, detail]
    for planned_field, column in zip(schema.PLANNED, flags, strict=True):
        table = table.append_column(planned_field, column)
    return table


@dataclass
class _Sums:
    """Counts over all batches."""

    num_input: int = 0
    num_known_rejects: int = 0
    num_gone: int = 0
    num_doubled: int = 0
    num_without_duration: int = 0
    num_waiting: int = 0
    num_forgotten: int = 0
    audio_s: float = 0.0
    languages: set[str] = field(default_factory=set[str])
    columns: pa.Schema = schema.INVENTORY

    def add(self, batch: Batch, planned: pa.Table, judged: _Judged) -> None:
        announced = planned["announced_duration_s"]
        self.columns = batch.table.schema
        self.num_input += batch.table.num_rows
        self.num_waiting += batch.num_waiting
        self.num_known_rejects += int(judged.known_reject.sum())
        self.num_gone += int(judged.gone.sum())
        self.num_doubled += sum(found.num_doubled() for found in (judged.utterances, judged.rejects, judged.frames))
        self.num_without_duration += announced.null_count
        self.audio_s += pc.sum(announced).as_py() or 0.0
        self.languages.update(pc.unique(batch.table["language"]).to_pylist())
