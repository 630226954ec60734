"""How fast does the packed encoder encode, beside transformers, onnxruntime and OpenVINO?

`python -m benchmarks.encoder [--quick] [--json FILE] [--device auto|cpu|cuda] [--cache FOLDER]`

Features in, the mean over frames of the last hidden state out. On a CPU one thread each, ratios of CPU time, and wall
time with all threads beside them; on CUDA wall time. Each engine runs in a process of its own, rows take turns, figures
are medians. What ONNX Runtime and OpenVINO do once for each length is not timed. Models have random weights. Needs
torch, transformers, numpy and safetensors only; onnxruntime (with onnx and onnxscript to export) and openvino are
measured where they are installed.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from benchmarks import machine
from benchmarks.encoder.measure import Bench, Task
from benchmarks.encoder.models import SIZES
from benchmarks.encoder.plan import LONG_TRANSFORMERS, Planned, long_tasks, make_plan, repetition_tasks, wall_tasks
from benchmarks.encoder.rows import REFERENCE, ROWS, Row
from benchmarks.encoder.show import show, show_claims, show_features, show_long, too_long
from benchmarks.encoder.summary import claims, errors, feature_summary, summarise
from benchmarks.encoder.workloads import make_workload

_OPTIONAL_S = 180  # of a run with --quick; afterwards only what is needed is measured
_PACKAGES = ("torch", "transformers", "numpy", "safetensors")
_OPTIONAL = ("onnxruntime", "openvino")
_CUDA_REFERENCE = Row("transformers-fp32-eager-batch1", "transformers", "eager-batch1", "fp32")


def main() -> None:
    """Measure, show, save."""
    options = _parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that temporary files and workers go away
    started = time.monotonic()
    about = _about(options.device)
    print(machine.one_line(about))
    with tempfile.TemporaryDirectory(prefix="w2vb-benchmark-") as name:
        result = _run(options, Path(name), about)
    print(f"{time.monotonic() - started:.0f} s in all")
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def _run(options: argparse.Namespace, folder: Path, about: dict[str, Any]) -> dict[str, Any]:
    device, quick = options.device, options.quick
    layers = {model: options.layers or size.num_layers for model, size in SIZES.items()}
    deadline = time.monotonic() + _OPTIONAL_S if quick else float("inf")
    bench = Bench(folder, layers, device, options.cache or folder, lambda line: print(line, flush=True), deadline)
    plan = make_plan(
        device, folder, quick=quick, models=options.models, names=options.workloads, engines=options.engines,
        seconds=options.seconds,
    )  # fmt: skip
    workloads = {f"{one.model}, {one.workload.name}": one.workload.facts() for one in plan}
    _headline(options, layers, workloads, about["gpu"])
    (folder / "sounds").mkdir()
    sounds = make_workload("log-normal", 12, folder / "sounds", seconds=options.seconds, samples=True)
    peak_tasks = [{"do": "peak", "precision": precision, "budget_s": 0.1} for precision in _precisions(plan)]
    *before, features = bench.ask_bare(
        [*peak_tasks, {"do": "features", "workload": str(sounds.path), "repetitions": 2 if quick else 5}]
    )
    _measure(bench, plan, options)
    after = bench.ask_bare(peak_tasks)
    peak_details = {
        precision: {way: max(first[way], second[way]) for way in first}
        for precision, first, second in zip(_precisions(plan), before, after, strict=True)
    }
    peaks = {precision: max(found.values()) for precision, found in peak_details.items()}
    if device == "cuda":
        peaks = dict.fromkeys(_precisions(plan), max(peaks.values()))
    reference = _CUDA_REFERENCE.name if device == "cuda" else REFERENCE
    threads = _wall_threads(options)
    rows = summarise(bench, plan, peaks, reference, threads)
    long = _long(bench) if options.long else []
    features = feature_summary(features)
    promised = claims(device, rows, features)
    show(device, rows, threads)
    print("\npeak: " + ", ".join(f"{precision} {value:,.0f} GFLOP/s" for precision, value in peaks.items()))
    show_features(features)
    show_long(long)
    for (model, engine), reason in bench.missing.items():
        print(f"{model}, {engine}: skipped: {reason}")
    show_claims(promised)
    settings = {key: value for key, value in vars(options).items() if key not in ("json", "cache")}
    return {
        "machine": {**about, "peak_gflop_per_s": peaks, "peak_details": peak_details},
        "settings": {**settings, "layers": layers, "full_size_model": not options.layers, "wall_threads": threads},
        "workloads": workloads,
        "rows": rows,
        "features": features,
        "long": long,
        "claims": promised,
        "skipped": [{"model": m, "engine": engine, "reason": why} for (m, engine), why in bench.missing.items()],
    }


def _measure(bench: Bench, plan: Sequence[Planned], options: argparse.Namespace) -> None:
    """Model by model, so that only one model's workers are alive."""
    for model in options.models:
        if options.device == "cuda":
            workloads = {one.workload.name: one.workload for one in plan if one.model == model}
            bench.run([Task(model, workload, _CUDA_REFERENCE) for workload in workloads.values()])
        tasks = repetition_tasks(plan, model, options.repetitions, quick=options.quick)
        walls: list[Task] = []
        if _wall_threads(options) > 1:
            walls = wall_tasks(plan, model, _wall_threads(options), quick=options.quick)
        if options.lanes > 1:
            bench.run(tasks, options.lanes)
            bench.run(walls)
        else:
            bench.run([*tasks, *walls])


