"""Which engines are compared, on which workloads, and what is promised."""

from benchmarks.encoder.rows import BASELINE, REFERENCE, Row
from benchmarks.encoder.worker import LOADED
from benchmarks.export.made import CHECKPOINT

OURS_FP32 = Row("ours-fp32", LOADED + CHECKPOINT, "packed", speed=5.5)
OURS_INT8 = Row("ours-int8", LOADED + "int8", "packed", speed=13.0)
TRANSFORMERS = (
    Row(BASELINE["cpu"], "transformers", "eager-batch8", speed=1.1),
    Row(REFERENCE, "transformers", "eager-batch1", speed=1.7),
    Row("transformers-sdpa-batch1", "transformers", "sdpa-batch1", speed=3.0),
    Row("transformers-sdpa-sorted", "transformers", "sdpa-sorted", speed=3.0),
)
EXPORTED = (
    OURS_FP32,
    OURS_INT8,
    Row("ours-int8-weights", LOADED + "int8_weights", "packed", speed=5.5),
    Row("ours-fp16", LOADED + "fp16", "packed", speed=5.5),
    Row("onnxruntime-fp32", LOADED + "onnx", "batch1", speed=4.8),
    Row("onnxruntime-int8", LOADED + "onnx_int8", "batch1", speed=11.0),
    Row("openvino-fp16", LOADED + "openvino", "batch1", speed=5.5),
    Row("openvino-int8", LOADED + "openvino_int8", "batch1", speed=11.0),
)
NOT_IN_QUICK = ("ours-int8-weights", "ours-fp16", "onnxruntime-fp32", "openvino-fp16")
"""They run as fp32 does, or nearly."""
OTHERS_INT8 = ("onnxruntime-int8", "openvino-int8")

# model -> workload -> utterances
COUNTS = {
    "full": {"base": {"log-normal": 22, "short": 12}, "large": {"log-normal": 12}},
    "quick": {"base": {"log-normal": 8}, "large": {"log-normal": 2}},
}
NEIGHBOURS = {"full": {"base": 64, "large": 64}, "quick": {"base": 40, "large": 24}}
"""Utterances of a second, among which neighbours are looked for."""

# (model, workload, engine, key, least; or most, where negative)
CLAIMS = (
    ("base", "log-normal", "ours-int8", "ratio_to_baseline", 9.0),
    ("base", "log-normal", "ours-int8", "ratio_to_best_transformers", 3.2),
    ("base", "log-normal", "ours-int8", "ratio_to_other_int8", 1.0),
    ("large", "log-normal", "ours-int8", "ratio_to_other_int8", 1.0),
    *(
        (model, "log-normal", "ours-int8", key, limit)
        for model in ("base", "large")
        for key, limit in (
            ("min_cosine_pooled", 0.999),
            ("mean_cosine_frame", 0.995),
            ("min_cosine_frame", 0.99),
            ("recall_at_10", 0.95),
            ("alone_error", -1e-6),
            ("size_ratio", -0.27),
        )
    ),
)
