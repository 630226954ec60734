"""What the kernel says about processes, for the tests of this folder."""

import os
import select
from pathlib import Path


def peak_bytes(pid):
    """Largest resident memory it ever had."""
    status = Path(f"/proc/{pid}/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


def has_ended(pidfd, within_s=20.0):
    return bool(select.select([pidfd], [], [], within_s)[0])


def open_files():
    return sorted(os.listdir("/proc/self/fd"))


def children():
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
