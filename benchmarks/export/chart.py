"""The table of `benchmarks.export` as a picture.

`python -m benchmarks.export.chart RESULT.json PICTURE.svg`
"""

import argparse
import json
from pathlib import Path

from benchmarks.encoder.chart import draw

ENGINES = {
    "transformers-eager-batch8": "transformers, eager, 8 as they come",
    "transformers-eager-batch1": "transformers, eager, one by one",
    "transformers-sdpa-batch1": "transformers, sdpa, one by one",
    "transformers-sdpa-sorted": "transformers, sdpa, sorted",
    "ours-fp32": "w2vb_ray, fp32",
    "ours-int8": "w2vb_ray, int8",
    "onnxruntime-int8": "ONNX Runtime, int8, our graph",
    "openvino-int8": "OpenVINO, int8, our graph",
}


def main() -> None:
    """Draw a result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.export.chart", description=__doc__)
    parser.add_argument("result", type=Path, metavar="RESULT.json")
    parser.add_argument("picture", type=Path, metavar="PICTURE.svg")
    options = parser.parse_args()
    result = json.loads(options.result.read_text())
    speeds = {
        (f"{row['model']}, {row['workload']}", row["engine"]): row["audio_s_per_cpu_s"]
        for row in result["rows"]
        if row["workload"] == "log-normal" and row["engine"] in ENGINES
    }
    title = "Wav2Vec2-BERT, fp32 and int8: audio-seconds per CPU second"
    note = f"one thread, {result['machine']['cpu']}; random weights"
    options.picture.write_text(draw(speeds, ENGINES, title, note))


if __name__ == "__main__":
    main()
