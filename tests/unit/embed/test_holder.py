import os
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from w2vb_ray.embed import holder
from w2vb_ray.embed.holder import Holder

from .sink import DEAD, ELSEWHERE, HERE, REUSED

PAST, FUTURE = 0, int(time.time() * 1000) + 3_600_000


@pytest.mark.parametrize("expires_ms", [PAST, FUTURE])
@pytest.mark.parametrize(("who", "alive"), [(HERE, True), (DEAD, False), (REUSED, False)])
def test_on_this_machine_the_kernel_decides_and_not_the_lease(who, alive, expires_ms):
    assert who.is_alive(expires_ms) == alive


def test_from_elsewhere_only_the_lease_can_tell():
    assert ELSEWHERE.is_alive(FUTURE)
    assert not ELSEWHERE.is_alive(PAST)
    assert replace(HERE, boot="").is_alive(FUTURE)  # a system that cannot say
    assert not replace(HERE, boot="").is_alive(PAST)


def test_a_process_is_alive_until_it_ends_even_unreaped():
    code = (
        "from w2vb_ray.embed.holder import Holder; import sys; print(Holder.this_process().to_json(), flush=True); "
        "sys.stdin.read()"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    other = Holder.from_json(process.stdout.readline())
    assert other.pid == process.pid != os.getpid()
    assert other.is_alive(PAST)
    process.stdin.close()
    process.stdout.read()  # closed when it ends, before anyone waits for it
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not other.is_alive(FUTURE)
    process.wait()
    process.stdout.close()
    assert not other.is_alive(FUTURE)


def test_json_and_back():
    assert Holder.from_json(HERE.to_json()) == HERE
    assert Holder.this_process() == HERE
    assert HERE.pid == os.getpid()


def test_a_name_with_blanks_and_brackets_does_not_confuse_the_kernel_s_table(tmp_path, monkeypatch):
    fields = " ".join(["S", *["0"] * 18, "4242", "0"])
    (tmp_path / "stat").write_text(f"7 (a) b) ({fields}) {fields}\n".replace(f"({fields})", "(c)"), encoding="utf-8")
    monkeypatch.setattr(holder, "Path", lambda _: tmp_path / "stat")
    assert holder.started_at(7) == "4242"
