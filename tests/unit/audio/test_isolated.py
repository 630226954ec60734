"""The decoding process: what it does to files, what files do to it, and that it never stays behind."""

import gc
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from w2vb_ray.audio import wire
from w2vb_ray.audio.decode import RawFormat, decode
from w2vb_ray.audio.isolated import Decoder, current_decoder
from w2vb_ray.audio.isolated import decode as decode_isolated
from w2vb_ray.config.sections import AudioSection
from w2vb_ray.errors import AudioRejected, RejectReason

from .encoded import ALL_FORMATS, encode, noise, write
from .hostile import cpu_bomb, memory_bomb
from .processes import children, has_ended, open_files, peak_bytes

LIMITS = AudioSection()
CLIP = write(noise(0.5, 44_100), 44_100, "FLAC")


class Struck(Decoder):
    """Gets a signal in the middle of a file: when its first samples have come and more of them wait to be taken."""

    def __init__(self, number):
        super().__init__()
        self.number = number

    def _chunks(self, limits, deadline):
        for chunk in super()._chunks(limits, deadline):
            os.kill(self.pid, self.number)
            yield chunk


@pytest.fixture
def decoder():
    with_own = Decoder()
    yield with_own
    with_own.close()


@pytest.fixture
def struck():
    made = []

    def struck(number):
        made.append(Struck(number))
        return made[-1]

    yield struck
    for decoder in made:
        decoder.close()


def reject(decoder, data, limits=LIMITS):
    with pytest.raises(AudioRejected) as caught:
        decoder.decode(data, "x", limits)
    return caught.value


@pytest.mark.parametrize("name", ALL_FORMATS)
def test_samples_are_those_of_decoding_here(name):
    data = encode(name, noise(1.0, ALL_FORMATS[name][2]))
    here, there = decode(data, "x", LIMITS), decode_isolated(data, "x", LIMITS)
    assert (there.sampling_rate, there.waveform.dtype) == (here.sampling_rate, here.waveform.dtype)
    np.testing.assert_array_equal(there.waveform, here.waveform)


def test_int16_that_becomes_float_on_the_way():
    samples = np.zeros(400_000, np.float32)
    samples[300_000] = 0.3  # no level of int16, in the third block
    data = write(samples, 16_000, subtype="FLOAT")
    assert decode_isolated(data, "x", LIMITS).waveform.dtype == np.float32
    np.testing.assert_array_equal(decode_isolated(data, "x", LIMITS).waveform, samples)


def test_all_arguments_arrive_and_rejects_come_back_whole():
    pcm = np.arange(800, dtype="<i2")
    assert decode_isolated(pcm.tobytes(), "x", LIMITS, RawFormat(16_000, 1)).waveform.tolist() == pcm.tolist()
    call = (CLIP, "x", AudioSection(max_duration_s=0.1))
    with pytest.raises(AudioRejected) as here:
        decode(*call)
    with pytest.raises(AudioRejected) as there:
        decode_isolated(*call)
    assert (there.value.reason, there.value.detail) == (here.value.reason, here.value.detail)


def test_one_process_takes_many_files_of_a_thread_and_ends_with_it():
    pids = set()

    def work():
        for _ in range(20):
            decode_isolated(CLIP, "x", LIMITS)
            pids.add(current_decoder().pid)
        pidfds.append(os.pidfd_open(current_decoder().pid))

    pidfds = []
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert len(pids) == 1
    assert current_decoder().pid not in pids
    assert has_ended(pidfds[0])
    os.close(pidfds[0])


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT])
def test_a_crash_is_one_reject_that_names_the_signal(struck, number):
    decoder = struck(number)
    rejected = reject(decoder, cpu_bomb())
    assert rejected.reason is RejectReason.DECODER_CRASH
    assert number.name in rejected.detail
    assert decoder.is_closed
    assert not decoder.is_suspect


def test_a_crash_after_other_files_is_tried_again_in_a_new_process(monkeypatch):
    decode_isolated(CLIP, "x", LIMITS)
    used = current_decoder()
    receive = used._receive

    def strike(deadline):
        os.kill(used.pid, signal.SIGSEGV)
        return receive(deadline)

    monkeypatch.setattr(used, "_receive", strike)
    assert len(decode_isolated(cpu_bomb(), "x", LIMITS).waveform) == 3_822_875
    assert used.is_closed
    assert current_decoder().pid != used.pid


def test_a_process_that_was_killed_between_files_costs_nothing():
    decode_isolated(CLIP, "x", LIMITS)
    pid = current_decoder().pid
    pidfd = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    assert has_ended(pidfd)
    os.close(pidfd)
    assert len(decode_isolated(CLIP, "x", LIMITS).waveform) == 8_000
    assert current_decoder().pid != pid


def test_a_hang_ends_at_the_wall_limit(struck):
    decoder = struck(signal.SIGSTOP)  # the kernel stops it: it neither works nor ends
    rejected = reject(decoder, cpu_bomb(), AudioSection(decoder_wall_s=1.0))
    assert rejected.reason is RejectReason.DECODER_LIMIT
    assert "audio.decoder_wall_s (1 s)" in rejected.detail
    assert decoder.is_closed


