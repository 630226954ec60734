"""The `retrieval` suite: every kind of vector through the same search; a table for people, JSON for machines."""

import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich.table import Table

from w2vb_ray.config.evaluate import EvaluateConfig
from w2vb_ray.encoder import resolve_checkpoint
from w2vb_ray.evaluate import retrieval, speech
from w2vb_ray.evaluate.report import versions
from w2vb_ray.evaluate.retrieval import Estimate, Parallel, Retrieval


@dataclass(frozen=True, slots=True)
class RetrievalReport:
    """What a run of the suite found.

    Args:
        parallel: the utterances.
        chance: R@1 of a guess.
        plain: by name of the vectors.
        centred: the same with the mean of each language taken away.
        num_unread: utterances that could not be read.
        wall_s: what it took.
    """

    parallel: Parallel
    chance: float
    plain: dict[str, Retrieval]
    centred: dict[str, Retrieval]
    num_unread: int
    wall_s: float


def run_retrieval(config: EvaluateConfig) -> RetrievalReport:
    """Encode the source, or read the table, and look every utterance up in every other language.

    Raises:
        UserError: the source, the table or the checkpoint cannot be used.
    """
    clock, settings = time.monotonic(), config.retrieval
    vectors: Iterable[tuple[str, np.ndarray]]
    if settings.table_uri is not None:
        found, vectors = speech.read_table(config)
        parallel = Parallel.of(found.items, found.languages, settings.min_items)
    else:
        found = speech.read_speech(config)
        parallel = Parallel.of(found.items, found.languages, settings.min_items)  # before a model runs for minutes
        vectors = speech.vectors_of_models(found, config)
    plain: dict[str, Retrieval] = {}
    centred: dict[str, Retrieval] = {}
    for name, some in vectors:
        for into, centre in ((plain, False), (centred, True)):
            into[name] = retrieval.retrieve(
                some, parallel, centred=centre, num_samples=settings.num_samples, seed=settings.seed
            )
    wall_s = time.monotonic() - clock
    return RetrievalReport(parallel, retrieval.chance(parallel), plain, centred, found.num_unread, wall_s)


def table(report: RetrievalReport) -> Table:
    """One row per kind of vector."""
    shown = Table()
    shown.add_column("vectors", no_wrap=True)
    for heading in ("R@1", "xSIM error", "R@1, centred", "interval", "MRR, centred"):
        shown.add_column(heading, justify="right")
    guess = f"{report.chance:.3f}"
    shown.add_row("chance", guess, f"{1 - report.chance:.3f}", guess)
    for name, plain in report.plain.items():
        centred = report.centred[name]
        figures = (plain.recall, plain.xsim_error, centred.recall)
        interval = f"{centred.recall.low:.3f}-{centred.recall.high:.3f}"
        shown.add_row(name, *map(_shown, figures), interval, _shown(centred.reciprocal_rank))
    return shown


def closing_lines(config: EvaluateConfig, report: RetrievalReport) -> list[str]:
    """How large the sample is, and what to beware of."""
    parallel, languages = report.parallel, retrieval.compared(report.parallel)
    lines = [
        f"{parallel.num_items:,} items in {len(languages)} languages ({', '.join(languages)}), "
        f"{len(parallel.pairs()):,} ordered pairs; 95 % intervals over items and pairs ({report.wall_s:.0f} s)"
    ]
    if report.num_unread:
        lines.append(f"{report.num_unread:,} utterances could not be read")
    if config.retrieval.table_uri is None and resolve_checkpoint(config.encoder).untrained:
        lines.append(f"{config.encoder.checkpoint} is UNTRAINED: its layers are random weights")
    return lines


def as_json(config: EvaluateConfig, report: RetrievalReport) -> dict[str, Any]:
    """Contents of the report."""
    return {
        "suite": config.evaluate.suite,
        "checkpoint": None if config.retrieval.table_uri else config.encoder.checkpoint,
        "table_uri": config.retrieval.table_uri,
        "settings": config.retrieval.model_dump(mode="json", exclude={"table_storage"}),
        "languages": report.parallel.names,
        "num_items": report.parallel.num_items,
        "num_pairs": len(report.parallel.pairs()),
        "num_unread": report.num_unread,
        "chance_recall": report.chance,
        "vectors": [
            {"name": name, "plain": _figures(plain), "centred": _figures(report.centred[name])}
            for name, plain in report.plain.items()
        ],
        "wall_s": report.wall_s,
        "versions": versions(),
    }


def _figures(found: Retrieval) -> dict[str, Any]:
    matrix = [[None if np.isnan(cell) else float(cell) for cell in row] for row in found.matrix]
    estimates = {"recall": found.recall, "reciprocal_rank": found.reciprocal_rank, "xsim_error": found.xsim_error}
    return {**{name: one and asdict(one) for name, one in estimates.items()}, "recall_matrix": matrix}


def _shown(estimate: Estimate | None) -> str:
    return "" if estimate is None else f"{estimate.value:.3f}"
