"""`rejects`: what could not be embedded and why; and having some of it tried again.

To try again is to take the rows out of the table: what is in no table is planned by the next run.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pyarrow as pa

from w2vb_ray.arrow import pc
from w2vb_ray.config.maintain import MaintainConfig, RejectsSection
from w2vb_ray.embed.tables import REJECTS, Table
from w2vb_ray.maintain.hold import held
from w2vb_ray.maintain.removal import remove_rows
from w2vb_ray.maintain.scan import find_rows

_COLUMNS = ("utterance_id", "audio_uri", "reason", "detail", "language")


@dataclass
class Group:
    """Rejects for one reason in one language, and one of them."""

    reason: str
    language: str
    num_rows: int
    audio_uri: str
    detail: str


def rejects(config: MaintainConfig, tables: Mapping[str, Table], run_id: str) -> list[Group]:
    """List rejects; with `rejects.retry`, unless it is a dry run, let the next run try them again.

    Raises:
        TableHeld: they are to be tried again, and a run is at work.
    """
    section = config.rejects
    if not section.retry or config.maintain.dry_run:
        return _find(tables[REJECTS], section, lambda: None)[0]
    with held(tables, run_id, config.sink.lease_s) as claim:
        groups, places = _find(tables[REJECTS], section, claim.renew_if_due)
        remove_rows({REJECTS: places}, tables, claim, run_id)
    return groups


def _find(
    table: Table, section: RejectsSection, between: Callable[[], None]
) -> tuple[list[Group], dict[str, list[str]]]:
    groups: dict[tuple[str, str], Group] = {}
    places: dict[str, list[str]] = {}

    def matches(rows: pa.Table) -> pa.Array:
        mask = pc.is_valid(rows["utterance_id"])
        for name, wanted in (("reason", section.reasons), ("language", section.languages)):
            if wanted:
                mask = pc.and_(mask, pc.is_in(rows[name], pa.array([str(one) for one in wanted])))
        return mask

    for file, rows in find_rows(table, _COLUMNS, matches, between):
        places[file.path] = rows["utterance_id"].to_pylist()
        for row in rows.to_pylist():
            key = row["reason"], row["language"]
            group = groups.setdefault(key, Group(*key, 0, row["audio_uri"], row["detail"] or ""))
            group.num_rows += 1
    return sorted(groups.values(), key=lambda group: (-group.num_rows, group.reason, group.language)), places
