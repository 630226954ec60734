"""Decoding with FFmpeg (PyAV), for what libsndfile does not know: m4a, aac, webm, wma, ac3, amr, …"""

import io
from collections.abc import Generator
from pathlib import PurePosixPath

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet

from w2vb_ray.audio.stream import BLOCK_SAMPLES, Blocks, Stream
from w2vb_ray.errors import AudioRejected, RejectReason

Frames = Generator[AudioFrame, None, None]

OPEN_OPTIONS = {
    # playlists (HLS, DASH, concat) would make the decoder open other files and URLs that the recording names
    "format_whitelist": "3gp,aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dsf,dts,dtshd,eac3,flac,flv,g722,gsm,iff,"
    "loas,matroska,webm,mlp,mov,mp4,m4a,3g2,mj2,mp3,mpc,mpc8,mpeg,mpegts,ogg,oma,rm,shn,tak,truehd,tta,voc,w64,wav,wv,"
    "xwma",
    "protocol_whitelist": "none",
}
HEADERLESS = {".g722": "g722", ".gsm": "gsm"}
"""Formats without anything to recognise them by, known by their suffix."""
ANNOUNCING = ("mov", "matroska", "asf", "caf", "wav", "aiff", "ape", "tta", "tak", "wv", "w64")
"""Containers that write a duration down; FFmpeg estimates it from the bit rate in the others."""
TOLERANCE_S = 0.25
"""Announced minus decoded duration that is no truncation: encoder delay and padding, 2 x 2048 samples at 16 kHz."""


def open_ffmpeg(data: bytes, name: str, *, strict: bool = False) -> Stream:
    """Open the first audio stream.

    Args:
        data: the whole file.
        name: only its suffix is looked at, and only for headerless formats.
        strict: fail on checksum errors of the codec, and on holes in its timeline (FFmpeg's FLAC parser drops a damaged
            frame as if it had never been there).

    Raises:
        AudioRejected: `undecodable`, `truncated` or `empty`.
    """
    container = _open_container(data, name)
    stream = _first_audio(container)
    stream.codec_context.thread_count = 1  # a read task has one CPU
    if strict:
        stream.codec_context.options = {"err_detect": "crccheck+explode"}
    announced_s = _announced_s(container, stream)
    frames = _frames(container, stream, announced_s, len(data), strict=strict)
    first = next(frames, None)
    if first is None:
        raise AudioRejected(RejectReason.EMPTY, f"{container.format.name} holds no audio samples")
    # rate and channels of the decoder: the container's are half of them in AAC with implicit SBR or PS
    announced = None if announced_s is None else round(announced_s * first.sample_rate)
    return Stream(first.sample_rate, first.layout.nb_channels, announced, _blocks(first, frames))


def _open_container(data: bytes, name: str) -> InputContainer:
    hint = HEADERLESS.get(PurePosixPath(name).suffix.lower())
    try:
        container = av.open(io.BytesIO(data), "r", format=hint, options=dict(OPEN_OPTIONS), metadata_errors="ignore")
    except MemoryError:  # PyAV's is an FFmpegError too
        raise
    except FFmpegError as err:
        raise AudioRejected(RejectReason.UNDECODABLE, f"no decoder takes it ({err})") from err
    return container


def _first_audio(container: InputContainer) -> AudioStream:
    if not container.streams.audio:
        kinds = ", ".join(stream.type for stream in container.streams) or "nothing"
        raise AudioRejected(RejectReason.UNDECODABLE, f"{container.format.name} has no audio stream, only {kinds}")
    stream = container.streams.audio[0]
    if getattr(stream, "codec_context", None) is None:  # typed as always there
        raise AudioRejected(RejectReason.UNDECODABLE, f"{container.format.name} holds audio of an unknown codec")
    return stream


def _announced_s(container: InputContainer, stream: AudioStream) -> float | None:
    if not container.format.name.startswith(ANNOUNCING):
        return None
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    if container.duration is not None and len(container.streams) == 1:
        return container.duration / av.time_base
    return None


def _frames(
    container: InputContainer, stream: AudioStream, announced_s: float | None, num_bytes: int, *, strict: bool
) -> Frames:
    """Decoded frames of one stream; at the end, checks what came against what was announced."""
    num_samples, end_s, start_s = 0, 0.0, None
    packet = None
    with container:
        try:
            for packet in container.demux(stream):
                if packet.is_corrupt:
                    raise AudioRejected(RejectReason.TRUNCATED, f"incomplete packet after {end_s:.2f} s")
                for frame in packet.decode():
                    if not frame.samples:
                        continue
                    num_samples += frame.samples
                    # silence left out of the timeline (webm, DTX) is no truncation
                    start_s = frame.time if start_s is None else start_s
                    timeline_s = (frame.time or 0.0) - (start_s or 0.0) + frame.samples / frame.sample_rate
                    end_s = max(num_samples / frame.sample_rate, timeline_s)
                    if strict and end_s * frame.sample_rate > num_samples + 0.5:
                        raise AudioRejected(RejectReason.UNDECODABLE, f"damaged frames before {end_s:.2f} s")
                    yield frame
        except MemoryError:
            raise
        except FFmpegError as err:
            reason = RejectReason.TRUNCATED if _is_last(packet, num_bytes) else RejectReason.UNDECODABLE
            raise AudioRejected(reason, f"{container.format.name}: {err} after {end_s:.2f} s") from err
    if announced_s is not None and end_s < announced_s - TOLERANCE_S:
        raise AudioRejected(
            RejectReason.TRUNCATED, f"{container.format.name} announces {announced_s:.2f} s, {end_s:.2f} s were decoded"
        )


def _is_last(packet: "Packet[AudioStream] | None", num_bytes: int) -> bool:
    """Does the packet reach the end of the file? There the decoder starved; before it, the bytes are wrong."""
    return packet is not None and packet.pos is not None and packet.pos + packet.size >= num_bytes


def _blocks(first: AudioFrame, frames: Frames) -> Blocks:
    """Join frames (1024 samples are usual) to blocks, because each block costs the same in the resampler."""
    rate = first.sample_rate
    pending = [_to_float(first)]
    num_pending = pending[0].size
    for frame in frames:
        if frame.sample_rate != rate:
            detail = f"the sampling rate changes from {rate} to {frame.sample_rate} Hz"
            raise AudioRejected(RejectReason.UNDECODABLE, detail)
        block = _to_float(frame)
        if block.shape[1] != pending[0].shape[1] or num_pending + block.size > BLOCK_SAMPLES:
            yield np.concatenate(pending)
            pending, num_pending = [], 0
        pending.append(block)
        num_pending += block.size
    yield np.concatenate(pending)


def _to_float(frame: AudioFrame) -> np.ndarray:
    """`(num_frames, num_channels)` float32, full scale 1."""
    samples = frame.to_ndarray()
    block = samples.T if frame.format.is_planar else samples.reshape(-1, frame.layout.nb_channels)
    match block.dtype.itemsize if block.dtype.kind in "iu" else 0:
        case 0:
            return block.astype(np.float32)
        case 1:  # unsigned, the only 8-bit format
            return (block.astype(np.float32) - np.float32(128)) / np.float32(128)
        case itemsize:
            return block.astype(np.float32) / np.float32(2.0 ** (8 * itemsize - 1))
