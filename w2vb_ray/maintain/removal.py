"""Take rows out of the tables by id, in one batch of transactions."""

from collections.abc import Mapping, Sequence

import pyarrow as pa

from w2vb_ray.embed.claim import Actions, Claim
from w2vb_ray.embed.rewrite import check_same, rewrite
from w2vb_ray.embed.tables import Table, add_action, remove_action

Places = Mapping[str, Mapping[str, Sequence[str]]]
"""Table -> file -> ids of its rows that go."""


def num_rows(places: Places) -> dict[str, int]:
    """Rows that go, by table."""
    return {name: sum(len(ids) for ids in by_file.values()) for name, by_file in places.items()}


def remove_rows(places: Places, tables: Mapping[str, Table], claim: Claim, run_id: str) -> None:
    """Rewrite each file without the rows, check what was written, and commit it all at once.

    Args:
        places: found in the tables as the claim holds them.
        tables: the tables by name.
        claim: held by this job.
        run_id: of this job; the rows keep theirs.
    """
    actions: dict[str, Actions] = {name: [] for name in tables}
    for name, by_file in places.items():
        table = tables[name]
        live = {file.path: file for file in table.files()}
        for path, ids in by_file.items():
            without = pa.array(ids, pa.string())
            actions[name].append(remove_action(live[path]))
            made = rewrite(table, [live[path]], run_id, without=without, between=claim.renew_if_due)
            if made is not None:
                check_same(table, [live[path]], made, without=without, between=claim.renew_if_due)
                actions[name].append(add_action(made))
    if any(actions.values()):
        claim.commit_batch(actions)
