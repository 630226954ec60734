"""What a run reports to Prometheus while it works, through `ray.util.metrics`, counted at commits.

Only what is committed counts, so retries count once. `report.json` stays the record: a job that ends before Prometheus
looks loses its last numbers. Ray puts `ray_` before each name; `conf/deploy/grafana-embed.json` shows them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ray.util.metrics import Counter, Histogram

from w2vb_ray.embed.write import FRAME_RATE_HZ

_COMMIT_SECONDS = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0]


class RunMetrics:
    """Counters of this process."""

    def __init__(self) -> None:
        self._audio_s = Counter("w2vb_audio_seconds", "Seconds of audio embedded and committed")
        self._padded_s = Counter("w2vb_padded_seconds", "Seconds of padding that encoders worked on")
        self._utterances = Counter("w2vb_utterances", "Utterances embedded and committed")
        self._rejects = Counter("w2vb_rejects", "Utterances rejected and committed", tag_keys=("reason",))
        self._commit_s = Histogram("w2vb_commit_seconds", "Latency of a batch of commits", _COMMIT_SECONDS)

    def count(self, descriptors: Sequence[Mapping[str, Any]], commit_s: float) -> None:
        """Count what one batch has just committed, in so many seconds."""
        self._commit_s.observe(commit_s)
        for descriptor in descriptors:
            _add(self._padded_s, descriptor["num_padding_frames"] / FRAME_RATE_HZ)
            for outcome in descriptor["outcomes"]:
                if outcome["reason"] is None:
                    _add(self._utterances, outcome["count"])
                    _add(self._audio_s, outcome["audio_s"] or 0.0)
                else:
                    _add(self._rejects, outcome["count"], reason=outcome["reason"])


def _add(counter: Counter, value: float, **tags: str) -> None:
    if value > 0:  # Ray's counters take nothing else
        counter.inc(value, tags)
