"""A sink on a disk that is full: a small tmpfs, where this machine lets the tests mount one."""

import os
import subprocess

import pytest

from w2vb_ray.embed import claim as module
from w2vb_ray.embed.tables import UTTERANCES
from w2vb_ray.embed.write import WriteTask, write_units
from w2vb_ray.errors import SinkError

from .rows import encoded, packed
from .sink import VECTORS, Driver, held_by

BALLAST = "ballast"


@pytest.fixture
def disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "none", folder]
    if os.geteuid() or subprocess.run(mount, check=False).returncode:
        pytest.skip("mounting a tmpfs is not possible here")
    yield folder
    subprocess.run(["umount", folder], check=True)


def fill(disk):
    command = ["dd", "if=/dev/zero", f"of={disk / BALLAST}", "bs=4k"]
    dd = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "No space left" in dd.stderr


def test_a_file_that_does_not_fit_is_one_clear_error_and_leaves_nothing(disk):
    task = WriteTask(str(disk), {}, VECTORS, "r1", {})
    fill(disk)
    with pytest.raises(
        SinkError,
        match=rf"{disk}/utterances/language=eng/r1-.* cannot be written: .*No space left on device.*same command",
    ):
        write_units(packed(encoded([{"id": "u1"}])), task)
    (disk / BALLAST).unlink()
    (descriptor,) = write_units(packed(encoded([{"id": "u1"}])), task).to_pylist()
    files = [path for path in (disk / "utterances/language=eng").rglob("*") if path.is_file()]
    assert [f"language=eng/{path.name}" for path in files] == [file["path"] for file in descriptor["files"]]


def test_a_commit_that_does_not_fit_is_one_clear_error_and_the_table_stays_whole(disk, monkeypatch):
    monkeypatch.setattr(module.time, "sleep", lambda _: None)
    driver = Driver(disk, "a")
    driver.hold()
    driver.commit(["u1"])
    fill(disk)
    with pytest.raises(SinkError, match=r"refused commit 3 of run a 5 times: .*No space left on device.*same command"):
        driver.commit(["u2"])
    assert held_by(disk) == ["u1"]
    (disk / BALLAST).unlink()
    driver.commit(["u2"])
    driver.claim.release()
    assert held_by(disk) == ["u1", "u2"]
    assert driver.tables[UTTERANCES].exists
