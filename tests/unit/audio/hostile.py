"""Files nobody should have stored, made by code: each with what becomes of it."""

import gzip
import io
import struct
import sys
import zipfile
from functools import cache
from pathlib import Path

import av
import numpy as np

from w2vb_ray.audio.ogg import _checksum

from .encoded import Pipe, encode, noise, tone, write, write_av


@cache
def wav(duration_s=1.0, rate=16_000):
    return write(noise(duration_s, rate, 1), rate)


@cache
def whole(name):
    """Two seconds, of which a part is easily missed."""
    rate = 48_000 if name in ("opus", "webm") else 44_100
    return encode(name, noise(2.0, rate))


def patched(data, offset, layout, *values):
    changed = bytearray(data)
    struct.pack_into(layout, changed, offset, *values)
    return bytes(changed)


def cut(data, fraction=0.6):
    return data[: int(len(data) * fraction)]


def flipped(data, num_bits=5):
    changed = bytearray(data)
    for step in range(1, num_bits + 1):
        changed[step * len(data) // (num_bits + 1)] ^= 0x10
    return bytes(changed)


def id3(num_bytes, announced_bytes=None):
    """A tag in front, of one frame of zeros; sizes have 7 bits in each byte."""
    size = num_bytes if announced_bytes is None else announced_bytes
    return b"ID3\x03\x00\x00" + bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0)) + bytes(num_bytes)


def ape_tag(num_bytes):
    footer = b"APETAGEX" + struct.pack("<IIII8x", 2_000, num_bytes + 32, 1, 0)
    return np.random.default_rng(3).bytes(num_bytes) + footer


def silent_flac(duration_s, rate=16_000, num_channels=1, block=65_535):
    """Digital silence in FLAC: 4,096 samples in a frame are usual, 65,535 are what no common encoder writes."""
    num_frames = int(duration_s * rate) // block
    info = rate << 44 | (num_channels - 1) << 41 | 15 << 36 | num_frames * block
    parts = [b"fLaC\x80\0\0\x22", struct.pack(">HH6x", block, block), info.to_bytes(8, "big"), bytes(16)]
    for number in range(num_frames):
        head = struct.pack(">BBBB", 0xFF, 0xF8, 0x70, (num_channels - 1) << 4 | 8)
        head += chr(number).encode("utf-8", "surrogatepass") + struct.pack(">H", block - 1)
        frame = head + bytes([_crc(head, 8, 0x07)]) + bytes(3 * num_channels)
        parts.append(frame + struct.pack(">H", _crc(frame, 16, 0x8005)))
    return b"".join(parts)


def _crc(data, num_bits, polynomial):
    crc, table = 0, _crc_table(num_bits, polynomial)
    for byte in data:
        crc = (crc << 8 ^ table[crc >> (num_bits - 8) ^ byte]) & (1 << num_bits) - 1
    return crc


@cache
def _crc_table(num_bits, polynomial):
    table = []
    for byte in range(256):
        crc = byte << (num_bits - 8)
        for _ in range(8):
            crc = crc << 1 ^ (polynomial if crc >> (num_bits - 1) & 1 else 0)
            crc &= (1 << num_bits) - 1
        table.append(crc)
    return table


def silent_opus(duration_s):
    """Packets of 20 ms in three bytes, 255 of them in a page."""
    head = b"OpusHead\x01\x01" + struct.pack("<HIhB", 312, 48_000, 0, 0)
    tags = b"OpusTags" + struct.pack("<I4sI", 4, b"test", 0)
    pages = [_page(0, 2, 0, [head]), _page(1, 0, 0, [tags])]
    num_pages = int(duration_s * 50) // 255
    for number in range(1, num_pages + 1):
        last = 4 if number == num_pages else 0
        pages.append(_page(number + 1, last, number * 255 * 960, [b"\xf8\xff\xfe"] * 255))
    return b"".join(pages)


def _page(number, flags, granule, packets):
    head = struct.pack("<4sBBqIII", b"OggS", 0, flags, granule, 1, number, 0)
    page = head + bytes([len(packets), *map(len, packets)]) + b"".join(packets)
    return patched(page, 22, "<I", _checksum(page, 0, len(page)))


def dsf(duration_s):
    """DSD, one bit at 2.8 MHz, as the `.dsf` files of music shops."""
    num_bytes = int(duration_s * 2_822_400 / 8) // 4096 * 4096
    form = struct.pack("<4sQIIIIIIQII", b"fmt ", 52, 1, 0, 1, 1, 2_822_400, 1, num_bytes * 8, 4096, 0)
    samples = struct.pack("<4sQ", b"data", 12 + num_bytes) + b"\x69" * num_bytes
    return struct.pack("<4sQQQ", b"DSD ", 28, 28 + len(form) + len(samples), 0) + form + samples


@cache
def memory_bomb():
    """An ALAC file of one second whose header announces frames of 16,777,216 samples: room for them is made first."""
    data = whole("alac")
    return patched(data, data.rindex(b"alac") + 8, ">I", 2**24)


