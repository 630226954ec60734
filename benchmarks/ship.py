"""From a pretraining run to the model that comes with the package: half precision, and its card with every figure.

`python -m benchmarks.ship RUN --evaluation FILE.json ... --about FILE.md [--to w2vb_ray/encoder/tiny]`

`RUN` is a `pretrain.uri` on this machine, the evaluations are reports of `jobs.evaluate`, `--about` is what no run
knows: on which data and machine it was trained.
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from w2vb_ray.evaluate.findings import ABOUT_AHEAD, AHEAD

_CURVES = {
    "contrastive_accuracy": "contrastive accuracy",
    "masked_prediction_gain": "masked prediction gain (nats)",
    "probability_perplexity": "code perplexity",
}
_NUM_ROWS = 12
_WIDTH, _HEIGHT, _GAP = 250, 150, 40


def main() -> None:
    """Write the folder."""
    options = _parse()
    newest = max((options.run / "checkpoints").iterdir())
    options.to.mkdir(parents=True, exist_ok=True)
    halves = {name: tensor.half() for name, tensor in load_file(newest / "model.safetensors").items()}
    save_file(halves, options.to / "model.safetensors", metadata={"format": "pt"})
    (options.to / "model.safetensors").chmod(0o644)
    for name in ("config.json", "preprocessor_config.json"):
        shutil.copyfile(newest / name, options.to / name)
    log = [json.loads(line) for line in (options.run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    (options.to / "curves.svg").write_text(curves(log), encoding="utf-8")
    evaluations = [json.loads(path.read_text(encoding="utf-8")) for path in options.evaluation]
    parts = [options.about.read_text(encoding="utf-8").strip(), "## Learning", learning(log)]
    parts += ["## Evaluation", f"\\{AHEAD} {ABOUT_AHEAD}.", *(text for one in evaluations for text in evaluation(one))]
    (options.to / "README.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def learning(log: list[dict[str, float]]) -> str:
    """Figures of some updates as a table."""
    rows = [log[place * (len(log) - 1) // (_NUM_ROWS - 1)] for place in range(_NUM_ROWS)]
    lines = [f"| {row['update']:,.0f} | " + " | ".join(f"{row[key]:.3f}" for key in _CURVES) + " |" for row in rows]
    head = f"| update | {' | '.join(_CURVES.values())} |\n|--:|{'--:|' * len(_CURVES)}\n"
    return "![contrastive accuracy, masked prediction gain, perplexity](curves.svg)\n\n" + head + "\n".join(lines)


def evaluation(report: dict[str, Any]) -> list[str]:
    """Tables of a report, one per suite."""
    texts: list[str] = []
    for suite in report["suites"]:
        figures = suite["figures"]
        names = list(dict.fromkeys(name for figure in figures for name in figure["values"]))
        lines = [f"| vectors | {' | '.join(figure['name'] for figure in figures)} |", "|---|" + "--:|" * len(figures)]
        lines.append(f"| chance | {' | '.join(format(figure['chance'], '.3f') for figure in figures)} |")
        cells = {name: [_cell(figure, name) for figure in figures] for name in names}
        lines += [f"| {name} | {' | '.join(row)} |" for name, row in cells.items()]
        texts += [f"### {suite['suite']}", "  \n".join(suite["notes"]), "\n".join(lines)]
    return texts


def curves(log: list[dict[str, float]]) -> str:
    """Figures over updates, side by side."""
    width = len(_CURVES) * (_WIDTH + _GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {_HEIGHT + 50}" font-family="sans-serif" '
        'font-size="11" fill="#636c76">'
    ]
    last = log[-1]["update"]
    for place, (key, name) in enumerate(_CURVES.items()):
        left, values = place * (_WIDTH + _GAP) + _GAP, [row[key] for row in log]
        low, high = min(values), max(values)
        across = [left + row["update"] / last * (_WIDTH - 10) for row in log]
        up = [25 + _HEIGHT * (high - value) / (high - low or 1) for value in values]
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across, up, strict=True))
        parts += [
            f'<text x="{left}" y="14">{name}</text>',
            f'<polyline points="{points}" fill="none" stroke="#2f6fb3" stroke-width="1.5"/>',
            f'<text x="{left - 4}" y="32" text-anchor="end">{high:.2f}</text>',
            f'<text x="{left - 4}" y="{25 + _HEIGHT}" text-anchor="end">{low:.2f}</text>',
            f'<text x="{left + _WIDTH - 10}" y="{_HEIGHT + 42}" text-anchor="end">{last:,.0f} updates</text>',
        ]
    return "\n".join([*parts, "</svg>\n"])


def _cell(figure: dict[str, Any], name: str) -> str:
    """With a star where the paired difference to every row that is no layer lies above 0."""
    one, lead = figure["values"].get(name), figure["leads"].get(name)
    star = f"\\{AHEAD}" if lead is not None and lead["low"] > 0 else ""
    return "" if one is None else f"{one['value']:.3f}{star} ({one['low']:.3f}–{one['high']:.3f})"


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ship", description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--evaluation", type=Path, nargs="+", required=True)
    parser.add_argument("--about", type=Path, required=True)
    parser.add_argument("--to", type=Path, default=Path("w2vb_ray/encoder/tiny"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