def test_a_hang_before_the_file_is_taken_ends_at_the_wall_limit(decoder):
    os.kill(decoder.pid, signal.SIGSTOP)
    rejected = reject(decoder, bytes(10_000_000), AudioSection(decoder_wall_s=0.2))
    assert "audio.decoder_wall_s" in rejected.detail
    assert decoder.is_closed


def test_too_much_cpu_time(decoder):
    rejected = reject(decoder, cpu_bomb(), AudioSection(decoder_cpu_s=0.05))
    assert rejected.reason is RejectReason.DECODER_LIMIT
    assert "audio.decoder_cpu_s (0.05 s)" in rejected.detail
    assert decoder.is_closed


def test_cpu_time_is_counted_for_each_file_alone(decoder):
    started = time.process_time()
    decode(cpu_bomb(), "x", LIMITS)
    limits = AudioSection(decoder_cpu_s=3 * (time.process_time() - started))
    for _ in range(5):
        decoder.decode(cpu_bomb(), "x", limits)


def test_a_memory_bomb(decoder):
    rejected = reject(decoder, memory_bomb(), AudioSection(decoder_memory_bytes=64 * 1024**2))
    assert rejected.reason is RejectReason.DECODER_LIMIT
    assert "audio.decoder_memory_bytes (67108864 bytes)" in rejected.detail
    assert decoder.is_closed


def test_long_recordings_need_little_memory_beside_themselves(decoder):
    before = peak_bytes(decoder.pid)
    pcm = bytes(96_000_000)
    assert decoder.decode(pcm, "x", LIMITS, RawFormat(48_000, 1)).duration_s == 1_000.0
    assert peak_bytes(decoder.pid) - before < len(pcm) + 30 * 1024**2


@pytest.mark.parametrize(
    "said",
    [
        wire.REPLY.pack(wire.RATE, 1 << 60),
        wire.REPLY.pack(wire.REJECT, 18) + b'["no reason", "x"]',
        wire.REPLY.pack(wire.RATE, 5) + b"16000" + wire.REPLY.pack(b"?", 0),
        wire.REPLY.pack(wire.RATE, 5) + b"16000" + wire.REPLY.pack(wire.INT16, 3) + b"abc",
        wire.REPLY.pack(wire.RATE, 5) + b"16000" + (wire.REPLY.pack(wire.INT16, 32_000) + bytes(32_000)) * 3,
    ],
)
def test_nonsense_from_a_process_that_was_taken_over_is_a_crash(decoder, said):
    ours, theirs = socket.socketpair()
    decoder._connection.close()
    decoder._connection = ours
    os.kill(decoder.pid, signal.SIGKILL)
    with ours, theirs:
        theirs.sendall(said)
        theirs.shutdown(socket.SHUT_WR)
        rejected = reject(decoder, b"RIFF", AudioSection(max_duration_s=1.5))
    assert rejected.reason is RejectReason.DECODER_CRASH


def test_nothing_is_left_behind(struck):
    decode_isolated(CLIP, "x", LIMITS)
    gc.collect()
    files, processes = open_files(), children()
    for number in (signal.SIGSEGV, signal.SIGKILL):
        reject(struck(number), cpu_bomb())
    with pytest.raises(AudioRejected):
        Decoder().decode(b"", "x", LIMITS)
    gc.collect()  # the last one was open, and is not any more
    assert open_files() == files
    assert children() == processes


@pytest.mark.parametrize("when", ["idle", "stopped in the middle of a file"])
def test_it_dies_with_a_parent_that_is_killed(tmp_path, when):
    (tmp_path / "bomb").write_bytes(cpu_bomb())
    code = f"""
import os, signal, sys
from pathlib import Path
from w2vb_ray.audio.isolated import Decoder
from w2vb_ray.config.sections import AudioSection

class Reporting(Decoder):
    def _chunks(self, limits, deadline):
        for chunk in super()._chunks(limits, deadline):
            os.kill(self.pid, signal.SIGSTOP)
            print(self.pid, flush=True)
            yield chunk

decoder = Reporting()
if {when == "idle"}:
    print(decoder.pid, flush=True)
    signal.pause()
decoder.decode(Path({str(tmp_path / "bomb")!r}).read_bytes(), "x", AudioSection())
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment) as parent:
        pidfd = os.pidfd_open(int(parent.stdout.readline()))
        parent.kill()
    assert has_ended(pidfd)
    os.close(pidfd)


def test_it_sees_no_credentials_and_imports_neither_ray_nor_torch(monkeypatch, decoder):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
    monkeypatch.setenv("HF_TOKEN", "canary")
    with_secrets = Decoder()
    environment = Path(f"/proc/{with_secrets.pid}/environ").read_bytes()
    with_secrets.close()
    assert b"PYTHONPATH" in environment
    assert b"canary" not in environment
    assert sorted(os.listdir(f"/proc/{decoder.pid}/fd")) == ["0", "1", "2"]
    libraries = Path(f"/proc/{decoder.pid}/maps").read_text()
    assert "soundfile" in libraries
    assert not any(name in libraries for name in ("/torch/", "/ray/", "/pyarrow/", "/botocore/"))
    code = "import sys, w2vb_ray.audio.child; assert not {'torch', 'ray', 'fsspec', 'pyarrow'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_process_that_cannot_start_is_no_reject(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(RuntimeError, match="did not start: exit code 1"):
        Decoder()
