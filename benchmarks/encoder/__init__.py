"""The packed encoder beside transformers, onnxruntime and openvino: `python -m benchmarks.encoder`."""
