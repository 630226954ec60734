"""The memory of a layer is kept for the next one: counted in page faults, in a process of its own."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

LAYERS = """
import resource, sys
from tests.unit.encoder.checkpoints import load

def page_faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def layer():
    buffers = [b"x" * 2**24 for _ in range(3)]

if sys.argv[1:]:
    encoder = load(sys.argv[1])
layer()
layer()
before = page_faults()
layer()
print(page_faults() - before)
"""
PAGES = 3 * 2**24 // 4096


def taken_anew(*arguments):
    command = [sys.executable, "-c", LAYERS, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, timeout=120)
    return int(done.stdout.splitlines()[-1])


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has the setting")
def test_once_an_encoder_is_loaded_freed_memory_is_kept(checkpoint):
    assert taken_anew() > PAGES / 2
    assert taken_anew(checkpoint("bert")) < PAGES / 10
