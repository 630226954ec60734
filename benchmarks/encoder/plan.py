"""What is measured, in which order: workloads made, rows that would do the same work found, repetitions laid out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.encoder.engines import transformers_batches
from benchmarks.encoder.measure import Task
from benchmarks.encoder.rows import Row, counts, planned_rows
from benchmarks.encoder.workloads import Workload, make_workload

_AGAIN_S = 6  # seconds of one core
LONG_S = (60, 300, 600)
LONG_OURS = Row("ours-fp32", "packed", "packed", speed=3.5)
LONG_TRANSFORMERS = Row("transformers-sdpa-batch1", "transformers", "sdpa-batch1", speed=0.7)
LONGEST_TRANSFORMERS_S = 60


@dataclass(frozen=True, slots=True)
class Planned:
    """A row of the report.

    Args:
        workload: what is encoded.
        model: a key of `models.SIZES`.
        row: what encodes.
        same_as: row before it with the same micro-batches of the same model, whose figures it shares.
    """

    workload: Workload
    model: str
    row: Row
    same_as: Row | None = None

    @property
    def group(self) -> tuple[str, str]:
        """Workload and model: the rows that are compared with each other."""
        return self.workload.name, self.model

    @property
    def measured(self) -> Row:
        """The row that runs."""
        return self.same_as or self.row


def make_plan(
    device: str,
    folder: Path,
    *,
    quick: bool,
    models: Sequence[str],
    names: Sequence[str] | None,
    engines: Sequence[str] | None,
    seconds: float | None,
) -> list[Planned]:
    """Rows in the order of the report.

    Args:
        device: `cpu` or `cuda`.
        folder: for features.
        quick: less of everything.
        models: which models.
        names: which workloads; None for all.
        engines: which rows; None for all.
        seconds: see `make_workload`.
    """
    plan: list[Planned] = []
    made: dict[tuple[str, int], Workload] = {}
    for model in models:
        for name, count in counts(device, quick=quick)[model].items():
            if names is not None and name not in names:
                continue
            if (name, count) not in made:
                made[name, count] = make_workload(name, count, folder, seconds=seconds, samples=device == "cuda")
            workload = made[name, count]
            seen: dict[object, Row] = {}
            for row in planned_rows(device, model, quick=quick):
                if engines is None or row.name in engines:
                    same = seen.setdefault(_work(row, workload, device), row)
                    plan.append(Planned(workload, model, row, None if same is row else same))
    return plan


def repetition_tasks(plan: Sequence[Planned], model: str, repetitions: int, *, quick: bool) -> list[Task]:
    """One thread each; rows take turns, so that what slows the machine for a while slows all of them.

    With `quick` what takes a few seconds is measured once more where time is left.
    """
    tasks: list[Task] = []
    for repetition in range(repetitions + quick):
        for one in plan:
            again = model == "base" and one.workload.audio_s / one.row.speed < _AGAIN_S
            if one.model == model and one.same_as is None and (repetition < repetitions or again):
                tasks.append(Task(model, one.workload, one.row, optional=repetition >= repetitions))
    return tasks


def wall_tasks(plan: Sequence[Planned], model: str, threads: int, *, quick: bool) -> list[Task]:
    """Every row once with all threads; with `quick` only on `short`, where time is left."""
    return [
        Task(model, one.workload, one.row, threads, optional=quick)
        for one in plan
        if one.model == model and one.same_as is None and (not quick or one.workload.name == "short")
    ]


def long_tasks(folder: Path) -> list[Task]:
    """Recordings in one piece."""
    tasks: list[Task] = []
    for seconds in LONG_S:
        workload = make_workload(f"{seconds}s", 1, folder)
        if seconds <= LONGEST_TRANSFORMERS_S:
            tasks.append(Task("base", workload, LONG_TRANSFORMERS))
        tasks.append(Task("base", workload, LONG_OURS))
    return tasks


def _work(row: Row, workload: Workload, device: str) -> object:
    """Equal for rows that do the same."""
    if row.kind != "transformers":
        return row.name
    attention = row.variant.partition("-")[0]
    batches = transformers_batches(row.variant, workload.lengths, device)
    return attention, row.precision, tuple(sorted(tuple(sorted(batch)) for batch in batches))
