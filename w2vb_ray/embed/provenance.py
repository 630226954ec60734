"""What made the vectors of a table: written into its properties, compared before anything is appended to it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from w2vb_ray.config.embed import EmbedConfig
from w2vb_ray.encoder import Checkpoint
from w2vb_ray.encoder.checkpoint import resolve_layers
from w2vb_ray.errors import SinkError

FEATURES_VERSION = "fbank80x2-1"  # bump when the same samples would give other features
RESAMPLER_VERSION = "soxr-hq-1"  # bump when the same recording would give other samples

_COMPARED = {
    "w2vb.weights_sha256": "encoder.checkpoint",
    "w2vb.layers": "encoder.layers",
    "w2vb.precision": "encoder.precision",
    "w2vb.pooling": "pooling.method",
    "w2vb.window": "audio.max_window_s and audio.window_context_s",
    "w2vb.features": "the features of this version of w2vb_ray",
    "w2vb.resampler": "the resampler of this version of w2vb_ray",
}
FINGERPRINT = "w2vb.fingerprint"


@dataclass(frozen=True, slots=True)
class Provenance:
    """The table properties of a run; `w2vb.precision` is missing until the device is known."""

    properties: Mapping[str, str]
    layers: list[int]

    @classmethod
    def of(cls, config: EmbedConfig, checkpoint: Checkpoint, precision: str | None) -> "Provenance":
        """Describe a run.

        Args:
            config: the run's config.
            checkpoint: the resolved checkpoint.
            precision: `fp32`, `bf16`, …; None while `auto` is not resolved.

        Raises:
            CheckpointError: a layer that the model does not have.
        """
        layers = resolve_layers(config.encoder.layers, checkpoint.num_layers)
        window = {"max_window_s": config.audio.max_window_s, "window_context_s": config.audio.window_context_s}
        properties = {
            "w2vb.checkpoint": checkpoint.name,
            "w2vb.revision": config.encoder.revision or "",
            "w2vb.trained": json.dumps(not checkpoint.untrained),
            "w2vb.model_type": checkpoint.model_type,
            "w2vb.dimension": str(checkpoint.dimension),
            "w2vb.weights_sha256": checkpoint.weights_sha256,
            "w2vb.layers": json.dumps(layers),
            "w2vb.pooling": config.pooling.method,
            "w2vb.window": json.dumps(window),
            "w2vb.features": FEATURES_VERSION,
            "w2vb.resampler": RESAMPLER_VERSION,
        }
        if precision is not None:
            properties["w2vb.precision"] = precision
            compared = json.dumps({key: properties[key] for key in _COMPARED}, sort_keys=True)
            properties[FINGERPRINT] = hashlib.sha256(compared.encode()).hexdigest()
        return cls(properties, layers)

    def check(self, stored: Mapping[str, str], sink_uri: str) -> None:
        """Refuse to append to a table that something else made.

        Raises:
            SinkError: names every setting that differs, with both values.
        """
        if FINGERPRINT not in stored:
            return
        differing = [
            f"{setting} (table: {_short(stored.get(key, ''))}, this run: {_short(self.properties[key])})"
            for key, setting in _COMPARED.items()
            if key in self.properties and stored.get(key) != self.properties[key]
        ]
        if differing:
            raise SinkError(
                f"the tables under sink.uri ({sink_uri}) were made with other settings: {'; '.join(differing)}. "
                "Vectors of two kinds must not mix: set these as they were, or give this run another sink.uri"
            )


def _short(value: str) -> str:
    return value[:12] + "…" if len(value) == 64 else value
