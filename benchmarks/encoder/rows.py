"""Which engines are measured, on which workloads, how often."""

from dataclasses import dataclass

BASELINE = {"cpu": "transformers-eager-batch8", "cuda": "transformers-bf16-sdpa-batch16"}
REFERENCE = "transformers-eager-batch1"  # what the numbers of all others are compared with


@dataclass(frozen=True, slots=True)
class Row:
    """One engine as the tables name it.

    Args:
        name: in tables and JSON.
        kind: of worker, see `worker.Worker`.
        variant: of the worker's engine.
        precision: `fp32`, `bf16` or `fp16`.
        speed: audio-seconds per CPU second to expect of `base`, to share work between cores with `--quick`.
    """

    name: str
    kind: str
    variant: str
    precision: str = "fp32"
    speed: float = 1.0

    @property
    def of_transformers(self) -> bool:
        """Whether it counts for the best of transformers."""
        return self.kind == "transformers"


_CPU_ROWS = (
    Row(BASELINE["cpu"], "transformers", "eager-batch8", speed=1.1),
    Row(REFERENCE, "transformers", "eager-batch1", speed=1.7),
    Row("transformers-sdpa-batch8", "transformers", "sdpa-batch8", speed=1.5),
    Row("transformers-sdpa-batch1", "transformers", "sdpa-batch1", speed=3.0),
    Row("transformers-sdpa-sorted", "transformers", "sdpa-sorted", speed=3.0),
    Row("onnxruntime-fp32", "onnxruntime", "batch1", speed=2.5),
    Row("openvino-fp32", "openvino", "batch1", speed=2.5),
    Row("ours-fp32", "packed", "packed", speed=5.5),
    Row("ours-bf16", "packed", "packed", "bf16", speed=9.0),
)
_CUDA_ROWS = (
    Row(BASELINE["cuda"], "transformers", "sdpa-batch16", "bf16"),
    Row("transformers-bf16-sdpa-sorted", "transformers", "sdpa-sorted", "bf16"),
    Row("ours-bf16", "packed", "packed", "bf16"),
    Row("ours-fp16", "packed", "packed", "fp16"),
    Row("ours-bf16-from-waveforms", "waveforms", "waveforms", "bf16"),
)
ROWS = {"cpu": _CPU_ROWS, "cuda": _CUDA_ROWS}

_NOT_IN_QUICK = ("onnxruntime-fp32", "openvino-fp32", "ours-bf16")
_QUICK_LARGE = (BASELINE["cpu"], REFERENCE, "transformers-sdpa-batch1", "transformers-sdpa-sorted", "ours-fp32")

# model -> workload -> utterances
_COUNTS = {
    "full": {
        "base": {"log-normal": 22, "short": 12, "30s": 1},
        "large": {"log-normal": 12, "short": 9, "30s": 1},
    },
    "quick": {"base": {"log-normal": 8, "short": 3, "30s": 1}, "large": {"log-normal": 2}},
    "cuda": {
        "base": {"log-normal": 256, "short": 256, "30s": 64, "5-15s": 256},
        "large": {"log-normal": 256, "short": 256, "30s": 64, "5-15s": 256},
    },
}


def counts(device: str, *, quick: bool) -> dict[str, dict[str, int]]:
    """Utterances of each workload of each model."""
    return _COUNTS["cuda" if device == "cuda" else "quick" if quick else "full"]


def planned_rows(device: str, model: str, *, quick: bool) -> list[Row]:
    """Rows of a model's tables."""
    if device == "cuda" or not quick:
        return list(ROWS[device])
    if model == "large":
        return [row for row in ROWS[device] if row.name in _QUICK_LARGE]
    return [row for row in ROWS[device] if row.name not in _NOT_IN_QUICK]
