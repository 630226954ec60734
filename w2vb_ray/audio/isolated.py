"""`decode` in another process, so that a file which crashes, hangs or bloats a decoder costs one reject.

Each thread that decodes keeps one `Decoder`, because the kernel ties the child's life to the thread that started it.
Knows no Ray; what is decoded, and what is refused, is `decode`'s business.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Generator
from contextlib import suppress
from typing import IO

import numpy as np

from w2vb_ray.audio import wire
from w2vb_ray.audio.child import STDERR_BYTES
from w2vb_ray.audio.decode import RawFormat, Recording
from w2vb_ray.audio.resample import TARGET_RATE_HZ, join
from w2vb_ray.config.sections import AudioSection
from w2vb_ray.errors import AudioRejected, RejectReason

START_S = 120.0
"""A start imports numpy, PyAV and soundfile: 0.4 s, from a cold network disk much longer."""
GRACE_S = 10.0
"""Between the end of a process's messages and its own."""
INHERITED = ("LANG", "LC_ALL", "LD_LIBRARY_PATH", "PYTHONHOME")
"""All that a decoder needs of the environment. Credentials stay with the parent, which fetches the bytes."""
OWN_ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",  # one thread for each core, each with its stack, for nothing
    "MALLOC_ARENA_MAX": "1",  # an arena reserves 64 MiB of the address space that is limited
    # Blocks of samples come from memory that stays mapped: faulting it in again costs as much as decoding a clip.
    "MALLOC_MMAP_THRESHOLD_": str(32 * 1024**2),
    "MALLOC_TRIM_THRESHOLD_": str(128 * 1024**2),
}

LINE_CHARS = 300

_of_thread = threading.local()


def decode(data: bytes, name: str, limits: AudioSection, raw: RawFormat | None = None) -> Recording:
    """What `decode.decode` does, with its arguments, results and rejects, in this thread's child process.

    Raises:
        AudioRejected: also `decoder_crash` and `decoder_limit`; the next file then gets a fresh process.
    """
    decoder = current_decoder()
    try:
        return decoder.decode(data, name, limits, raw)
    except AudioRejected:
        if not decoder.is_suspect:
            raise
    # what an earlier file did to the process may have been the cause: a new one decides
    return current_decoder().decode(data, name, limits, raw)


def current_decoder() -> "Decoder":
    """The process of this thread; a new one where there is none, or none that takes files."""
    decoder: Decoder | None = getattr(_of_thread, "decoder", None)
    if decoder is None or decoder.is_closed:
        decoder = _of_thread.decoder = Decoder()
    return decoder


