"""What the person sees of a run: the plan line, the closing table, and `report.json` (`page` makes HTML of it)."""

import platform
from importlib.metadata import version
from typing import Any

from rich.console import Console
from rich.table import Table as TextTable

from w2vb_ray import __version__, schema
from w2vb_ray.config.sections import EncoderSection
from w2vb_ray.embed.plan import Plan
from w2vb_ray.embed.tally import Tally
from w2vb_ray.errors import ExitCode
from w2vb_ray.runtime.cluster import EncoderPool

UNTRAINED = "the embedded model is UNTRAINED: its vectors show that the pipeline runs, not what was said"
_NEXT = {
    ExitCode.INTERRUPTED: ["interrupted; run the same command again to resume"],
    ExitCode.TOO_MANY_REJECTS: [
        "more rejects than sink.max_reject_fraction; what could be embedded is committed, the rejects table says why"
    ],
}
_MAX_MOMENTS = 240
_PACKAGES = ("ray", "torch", "transformers", "pyarrow", "deltalake")


def describe_plan(plan: Plan, source_format: str, num_skipped: int) -> str:
    """One line before the work: how much there is, and how much of it is new."""
    known = plan.num_planned - plan.num_without_duration
    hours = f"{plan.audio_s / 3600:.2f} h" if known else "length not known yet"
    if known and plan.num_without_duration:
        hours = f"over {hours}"
    work = f" ({hours}, {len(plan.units):,} units)" if plan.units else ""
    parts = [
        f"{plan.num_input:,} utterances in {len(plan.languages)} languages ({source_format})",
        f"{plan.num_planned:,} to embed{work}",
        f"{plan.num_unchanged:,} unchanged",
        f"{plan.num_known_rejects:,} of them known rejects",
    ]
    if plan.num_changed:
        parts.insert(2, f"{plan.num_changed:,} of them again")
    if plan.num_forgotten:
        parts.append(f"{plan.num_forgotten:,} of them forgotten")
    if plan.num_gone:
        parts.append(f"{plan.num_gone:,} whose audio is gone keep their embeddings")
    if plan.num_waiting:
        parts.append(f"{plan.num_waiting:,} more younger than source.min_age_s wait for the next run")
    if num_skipped:
        parts.append(f"{num_skipped:,} other files skipped")
    return f"plan: {', '.join(parts)}"


def describe_encoders(pool: EncoderPool, encoder: EncoderSection) -> str:
    """One line before the work: what `auto` has become."""
    threads = "" if pool.device == "cuda" else f" with {pool.num_threads} threads each"
    return f"encoders: {pool.size} on {pool.device}{threads}, {encoder.precision}"


def language_table(tally: Tally) -> TextTable:
    """One row per language that the run touched, and their sum."""
    table = TextTable(title=None, show_footer=True)
    table.add_column("language", footer="total")
    table.add_column("embedded", justify="right", footer=f"{tally.embedded:,}")
    table.add_column("audio (h)", justify="right", footer=f"{tally.audio_s / 3600:.3f}")
    table.add_column("rejected", justify="right", footer=f"{tally.rejected:,}")
    table.add_column("reasons", footer=_reasons(tally.reasons))
    for name, language in sorted(tally.languages.items(), key=lambda item: (-item[1].audio_s, item[0])):
        rejected = f"{sum(language.rejected.values()):,}"
        hours = f"{language.audio_s / 3600:.3f}"
        table.add_row(name, f"{language.embedded:,}", hours, rejected, _reasons(language.rejected))
    return table


def report(tally: Tally, plan: Plan, **facts: Any) -> dict[str, Any]:
    """Contents of `report.json`: counts that reconcile, per language and reason, speed, and what ran where."""
    return {
        **facts,
        "input": plan.num_input,
        "embedded": tally.embedded,
        "rejected": tally.rejected,
        "unchanged": plan.num_unchanged,
        "known_rejects": plan.num_known_rejects,
        "forgotten": plan.num_forgotten,
        "replaced": plan.num_changed,
        "waiting": plan.num_waiting,
        "units": len(plan.units),
        "audio_hours": tally.audio_s / 3600,
        "padding_waste": tally.padding_waste,
        "encoder_s": tally.encode_s,
        "steady_s": tally.steady_s,
        "stages": {
            "read_s": tally.read_s,
            "encode_s": tally.encode_s,
            "write_s": tally.write_s,
            "commit_s": tally.commit_s,
        },
        "lengths": {
            "edges_s": list(schema.LENGTH_EDGES_S),
            "utterances": [tally.num_by_length[index] for index in range(len(schema.LENGTH_EDGES_S) + 1)],
        },
        "timeline": _timeline(tally),
        "reasons": dict(tally.reasons),
        "languages": {
            name: {"embedded": t.embedded, "audio_hours": t.audio_s / 3600, "rejected": dict(t.rejected)}
            for name, t in sorted(tally.languages.items())
        },
        "versions": {"w2vb_ray": __version__, "python": platform.python_version(), **_versions()},
    }


def _timeline(tally: Tally) -> list[list[float]]:
    """[seconds since the first unit reached an encoder, audio-hours embedded by then], at most `_MAX_MOMENTS`."""
    step = max(1, -(-len(tally.timeline) // _MAX_MOMENTS))
    moments = tally.timeline[::-1][::step][::-1]  # the last one is always among them
    return [[max(0.0, when - tally.encode_started), audio_s / 3600] for when, audio_s in moments]


def show_closing(
    console: Console, tally: Tally, plan: Plan, code: ExitCode, *, wall_s: float, folder: str, trained: bool
) -> None:
    """The closing table, one line of totals, and what to do next where that is not obvious."""
    if tally.languages:
        console.print(language_table(tally))
    totals = (
        f"{tally.embedded:,} embedded + {tally.rejected:,} rejected + {plan.num_unchanged:,} unchanged "
        f"of {plan.num_input:,}; {tally.audio_s / 3600:.3f} audio-hours in {wall_s:.0f} s"
    )
    if tally.audio_s:
        waste = f"padding waste {tally.padding_waste:.1%}"
        totals += f", {tally.audio_s / wall_s:.1f} audio-hours per hour with start-up, {waste}"
    lines = [totals if plan.units else "nothing to do", *_NEXT.get(code, [])]
    if not trained:
        lines.append(UNTRAINED)
    lines.append(f"report: {folder}/report.json, and report.html to look at")
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False)


def _reasons(reasons: dict[str, int]) -> str:
    return ", ".join(f"{reason} {count:,}" for reason, count in sorted(reasons.items()))


def _versions() -> dict[str, str]:
    return {package: version(package) for package in _PACKAGES}
