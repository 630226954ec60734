"""The decoding process: takes files from a socket on its stdin, gives waveforms back, until the parent hangs up.

Started by `isolated` as `python -m w2vb_ray.audio.child PARENT_PID`. Knows no store, no credentials and no Ray. What
goes wrong in native code ends this process, and the kernel enforces its limits: whatever a decoder does, the parent
sees a message or a signal.
"""

import ctypes
import os
import resource
import signal
import socket
import sys
from pathlib import Path
from typing import BinaryIO

from w2vb_ray.audio import wire
from w2vb_ray.audio.decode import decode_chunks
from w2vb_ray.errors import AudioRejected

PR_SET_PDEATHSIG = 1
STDERR = 2
STDERR_BYTES = 64 * 1024
"""Of one file: libmpg123 writes a line for each damaged frame."""


def main(parent_pid: int) -> None:
    """Serve until end of file."""
    _die_with(parent_pid)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (STDERR_BYTES, STDERR_BYTES))
    started_bytes = _address_space_bytes()
    with socket.socket(fileno=0) as connection, connection.makefile("rb") as calls:
        wire.send_reply(connection, wire.READY)
        while (header := wire.read_call(calls)) is not None:
            call, num_bytes = header
            limits = call[1]
            # its bytes are here once, and once more where a decoder needs them patched or in pieces
            _limit_memory(started_bytes + 2 * num_bytes + limits.decoder_memory_bytes)
            signal.setitimer(signal.ITIMER_PROF, limits.decoder_cpu_s)  # its signal ends the process
            _answer(connection, calls, call, num_bytes)
            signal.setitimer(signal.ITIMER_PROF, 0.0)
            _forget_stderr()


def _answer(connection: socket.socket, calls: BinaryIO, call: wire.Call, num_bytes: int) -> None:
    name, limits, raw = call
    try:
        data = calls.read(num_bytes)
        if len(data) < num_bytes:
            return  # the parent is gone
        sampling_rate, chunks = decode_chunks(data, name, limits, raw)
        wire.send_reply(connection, wire.RATE, str(sampling_rate).encode())
        for chunk in chunks:
            if len(chunk):
                wire.send_reply(connection, wire.KINDS[chunk.dtype], chunk.data.cast("B"))
        wire.send_reply(connection, wire.DONE)
    except AudioRejected as rejected:
        wire.send_reply(connection, wire.REJECT, wire.encode_reject(rejected))
    except MemoryError:
        wire.send_reply(connection, wire.MEMORY)


def _die_with(parent_pid: int) -> None:
    """Have the kernel kill this process when its parent dies, in the middle of a file too."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:  # it died before the call above
        sys.exit(0)


def _address_space_bytes() -> int:
    num_pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    return num_pages * resource.getpagesize()


def _limit_memory(num_bytes: int) -> None:
    """Address space: every way to get memory counts there, and what is too much is refused, not killed."""
    hard_bytes = resource.getrlimit(resource.RLIMIT_AS)[1]
    if hard_bytes != resource.RLIM_INFINITY:
        num_bytes = min(num_bytes, hard_bytes)
    resource.setrlimit(resource.RLIMIT_AS, (num_bytes, hard_bytes))


def _forget_stderr() -> None:
    """What libraries wrote about this file says nothing about the next."""
    if os.lseek(STDERR, 0, os.SEEK_CUR):
        os.ftruncate(STDERR, 0)
        os.lseek(STDERR, 0, os.SEEK_SET)


if __name__ == "__main__":
    main(int(sys.argv[1]))