class Decoder:
    """A decoding process. It takes one file after the other, until one of them fails it; for one thread only."""

    def __init__(self) -> None:
        self._connection, theirs = socket.socketpair()
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 closed by `_stop`
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "w2vb_ray.audio.child", str(os.getpid())],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=self._stderr,
                env=_environment(),
                process_group=0,  # Ctrl-C is for the parent
            )
        self.close = weakref.finalize(self, _stop, self._process, self._connection, self._stderr)
        self._num_calls = 0
        self._is_between_files = False
        self.is_suspect = False
        """It failed on a file that need not be the cause, because there were others before."""
        try:
            self._receive(time.monotonic() + START_S)
        except (OSError, EOFError) as err:
            raise RuntimeError(f"the decoding process did not start: {self._end()}") from err

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def is_closed(self) -> bool:
        """It takes no more files."""
        return not self.close.alive

    def decode(self, data: bytes, name: str, limits: AudioSection, raw: RawFormat | None = None) -> Recording:
        """Like the function `decode`, without a second try. Closes itself when the process is of no more use."""
        self._num_calls += 1
        self._is_between_files = False
        deadline = time.monotonic() + limits.decoder_wall_s
        try:
            self._set_timeout(deadline)
            wire.send_call(self._connection, (name, limits, raw), data)
            sampling_rate = int(self._receive(deadline)[1])
            recording = Recording(join(self._chunks(limits, deadline)), sampling_rate)
            self._is_between_files = True
        except TimeoutError as err:
            raise _over("decoder_wall_s", f"{limits.decoder_wall_s:g} s", "of time") from err
        except _MemoryLimit as err:
            self.is_suspect = self._num_calls > 1
            raise _over("decoder_memory_bytes", f"{limits.decoder_memory_bytes} bytes", "of memory") from err
        except (EOFError, ConnectionError, ValueError) as err:
            ending = self._end()
            if self._process.returncode == -signal.SIGPROF:
                raise _over("decoder_cpu_s", f"{limits.decoder_cpu_s:g} s", "of CPU time") from err
            self.is_suspect = self._num_calls > 1
            raise AudioRejected(RejectReason.DECODER_CRASH, f"the decoding process ended with {ending}") from err
        finally:
            if not self._is_between_files:
                self.close()
        return recording

    def _chunks(self, limits: AudioSection, deadline: float) -> Generator[np.ndarray, None, None]:
        num_samples = 0
        while True:
            kind, payload = self._receive(deadline)
            if kind == wire.DONE:
                return
            if kind not in wire.DTYPES:
                raise ValueError(f"a message of kind {kind!r} where samples belong")
            chunk = np.frombuffer(payload, wire.DTYPES[kind])
            num_samples += len(chunk)
            if num_samples > (limits.max_duration_s + 1) * TARGET_RATE_HZ:
                raise ValueError("more samples than `decode` lets pass")
            yield chunk

    def _receive(self, deadline: float) -> tuple[bytes, bytearray]:
        """The next message; raises what it says when it ends a file early."""
        kind, num_bytes = wire.REPLY.unpack(self._read(wire.REPLY.size, deadline))
        if num_bytes > wire.MAX_REPLY_BYTES:
            raise ValueError(f"a message of {num_bytes} bytes")
        payload = self._read(num_bytes, deadline)
        if kind == wire.REJECT:
            rejected = wire.decode_reject(payload)
            self._is_between_files = True
            raise rejected
        if kind == wire.MEMORY:
            raise _MemoryLimit
        return kind, payload

    def _read(self, num_bytes: int, deadline: float) -> bytearray:
        data = bytearray(num_bytes)
        with memoryview(data) as view:
            done = 0
            while done < num_bytes:
                self._set_timeout(deadline)
                received = self._connection.recv_into(view[done:])
                if not received:
                    raise EOFError
                done += received
        return data

    def _set_timeout(self, deadline: float) -> None:
        remaining_s = deadline - time.monotonic()
        if remaining_s <= 0:
            raise TimeoutError
        self._connection.settimeout(remaining_s)

    def _end(self) -> str:
        """Close, and say how the process ended."""
        with suppress(subprocess.TimeoutExpired):  # it hung up, but goes on
            self._process.wait(GRACE_S)
        said = os.pread(self._stderr.fileno(), STDERR_BYTES, 0).decode(errors="replace").strip()
        self.close()
        last_line = said.rpartition("\n")[2][:LINE_CHARS]
        return f"{_name_of(self._process.returncode)}: {last_line}" if last_line else _name_of(self._process.returncode)


class _MemoryLimit(Exception):
    """The decoder was refused memory."""


def _environment() -> dict[str, str]:
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)
    return {**inherited, **OWN_ENVIRONMENT, "PYTHONPATH": path}


def _stop(process: subprocess.Popen[bytes], connection: socket.socket, stderr: IO[bytes]) -> None:
    connection.close()
    process.kill()  # does nothing when it has ended
    process.wait()
    stderr.close()


def _over(field: str, limit: str, what: str) -> AudioRejected:
    return AudioRejected(RejectReason.DECODER_LIMIT, f"decoding takes more than audio.{field} ({limit}) {what}")


def _name_of(returncode: int | None) -> str:
    """How a process ended, for a person."""
    if returncode is None or returncode >= 0:
        return f"exit code {returncode}"
    try:
        return signal.Signals(-returncode).name
    except ValueError:
        return f"signal {-returncode}"
