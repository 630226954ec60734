"""From a config to the results of a self-check, and how a person and a program see them."""

import json
import math
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from rich.table import Table

from w2vb_ray import __version__, storage
from w2vb_ray.config.evaluate import EvaluateConfig
from w2vb_ray.config.secrets import masked
from w2vb_ray.encoder import Checkpoint, Encoder, load_encoder, resolve_checkpoint
from w2vb_ray.errors import ConfigError
from w2vb_ray.evaluate.reference import TransformersReference
from w2vb_ray.evaluate.sameness import Result
from w2vb_ray.evaluate.selfcheck import Selfcheck
from w2vb_ray.evaluate.waveforms import synthetic_utterances

_PACKAGES = ("torch", "transformers", "numpy")


@dataclass(frozen=True, slots=True)
class Report:
    """What a self-check found, and of what.

    Args:
        checkpoint: the resolved checkpoint.
        precision: `fp32`, `bf16`, `fp16` or `int8`, resolved.
        device: `cpu` or `cuda`, resolved.
        results: one per check.
        wall_s: seconds it took, loading included.
    """

    checkpoint: Checkpoint
    precision: str
    device: str
    results: Sequence[Result]
    wall_s: float

    @property
    def failed(self) -> list[str]:
        """Names of the checks that do not hold."""
        return [result.name for result in self.results if result.failed]


def run_selfcheck(config: EvaluateConfig) -> Report:
    """Every check on the checkpoint, device and precision of the config.

    Raises:
        CheckpointError: the checkpoint cannot be loaded.
        ConfigError: the device is missing, a window does not fit in memory, or the precision overflows.
    """
    clock = time.monotonic()
    checkpoint = resolve_checkpoint(config.encoder)

    def make_encoder(max_frames: int | None) -> Encoder:
        batching = config.batching
        if max_frames is not None:
            batching = batching.model_copy(update={"max_frames": max_frames})
        return load_encoder(config.encoder, config.pooling, batching, config.audio)

    settings, max_window_s = config.selfcheck, config.audio.max_window_s
    utterances = synthetic_utterances(settings.seed, settings.max_duration_s, max_window_s)
    is_graph = checkpoint.artifact is not None and checkpoint.artifact.runtime != "torch"
    reference = None if is_graph else lambda: TransformersReference(checkpoint)
    selfcheck = Selfcheck(config, make_encoder, reference, utterances)
    results = list(selfcheck.run())
    return Report(checkpoint, selfcheck.precision, selfcheck.device, results, time.monotonic() - clock)


def table(report: Report) -> Table:
    """One row per check."""
    shown = Table()
    shown.add_column("check")
    for heading in ("comparisons", "worst", "limit"):
        shown.add_column(heading, justify="right")
    shown.add_column("measure")
    shown.add_column("result")
    for result in report.results:
        worst = "" if result.worst is None else _digits(result.worst, result.limit.measure)
        bound = f"{'<=' if result.limit.measure == 'relative error' else '>'} {result.limit.value:g}"
        verdict = "skipped" if result.worst is None else "FAILED" if result.failed else "ok"
        shown.add_row(result.name, f"{result.num_comparisons:,}", worst, bound, result.limit.measure, verdict)
    return shown


def closing_lines(report: Report) -> list[str]:
    """What the table has no room for; the last line says whether the contract holds, and what to do if not."""
    checkpoint, lines = report.checkpoint, [f"{r.name} was skipped: {r.skipped}" for r in report.results if r.skipped]
    if checkpoint.untrained:
        lines.append(f"{checkpoint.name} is UNTRAINED: its weights are random, other weights may need other precision")
    lines += [f"{r.name} is worst for {r.where}" for r in report.results if r.failed]
    lines.append(_verdict(report))
    return lines


def _verdict(report: Report) -> str:
    if not report.failed:
        return f"all checks hold ({report.wall_s:.0f} s)"
    meaning = "an utterance's vector depends on its batch"
    if report.failed == ["transformers"]:
        meaning = "the vectors are not those of transformers"
    advice = "report it with this table and the versions of torch and transformers"
    if report.precision != "fp32":
        advice = f"set encoder.precision=fp32; if that fails too, {advice}"
    return f"failed: {', '.join(report.failed)}: {meaning}; {advice}"


def write_report(config: EvaluateConfig, results: Mapping[str, Any]) -> None:
    """Write results as JSON to `evaluate.report_uri`, when it is set.

    Raises:
        ConfigError: it cannot be written there.
    """
    uri = config.evaluate.report_uri
    if uri is None:
        return
    text = json.dumps(masked(results), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        storage.write_atomic(uri, text.encode(), config.evaluate.storage)
    except storage.STORE_ERRORS as err:
        raise ConfigError(f"evaluate.report_uri must be a file that can be written, but is {uri} ({err})") from err


def as_json(config: EvaluateConfig, report: Report) -> dict[str, Any]:
    """Contents of the report; `worst` is null where a check was skipped or a vector was not finite."""
    return {
        "suite": config.evaluate.suite,
        "checkpoint": report.checkpoint.name,
        "revision": config.encoder.revision,
        "weights_sha256": report.checkpoint.weights_sha256,
        "trained": not report.checkpoint.untrained,
        "precision": report.precision,
        "device": report.device,
        "layers": config.encoder.layers,
        "pooling": config.pooling.model_dump(mode="json"),
        "settings": config.selfcheck.model_dump(mode="json"),
        "holds": not report.failed,
        "wall_s": report.wall_s,
        "checks": [_check(result) for result in report.results],
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Of what the figures depend on."""
    packages = {package: version(package) for package in _PACKAGES}
    return {"w2vb_ray": __version__, "python": platform.python_version(), **packages}


def _check(result: Result) -> dict[str, Any]:
    return {
        "check": result.name,
        "comparisons": result.num_comparisons,
        "measure": result.limit.measure,
        "limit": result.limit.value,
        "worst": result.worst if result.worst is not None and math.isfinite(result.worst) else None,
        "where": result.where,
        "failed": result.failed,
        "skipped": result.skipped,
    }


def _digits(figure: float, measure: str) -> str:
    """Enough digits to tell a cosine from one."""
    return f"{figure:.1e}" if measure == "relative error" else f"{figure:.7f}"
