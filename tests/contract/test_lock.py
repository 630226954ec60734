"""`requirements.lock` holds what `pyproject.toml` asks for, each file by its hash."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
ASKED = [
    Requirement(line)
    for line in tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
]
ENTRIES = re.findall(
    r"^(?P<requirement>[^\s#-].*?) \\\n(?P<hashes>(?:    --hash=\S+(?: \\)?\n)+)",
    (ROOT / "requirements.lock").read_text(encoding="utf-8"),
    re.MULTILINE,
)
LOCKED = [Requirement(requirement) for requirement, _ in ENTRIES]


@pytest.mark.parametrize("asked", ASKED, ids=lambda requirement: requirement.name)
def test_every_dependency_is_locked_within_its_range(asked):
    versions = [
        specifier.version
        for locked in LOCKED
        if canonicalize_name(locked.name) == canonicalize_name(asked.name)
        for specifier in locked.specifier
    ]
    assert versions
    assert all(version in asked.specifier for version in versions)


def test_everything_has_one_version_and_hashes():
    assert len(LOCKED) > 80
    assert all([specifier.operator for specifier in locked.specifier] == ["=="] for locked in LOCKED)
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", hashes) for _, hashes in ENTRIES)
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    assert len([line for line in lines if line and not line.startswith((" ", "#"))]) == len(ENTRIES)
