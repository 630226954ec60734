"""What a decoding process and its parent say to each other, over one socket.

The parent sends calls, pickled: it is trusted. What comes back was made beside hostile bytes, so it is nothing but
numbers, samples and text.

    parent  call    name, limits, raw format, the file's bytes
    child   READY   once, when it has started
            RATE    the source's sampling rate; then for the same call
            INT16   samples, or FLOAT32
            DONE    the waveform is whole
            REJECT  instead of the rest: reason and detail
            MEMORY  instead of the rest: the memory limit
"""

import json
import pickle
import socket
import struct
from typing import BinaryIO

import numpy as np

from w2vb_ray.audio.decode import RawFormat
from w2vb_ray.config.sections import AudioSection
from w2vb_ray.errors import AudioRejected, RejectReason

Call = tuple[str, AudioSection, RawFormat | None]

CALL = struct.Struct("<QQ")
REPLY = struct.Struct("<cQ")
READY, RATE, INT16, FLOAT32, DONE, REJECT, MEMORY = (bytes([letter]) for letter in b"yrifdxm")
DTYPES = {INT16: np.dtype(np.int16), FLOAT32: np.dtype(np.float32)}
KINDS = {dtype: kind for kind, dtype in DTYPES.items()}
MAX_REPLY_BYTES = 16 * 1024**2
"""Longer than any block of samples: 131,072 of them at 4 kHz become 524,288 at 16 kHz."""


def send_call(connection: socket.socket, call: Call, data: bytes) -> None:
    """Parent: hand over a file."""
    pickled = pickle.dumps(call)
    connection.sendall(CALL.pack(len(pickled), len(data)) + pickled)
    connection.sendall(data)


def read_call(stream: BinaryIO) -> tuple[Call, int] | None:
    """Child: the next call and the size of the file that follows; None when the parent has hung up."""
    header = stream.read(CALL.size)
    if len(header) < CALL.size:
        return None
    num_pickled, num_bytes = CALL.unpack(header)
    return pickle.loads(stream.read(num_pickled)), num_bytes


def send_reply(connection: socket.socket, kind: bytes, payload: bytes | memoryview = b"") -> None:
    """Child: one message."""
    connection.sendall(REPLY.pack(kind, len(payload)))
    connection.sendall(payload)


def encode_reject(rejected: AudioRejected) -> bytes:
    """Payload of `REJECT`."""
    return json.dumps([rejected.reason, rejected.detail]).encode()


def decode_reject(payload: bytes | bytearray) -> AudioRejected:
    """`encode_reject` undone."""
    reason, detail = json.loads(payload)
    return AudioRejected(RejectReason(reason), detail)
