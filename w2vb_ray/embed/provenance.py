"""What made the vectors of a table: written into its properties, compared before anything is appended to it."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from w2vb_ray.config.embed import EmbedConfig
from w2vb_ray.encoder import Checkpoint
from w2vb_ray.encoder.attention_head import read_attention_head
from w2vb_ray.encoder.checkpoint import resolve_layers
from w2vb_ray.errors import SinkError
from w2vb_ray.schema import Vectors

FEATURES_VERSION = "fbank80x2-1"  # bump when the same samples would give other features
RESAMPLER_VERSION = "soxr-hq-1"  # bump when the same recording would give other samples

_COMPARED = {
    "w2vb.weights_sha256": "encoder.checkpoint",
    "w2vb.layers": "encoder.layers",
    "w2vb.layer_weights": "encoder.layer_weights",
    "w2vb.precision": "encoder.precision",
    "w2vb.pooling": "pooling.method",
    "w2vb.attention_sha256": "the attention head of encoder.checkpoint",
    "w2vb.normalise": "pooling.normalise",
    "w2vb.window": "audio.max_window_s and audio.window_context_s",
    "w2vb.features": "the features of this version of w2vb_ray",
    "w2vb.resampler": "the resampler of this version of w2vb_ray",
}
# Written only where they are something else: tables older than these settings keep their fingerprint.
_UNWRITTEN = {"w2vb.layer_weights": "null", "w2vb.attention_sha256": "none", "w2vb.normalise": "false"}
FINGERPRINT = "w2vb.fingerprint"


@dataclass(frozen=True, slots=True)
class Provenance:
    """The table properties of a run; `w2vb.precision` is missing until the device is known."""

    properties: Mapping[str, str]
    vectors: Vectors

    @classmethod
    def of(cls, config: EmbedConfig, checkpoint: Checkpoint, precision: str | None) -> "Provenance":
        """Describe a run.

        Args:
            config: the run's config.
            checkpoint: the resolved checkpoint.
            precision: `fp32`, `bf16`, …; None while `auto` is not resolved.

        Raises:
            CheckpointError: a layer that the model does not have, or no such attention head as is asked for.
        """
        layers = resolve_layers(config.encoder.layers, checkpoint.num_layers)
        methods = config.pooling.methods
        head = read_attention_head(checkpoint, config.encoder) if "attention" in methods else None
        window = {"max_window_s": config.audio.max_window_s, "window_context_s": config.audio.window_context_s}
        properties = {
            "w2vb.checkpoint": checkpoint.name,
            "w2vb.revision": config.encoder.revision or "",
            "w2vb.trained": json.dumps(not checkpoint.untrained),
            "w2vb.model_type": checkpoint.model_type,
            "w2vb.dimension": str(checkpoint.dimension),
            "w2vb.weights_sha256": checkpoint.weights_sha256,
            "w2vb.layers": json.dumps(layers),
            "w2vb.layer_weights": json.dumps(config.encoder.layer_weights),
            "w2vb.pooling": methods[0] if len(methods) == 1 else json.dumps(methods),
            "w2vb.attention_sha256": head.sha256 if head else "none",
            "w2vb.normalise": json.dumps(config.pooling.normalise),
            "w2vb.window": json.dumps(window),
            "w2vb.features": FEATURES_VERSION,
            "w2vb.resampler": RESAMPLER_VERSION,
        }
        properties = {key: value for key, value in properties.items() if value != _UNWRITTEN.get(key)}
        if precision is not None:
            properties["w2vb.precision"] = precision
            compared = json.dumps({key: properties[key] for key in _COMPARED if key in properties}, sort_keys=True)
            properties[FINGERPRINT] = hashlib.sha256(compared.encode()).hexdigest()
        return cls(properties, vectors_of(config, layers))

    def check(self, stored: Mapping[str, str], sink_uri: str) -> None:
        """Refuse to append to a table that something else made.

        Raises:
            SinkError: names every setting that differs, with both values.
        """
        if FINGERPRINT not in stored:
            return
        ours, theirs = _UNWRITTEN | dict(self.properties), _UNWRITTEN | dict(stored)
        differing = [
            f"{setting} (table: {_short(theirs.get(key, ''))}, this run: {_short(ours[key])})"
            for key, setting in _COMPARED.items()
            if key in ours and theirs.get(key) != ours[key]
        ]
        if differing:
            raise SinkError(
                f"the tables under sink.uri ({sink_uri}) were made with other settings: {'; '.join(differing)}. "
                "Vectors of two kinds must not mix: set these as they were, or give this run another sink.uri"
            )


def vectors_of(config: EmbedConfig, layers: Sequence[int]) -> Vectors:
    """The vectors that a run makes.

    Args:
        config: the run's config.
        layers: `encoder.layers`, resolved.
    """
    return Vectors(layers, config.pooling.methods, mixed=config.encoder.layer_weights is not None)


def _short(value: str) -> str:
    return value[:12] + "…" if len(value) == 64 else value
