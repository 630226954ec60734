"""The table of `benchmarks.encoder` as a picture.

`python -m benchmarks.encoder.chart RESULT.json PICTURE.svg`

Bars are audio seconds per CPU second of one thread; rows that were not measured have none.
"""

import argparse
import json
from collections.abc import Mapping
from html import escape
from pathlib import Path

ENGINES = {
    "transformers-eager-batch8": "transformers, eager, 8 as they come",
    "transformers-eager-batch1": "transformers, eager, one by one",
    "transformers-sdpa-batch8": "transformers, sdpa, 8 as they come",
    "transformers-sdpa-batch1": "transformers, sdpa, one by one",
    "transformers-sdpa-sorted": "transformers, sdpa, sorted",
    "onnxruntime-fp32": "ONNX Runtime",
    "openvino-fp32": "OpenVINO",
    "ours-fp32": "w2vb_ray",
}
_PANEL, _BAR, _TOP, _LABELS, _SCALE = 300, 24, 64, 250, 190
_STYLE = """
    .page { fill: #ffffff } .bar { fill: #8c959f } .ours { fill: #0969da } .axis { stroke: #d0d7de }
    .title { fill: #1f2328; font-size: 15px; font-weight: 600 } .text { fill: #1f2328; font-size: 12.5px }
    .note { fill: #57606a; font-size: 12px }
    @media (prefers-color-scheme: dark) {
      .page { fill: #0d1117 } .bar { fill: #6e7681 } .ours { fill: #58a6ff } .axis { stroke: #30363d }
      .title, .text { fill: #e6edf3 } .note { fill: #9da7b3 }
    }"""


def draw(speeds: Mapping[tuple[str, str], float], labels: Mapping[str, str], title: str, note: str) -> str:
    """Panels side by side, an engine per line, as SVG that follows the reader's colour scheme.

    Args:
        speeds: (panel, engine) -> audio-seconds per CPU second.
        labels: engine -> what a reader calls it, in the order of the lines.
        title: above.
        note: below.
    """
    panels = list(dict.fromkeys(panel for panel, _ in speeds))
    engines = [engine for engine in labels if any((panel, engine) in speeds for panel in panels)]
    width, height = _LABELS + _PANEL * len(panels), _TOP + _BAR * len(engines) + 40
    fastest = max(speeds.values())
    parts = [
        f'<text class="title" x="20" y="28">{escape(title)}</text>',
        f'<text class="note" x="20" y="{height - 14}">{escape(note)}</text>',
    ]
    parts += [
        f'<text class="text" x="{_LABELS - 12}" y="{_y(line) + 14}" text-anchor="end">{escape(labels[engine])}</text>'
        for line, engine in enumerate(engines)
    ]
    for index, panel in enumerate(panels):
        left = _LABELS + index * _PANEL
        parts.append(f'<text class="note" x="{left}" y="{_TOP - 10}">{escape(panel)}</text>')
        parts.append(f'<path class="axis" d="M{left} {_TOP - 4}V{_TOP + _BAR * len(engines)}"/>')
        for line, engine in enumerate(engines):
            if (speed := speeds.get((panel, engine))) is None:
                continue
            length, kind = _SCALE * speed / fastest, "ours" if engine.startswith("ours") else "bar"
            parts.append(f'<rect class="{kind}" x="{left}" y="{_y(line)}" width="{length:.1f}" height="18" rx="2"/>')
            parts.append(f'<text class="text" x="{left + length + 6:.1f}" y="{_y(line) + 14}">{speed:.2f}</text>')
    body = "\n  ".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        "role=\"img\" font-family=\"ui-sans-serif, system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif\">\n"
        f"  <style>{_STYLE}\n  </style>\n"
        f'  <rect class="page" width="{width}" height="{height}" rx="8"/>\n  {body}\n</svg>\n'
    )


def _y(line: int) -> int:
    return _TOP + _BAR * line


def main() -> None:
    """Draw a result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.encoder.chart", description=__doc__)
    parser.add_argument("result", type=Path, metavar="RESULT.json")
    parser.add_argument("picture", type=Path, metavar="PICTURE.svg")
    options = parser.parse_args()
    result = json.loads(options.result.read_text())
    speeds = {
        (row["workload"], row["engine"]): row["audio_s_per_cpu_s"]
        for row in result["rows"]
        if row["model"] == "base" and row["engine"] in ENGINES
    }
    title = "Wav2Vec2-BERT base, fp32: audio-seconds per CPU second"
    note = f"one thread, {result['machine']['cpu']}; same weights, same numbers to 1e-4"
    options.picture.write_text(draw(speeds, ENGINES, title, note))


if __name__ == "__main__":
    main()
