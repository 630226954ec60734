"""What a figure was measured on: hardware, versions, commit. Every benchmark prints it."""

import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
_PACKAGES = ("ray", "torch", "transformers", "datasets", "pyarrow", "deltalake", "numpy", "soundfile", "soxr")


def describe(packages: Sequence[str] = _PACKAGES) -> dict[str, Any]:
    """Hardware, versions, commit and how busy the machine is right now.

    Args:
        packages: whose versions matter.
    """
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count() or 1,
        "ram_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1024**3, 1),
        "load_average_1min": round(os.getloadavg()[0], 2),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "versions": {package: version(package) for package in packages},
        "commit": commit(),
    }


def one_line(machine: dict[str, Any]) -> str:
    """The same for people."""
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['ram_gib']:g} GiB, load {machine['load_average_1min']:g}"
        f"\nPython {machine['python']}, {versions}\ncommit {machine['commit']}"
    )


def commit() -> str:
    """Hash of the checked-out commit, read from `.git` (whether files differ from it is not looked at)."""
    git = ROOT / ".git"
    try:
        if git.is_file():  # a worktree
            git = ROOT / git.read_text().removeprefix("gitdir:").strip()
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return head[:12]
        name = head.removeprefix("ref: ")
        if (git / "commondir").is_file():
            git = git / (git / "commondir").read_text().strip()
        if (git / name).is_file():
            return (git / name).read_text().strip()[:12]
        packed = (line.split() for line in (git / "packed-refs").read_text().splitlines())
        return next((words[0][:12] for words in packed if words[1:] == [name]), "unknown")
    except OSError:
        return "unknown"


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
