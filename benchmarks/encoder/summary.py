"""Repetitions -> medians, ratios, errors and the claims."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.encoder.measure import Bench
from benchmarks.encoder.models import SIZES
from benchmarks.encoder.plan import Planned
from benchmarks.encoder.rows import BASELINE

_TEXTS = {
    "ratio_to_baseline": "at least {:g} times the baseline",
    "ratio_to_best_transformers": "at least {:g} times the best of transformers",
    "fraction_of_peak": "at least {:.0%} of the peak",
}
# (model, workload, engine, key, at least)
_CLAIMS = {
    "cpu": (
        ("base", "log-normal", "ours-fp32", "ratio_to_baseline", 4.4),
        ("base", "log-normal", "ours-fp32", "ratio_to_best_transformers", 1.5),
        ("base", "short", "ours-fp32", "ratio_to_best_transformers", 1.3),
        ("base", "30s", "ours-fp32", "ratio_to_best_transformers", 2.4),
        ("large", "log-normal", "ours-fp32", "ratio_to_best_transformers", 1.4),
    ),
    "cuda": (
        ("large", "5-15s", "ours-bf16", "ratio_to_baseline", 5.0),
        ("large", "5-15s", "ours-bf16", "fraction_of_peak", 0.5),
    ),
}
_MAX_ERROR = 1e-4
_MIN_FEATURE_RATIO = 9.0


def summarise(
    bench: Bench,
    plan: Sequence[Planned],
    peaks: Mapping[str, float],
    reference: str,
    wall_threads: int,
) -> list[dict[str, Any]]:
    """One entry per workload, model and engine that ran: medians, ratios, differences to the reference.

    Args:
        bench: what was measured.
        plan: rows in the order of the report.
        peaks: precision -> GFLOP/s; none where no part of a peak is asked for.
        reference: row whose numbers are the right ones.
        wall_threads: threads of the runs whose wall time is reported.
    """
    speed = "audio_s_per_wall_s" if bench.device == "cuda" else "audio_s_per_cpu_s"
    measured_as = {one.group: one.measured.name for one in plan if one.row.name == reference}
    rows: list[dict[str, Any]] = []
    for one in plan:
        workload, model, row = one.workload, one.model, one.row
        key = (workload.name, model, one.measured.name)
        runs = bench.measured.get((key, 1))
        if not runs:
            continue
        walls = bench.measured.get((key, wall_threads), [])
        wall_s = median(run["wall_s"] for run in walls) if walls else None
        seconds = median(run["cpu_s"] for run in runs)
        busy_s = wall_s if bench.device == "cuda" and wall_s else seconds
        result = bench.result_path(key)
        flops = SIZES[model].flops(workload.lengths, bench.layers[model])
        rows.append(
            {
                "workload": workload.name,
                "model": model,
                "engine": row.name,
                "audio_s_per_cpu_s": workload.audio_s / seconds,
                "audio_s_per_wall_s": None if wall_s is None else workload.audio_s / wall_s,
                "ratio_to_baseline": None,
                "ratio_to_best_transformers": None,
                "fraction_of_peak": flops / busy_s / 1e9 / peaks[row.precision] if peaks else None,
                **{
                    name: median(run[name] for run in runs)
                    for name in ("peak_memory_mib", "memory_above_model_mib", "padding_waste")
                },
                **errors(bench.result_path((workload.name, model, measured_as.get(one.group, reference))), result),
                "same_as": one.same_as and one.same_as.name,
                "repetitions": len(runs),
                "cpu_s": [run["cpu_s"] for run in runs],
                "wall_s": [run["wall_s"] for run in walls],
            }
        )
    of_transformers = {one.row.name for one in plan if one.row.of_transformers}
    for entry in rows:
        beside = [other for other in rows if (other["workload"], other["model"]) == (entry["workload"], entry["model"])]
        speeds = {other["engine"]: other[speed] for other in beside}
        baseline = speeds.get(BASELINE[bench.device])
        best = max((value for name, value in speeds.items() if name in of_transformers), default=None)
        entry["ratio_to_baseline"] = entry[speed] / baseline if baseline else None
        entry["ratio_to_best_transformers"] = entry[speed] / best if best else None
    return rows


def errors(expected: Path, found: Path) -> dict[str, float | None]:
    """How far frames and pooled vectors are from the right ones; None where those are not known."""
    names = ("max_abs_error", "min_cosine_pooled", "min_cosine_frame")
    if not (expected.exists() and found.exists()):
        return dict.fromkeys(names)
    with np.load(expected) as right, np.load(found) as ours:
        difference = np.abs(right["frames"] - ours["frames"]).max()
        cosines = [_min_cosine(right[name], ours[name]) for name in ("pooled", "frames")]
        return dict(zip(names, (float(difference), *cosines), strict=True))


def feature_summary(found: Mapping[str, Any]) -> dict[str, float]:
    """Audio-seconds per CPU second of both extractors, and their ratio, also without the threads of numpy's BLAS."""
    speeds = {name: found["audio_s"] / median(seconds) for name, seconds in found["cpu_s"].items()}
    alone = {name: median(seconds) for name, seconds in found["thread_s"].items()}
    return {
        "audio_s": found["audio_s"],
        "transformers_audio_s_per_cpu_s": speeds["transformers"],
        "ours_audio_s_per_cpu_s": speeds["ours"],
        "ratio": speeds["ours"] / speeds["transformers"],
        "ratio_calling_thread": alone["transformers"] / alone["ours"],
        "max_abs_error": found["max_abs_error"],
    }


def claims(device: str, rows: Sequence[Mapping[str, Any]], features: Mapping[str, float]) -> list[dict[str, Any]]:
    """What the project promises, and what was measured; what was not measured is said to be so."""
    made: list[dict[str, Any]] = []
    for model, workload, engine, key, least in _CLAIMS[device]:
        row = next((r for r in rows if (r["model"], r["workload"], r["engine"]) == (model, workload, engine)), None)
        made.append(_claim(f"{model}, {workload}: {engine} {_TEXTS[key].format(least)}", row and row[key], least))
    compared = [
        row["max_abs_error"] for row in rows if row["engine"] == "ours-fp32" and row["max_abs_error"] is not None
    ]
    if device == "cpu":
        made.append(
            _claim(f"ours-fp32 within {_MAX_ERROR:g} of transformers", max(compared, default=None), -_MAX_ERROR)
        )
    at_least = f"features at least {_MIN_FEATURE_RATIO:g} times transformers, without the threads of numpy's BLAS"
    made.append(_claim(at_least, features["ratio_calling_thread"], _MIN_FEATURE_RATIO))
    made.append(_claim(f"features within {_MAX_ERROR:g} of transformers", features["max_abs_error"], -_MAX_ERROR))
    return made


def _claim(text: str, measured: float | None, limit: float) -> dict[str, Any]:
    """A negative limit is a largest value."""
    holds = None if measured is None else measured >= limit if limit > 0 else measured <= -limit
    return {"claim": text, "measured": measured, "holds": holds}


def _min_cosine(a: np.ndarray, b: np.ndarray) -> float:
    norms = np.linalg.norm(a, axis=1).astype(np.float64) * np.linalg.norm(b, axis=1)
    return float((np.einsum("nd,nd->n", a, b, dtype=np.float64) / norms).min())
