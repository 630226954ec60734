"""Bytes of a recording -> 16 kHz mono waveform -> filterbank features. Knows no Ray, and imports nothing here.

fetch     object store -> bytes
decode    bytes -> `Recording`, with `containers`, `sndfile`, `ffmpeg` and `resample` behind it
isolated  the same in a `child` process, with `wire` between them
segment   `Recording` -> the samples of one utterance
features  samples -> input_features (needs torch only)
"""
