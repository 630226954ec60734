"""Tables for people, on plain text."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.encoder.workloads import FRAMES_PER_S

_HEADS = (
    "audio-s/CPU-s", "audio-s/s", "×baseline", "×best", "of peak", "peak MiB", "above model", "padding", "max error",
    "cos pooled", "cos frame",
)  # fmt: skip
_WIDTH = 31
_BYTES_PER_PAIR = 64 * 4  # dimensions of a head, float32


def show(device: str, rows: Sequence[Mapping[str, Any]], wall_threads: int) -> None:
    """A table for each model and workload."""
    clock = "wall time, the card" if device == "cuda" else "CPU time of one thread"
    print(
        f"\n×baseline, ×best (of transformers) and the part of the peak: {clock}; audio-s/s: {wall_threads} thread(s)"
    )
    for model, workload in dict.fromkeys((row["model"], row["workload"]) for row in rows):
        print(f"\n{f'{model}, {workload}':{_WIDTH}}" + "".join(f"{head:>14}" for head in _HEADS))
        for row in rows:
            if (row["model"], row["workload"]) == (model, workload):
                same = f"  same micro-batches as {row['same_as']}, measured once" if row["same_as"] else ""
                print(f"{row['engine']:{_WIDTH}}" + "".join(f"{cell:>14}" for cell in _cells(row)) + same)


def show_features(features: Mapping[str, float]) -> None:
    """Both extractors."""
    print(
        f"\nfeatures, {features['audio_s']:.0f} s: transformers "
        f"{features['transformers_audio_s_per_cpu_s']:.0f}, ours {features['ours_audio_s_per_cpu_s']:.0f} "
        f"audio-s/CPU-s, {features['ratio']:.1f} times "
        f"({features['ratio_calling_thread']:.1f} without the threads of numpy's BLAS), "
        f"max error {features['max_abs_error']:.1e}"
    )


def show_long(long: Sequence[Mapping[str, Any]]) -> None:
    """Long recordings in one piece."""
    if not long:
        print("\nlong recordings in one piece: not measured")
        return
    print("\nbase, in one piece, one thread")
    for one in long:
        if one["cpu_s"] is None:
            print(f"{one['seconds']:5.0f} s  {one['engine']:26} not tried: {one['reason']}")
        else:
            print(
                f"{one['seconds']:5.0f} s  {one['engine']:26} {one['cpu_s']:7.1f} CPU s, "
                f"{one['memory_above_model_mib']:8.0f} MiB above the model, max error {_small(one['max_abs_error'])}"
            )


def show_claims(claims: Sequence[Mapping[str, Any]]) -> None:
    """What was promised, and whether it holds."""
    print()
    verdicts = {True: "holds", False: "does not hold", None: "not measured"}
    for claim in claims:
        shown = "-" if claim["measured"] is None else f"{claim['measured']:.3g}"
        print(f"{claim['claim']}: {shown}, {verdicts[claim['holds']]}")


def too_long(seconds: float) -> str:
    """Why transformers is not tried on a recording: its tensor of distances."""
    length = round(seconds * FRAMES_PER_S)
    return f"{length}² x 64 x 4 bytes = {length**2 * _BYTES_PER_PAIR / 1e9:.0f} GB for the positions alone"


def _cells(row: Mapping[str, Any]) -> list[str]:
    return [
        f"{row['audio_s_per_cpu_s']:.2f}",
        _fixed(row["audio_s_per_wall_s"]),
        _fixed(row["ratio_to_baseline"]),
        _fixed(row["ratio_to_best_transformers"]),
        f"{row['fraction_of_peak']:.1%}",
        f"{row['peak_memory_mib']:,.0f}",
        f"{row['memory_above_model_mib']:,.0f}",
        f"{row['padding_waste']:.1%}",
        _small(row["max_abs_error"]),
        _cosine(row["min_cosine_pooled"]),
        _cosine(row["min_cosine_frame"]),
    ]


def _fixed(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _small(value: float | None) -> str:
    return "-" if value is None else f"{value:.1e}"


def _cosine(value: float | None) -> str:
    return "-" if value is None else f"{value:.6f}"
