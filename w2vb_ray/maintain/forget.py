"""`forget`: erase rows from the tables, their files, old versions and reports, and keep them from coming back.

The order makes every crash harmless: first nothing of it can be embedded again, then the rows go in one batch of
transactions, and only when no snapshot has them do files go. The same command finishes what a crash left.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from w2vb_ray.config.maintain import MaintainConfig
from w2vb_ray.embed.forgotten import Forgotten, write_forgotten
from w2vb_ray.embed.tables import UTTERANCES, Table
from w2vb_ray.maintain import removal
from w2vb_ray.maintain.history import BucketHistory
from w2vb_ray.maintain.hold import held
from w2vb_ray.maintain.leftovers import Leftover, delete, leftovers
from w2vb_ray.maintain.selection import Request, Selection, read_request, select
from w2vb_ray.maintain.traces import delete_reports, reports_naming


@dataclass(frozen=True, slots=True)
class Forgetting:
    """What was found, and erased unless it was a dry run.

    Args:
        num_values: values that were asked for.
        num_rows: rows by table.
        num_suppressed: hashes that were new to the list of what must not be embedded.
        num_reports: files of run folders that named some of it.
        files: files that no snapshot needs, after the rows are gone.
        num_versions: old object versions; those of this job's own deletions are not counted in a dry run.
    """

    num_values: int
    num_rows: Mapping[str, int]
    num_suppressed: int
    num_reports: int
    files: list[Leftover]
    num_versions: int


def forget(config: MaintainConfig, tables: Mapping[str, Table], run_id: str) -> Forgetting:
    """Erase what the config names.

    Raises:
        TableHeld: a run is at work.
        SinkError: the store keeps something that should go.
    """
    sink = config.sink
    history = BucketHistory(sink.uri, sink.storage) if BucketHistory.applies_to(sink.uri) else None
    request = read_request(config, tables[UTTERANCES])
    if config.maintain.dry_run:
        plan = _plan(request, config, tables, lambda: None)
        return plan.done(_unneeded(config, tables), len(history.old_versions()) if history else 0)
    with held(tables, run_id, sink.lease_s) as claim:
        plan = _plan(request, config, tables, claim.renew_if_due)
        if plan.suppressed:
            write_forgotten(sink.uri, sink.storage, run_id, plan.suppressed)
        delete_reports(plan.reports, sink.uri, sink.storage)
        removal.remove_rows(plan.selection.places, tables, claim, run_id)
        # No retention: nobody writes while the claim is held, and an older snapshot must not be readable any more.
        files = _unneeded(config, tables)
        delete(files, sink.uri, sink.storage, claim.renew_if_due)
        return plan.done(files, history.delete_old_versions(claim.renew_if_due) if history else 0)


@dataclass(frozen=True, slots=True)
class _Plan:
    selection: Selection
    suppressed: Mapping[str, list[str]]  # new fingerprints by column
    reports: list[str]

    def done(self, files: list[Leftover], num_versions: int) -> Forgetting:
        return Forgetting(
            num_values=len(self.selection.request.values),
            num_rows=removal.num_rows(self.selection.places),
            num_suppressed=sum(len(fingerprints) for fingerprints in self.suppressed.values()),
            num_reports=len(self.reports),
            files=files,
            num_versions=num_versions,
        )


def _plan(request: Request, config: MaintainConfig, tables: Mapping[str, Table], between: Callable[[], None]) -> _Plan:
    sink, selection = config.sink, select(request, tables, between)
    return _Plan(
        selection=selection,
        suppressed=Forgotten.read(sink.uri, sink.storage).missing(selection.suppressed),
        reports=reports_naming(selection.ids | selection.uris, sink.uri, sink.storage, between),
    )


def _unneeded(config: MaintainConfig, tables: Mapping[str, Table]) -> list[Leftover]:
    return [file for table in tables.values() for file in leftovers(table, config.sink.storage, 0)]
