"""The `embed` job beside a plain transformers script and beside its own encoder alone: `python -m benchmarks.embed`."""
