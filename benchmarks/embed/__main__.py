"""How fast is the `embed` job, and where does its time go?

`python -m benchmarks.embed [--quick] [--json FILE] [--corpus MANIFEST] [--minutes N]`

Side by side, repetition by repetition, each in its own processes, all with as many CPU threads for the model:
`script`, what the documentation of transformers and datasets leads to; `encoder alone`, the job's encoder on the job's
units in memory; `job`, `python -m jobs.embed` on local Ray and local files. On `dev`, clips as they are, and `skewed`,
the same clips joined to log-normal lengths. The model is of the base size with random weights.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import machine
from benchmarks.embed.rows import ROWS, Bench, Figures
from benchmarks.embed.sets import CorpusSet, dev_set, read_clips, skewed_set
from benchmarks.embed.summary import claims, show, summarise
from benchmarks.models import base_checkpoint

BASE_LAYERS = 12
DEFAULT_CORPUS = machine.ROOT / "tests" / "data" / "speech" / "manifest.tsv"


def main() -> None:
    """Measure, show, save."""
    options = _parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that temporary files and processes go away
    console = Console(soft_wrap=True)
    started = time.monotonic()
    about = machine.describe()
    console.print(machine.one_line(about), highlight=False)
    with tempfile.TemporaryDirectory(prefix="w2vb-benchmark-") as name:
        folder = Path(name)
        sets = _sets(options, folder)
        bench = Bench(
            folder, base_checkpoint(folder / "checkpoint", options.layers), options.threads, tuple(options.overrides)
        )
        console.print(_headline(options, sets), highlight=False)
        figures = _measure(bench, sets, options.repetitions, console)
    rows = summarise(figures)
    promised = claims(rows)
    show(console, rows, promised)
    console.print(f"{time.monotonic() - started:.0f} s in all", highlight=False)
    if options.json:
        settings = {key: value for key, value in vars(options).items() if key not in ("json", "quick", "corpus")}
        result: dict[str, Any] = {
            "machine": about,
            "settings": {**settings, "corpus": str(options.corpus), "full_size_model": options.layers == BASE_LAYERS},
            "sets": {corpus.name: corpus.facts() for corpus in sets},
            "rows": rows,
            "claims": promised,
            "repetitions": [one.as_dict() for one in figures],
        }
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def _sets(options: argparse.Namespace, folder: Path) -> list[CorpusSet]:
    clips = read_clips(options.corpus)
    make = {"dev": dev_set, "skewed": skewed_set}
    return [make[name](clips, options.minutes, folder / name) for name in options.sets.split(",")]


def _headline(options: argparse.Namespace, sets: list[CorpusSet]) -> str:
    label = "" if options.layers == BASE_LAYERS else f"  (NOT the base size: {options.layers} layers)"
    lines = [
        f"wav2vec2-bert, 768-d, {options.layers} layers, 12 heads, random weights{label}; {options.threads} threads; "
        f"repetitions: {options.repetitions}"
    ]
    for corpus in sets:
        facts = corpus.facts()
        lines.append(
            f"{corpus.name}: {facts['utterances']} utterances, {facts['audio_s']:.0f} s, median "
            f"{facts['median_s']:.1f} s, longest {facts['longest_s']:.1f} s, {facts['languages']} languages"
        )
    return "\n".join(lines)


def _measure(bench: Bench, sets: list[CorpusSet], repetitions: int, console: Console) -> list[Figures]:
    """Rows take turns, so that what slows the machine down for a while slows all of them down."""
    figures: list[Figures] = []
    for repetition in range(repetitions):
        for corpus in sets:
            for row in ROWS:
                with console.status(f"repetition {repetition + 1} of {repetitions}: {corpus.name}, {row}"):
                    figures.append(bench.measure(row, corpus, repetition))
                one = figures[-1]
                console.print(
                    f"  {corpus.name:7} {row:14} start-up {one.startup_s:5.1f} s, steady {one.steady_s:6.1f} s, "
                    f"{one.audio_s / one.steady_s:6.2f} audio-s/s, CPU {one.steady_cpu_s:6.1f} s",
                    highlight=False,
                )
    return figures


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.embed", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one repetition, four minutes, too short for the claims")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured to FILE")
    parser.add_argument("--corpus", type=Path, metavar="MANIFEST", default=DEFAULT_CORPUS, help="TSV manifest of clips")
    parser.add_argument("--minutes", type=float, metavar="N", help="audio in each set (4; 1.5 with --quick)")
    parser.add_argument("--repetitions", type=int, metavar="N", help="of every row (3; 1 with --quick)")
    parser.add_argument("--layers", type=int, default=BASE_LAYERS, help=argparse.SUPPRESS)
    parser.add_argument("--sets", default="dev,skewed", help="which sets (dev,skewed)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of the model (all cores)")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="settings of the job")
    options = parser.parse_args()
    options.minutes = options.minutes or (1.5 if options.quick else 4.0)
    options.repetitions = options.repetitions or (1 if options.quick else 3)
    return options


if __name__ == "__main__":
    main()
