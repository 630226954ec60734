"""What does an artifact give, and what does it cost, beside transformers and this package's fp32?

`python -m benchmarks.export [--quick] [--json FILE] [--models base,large]`

Features in, the mean over frames of the last hidden state out, one thread each, CPU time. Each engine runs in a process
of its own, rows take turns, figures are medians. Models have random weights: speed and size do not depend on what they
have learnt, cosines and neighbours do (repeat them with `python -m jobs.export` on a trained checkpoint and speech).
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine
from benchmarks.encoder.measure import Bench, Task
from benchmarks.encoder.models import SIZES
from benchmarks.encoder.plan import Planned, repetition_tasks
from benchmarks.encoder.rows import REFERENCE, Row
from benchmarks.encoder.summary import summarise
from benchmarks.encoder.worker import LOADED
from benchmarks.encoder.workloads import Workload, make_workload
from benchmarks.export.made import CHECKPOINT, make_artifact, make_checkpoint, weights_bytes
from benchmarks.export.rows import (
    CLAIMS,
    COUNTS,
    EXPORTED,
    NEIGHBOURS,
    NOT_IN_QUICK,
    OTHERS_INT8,
    OURS_FP32,
    TRANSFORMERS,
)
from w2vb_ray.errors import W2vbError
from w2vb_ray.export.gate import Encoded, compare

_OPTIONAL = tuple(package for package in ("onnxruntime", "openvino") if find_spec(package))
_PACKAGES = ("torch", "transformers", "numpy", "safetensors", *_OPTIONAL)
_HEADS = {
    "audio_s_per_cpu_s": ("audio-s/CPU-s", "{:.2f}"),
    "ratio_to_baseline": ("×baseline", "{:.2f}"),
    "ratio_to_best_transformers": ("×best", "{:.2f}"),
    "size_ratio": ("size", "{:.3f}"),
    "load_s": ("load s", "{:.1f}"),
    "peak_memory_mib": ("peak MiB", "{:,.0f}"),
    "min_cosine_pooled": ("cos pooled", "{:.5f}"),
    "mean_cosine_frame": ("frame mean", "{:.5f}"),
    "min_cosine_frame": ("frame min", "{:.5f}"),
    "recall_at_10": ("recall@10", "{:.3f}"),
    "alone_error": ("alone", "{:.1e}"),
}
_WIDTH = 28


def main() -> None:
    """Measure, show, save."""
    options = _parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that temporary files and workers go away
    started = time.monotonic()
    about = machine.describe(_PACKAGES)
    print(machine.one_line(about))
    with tempfile.TemporaryDirectory(prefix="w2vb-benchmark-") as name:
        rows = [row for model in options.models for row in _measure(options, model, Path(name) / model)]
    promised = list(_claims(rows))
    _show(rows, promised)
    print(f"{time.monotonic() - started:.0f} s in all")
    if options.json:
        settings = {key: value for key, value in vars(options).items() if key != "json"}
        result = {"machine": about, "settings": settings, "weights": "random", "rows": rows, "claims": promised}
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def _measure(options: argparse.Namespace, model: str, folder: Path) -> list[dict[str, Any]]:
    """Everything of one model; its files go when it is done."""
    size, how = SIZES[model], "quick" if options.quick else "full"
    num_layers = options.layers or size.num_layers
    made = folder / "made"
    make_checkpoint(size, num_layers, made / model / CHECKPOINT)
    wanted = [row for row in EXPORTED if not (options.quick and row.name in NOT_IN_QUICK)]
    ours = [row for row in wanted if _is_made(row, made / model)]
    rows = [*TRANSFORMERS, *ours]
    bench = Bench(folder, {model: num_layers}, "cpu", made, lambda line: print(line, flush=True))
    seconds = options.seconds
    workloads = [make_workload(name, count, folder, seconds=seconds) for name, count in COUNTS[how][model].items()]
    plan = [Planned(workload, model, row) for workload in workloads for row in rows]
    neighbours = make_workload("1s", NEIGHBOURS[how][model], folder, seconds=seconds)
    alone = _alone(workloads[0], folder)
    once = [Task(model, workload, row) for workload in (neighbours, alone) for row in ours]
    bench.run([*repetition_tasks(plan, model, options.repetitions, quick=options.quick), *once], options.lanes)
    summary = summarise(bench, plan, {}, REFERENCE, 1)
    by_name = {row.name: row for row in rows}
    fp32_bytes = weights_bytes(made / model / CHECKPOINT)
    for entry in summary:
        row = by_name[entry["engine"]]
        stored = weights_bytes(made / model / row.kind.removeprefix(LOADED)) if row in ours else fp32_bytes
        entry |= {"size_bytes": stored, "size_ratio": stored / fp32_bytes}
        entry |= _exactness(bench, model, entry["workload"], row, neighbours if row in ours else None, alone)
        entry["ratio_to_other_int8"] = _ratio_to_other_int8(entry, summary)
    return summary


def _ratio_to_other_int8(entry: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> float | None:
    """Speed against the faster of the other runtimes' int8; None where neither ran, and for themselves."""
    others = [r for r in rows if r["workload"] == entry["workload"] and r["engine"] in OTHERS_INT8]
    if not others or entry["engine"] in OTHERS_INT8:
        return None
    return entry["audio_s_per_cpu_s"] / max(one["audio_s_per_cpu_s"] for one in others)


