"""Manifests of corpora: tab-separated, as `source.uri` reads them."""

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Row:
    """One utterance."""

    path: str
    language: str
    parallel_id: str
    speaker: str
    duration_s: float
    text: str = ""


def write(path: Path, rows: Sequence[Row]) -> None:
    """Write a manifest, and say what is in it."""
    with path.open("w", encoding="utf-8", newline="") as file:
        names = [field.name for field in fields(Row)]
        writer = csv.DictWriter(
            file, names, delimiter="\t", quoting=csv.QUOTE_NONE, quotechar=None, lineterminator="\n"
        )
        writer.writeheader()
        writer.writerows({**asdict(row), "duration_s": f"{row.duration_s:.3f}"} for row in rows)
    hours = sum(row.duration_s for row in rows) / 3_600
    print(f"{path}: {len(rows):,} utterances, {len({row.language for row in rows})} languages, {hours:.2f} h")
