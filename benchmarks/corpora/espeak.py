"""espeak-ng's library through ctypes: speech, and when each of its phones begins.

Structures and constants as in `espeak-ng/speak_lib.h` of espeak-ng 1.51.
"""

import ctypes
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

PACKAGES = ["espeak-ng-data", "libespeak-ng1", "libpcaudio0", "libsonic0"]
_SYNCHRONOUS = 2
_PHONE_EVENTS_IN_IPA = 1 | 2
_END_OF_LIST, _PHONE = 0, 7
_UTF8, _BY_CHARACTER = 1, 1
_RATE, _PITCH, _RANGE = 1, 3, 4
_IGNORED = "ˈˌ̩̯͡"  # stress, syllabicity and ties: how a phone stands in its word, not which it is


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("name", ctypes.c_char * 8),
    ]


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


@dataclass(frozen=True, slots=True)
class Spoken:
    """Speech with its phones.

    Args:
        samples: (num_samples,) int16.
        rate_hz: of them.
        phones: when each begins in seconds, and its IPA symbol without stress; silence is empty.
    """

    samples: np.ndarray
    rate_hz: int
    phones: list[tuple[float, str]]


class Espeak:
    """The library, once in a process: it keeps its state in globals."""

    def __init__(self, root: Path) -> None:
        folder = next(root.glob("usr/lib/*/espeak-ng-data")).parent
        for name in ("libsonic.so.0", "libpcaudio.so.0"):
            ctypes.CDLL(str(folder / name), mode=ctypes.RTLD_GLOBAL)
        self._library = ctypes.CDLL(str(folder / "libespeak-ng.so.1"))
        self._rate_hz = self._library.espeak_Initialize(_SYNCHRONOUS, 0, str(folder).encode(), _PHONE_EVENTS_IN_IPA)
        if self._rate_hz <= 0:
            raise OSError(f"espeak-ng cannot read its data in {folder}")
        self._callback = _Callback(self._take)  # kept: ctypes does not
        self._library.espeak_SetSynthCallback(self._callback)
        self._blocks: list[np.ndarray] = []
        self._phones: list[tuple[float, str]] = []

    def say(self, text: str, voice: str, *, words_per_minute: int, pitch: int, pitch_range: int) -> Spoken:
        """Speak a text.

        Args:
            text: in the voice's language.
            voice: `LANGUAGE` or `LANGUAGE+VARIANT`, as in `espeak-ng -v`.
            words_per_minute: 80 to 450.
            pitch: 0 to 99.
            pitch_range: 0 (monotone) to 99.

        Raises:
            ValueError: there is no such voice.
        """
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ValueError(f"espeak-ng has no voice {voice}")
        for parameter, value in ((_RATE, words_per_minute), (_PITCH, pitch), (_RANGE, pitch_range)):
            self._library.espeak_SetParameter(parameter, value, 0)
        self._blocks, self._phones = [], []
        data = text.encode() + b"\0"
        self._library.espeak_Synth(data, len(data), 0, _BY_CHARACTER, 0, _UTF8, None, None)
        samples = np.concatenate(self._blocks) if self._blocks else np.zeros(0, np.int16)
        return Spoken(samples, self._rate_hz, self._phones)

    def _take(self, samples: Any, count: int, events: Any) -> int:
        if count > 0:
            self._blocks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        place = 0
        while events[place].type != _END_OF_LIST:
            if events[place].type == _PHONE:
                name = events[place].name.decode(errors="ignore")
                symbol = "".join(letter for letter in name if letter not in _IGNORED)
                self._phones.append((events[place].audio_position / 1_000, symbol))
            place += 1
        return 0
