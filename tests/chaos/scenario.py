"""A seed -> what happens: the corpus, how it changes between runs, and which fault strikes which run, and when.

Pure: the same seed gives the same scenario everywhere. Its timing is exact where the store is an S3 endpoint, because
every write passes the gate; on local files a fault strikes as soon as the write is seen.
"""

import random
from dataclasses import dataclass
from enum import StrEnum


class Fault(StrEnum):
    """What strikes a run."""

    KILL_DRIVER = "kill the driver"
    KILL_ENCODER = "kill an encoder"
    KILL_WORKER = "kill a read or write worker"
    KILL_NODE = "kill a node"
    INTERRUPT = "interrupt the driver"
    SECOND = "start a second driver"
    COMPACT = "compact the tables beside the run"
    VACUUM = "vacuum the tables beside the run"
    PAUSE = "pause the driver until another has taken over and ended"
    # Only where writes pass the gate:
    BREAK = "break the connection"  # after the store has the write, its reply is lost
    REFUSE = "refuse the write with 503"
    LATE = "kill the driver, and let its write arrive while the next run is at work"

    @property
    def needs_gate(self) -> bool:
        return self in (Fault.BREAK, Fault.REFUSE, Fault.LATE)


class Edit(StrEnum):
    """How the corpus, or what is asked of the job, changes before a run."""

    ADD = "add"
    CHANGE = "change"
    REMOVE = "remove"
    BREAK = "break"
    MEND = "mend"
    WIDEN = "widen"  # a new column in the manifest
    MAINTAIN = "maintain"  # small files merged, and what the tables no longer need deleted
    FRAMES = "frames"  # this run and all later ones keep frames too


ROUGH = {"*": {"slow_down": 0.02, "reset": 0.01}, "get": {"slow_down": 0.02, "cut": 0.02}}
ROUGH |= {kind: {"slow_down": 0.02, "lost_reply": 0.02} for kind in ("put", "commit")}
"""Faults of a rough store, by kind of request, and how probable they are. No corrupt bodies: those of audio are found,
but nothing in a Delta log protects its entries once they have left the store."""


@dataclass(frozen=True, slots=True)
class Moment:
    """When a fault strikes a run.

    Args:
        kind: `log` for entries of any table's log, `data` for Parquet files, `start` for the time since the start.
        number: the how manieth write of that kind, from 1; tenths of a second for `start`.
        before: strike before the store has the write, else before its reply arrives.
    """

    kind: str
    number: int
    before: bool = False

    def __str__(self) -> str:
        if self.kind == "start":
            return f"{self.number / 10:g} s after the start"
        return f"{'before' if self.before else 'after'} {self.kind} write {self.number}"


@dataclass(frozen=True, slots=True)
class Act:
    """One run of the job under a fault.

    Args:
        edits: what happens to the corpus before it.
        fault: what strikes the run.
        moment: when.
        landing: log write of the next run before which a held write arrives; 0: after that run. Of two drivers at once
            the first one's write is held until the second has ended, or not at all (0).
    """

    edits: tuple[Edit, ...]
    fault: Fault
    moment: Moment
    landing: int = 0

    def __str__(self) -> str:
        edits = f"{', '.join(self.edits)}; " if self.edits else ""
        held = ""
        if self.landing and self.fault is Fault.SECOND:
            held = " (which is held until the second has ended)"
        elif self.landing:
            held = f" (which lands before log write {self.landing} of the next run)"
        return f"[{edits}{self.fault} {self.moment}{held}]"


@dataclass(frozen=True, slots=True)
class Scenario:
    """Everything that a seed decides.

    Args:
        seed: its number.
        on_s3: source and tables lie on the S3 endpoint, else in local folders.
        manifest: the source is a manifest with ids and text, else a folder.
        num_utterances: good ones at the beginning.
        unit_utterances: `plan.unit_utterances`.
        commit_files: `sink.commit_files`.
        frames: `sink.frames` from the beginning.
        rough: the store fails by chance, see `ROUGH`, until the faults are over.
        acts: the runs.
    """

    seed: int
    on_s3: bool
    manifest: bool
    num_utterances: int
    unit_utterances: int
    commit_files: int
    frames: bool
    rough: bool
    acts: tuple[Act, ...]

    def __str__(self) -> str:
        source = f"{'manifest' if self.manifest else 'folder'} of {self.num_utterances}"
        source += " on S3" if self.on_s3 else " on local files"
        sizes = f"{self.unit_utterances} a unit, {self.commit_files} files a commit{', frames' if self.frames else ''}"
        sizes += ", a rough store" if self.rough else ""
        return f"seed {self.seed}: {source}, {sizes}: {' '.join(map(str, self.acts))}"


def scenario(seed: int) -> Scenario:
    """What happens under a seed."""
    draw = random.Random(f"chaos {seed}")
    on_s3, manifest = seed % 2 == 1, draw.random() < 0.5
    num_acts = draw.choices([1, 2, 3], [5, 4, 1])[0]
    return Scenario(
        seed=seed,
        on_s3=on_s3,
        manifest=manifest,
        num_utterances=draw.randint(14, 28),
        unit_utterances=draw.randint(2, 5),
        commit_files=draw.randint(1, 3),
        frames=draw.random() < 0.25,
        rough=on_s3 and draw.random() < 0.4,
        acts=tuple(_act(draw, number, on_s3, manifest) for number in range(num_acts)),
    )


def _act(draw: random.Random, number: int, on_s3: bool, manifest: bool) -> Act:
    fault = draw.choice([fault for fault in Fault if on_s3 or not fault.needs_gate])
    moment = _moment(draw, fault, on_s3, is_first=number == 0)
    is_held = moment.before and fault in (Fault.LATE, Fault.PAUSE, Fault.SECOND)
    return Act(_edits(draw, manifest) if number else (), fault, moment, draw.randint(0, 7) if is_held else 0)


def _moment(draw: random.Random, fault: Fault, on_s3: bool, *, is_first: bool) -> Moment:
    """Later runs have less to do, so their moments come earlier."""
    if fault in (Fault.KILL_ENCODER, Fault.KILL_WORKER):  # they are there once something has been written
        return Moment("data", draw.randint(1, 6 if is_first else 2), before=on_s3)
    if not fault.needs_gate and draw.random() < 0.15:
        return Moment("start", draw.randint(5, 120))
    before = on_s3 and (draw.random() < 0.5 or fault in (Fault.LATE, Fault.REFUSE))
    kind = "data" if draw.random() < 0.25 else "log"
    return Moment(kind, draw.randint(1, 12 if is_first else 5), before)


def _edits(draw: random.Random, manifest: bool) -> tuple[Edit, ...]:
    """Some, of which the first gives the run something to do."""
    others = [Edit.REMOVE, Edit.BREAK, Edit.MEND, Edit.MAINTAIN, Edit.FRAMES, *([Edit.WIDEN] * manifest)]
    return (draw.choice([Edit.ADD, Edit.CHANGE]), *draw.sample(others, draw.randint(0, 2)))
