"""Repetitions -> medians, ratios and the two claims; then tables for people."""

from collections.abc import Sequence
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.embed.rows import ROWS, Figures

MAX_OUTSIDE = 0.05
MIN_RATIO = 2.0
_NUMBERS = (
    "audio_s",
    "wall_s",
    "startup_s",
    "steady_s",
    "encoder_s",
    "cpu_s",
    "steady_cpu_s",
    "padding_waste",
    "audio_per_wall_s",
    "audio_per_steady_s",
    "audio_per_cpu_s",
    "audio_per_steady_cpu_s",
    "outside_encoder",
)
_BY_PART = ("steady_cpu_by_part", "peak_rss", "peak_uss")


def summarise(figures: Sequence[Figures]) -> list[dict[str, Any]]:
    """One entry per set and row: medians over its repetitions, and its ratios to the other rows of the set."""
    rows: list[dict[str, Any]] = []
    for name in dict.fromkeys(one.set for one in figures):
        of_set = {row: [one.as_dict() for one in figures if (one.set, one.row) == (name, row)] for row in ROWS}
        medians = {row: _medians(found) for row, found in of_set.items() if found}
        for row, entry in medians.items():
            rows.append({"set": name, "row": row, "repetitions": len(of_set[row]), **entry, **_ratios(entry, medians)})
    return rows


def _medians(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    entry: dict[str, Any] = {key: median(one[key] for one in found) for key in _NUMBERS}
    for key in _BY_PART:
        parts = dict.fromkeys(part for one in found for part in one[key])
        entry[key] = {part: median(one[key].get(part, 0) for one in found) for part in parts}
    entry["attention"] = found[0]["attention"]
    return entry


def _ratios(entry: dict[str, Any], medians: dict[str, dict[str, Any]]) -> dict[str, float | None]:
    script, alone = medians.get("script"), medians.get("encoder alone")
    ratios: dict[str, float | None] = {
        f"ratio_to_script_{clock}": entry[key] / script[key] if script else None
        for clock, key in (
            ("wall", "audio_per_wall_s"),
            ("steady", "audio_per_steady_s"),
            ("cpu", "audio_per_steady_cpu_s"),
        )
    }
    ratios["over_encoder_alone"] = entry["steady_s"] / alone["steady_s"] - 1 if alone else None
    ratios["cpu_over_encoder_alone"] = entry["steady_cpu_s"] / alone["steady_cpu_s"] - 1 if alone else None
    return ratios


def claims(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the project promises, and what was measured.

    A core that decodes is a core that the encoder lacks, and then `encoder_s` grows: on a machine without a GPU the
    time beside the encoder alone says more than the share outside the encoder.
    """
    promised = (
        (f"outside the encoder at most {MAX_OUTSIDE:.0%} of wall time at steady state", "outside_encoder", False),
        (f"at most {MAX_OUTSIDE:.0%} longer than the encoder alone at steady state", "over_encoder_alone", False),
        (f"at least {MIN_RATIO:g} times the script at steady state", "ratio_to_script_steady", True),
    )
    return [
        {
            "claim": claim,
            "set": row["set"],
            "key": key,
            "measured": row[key],
            "holds": row[key] >= MIN_RATIO if at_least else row[key] <= MAX_OUTSIDE,
        }
        for claim, key, at_least in promised
        for row in rows
        if row["row"] == "job"
    ]


def show(console: Console, rows: Sequence[dict[str, Any]], promised: Sequence[dict[str, Any]]) -> None:
    """Wall time, CPU time, processes, claims."""
    for table in (_wall_table(rows), _cpu_table(rows), _parts_table(rows)):
        console.print(table)
    for claim in promised:
        value = claim["measured"]
        shown = f"{value:.1%}" if "%" in claim["claim"] else f"{value:.2f} times"
        verdict = "[green]holds[/]" if claim["holds"] else "[red]does not hold[/]"
        console.print(f"{claim['set']}: {claim['claim']}: {shown}, {verdict}", highlight=False)


def _wall_table(rows: Sequence[dict[str, Any]]) -> Table:
    table = _table(
        "wall time", "start-up s", "end to end", "steady", "×script", "outside encoder", "over alone", "padding"
    )
    for row in rows:
        table.add_row(
            row["set"],
            row["row"],
            f"{row['startup_s']:.1f}",
            f"{row['audio_per_wall_s']:.2f}",
            f"{row['audio_per_steady_s']:.2f}",
            _times(row["ratio_to_script_steady"]),
            f"{row['outside_encoder']:.1%}",
            _percent(row["over_encoder_alone"]),
            f"{row['padding_waste']:.1%}",
            end_section=row["row"] == ROWS[-1],
        )
    table.caption = (
        "audio seconds per second, end to end and at steady state; over alone: time beside the encoder alone"
    )
    return table


def _cpu_table(rows: Sequence[dict[str, Any]]) -> Table:
    table = _table(
        "CPU time of all processes", "CPU s", "end to end", "steady CPU s", "steady", "×script", "over alone"
    )
    for row in rows:
        table.add_row(
            row["set"],
            row["row"],
            f"{row['cpu_s']:.1f}",
            f"{row['audio_per_cpu_s']:.2f}",
            f"{row['steady_cpu_s']:.1f}",
            f"{row['audio_per_steady_cpu_s']:.2f}",
            _times(row["ratio_to_script_cpu"]),
            _percent(row["cpu_over_encoder_alone"]),
            end_section=row["row"] == ROWS[-1],
        )
    table.caption = "user + system; audio seconds per CPU second"
    return table


def _table(title: str, *numbers: str) -> Table:
    table = Table(title=title)
    for name in ("set", "row"):
        table.add_column(name, no_wrap=True)
    for name in numbers:
        table.add_column(name, justify="right")
    return table


def _parts_table(rows: Sequence[dict[str, Any]]) -> Table:
    table = _table("processes at steady state", "part", "peak USS MiB", "peak RSS MiB", "CPU s", "share")
    table.caption = "peak sums over the processes of a part, start-up included; USS is what each has for itself alone"
    for row in rows:
        for part, uss in row["peak_uss"].items():
            cpu_s = row["steady_cpu_by_part"][part]
            table.add_row(
                row["set"],
                row["row"],
                part,
                f"{uss / 1024**2:,.0f}",
                f"{row['peak_rss'][part] / 1024**2:,.0f}",
                f"{cpu_s:.1f}",
                f"{cpu_s / max(row['steady_cpu_s'], 1e-9):.1%}",
                end_section=part == list(row["peak_uss"])[-1],
            )
    return table


def _times(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:+.1%}"
