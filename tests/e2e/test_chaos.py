"""A short run of `make chaos`: the real job on a real cluster, killed and overtaken, on S3 and on local files."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SEEDS = os.environ.get("W2VB_RAY_CHAOS_SEEDS", "7 8")  # one on S3, one on local files


@pytest.mark.timeout(900)
def test_nothing_is_lost_doubled_or_wrong_under_faults():
    command = [sys.executable, "-m", "tests.chaos", *SEEDS.split()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    last = done.stdout.splitlines()[-1] if done.stdout else ""
    assert done.returncode == 0, done.stdout + done.stderr
    assert last.startswith("chaos: ")
    assert "0 lost, 0 duplicated, 0 wrong rows" in last


def test_the_same_seed_is_the_same_scenario():
    command = [sys.executable, "-m", "tests.chaos", "--list", "1-200"]
    listed = [subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout for _ in range(2)]
    assert listed[0] == listed[1]
    assert len(listed[0].splitlines()) == 200
    for fault in (
        "kill the driver",
        "kill an encoder",
        "kill a read or write worker",
        "kill a node",
        "pause",
        "second",
    ):
        assert fault in listed[0]
