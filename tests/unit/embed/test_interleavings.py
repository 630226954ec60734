"""Several drivers on the same tables, in random order, with every fault at every write; see `simulation`."""

from collections import Counter

from .simulated_run import FAULTS
from .simulation import simulate

SEEDS = range(60)  # `make simulate` plays thousands


def test_no_id_twice_and_none_lost(tmp_path):
    seen = sum((simulate(tmp_path, seed) for seed in SEEDS), Counter())
    expected = {*FAULTS, "utterances batch", "rejects batch", "frames batch", "rejects undo", "utterances schema"}
    assert expected <= seen.keys(), "each fault came, or these seeds show nothing"
