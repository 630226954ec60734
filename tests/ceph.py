"""Run the S3 tests against a real store: Ceph's object gateway on this machine, from Debian's packages.

    python -m tests.ceph [options of pytest]

One monitor, one manager, one OSD in memory and one gateway, all on 127.0.0.1, in a temporary folder that goes with
them. Installs the packages where they are missing, which takes root and about 400 MB.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

PACKAGES = ("ceph-mon", "ceph-mgr", "ceph-osd", "radosgw")
PROGRAMS = (*PACKAGES, "ceph", "monmaptool", "radosgw-admin")
TESTS = tuple(
    f"tests/integration/test_{name}_s3.py" for name in ("source", "source_lists", "containers", "store", "embed")
)
KEYS = {"testing": "testing", "canary": "canary-a81f2c-secret"}  # those that the tests use
ENDPOINT = "W2VB_TEST_S3_ENDPOINT"
START_S = 120

# Without authentication there is no secure mode, which the gateway would ask its monitor for (`ms mon client mode`).
_CONF = """
[global]
fsid = {fsid}
mon host = v2:127.0.0.1:{mon}
mon initial members = a
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind ipv6 = false
ms mon client mode = crc
auth cluster required = none
auth service required = none
auth client required = none
auth allow insecure global id reclaim = false
osd objectstore = memstore
memstore device bytes = 8589934592
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd crush chooseleaf type = 0
osd class load list = *
osd class default list = *
mon allow pool size one = true
mon warn on pool no redundancy = false
mon data avail crit = 1
mgr initial modules =
run dir = {folder}
admin socket = {folder}/$cluster-$name.asok
log file = {folder}/$name.log
mon data = {folder}/mon
mgr data = {folder}/mgr
osd data = {folder}/osd
rgw data = {folder}/rgw
rgw frontends = beast endpoint=127.0.0.1:{rgw}
rgw enable usage log = false
"""


@contextmanager
def gateway() -> Generator[str, None, None]:
    """Address of a fresh gateway."""
    folder = Path(tempfile.mkdtemp(prefix="ceph-"))
    rgw, fsid = _free_port(), str(uuid.uuid4())
    conf = folder / "ceph.conf"
    conf.write_text(_CONF.format(fsid=fsid, mon=_free_port(), rgw=rgw, folder=folder))
    daemons: list[subprocess.Popen[bytes]] = []

    def once(*command: str) -> None:
        command = (*command, "--conf", str(conf))
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=START_S)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")

    def start(*command: str) -> None:
        with (folder / f"{command[0]}.out").open("wb") as out:
            command = (*command, "--conf", str(conf), "--foreground")
            daemons.append(subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT))

    try:
        for name in ("mon", "mgr", "osd", "rgw"):
            (folder / name).mkdir()
        once("monmaptool", "--create", "--addv", "a", _address(conf), "--fsid", fsid, str(folder / "monmap"))
        once("ceph-mon", "--mkfs", "-i", "a", "--monmap", str(folder / "monmap"))
        start("ceph-mon", "-i", "a")
        start("ceph-mgr", "-i", "a")
        osd = str(uuid.uuid4())
        once("ceph", "osd", "new", osd)
        once("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        start("ceph-osd", "-i", "0")
        for key, secret in KEYS.items():
            user = ("--uid=tests", "--access-key", key, "--secret-key", secret)
            if key == next(iter(KEYS)):
                once("radosgw-admin", "user", "create", "--display-name=tests", *user)
            else:
                once("radosgw-admin", "key", "create", "--key-type=s3", *user)
        start("radosgw", "--name", "client.rgw")
        _wait_for(rgw)
        yield f"http://127.0.0.1:{rgw}"
    finally:
        for daemon in reversed(daemons):
            daemon.kill()  # nothing that it holds is wanted any more
            daemon.wait()
        shutil.rmtree(folder)


def _address(conf: Path) -> str:
    line = next(line for line in conf.read_text().splitlines() if line.startswith("mon host"))
    return f"[{line.partition('= ')[2]}]"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


def _install() -> None:
    if all(shutil.which(program) for program in PROGRAMS):
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise SystemExit(f"needs {', '.join(PACKAGES)}: apt-get install --no-install-recommends {' '.join(PACKAGES)}")
    subprocess.run(["apt-get", "update", "-qq"], check=True)
    subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *PACKAGES], check=True)


def main() -> int:
    """Start the gateway, run pytest against it, stop it."""
    _install()
    with gateway() as endpoint:
        command = [sys.executable, "-m", "pytest", *TESTS, *sys.argv[1:]]
        return subprocess.run(command, env={**os.environ, ENDPOINT: endpoint}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
