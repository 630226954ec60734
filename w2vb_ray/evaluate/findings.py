"""What a suite found, as people and programs see it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from rich.table import Table

from w2vb_ray.config.evaluate import EvaluateConfig
from w2vb_ray.encoder import resolve_checkpoint
from w2vb_ray.evaluate.contenders import MODEL
from w2vb_ray.evaluate.estimates import Estimate, Figure
from w2vb_ray.evaluate.report import versions

AHEAD = "*"
ABOUT_AHEAD = "better than every row that is no layer of the model, by paired differences and their 95 % intervals"


@dataclass(frozen=True, slots=True)
class Matrix:
    """A figure for each ordered pair of languages.

    Args:
        name: of the figure and the vectors.
        languages: of rows and columns.
        cells: (n, n), NaN where there is none.
    """

    name: str
    languages: list[str]
    cells: np.ndarray


@dataclass(frozen=True, slots=True)
class Map:
    """Utterances as points of a plane.

    Args:
        name: of the vectors.
        points: (n, 2)
        languages: (n,)
    """

    name: str
    points: np.ndarray
    languages: list[str]


@dataclass(frozen=True, slots=True)
class Findings:
    """Figures of one suite.

    Args:
        suite: its name.
        figures: one kind each, of every kind of vectors.
        notes: what to know about the data.
        wall_s: what it took.
        matrix: of pairs of languages, if there is one.
        points: of the utterances, if there are any.
    """

    suite: str
    figures: list[Figure]
    notes: list[str]
    wall_s: float
    matrix: Matrix | None = None
    points: Map | None = field(default=None, compare=False)


def tables(findings: Findings) -> list[Table]:
    """A row per kind of vectors; three figures beside each other, which fit in 80 columns."""
    return [_table(findings.figures[start : start + 3]) for start in range(0, len(findings.figures), 3)]


def lead(figure: Figure, name: str) -> tuple[str, Estimate] | None:
    """How far a layer of the model is ahead of the row that is none which is hardest to be ahead of; its name first."""
    if not _is_layer(name):
        return None
    return figure.lead(name, [rival for rival in figure.values if not _is_layer(rival)])


def mark(figure: Figure, name: str) -> str:
    """Set where a layer is ahead of every row that is none."""
    found = lead(figure, name)
    return AHEAD if found is not None and found[1].low > 0 else ""


def closing_lines(config: EvaluateConfig, all_findings: Sequence[Findings]) -> list[str]:
    """What the marks mean, and what to beware of."""
    figures = [figure for one in all_findings for figure in one.figures]
    any_ahead = any(mark(figure, name) for figure in figures for name in figure.values)
    lines = [f"{AHEAD} {ABOUT_AHEAD}"] if any_ahead else []
    if config.evaluate.table_uri is None and resolve_checkpoint(config.encoder).untrained:
        lines.append(f"{config.encoder.checkpoint} is UNTRAINED: its layers are random weights")
    return lines


def as_json(config: EvaluateConfig, all_findings: Sequence[Findings]) -> dict[str, Any]:
    """Contents of the report."""
    return {
        "checkpoint": None if config.evaluate.table_uri else config.encoder.checkpoint,
        "table_uri": config.evaluate.table_uri,
        "source_uri": None if config.source is None else config.source.uri,
        "settings": {
            "evaluate": config.evaluate.model_dump(mode="json", exclude={"table_storage", "storage"}),
            **{one.suite: getattr(config, one.suite).model_dump(mode="json") for one in all_findings},
        },
        "suites": [_suite(one) for one in all_findings],
        "versions": versions(),
    }


def _suite(findings: Findings) -> dict[str, Any]:
    matrix = findings.matrix
    return {
        "suite": findings.suite,
        "figures": [_figure(figure) for figure in findings.figures],
        "matrix": None if matrix is None else {**asdict(matrix), "cells": _cells(matrix.cells)},
        "notes": findings.notes,
        "wall_s": findings.wall_s,
    }


def _is_layer(name: str) -> bool:
    return name.startswith(f"{MODEL},")


def _figure(figure: Figure) -> dict[str, Any]:
    return {
        "name": figure.name,
        "chance": figure.chance,
        "higher_is_better": figure.higher_is_better,
        "values": {name: one.as_dict() for name, one in figure.values.items()},
        "leads": {
            name: {"over": found[0], **found[1].as_dict()}
            for name in figure.values
            if (found := lead(figure, name)) is not None
        },
    }


def _cells(cells: np.ndarray) -> list[list[float | None]]:
    return [[None if np.isnan(cell) else float(cell) for cell in row] for row in cells]


def _table(figures: Sequence[Figure]) -> Table:
    shown = Table()
    shown.add_column("vectors", no_wrap=True)
    for figure in figures:
        shown.add_column(figure.name, justify="right")
    shown.add_row("chance", *(f"{figure.chance:.3f}" for figure in figures))
    for name in dict.fromkeys(name for figure in figures for name in figure.values):
        shown.add_row(name, *(_shown(figure.values.get(name)) + mark(figure, name) for figure in figures))
    return shown


def _shown(estimate: Estimate | None) -> str:
    return "" if estimate is None else f"{estimate.value:.3f} {_bound(estimate.low)}-{_bound(estimate.high)}"


def _bound(value: float) -> str:
    return f"{value:.2f}".replace("0.", ".", 1)
