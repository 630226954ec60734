"""`vacuum`: delete what runs left behind, and what the tables have replaced."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from w2vb_ray.config.maintain import MaintainConfig
from w2vb_ray.embed.tables import Table
from w2vb_ray.errors import TableHeld
from w2vb_ray.maintain.history import BucketHistory
from w2vb_ray.maintain.hold import held, is_held
from w2vb_ray.maintain.leftovers import Leftover, delete, leftovers

SAFE_BESIDE_RUN_H = 24
"""A run commits a file within minutes of writing it; what is a day old belongs to no unit that is still under way."""


@dataclass(frozen=True, slots=True)
class Vacuumed:
    """What was found, and deleted unless it was a dry run; `num_uploads` is None where the store does not tell."""

    files: list[Leftover]
    num_uploads: int | None


def vacuum(config: MaintainConfig, tables: Mapping[str, Table], run_id: str) -> Vacuumed:
    """Delete files that no snapshot needs and uploads that nobody completed; the tables' rows stay as they are.

    Raises:
        TableHeld: a run is at work and `maintain.retention_h` does not keep its files safe.
    """
    retention_h = config.maintain.retention_h
    if config.maintain.dry_run or (retention_h >= SAFE_BESIDE_RUN_H and is_held(tables, run_id)):
        return _vacuum(config, tables, lambda: None)
    try:
        # What a dead run left half done is undone before anything goes: that takes files which it had replaced.
        with held(tables, run_id, config.sink.lease_s) as claim:
            return _vacuum(config, tables, claim.renew_if_due)
    except TableHeld as err:
        advice = f". With maintain.retention_h={SAFE_BESIDE_RUN_H} or more, vacuum goes on beside a run"
        raise TableHeld(f"{err}{advice if retention_h < SAFE_BESIDE_RUN_H else ''}") from err


def _vacuum(config: MaintainConfig, tables: Mapping[str, Table], between: Callable[[], None]) -> Vacuumed:
    section, sink = config.maintain, config.sink
    files = [file for table in tables.values() for file in leftovers(table, sink.storage, section.retention_h)]
    if not section.dry_run:
        delete(files, sink.uri, sink.storage, between)
    if not BucketHistory.applies_to(sink.uri):
        return Vacuumed(files, 0)
    history = BucketHistory(sink.uri, sink.storage)
    try:
        uploads = history.uploads(datetime.now(UTC) - timedelta(hours=section.retention_h))
    except (OSError, NotImplementedError):  # a right of its own, and not every store has such a list
        return Vacuumed(files, None)
    for upload in [] if section.dry_run else uploads:
        history.abort(upload)
    return Vacuumed(files, len(uploads))
