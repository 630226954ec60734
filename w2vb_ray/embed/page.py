"""`report.json` -> `report.html`: one file to look at, without a script and without anything from elsewhere.

Light or dark as the reader's system is. Everything it says stands in the report; it knows no run.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from jinja2 import Environment, PackageLoader

_WIDTH, _HEIGHT = 1000, 150  # of the throughput chart's own units; the page stretches it
_MAX_POINTS = 60  # commits come in bursts: fewer, longer windows show the speed rather than the bursts
_STAGES = {"read_s": "read and decode", "encode_s": "encode", "write_s": "write", "commit_s": "commit"}


def render(report: Mapping[str, Any]) -> str:
    """The page of one run.

    Args:
        report: contents of its `report.json`.
    """
    environment = Environment(loader=PackageLoader("w2vb_ray.embed", "."), autoescape=True, trim_blocks=True)
    environment.filters.update(clock=clock, figure=figure, short=short)
    shown = {
        "cards": _cards(report),
        "speed": _speed(report["timeline"]),
        "lengths": _lengths(report["lengths"]),
        "stages": _stages(report["stages"]),
        "stages_note": f"{clock(report['steady_s'])} from the first unit at an encoder to the last commit",
        "reasons": _reasons(report["reasons"]),
        "languages": _languages(report["languages"]),
    }
    return environment.get_template("page.html.j2").render({**report, **shown})


def clock(seconds: float) -> str:
    """Hours, minutes and seconds; fractions of a second where there is nothing else."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"


def figure(value: float) -> str:
    """Three figures: 0.039, 4.71, 1,235."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def short(count: int) -> str:
    """A count in at most four characters: 950, 12k, 3M; nothing for none."""
    if count < 1_000:
        return str(count or "")
    return f"{count // 1_000}k" if count < 1_000_000 else f"{count // 1_000_000}M"


def _cards(report: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    steady_s = report["steady_s"]
    speed = report["audio_hours"] * 3600 / steady_s if steady_s else 0.0
    return [
        ("embedded", f"{report['embedded']:,}", f"of {report['input']:,} utterances"),
        ("rejected", f"{report['rejected']:,}", f"and {report['known_rejects']:,} known before"),
        ("unchanged", f"{report['unchanged']:,}", f"{report['replaced']:,} replaced"),
        ("audio", figure(report["audio_hours"]), "hours embedded"),
        ("speed", figure(speed), f"audio-hours per hour, {figure(report['audio_hours_per_hour'])} with start-up"),
        ("padding", f"{report['padding_waste']:.1%}", "of the encoders' frames"),
    ]


def _speed(timeline: list[list[float]]) -> dict[str, Any]:
    """Audio-hours per hour between moments, as the path of a step chart."""
    step = max(1, -(-len(timeline) // _MAX_POINTS))
    moments = [[0.0, 0.0], *timeline[::-1][::step][::-1]]
    windows = [
        (start, stop, (after - before) / (stop - start) * 3600)
        for (start, before), (stop, after) in pairwise(moments)
        if stop > start
    ]
    most = max((speed for *_, speed in windows), default=0.0)
    if not most:
        return {"path": ""}
    end_s = moments[-1][0]
    points: list[str] = []
    for start, stop, speed in windows:
        height = _HEIGHT * (1 - speed / most)
        points += [f"{_WIDTH * moment / end_s:.1f},{height:.1f}" for moment in (start, stop)]
    return {"path": "M" + " L".join(points), "most": most, "end_s": end_s}


def _lengths(lengths: Mapping[str, list[float]]) -> list[dict[str, Any]]:
    edges = [f"{edge:g}" for edge in lengths["edges_s"]]
    labels = [f"<{edges[0]}", *(f"{low}–{high}" for low, high in pairwise(edges)), f">{edges[-1]}"]
    bins = list(zip(labels, lengths["utterances"], strict=True))
    used = [index for index, (_, count) in enumerate(bins) if count] or [0]
    shown = bins[used[0] : used[-1] + 1]
    most = max(count for _, count in shown)
    return [{"label": label, "count": count, "percent": _percent(count, most)} for label, count in shown]


def _stages(stages: Mapping[str, float]) -> list[dict[str, Any]]:
    most = max(stages.values())
    return [
        {"name": name, "seconds": stages[key], "percent": _percent(stages[key], most)} for key, name in _STAGES.items()
    ]


def _reasons(reasons: Mapping[str, int]) -> list[tuple[str, int, float]]:
    ordered = _ordered(reasons)
    return [(reason, count, _percent(count, ordered[0][1])) for reason, count in ordered]


def _languages(languages: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Most hours first."""
    most = max((one["audio_hours"] for one in languages.values()), default=0.0)
    shown: list[dict[str, Any]] = []
    for name, one in sorted(languages.items(), key=lambda item: (-item[1]["audio_hours"], item[0])):
        rejected = sum(one["rejected"].values())
        shown.append(
            {
                "name": name,
                "hours": one["audio_hours"],
                "percent": _percent(one["audio_hours"], most),
                "embedded": one["embedded"],
                "rejected": rejected,
                "reject_percent": _percent(rejected, rejected + one["embedded"]),
                "reasons": ", ".join(f"{reason} {count:,}" for reason, count in _ordered(one["rejected"])),
            }
        )
    return shown


def _ordered(reasons: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(reasons.items(), key=lambda item: (-item[1], item[0]))


def _percent(part: float, whole: float) -> float:
    return round(100 * part / whole, 2) if whole else 0.0
