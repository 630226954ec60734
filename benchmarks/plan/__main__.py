"""How do time and memory of planning grow with the corpus?

`python -m benchmarks.plan [--rows N ...] [--held SHARE] [--manifest parquet|csv] [--rows-per-file N] [--json FILE]`

For each N a manifest of N rows and a Delta table that holds all of them but one in a hundred; then, in a process of its
own, what the job does before it starts Ray: open the tables, read the manifest, look every row up, cut units. On a
machine that others use, CPU seconds tell more than seconds.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import machine
from benchmarks.plan.corpus import Corpus

TARGET_MIB = 3 * 1024
TARGET_ROWS = 10**7


def main() -> None:
    """Make corpora, plan them, show, save."""
    options = _parse()
    console = Console(soft_wrap=True, width=120)
    about = machine.describe(("pyarrow", "deltalake", "numpy", "pandas"))
    console.print(machine.one_line(about), highlight=False)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="w2vb-plan-") as temporary:
        for num_rows in options.rows:
            folder = (options.folder or Path(temporary)) / f"{options.manifest}-{num_rows}-{options.held:g}"
            corpus = Corpus(folder, num_rows, options.held, options.manifest, options.rows_per_file)
            if not corpus.is_made:
                with console.status(f"making a corpus of {num_rows:,} rows"):
                    corpus.make()
            for _ in range(options.repetitions):
                with console.status(f"planning {num_rows:,} rows"):
                    rows.append({**_measure(corpus), "load_average_1min": round(os.getloadavg()[0], 2)})
    console.print(_table(rows))
    result = {
        "machine": about,
        "settings": {
            "held": options.held,
            "manifest": options.manifest,
            "rows_per_file": options.rows_per_file,
            "repetitions": options.repetitions,
        },
        "rows": rows,
        "claims": _claims(rows),
    }
    for claim in result["claims"]:
        console.print(f"{'holds' if claim['holds'] else 'DOES NOT HOLD'}: {claim['text']}", highlight=False)
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def _measure(corpus: Corpus) -> dict[str, Any]:
    config, facts = corpus.folder / "config.json", corpus.folder / "facts.json"
    config.write_text(json.dumps(corpus.config()))
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "benchmarks.plan.worker", str(config), str(facts)], cwd=machine.ROOT, check=True
    )
    return {**json.loads(facts.read_text()), "process_s": time.perf_counter() - started}


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table()
    names = ("rows", "to embed", "units", "seconds", "CPU s", "CPU µs per row", "list", "scan", "join", "peak MiB")
    for name in names:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            f"{row['rows']:,}",
            f"{row['planned']:,}",
            f"{row['units']:,}",
            f"{row['seconds']:.1f}",
            f"{row['cpu_s']:.1f}",
            f"{row['cpu_s'] / row['rows'] * 1e6:.1f}",
            *(f"{row[key]:.1f}" for key in ("list_s", "scan_s", "join_s")),
            f"{row['peak_memory_mib']:,.0f}",
        )
    return table


def _claims(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What was promised, as far as these rows can tell."""
    claims: list[dict[str, Any]] = []
    best = {row["rows"]: row for row in sorted(rows, key=lambda row: -row["cpu_s"])}
    sizes = sorted(best)
    for small, large in pairwise(sizes):
        growth = best[large]["cpu_s"] / best[small]["cpu_s"] / (large / small)
        text = f"from {small:,} to {large:,} rows, CPU seconds per row grow by {growth:.2f} (at most 1.25)"
        claims.append({"text": text, "value": growth, "holds": growth <= 1.25})
    if TARGET_ROWS in best:
        peak = best[TARGET_ROWS]["peak_memory_mib"]
        text = f"{TARGET_ROWS:,} rows are planned in {peak:,.0f} MiB (at most {TARGET_MIB:,})"
        claims.append({"text": text, "value": peak, "holds": peak <= TARGET_MIB})
    return claims


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.plan", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", metavar="N", default=[10**5, 10**6, 10**7], help="corpus sizes")
    parser.add_argument("--held", type=float, metavar="SHARE", default=0.99, help="share the table holds (0.99)")
    parser.add_argument("--manifest", choices=["parquet", "csv"], default="parquet")
    parser.add_argument("--rows-per-file", type=int, metavar="N", default=50_000, help="of the table (50000)")
    parser.add_argument("--repetitions", type=int, metavar="N", default=1)
    parser.add_argument("--folder", type=Path, help="keep corpora there, and use those that are there")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured to FILE")
    return parser.parse_args()


if __name__ == "__main__":
    main()
