"""Arrays in, embeddings out: checkpoints, features, micro-batches, windows, pooling. Knows no Ray."""

from w2vb_ray.encoder.base import Embeddings, Encoder
from w2vb_ray.encoder.checkpoint import Checkpoint, resolve_checkpoint
from w2vb_ray.encoder.load import load_encoder

__all__ = ["Checkpoint", "Embeddings", "Encoder", "load_encoder", "resolve_checkpoint"]