def _long(bench: Bench) -> list[dict[str, Any]]:
    tasks = long_tasks(bench.folder)
    bench.run(tasks)
    found: list[dict[str, Any]] = []
    for task in tasks:
        runs = bench.measured.get((task.key, 1), [])
        reference = bench.result_path((task.workload.name, task.model, LONG_TRANSFORMERS.name))
        found.append(
            {
                "seconds": task.workload.audio_s,
                "engine": task.row.name,
                "cpu_s": runs[0]["cpu_s"] if runs else None,
                "memory_above_model_mib": runs[0]["memory_above_model_mib"] if runs else None,
                "reason": None if runs else bench.missing.get((task.model, task.row.name), "not run"),
                **errors(reference, bench.result_path(task.key)),
            }
        )
    tried = {(one["seconds"], one["engine"]) for one in found}
    for seconds in dict.fromkeys(one["seconds"] for one in found):
        if (seconds, LONG_TRANSFORMERS.name) not in tried:
            why = {"cpu_s": None, "memory_above_model_mib": None, "reason": too_long(seconds)}
            found.append({"seconds": seconds, "engine": LONG_TRANSFORMERS.name, **why})
    return found


def _precisions(plan: Sequence[Planned]) -> list[str]:
    return list(dict.fromkeys(one.row.precision for one in plan))


def _wall_threads(options: argparse.Namespace) -> int:
    return 1 if options.device == "cuda" else options.threads


def _about(device: str) -> dict[str, Any]:
    installed: list[str] = []
    for package in _OPTIONAL:
        try:
            version(package)
        except PackageNotFoundError:
            continue
        installed.append(package)
    about = machine.describe((*_PACKAGES, *installed))
    return {**about, "gpu": torch.cuda.get_device_name() if device == "cuda" else None}


def _headline(
    options: argparse.Namespace, layers: dict[str, int], workloads: dict[str, dict[str, float]], gpu: str | None
) -> None:
    if options.layers:
        print(f"NOT the full size: {options.layers} layers")
    for model in options.models:
        size = SIZES[model]
        shape = f"{size.dimension}-d, {layers[model]} layers, {size.num_heads} heads"
        print(f"{model}: wav2vec2-bert, {shape}, random weights")
    for name, facts in workloads.items():
        print(f"{name}: " + ", ".join(f"{key} {value:g}" for key, value in facts.items()))
    how = f"{options.lanes} at a time, one thread each" if options.lanes > 1 else "one at a time"
    print(f"device {gpu or options.device}; repetitions: {options.repetitions}; {how}", flush=True)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.encoder", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    names = [row.name for row in (*ROWS["cpu"], *ROWS["cuda"])]
    parser.add_argument("--quick", action="store_true", help="less audio, two engines at a time, under five minutes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured to FILE")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: cuda if there is one")
    parser.add_argument("--cache", type=Path, metavar="FOLDER", help="where exported models are kept (nowhere)")
    parser.add_argument("--models", type=_list, default=list(SIZES), metavar="NAME,...", help="which (base,large)")
    parser.add_argument("--workloads", type=_list, metavar="NAME,...", help="which (all)")
    parser.add_argument("--engines", type=_list, metavar="NAME,...", help="which (all): " + ", ".join(names))
    parser.add_argument("--repetitions", type=int, metavar="N", help="of every row (3; 1 with --quick; 5 on CUDA)")
    parser.add_argument("--threads", type=int, default=cores, help="of the runs whose wall time counts (all cores)")
    parser.add_argument("--lanes", type=int, help="engines at a time (1; 2 with --quick where there are two cores)")
    parser.add_argument("--no-long", dest="long", action="store_false", help="leave out the long recordings")
    parser.add_argument("--layers", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.device == "auto":
        options.device = "cuda" if torch.cuda.is_available() else "cpu"
    options.repetitions = options.repetitions or (5 if options.device == "cuda" else 1 if options.quick else 3)
    options.lanes = options.lanes or (min(2, cores) if options.quick and options.device == "cpu" else 1)
    whole = options.engines is None and options.workloads is None and "base" in options.models
    options.long = options.long and whole and options.device == "cpu" and not options.quick
    return options


def _list(text: str) -> list[str]:
    return [part for part in text.split(",") if part]


if __name__ == "__main__":
    main()
