"""Models that differ in nothing but their seed: the mean of each figure, and how far seeds spread.

`python -m benchmarks.spread REPORT.json ...` takes reports of `jobs.evaluate`, of the same suites for each model, and
prints a table: figures, the best of the rows that are no layer of the model, and each layer.
"""

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from w2vb_ray.evaluate.contenders import MODEL

_LAYER = f"{MODEL}, "


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.spread", description=__doc__)
    parser.add_argument("reports", type=Path, nargs="+")
    paths: list[Path] = parser.parse_args().reports
    try:
        print(table(json.loads(path.read_text(encoding="utf-8")) for path in paths))
    except (OSError, ValueError) as err:
        parser.error(str(err))


def table(reports: Iterable[dict[str, Any]]) -> str:
    """As Markdown: mean ± standard deviation over the seeds.

    Args:
        reports: as `jobs.evaluate` writes them.

    Raises:
        ValueError: there are fewer than two reports of a suite, or no two are of different checkpoints.
    """
    same: dict[str, list[dict[str, Any]]] = {}
    checkpoints = set[str]()
    for report in reports:
        checkpoints.add(report["checkpoint"])
        for figure in (figure for suite in report["suites"] for figure in suite["figures"]):
            same.setdefault(figure["name"], []).append(figure)
    fewest = min((len(figures) for figures in same.values()), default=0)
    if fewest < 2 or len(checkpoints) < 2:
        raise ValueError("a spread takes two reports of each suite, of different checkpoints")
    rows = dict.fromkeys(name for figures in same.values() for name in figures[0]["values"])
    layers = [name for name in rows if name.startswith(_LAYER)]
    lines = [f"| figure | best other row | {' | '.join(name.removeprefix(_LAYER) for name in layers)} |"]
    lines.append("|---|--:|" + "--:|" * len(layers))
    lines += [
        f"| {name} | {_best(figures)} | {' | '.join(_spread(figures, layer) for layer in layers)} |"
        for name, figures in same.items()
    ]
    return "\n".join(lines)


def _spread(figures: Sequence[dict[str, Any]], row: str) -> str:
    values = [figure["values"][row]["value"] for figure in figures if row in figure["values"]]
    return f"{mean(values):.3f} ± {stdev(values):.3f}" if len(values) > 1 else ""


def _best(figures: Sequence[dict[str, Any]]) -> str:
    """These rows know nothing of the model, so all reports have the same."""
    others = [one["value"] for name, one in figures[0]["values"].items() if not name.startswith(_LAYER)]
    return f"{(max if figures[0]['higher_is_better'] else min)(others):.3f}"


if __name__ == "__main__":
    main()
