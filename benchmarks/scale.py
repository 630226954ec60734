"""What does an utterance cost in a small run and in a large one?

`python -m benchmarks.scale [--rows N ...] [--unit-utterances N] [--json FILE]`

For each N the real job (`python -m jobs.embed`, local Ray, local files) on a manifest of N segments of 0.2 s, 5,000
to a recording, with a model that takes next to no time: what is left is planning, reading, Ray, writing and committing.
The cost of an utterance must not grow with N.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile
from rich.console import Console
from rich.table import Table

from benchmarks import machine
from benchmarks.embed.rows import last_commit
from benchmarks.models import tiny_checkpoint
from benchmarks.process import run_watched
from w2vb_ray.config import yaml12

RATE_HZ = 16_000
SEGMENT_S = 0.2
SEGMENTS = 5_000  # of one recording
LANGUAGES = 4


def main() -> None:
    """Run, show, save."""
    options = _parse()
    console = Console(soft_wrap=True, width=120)
    about = machine.describe()
    console.print(machine.one_line(about), highlight=False)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="w2vb-scale-") as name:
        folder = Path(name)
        checkpoint = tiny_checkpoint(folder / "checkpoint")
        _run(options.rows[0], folder / "warm-up", checkpoint, options.unit_utterances)  # cold files cost half a start
        for num_rows in options.rows:
            with console.status(f"embedding {num_rows:,} utterances"):
                rows.append(_run(num_rows, folder / str(num_rows), checkpoint, options.unit_utterances))
            console.print(f"  {num_rows:,}: {rows[-1]['wall_s']:.0f} s", highlight=False)
    console.print(_table(rows))
    claims = _claims(rows)
    for claim in claims:
        console.print(f"{'holds' if claim['holds'] else 'DOES NOT HOLD'}: {claim['text']}", highlight=False)
    if options.json:
        settings = {"unit_utterances": options.unit_utterances, "segment_s": SEGMENT_S}
        result = {"machine": about, "settings": settings, "rows": rows, "claims": claims}
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def _run(num_rows: int, folder: Path, checkpoint: Path, unit_utterances: int) -> dict[str, Any]:
    config = {
        "source": {"uri": str(_corpus(num_rows, folder))},
        "encoder": {"checkpoint": str(checkpoint), "device": "cpu"},
        "plan": {"unit_utterances": unit_utterances},
        "sink": {"uri": str(folder / "sink")},
    }
    path = folder / "config.yaml"
    path.write_text(yaml12.dump(config), encoding="utf-8")
    command = [sys.executable, "-m", "jobs.embed", str(path)]
    watched = run_watched(command, folder / "output.txt", machine.ROOT, os.environ)
    report = json.loads(next((folder / "sink").glob("_runs/*/report.json")).read_text())
    if report["embedded"] != num_rows:
        raise RuntimeError(f"the job embedded {report['embedded']} of {num_rows} utterances")
    done = last_commit(folder / "sink" / "utterances")
    ready = done - report["steady_s"]
    steady = watched.cpu_between(ready, done)
    return {
        "rows": num_rows,
        "units": report["units"],
        "commits": report["commits"],
        "wall_s": watched.ended - watched.started,
        "steady_s": done - ready,
        "steady_cpu_s": sum(steady.values()),
        "cpu_s": sum(float(cpu_s[-1]) for cpu_s in watched.cpu_s.values()),
        "steady_cpu_by_part": steady,
        "peak_memory_mib": {part: peak / 1024**2 for part, peak in watched.peak_uss.items()},
    }


def _corpus(num_rows: int, folder: Path) -> Path:
    """Noise, and a manifest of its segments."""
    folder.mkdir(parents=True)
    num_recordings = -(-num_rows // SEGMENTS)
    noise = np.random.default_rng(0).normal(0, 0.1, round(SEGMENTS * SEGMENT_S * RATE_HZ)).astype(np.float32)
    for number in range(num_recordings):
        soundfile.write(folder / f"{number:04d}.wav", np.roll(noise, number * 1000), RATE_HZ)
    number = np.arange(num_rows)
    start_s = np.round(number % SEGMENTS * SEGMENT_S, 3)
    manifest = {
        "path": [f"{i:04d}.wav" for i in number // SEGMENTS],
        "start_s": start_s,
        "end_s": np.round(start_s + SEGMENT_S, 3),
        "language": [f"l{i}" for i in number // SEGMENTS % LANGUAGES],
        "text": [f"what was said in segment {i}" for i in number],
    }
    pq.write_table(pa.table(manifest), folder / "manifest.parquet")
    return folder / "manifest.parquet"


def _marginal_ms(small: dict[str, Any], large: dict[str, Any]) -> float:
    """CPU of one more utterance: start-ups cancel out, and so does what a small run reads before its encoders begin."""
    return 1e3 * (large["cpu_s"] - small["cpu_s"]) / (large["rows"] - small["rows"])


def _claims(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    claims: list[dict[str, Any]] = []
    for first, second, third in zip(rows, rows[1:], rows[2:], strict=False):
        before, after = _marginal_ms(first, second), _marginal_ms(second, third)
        text = (
            f"one more utterance costs {before:.2f} ms of CPU up to {second['rows']:,}, and {after:.2f} from there to "
            f"{third['rows']:,} (at most 1.1 times as much)"
        )
        claims.append({"text": text, "value": after / before, "holds": after <= 1.1 * before})
    return claims


def _table(rows: list[dict[str, Any]]) -> Table:
    parts = ("driver", "encoder", "read/write")
    table = Table(caption="ms and CPU ms per utterance, from the first unit at an encoder to the last commit; peak MiB")
    for name in ("rows", "units", "commits", "wall s", "ms", "CPU ms", *parts, "driver MiB"):
        table.add_column(name, justify="right")
    for row in rows:
        per_row = 1e3 / row["rows"]
        table.add_row(
            f"{row['rows']:,}",
            f"{row['units']:,}",
            f"{row['commits']:,}",
            f"{row['wall_s']:.0f}",
            f"{row['steady_s'] * per_row:.2f}",
            f"{row['steady_cpu_s'] * per_row:.2f}",
            *(f"{row['steady_cpu_by_part'].get(part, 0.0) * per_row:.2f}" for part in parts),
            f"{row['peak_memory_mib'].get('driver', 0.0):,.0f}",
        )
    return table


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scale", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", metavar="N", default=[10**3, 10**4, 10**5], help="utterances")
    parser.add_argument("--unit-utterances", type=int, metavar="N", default=250, help="in one unit (250)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured to FILE")
    return parser.parse_args()


if __name__ == "__main__":
    main()