@cache
def cpu_bomb():
    """Eight channels of silence for four minutes in 6 kB."""
    return silent_flac(240, 48_000, 8)


def silent_video():
    memory = io.BytesIO()
    with av.open(memory, "w", format="mp4") as output:
        stream = output.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        output.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")))
        output.mux(stream.encode(None))
    return memory.getvalue()


def zipped():
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        archive.writestr("a.wav", wav())
    return memory.getvalue()


def flac_total(factor):
    """Another number of samples in the header than there are frames for."""
    data = whole("flac")
    total = int.from_bytes(data[18:26], "big") & (1 << 36) - 1
    return patched(data, 18, ">Q", int.from_bytes(data[18:26], "big") - total + int(total * factor))


def with_hole(data):
    return data[: len(data) // 2] + data[len(data) // 2 + 3_000 :]


def constant(value, num_samples=16_000, subtype="PCM_16"):
    return write(np.full(num_samples, value, np.float32), 16_000, subtype=subtype)


def spoiled(value):
    samples = noise(1.0, 16_000, 1)
    samples[-5] = value
    return write(samples, 16_000, subtype="FLOAT")


REJECTED = {
    # nothing, or no audio
    "no bytes": (lambda: b"", "empty"),
    "wav of 0 samples": (lambda: constant(0.0, 0), "empty"),
    "random bytes": (lambda: np.random.default_rng(0).bytes(20_000), "undecodable"),
    "zeros": (lambda: bytes(20_000), "undecodable"),
    "a store's XML error": (lambda: b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "undecodable"),
    "HTML page": (lambda: b"<!DOCTYPE html><html><body>404 Not Found</body></html>", "undecodable"),
    "Git LFS pointer": (lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "undecodable"),
    "PDF": (lambda: b"%PDF-1.7\n" + np.random.default_rng(1).bytes(3_000), "undecodable"),
    "PNG": (lambda: b"\x89PNG\r\n\x1a\n" + bytes(200), "undecodable"),
    "MIDI": (lambda: b"MThd\0\0\0\6\0\1\0\1\0`MTrk\0\0\0\4\0\xff/\0", "undecodable"),
    "program": (lambda: Path(sys.executable).read_bytes()[:100_000], "undecodable"),
    "zip of a wav": (zipped, "undecodable"),
    "gzip of a wav": (lambda: gzip.compress(wav()), "undecodable"),
    "video without sound": (silent_video, "undecodable"),
    # files that name other files
    "M3U playlist": (lambda: b"#EXTM3U\n#EXTINF:10,\nhttp://127.0.0.1:1/a.ts\n", "undecodable"),
    "HLS playlist": (
        lambda: b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n/etc/passwd\n#EXT-X-ENDLIST\n",
        "undecodable",
    ),
    "DASH manifest": (
        lambda: b'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period/></MPD>',
        "undecodable",
    ),
    "concat script": (lambda: b"ffconcat version 1.0\nfile /etc/passwd\n", "undecodable"),
    "SDP": (
        lambda: b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n",
        "undecodable",
    ),
    # cut, with holes, with flipped bits
    **{
        f"{name}, cut": (lambda name=name: cut(whole(name)), "truncated")
        for name in (
            *("wav", "rf64", "w64", "aiff", "caf", "au", "sph", "flac", "mp3", "ogg", "opus"),
            *("m4a", "alac", "aac", "webm", "mka", "wma"),
        )
    },
    "wav, cut in its header": (lambda: wav()[:30], "truncated"),
    "wav, data announces more": (lambda: patched(wav(), 40, "<I", 40_000), "truncated"),
    "rf64, data announces a terabyte": (lambda: patched(whole("rf64"), 28, "<Q", 1 << 40), "truncated"),
    "flac, header announces more": (lambda: flac_total(2), "truncated"),
    "mp3, flipped bits": (lambda: flipped(whole("mp3")), "truncated"),  # frames are skipped
    **{
        f"{name}, flipped bits": (lambda name=name: flipped(whole(name)), "undecodable")
        for name in ("flac", "ogg", "opus", "m4a", "aac", "wma")
    },
    "mp3, hole": (lambda: with_hole(whole("mp3")), "truncated"),
    "flac, hole": (lambda: with_hole(whole("flac")), "undecodable"),
    "ogg, hole": (lambda: with_hole(whole("ogg")), "undecodable"),
    "opus, hole": (lambda: with_hole(whole("opus")), "undecodable"),
    # more audio than is announced, which decoders leave out without a word
    "wav, data announces half": (lambda: patched(wav(), 40, "<I", 16_000), "undecodable"),
    "wav, RIFF and data announce half": (
        lambda: patched(patched(wav(), 40, "<I", 16_000), 4, "<I", 16_036),
        "undecodable",
    ),
    "flac, header announces half": (lambda: flac_total(0.5), "undecodable"),
    **{
        f"two {name} files in one": (lambda name=name: whole(name) * 2, "undecodable")
        for name in ("wav", "rf64", "aiff", "au", "flac", "mp3", "m4a")
    },
    "Ogg links of different rates": (
        lambda: write(tone(1, 44_100), 44_100, "OGG", "VORBIS") + write(tone(1, 16_000), 16_000, "OGG", "VORBIS"),
        "undecodable",
    ),
    # headers that lie or overdo it
    "0 channels": (lambda: patched(wav(), 22, "<H", 0), "undecodable"),
    "65,535 channels": (lambda: patched(wav(), 22, "<H", 65_535), "undecodable"),
    "33 channels": (lambda: write(noise(0.1, 16_000, 33), 16_000), "out_of_range"),
    "0 Hz": (lambda: patched(wav(), 24, "<I", 0), "undecodable"),
    "1 Hz": (lambda: patched(wav(), 24, "<I", 1), "out_of_range"),
    "2,147,483,647 Hz": (lambda: patched(wav(), 24, "<I", 2**31 - 1), "out_of_range"),
    "unknown codec": (lambda: patched(wav(), 20, "<H", 0x9999), "undecodable"),
    "mp3, ID3 announces more than the file": (lambda: id3(100, 1 << 27) + whole("mp3"), "undecodable"),
    "NaN": (lambda: spoiled(np.nan), "non_finite"),
    "infinity": (lambda: spoiled(-np.inf), "non_finite"),
    # small files of long recordings
    "10 h of silence in FLAC": (lambda: silent_flac(36_000), "too_long"),
    "5 h of silence in Opus": (lambda: silent_opus(18_000), "too_long"),
    "flac, header announces days": (lambda: flac_total(390_000), "too_long"),
    "3 h of silence in FLAC of 37 kB": (lambda: silent_flac(10_800), "expansion"),
}
"""name -> (what makes the file, its reason)."""

ACCEPTED = {
    # odd, but audio: nothing is lost
    "wav, RIFF size too small": (lambda: patched(wav(), 4, "<I", 100), 16_000),
    "wav, RIFF size too large": (lambda: patched(wav(), 4, "<I", 1_000_000), 16_000),
    "wav, RIFF size 0": (lambda: patched(wav(), 4, "<I", 0), 16_000),
    "wav, a large chunk behind the data": (
        lambda: wav() + b"LIST" + struct.pack("<I", 50_000) + bytes(range(250)) * 200,
        16_000,
    ),
    "wav, a block of rubbish behind the data": (lambda: wav() + np.random.default_rng(2).bytes(4_096), 16_000),
    "wav, zeros behind the data": (lambda: wav() + bytes(50_000), 16_000),
    "mp3 behind 8 MiB of ID3": (lambda: id3(8 << 20) + whole("mp3"), 32_000),
    "mp3, ID3 announces less": (lambda: id3(5_000, 10) + whole("mp3"), 33_019),
    "mp3, APE tag with a picture behind": (lambda: whole("mp3") + ape_tag(100_000), 32_000),
    "flac, APE tag with a picture behind": (lambda: whole("flac") + ape_tag(100_000), 32_000),
    "two Ogg files in one": (lambda: whole("ogg") * 2, 64_000),
    "two aac streams in one": (lambda: whole("aac") * 2, 65_387),
    "webm, flipped bits": (lambda: flipped(whole("webm")), 32_000),  # no checksum in Opus or Matroska
    "aac, hole": (lambda: with_hole(whole("aac")), 29_722),  # nothing counts the frames
    "mp3 without a header, cut": (
        lambda: cut(write_av(noise(2.0, 44_100), 44_100, "mp3", "libmp3lame", Pipe())),
        19_226,
    ),
    # sizes and levels
    "1 sample": (lambda: constant(0.5, 1), 1),
    "399 samples": (lambda: constant(0.5, 399), 399),
    "400 samples": (lambda: constant(0.5, 400), 400),
    "silence": (lambda: constant(0.0), 16_000),
    "direct current": (lambda: constant(0.9), 16_000),
    "clipped": (lambda: write(np.sign(tone(1.0, 16_000)), 16_000), 16_000),
    "amplitude 1e30": (lambda: constant(1e30, subtype="FLOAT"), 16_000),
    "32 channels": (lambda: write(noise(0.5, 16_000, 32), 16_000), 8_000),
    "1 h of silence in FLAC": (lambda: silent_flac(3_600, block=4_096), 57_597_952),
    "8 channels of silence for 4 min": (cpu_bomb, 3_822_875),
    # rare codecs
    "DSD": (lambda: dsf(1.0), 15_975),
    "WavPack": (lambda: write_av(tone(1.0, 44_100, (440.0, 440.0)), 44_100, "wv", "wavpack"), 16_000),
    "GSM 06.10": (lambda: write(tone(1.0, 8_000), 8_000, subtype="GSM610"), 16_640),
    "MS ADPCM": (lambda: write(tone(1.0, 16_000), 16_000, subtype="MS_ADPCM"), 16_192),
    "ALAC in CAF": (lambda: write(tone(1.0, 44_100), 44_100, "CAF", "ALAC_16"), 16_000),
    "AIFF-C of floats": (lambda: write(tone(1.0, 44_100), 44_100, "AIFF", "FLOAT"), 16_000),
}
"""name -> (what makes the file, its samples at 16 kHz)."""
