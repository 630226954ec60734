"""Files in a table's folder that no snapshot needs: orphans, and files that were removed long enough ago.

delta-rs knows which; what is deleted is decided there, never by name. Knows nothing of claims.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from w2vb_ray import storage
from w2vb_ray.embed.tables import Table
from w2vb_ray.errors import SinkError

_TOGETHER = 1000  # what S3 deletes in one request


@dataclass(frozen=True, slots=True)
class Leftover:
    """A file that can go. `path` is relative to its table."""

    table: str
    path: str
    num_bytes: int


def leftovers(table: Table, options: Mapping[str, Any], retention_h: int) -> list[Leftover]:
    """What a vacuum of the table would delete.

    Args:
        table: the table; its snapshot is loaded again.
        options: fsspec options of its store.
        retention_h: younger orphans, and files that were removed since, are kept.
    """
    table.reload()
    if table.delta is None:
        return []
    # Full: files that no commit ever named too. It leaves `_delta_log` alone, and everything else that begins with `_`.
    paths = table.delta.vacuum(retention_h, dry_run=True, enforce_retention_duration=False, full=True)
    if not paths:
        return []
    live = {file.path for file in table.files()}
    filesystem = storage.filesystem(table.uri, options)
    root = storage.fs_path(table.uri, filesystem)
    listed = cast(dict[str, dict[str, Any]], filesystem.find(root, detail=True))
    sizes = {path: info["size"] or 0 for path, info in listed.items()}
    # A name of delta-rs's that the store does not list is already gone.
    places = [(path, f"{root}/{path}") for path in sorted(set(paths) - live)]
    return [Leftover(table.name, path, sizes[place]) for path, place in places if place in sizes]


def delete(found: Sequence[Leftover], sink_uri: str, options: Mapping[str, Any], between: Callable[[], None]) -> None:
    """Delete the files, and look whether they are gone: s3fs does not say what a store refused to delete.

    Raises:
        SinkError: some are still there.
    """
    filesystem = storage.filesystem(sink_uri, options)
    root = storage.fs_path(sink_uri, filesystem)
    paths = [f"{root}/{file.table}/{file.path}" for file in found]
    for start in range(0, len(paths), _TOGETHER):
        between()
        filesystem.rm(paths[start : start + _TOGETHER])
    filesystem.invalidate_cache()
    left = set(paths) & {
        path for table in {file.table for file in found} for path in filesystem.find(f"{root}/{table}")
    }
    if left:
        raise SinkError(
            f"{len(left):,} of {len(paths):,} files under sink.uri ({sink_uri}) could not be deleted, {min(left)} for "
            "one; give this job the right to delete objects there, then run it again"
        )
