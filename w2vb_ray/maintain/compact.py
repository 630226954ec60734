"""`compact`: small files of one language become larger ones, with the same rows in the same encoding.

delta-rs can merge files too, but its writer drops the byte-stream split and the metadata of the files.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby

from w2vb_ray.config.maintain import MaintainConfig
from w2vb_ray.embed.claim import Actions, Claim
from w2vb_ray.embed.rewrite import check_same, rewrite
from w2vb_ray.embed.tables import DataFile, Table, add_action, remove_action
from w2vb_ray.errors import W2vbError
from w2vb_ray.maintain.hold import held

_COMMIT_BYTES = 1024**3  # rewritten before they are committed; what a crash costs


@dataclass(frozen=True, slots=True)
class Merge:
    """Files of one table and language that become one."""

    table: str
    files: list[DataFile]

    @property
    def num_bytes(self) -> int:
        """Bytes of the files together."""
        return sum(file.num_bytes for file in self.files)


def compact(config: MaintainConfig, tables: Mapping[str, Table], run_id: str) -> list[Merge]:
    """Merge small files and shorten the logs; returns what was (or, in a dry run, would be) merged.

    Raises:
        TableHeld: a run is at work, or took over.
        W2vbError: a merged file does not hold what went into it; it is not committed.
    """
    target_bytes = config.maintain.target_bytes
    if config.maintain.dry_run:
        return plan_merges(tables, target_bytes)
    with held(tables, run_id, config.sink.lease_s) as claim:
        merges = plan_merges(tables, target_bytes)
        for batch in _batches(merges):
            _commit(batch, tables, claim, run_id)
        for table in tables.values():
            claim.renew_if_due()
            _shorten_log(table)
    return merges


def plan_merges(tables: Mapping[str, Table], target_bytes: int) -> list[Merge]:
    """Which files to merge: those under half the target, oldest first, up to the target together.

    A file that comes out is more than half the target, but for the last of a language, so that a second compaction
    finds nothing to do.
    """
    merges: list[Merge] = []
    for name, table in tables.items():
        small = [file for file in table.files() if file.num_bytes < target_bytes / 2]
        small.sort(key=lambda file: (file.language, file.path))  # names begin with the time of their run
        for _, files in groupby(small, key=lambda file: file.language):
            merges += [Merge(name, group) for group in _groups(files, target_bytes) if len(group) > 1]
    return merges


def _groups(files: Iterable[DataFile], target_bytes: int) -> list[list[DataFile]]:
    groups: list[list[DataFile]] = []
    num_bytes = target_bytes
    for file in files:
        if num_bytes + file.num_bytes > target_bytes:
            groups.append([])
            num_bytes = 0
        groups[-1].append(file)
        num_bytes += file.num_bytes
    return groups


def _batches(merges: list[Merge]) -> list[list[Merge]]:
    batches: list[list[Merge]] = []
    num_bytes = _COMMIT_BYTES
    for merge in merges:
        if num_bytes >= _COMMIT_BYTES:
            batches.append([])
            num_bytes = 0
        batches[-1].append(merge)
        num_bytes += merge.num_bytes
    return batches


def _commit(merges: list[Merge], tables: Mapping[str, Table], claim: Claim, run_id: str) -> None:
    """Write and check the new files of a batch, then put them in the place of the old ones, in one transaction."""
    actions: dict[str, Actions] = {name: [] for name in tables}
    for merge in merges:
        made = _merged(tables[merge.table], merge.files, run_id, claim.renew_if_due)
        actions[merge.table] += [remove_action(file, data_change=False) for file in merge.files]
        actions[merge.table].append(add_action(made, data_change=False))
    claim.commit_batch(actions)


def _merged(table: Table, files: list[DataFile], run_id: str, between: Callable[[], None]) -> DataFile:
    made = rewrite(table, files, run_id, between=between)
    if made is None or made.num_rows != sum(file.num_rows for file in files):
        raise W2vbError(f"files of {table.uri} hold other numbers of rows than its log says, {files[0].path} for one")
    check_same(table, files, made, between=between)
    return made


def _shorten_log(table: Table) -> None:
    """Sum the log up, so that opening the table reads one file, and drop what is older than its retention (30 days)."""
    table.reload()
    if table.delta is not None:
        table.delta.create_checkpoint()
        table.delta.cleanup_metadata()
