"""Maintenance holds the tables as a run does: neither starts while the other is at work, and both are fenced."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager

from w2vb_ray.embed.claim import Claim
from w2vb_ray.embed.tables import UTTERANCES, Table
from w2vb_ray.errors import TableHeld

_ATTEMPTS = 3  # another run may begin and end between our look and our claim


@contextmanager
def held(tables: Mapping[str, Table], run_id: str, lease_s: float) -> Generator[Claim, None, None]:
    """Hold the tables inside the block; what a dead run left half done is undone first.

    Raises:
        TableHeld: a run is at work.
    """
    claim = Claim(tables, run_id, lease_s)
    _take(claim, tables)
    try:
        yield claim
    except BaseException:
        claim.release_quietly()
        raise
    claim.release()


def is_held(tables: Mapping[str, Table], run_id: str) -> bool:
    """Whether a run is at work on the tables."""
    tables[UTTERANCES].reload()
    try:
        Claim(tables, run_id, 0.0).check_free()
    except TableHeld:
        return True
    return False


def _take(claim: Claim, tables: Mapping[str, Table]) -> None:
    for _ in range(_ATTEMPTS):
        for table in tables.values():
            table.reload()
        claim.check_free()
        if claim.take():
            return
    raise TableHeld("runs keep taking these tables between this job's look and its claim; run it again")