def _is_made(row: Row, folder: Path) -> bool:
    kind = row.kind.removeprefix(LOADED)
    if kind == CHECKPOINT:
        return True
    try:
        make_artifact(kind, folder)
    except (ImportError, W2vbError) as err:
        print(f"{row.name}: skipped: {err}")
        return False
    return True


def _alone(workload: Workload, folder: Path) -> Workload:
    """The first utterance of a workload by itself, whose vector is compared with the one that it has in company."""
    with np.load(workload.path) as arrays:
        first = arrays["features"][: workload.lengths[0]]
    path = folder / "alone.npz"
    with path.open("wb") as out:
        np.savez(out, lengths=np.array(workload.lengths[:1]), features=first)
    return Workload("alone", workload.lengths[:1], path)


def _exactness(
    bench: Bench, model: str, workload: str, row: Row, neighbours: Workload | None, alone: Workload
) -> dict[str, float | None]:
    """Cosines to transformers' fp32; neighbours to our fp32, since it is the same model; alone against packed."""
    found = _load(bench, (workload, model, row.name))
    measured = compare(_load(bench, (workload, model, REFERENCE)), found, 1.0)
    runs = bench.measured[(workload, model, row.name), 1]
    exact: dict[str, float | None] = {
        "mean_cosine_pooled": measured.mean_pooled_cosine,
        "mean_cosine_frame": measured.mean_frame_cosine,
        "recall_at_10": None,
        "alone_error": None,
        "load_s": runs[0]["load_s"] if row.kind.startswith(LOADED) else None,
    }
    if neighbours is not None:
        reference = _load(bench, (neighbours.name, model, OURS_FP32.name))
        exact["recall_at_10"] = compare(reference, _load(bench, (neighbours.name, model, row.name)), 1.0).recall
        by_itself = _load(bench, (alone.name, model, row.name)).frames[0]
        in_company = found.frames[0][: len(by_itself)]
        exact["alone_error"] = float(np.linalg.norm(by_itself - in_company) / np.linalg.norm(by_itself))
    return exact


def _load(bench: Bench, key: tuple[str, str, str]) -> Encoded:
    with np.load(bench.result_path(key)) as arrays:
        return Encoded(arrays["pooled"], [arrays["frames"]], 1.0)


def _claims(rows: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for model, workload, engine, key, limit in CLAIMS:
        row = next((r for r in rows if (r["model"], r["workload"], r["engine"]) == (model, workload, engine)), None)
        measured = row and row[key]
        holds = None if measured is None else measured >= limit if limit > 0 else measured <= -limit
        bound = f"at least {limit:g}" if limit > 0 else f"at most {-limit:g}"
        yield {"claim": f"{model}, {workload}: {engine} {key} {bound}", "measured": measured, "holds": holds}


def _show(rows: Sequence[Mapping[str, Any]], promised: Sequence[Mapping[str, Any]]) -> None:
    print("\nrandom weights; ×baseline, ×best (of transformers): CPU time of one thread")
    for group in dict.fromkeys((row["model"], row["workload"]) for row in rows):
        print(f"\n{', '.join(group):{_WIDTH}}" + "".join(f"{head:>14}" for head, _ in _HEADS.values()))
        for row in rows:
            if (row["model"], row["workload"]) == group:
                cells = ("-" if row[key] is None else form.format(row[key]) for key, (_, form) in _HEADS.items())
                print(f"{row['engine']:{_WIDTH}}" + "".join(f"{cell:>14}" for cell in cells))
    print()
    verdicts = {True: "holds", False: "does not hold", None: "not measured"}
    for claim in promised:
        shown = "-" if claim["measured"] is None else f"{claim['measured']:.4g}"
        print(f"{claim['claim']}: {shown}, {verdicts[claim['holds']]}")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parser.add_argument("--quick", action="store_true", help="less audio, two engines at a time, under eight minutes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured to FILE")
    parser.add_argument("--models", type=lambda text: text.split(","), default=list(SIZES), help="which (base,large)")
    parser.add_argument("--repetitions", type=int, metavar="N", help="of every row (3; 1 with --quick)")
    parser.add_argument("--lanes", type=int, help="engines at a time (1; 2 with --quick where there are two cores)")
    parser.add_argument("--layers", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.repetitions = options.repetitions or (1 if options.quick else 3)
    options.lanes = options.lanes or (min(2, cores) if options.quick else 1)
    return options


if __name__ == "__main__":
    main()
