"""`<sink.uri>/_runs/<run_id>/`: the resolved config and the report of one run, secrets masked."""

import json
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from w2vb_ray import storage
from w2vb_ray.config import show_config
from w2vb_ray.config.section import Section


def new_run_id() -> str:
    """Sortable by start time, unique across machines."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:8]}"


class RunFolder:
    """Where a run leaves its own record.

    Args:
        sink_uri: folder of the tables.
        options: fsspec options of its store.
        run_id: this run.
    """

    def __init__(self, sink_uri: str, options: Mapping[str, Any], run_id: str) -> None:
        self.uri = storage.join(sink_uri, "_runs", run_id)
        self._options = options

    def write_config(self, config: Section) -> None:
        """Write `config.yaml`."""
        storage.write_atomic(storage.join(self.uri, "config.yaml"), show_config(config).encode(), self._options)

    def write_report(self, report: Mapping[str, Any], page: str | None = None) -> None:
        """Write `report.json`, and its page, where it has one, as `report.html`."""
        text = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
        pages = {} if page is None else {"report.html": page}
        for name, content in {**pages, "report.json": text}.items():  # whoever sees the last finds both
            storage.write_atomic(storage.join(self.uri, name), content.encode(), self._options)
