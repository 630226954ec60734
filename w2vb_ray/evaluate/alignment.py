"""Where phones are: CTM files (NIST), and what they say of frames of 20 ms."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from w2vb_ray.errors import SourceError

FRAME_S = 0.02
_CENTRE_S = 0.0175  # of what a frame's two windows of 25 ms, 10 ms apart, see
_FIELDS = 5


@dataclass(frozen=True, slots=True)
class Phones:
    """Phones of an utterance, in order.

    Args:
        start_s: (n,)
        end_s: (n,)
        names: of them.
    """

    start_s: np.ndarray
    end_s: np.ndarray
    names: list[str]

    def at_frames(self, num_frames: int) -> np.ndarray:
        """(num_frames,) place of the phone at each frame's middle, -1 where there is none."""
        middle = np.arange(num_frames) * FRAME_S + _CENTRE_S
        place = np.searchsorted(self.start_s, middle, side="right") - 1
        return np.where((place >= 0) & (middle < self.end_s[np.maximum(place, 0)]), place, -1)

    def boundaries(self) -> np.ndarray:
        """(m,) moments in seconds where a phone begins or ends."""
        edges = np.sort(np.concatenate([self.start_s, self.end_s]))
        return edges[np.concatenate([[True], np.diff(edges) > 0.005])]


def frame_of(moment_s: np.ndarray) -> np.ndarray:
    """The frame whose middle is nearest."""
    return np.rint((moment_s - _CENTRE_S) / FRAME_S).astype(np.int64)


def moment_between(frames: np.ndarray) -> np.ndarray:
    """The moment in seconds between each frame and the next."""
    return (frames + 0.5) * FRAME_S + _CENTRE_S


def parse_ctm(text: str, uri: str) -> dict[str, Phones]:
    """Phones by name of the utterance.

    Raises:
        SourceError: a line is none of CTM.
    """
    found: dict[str, list[tuple[float, float, str]]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith(";;"):
            continue
        fields = line.split()
        try:
            utterance, _, start, duration, phone = fields[:_FIELDS]
            found.setdefault(utterance, []).append((float(start), float(start) + float(duration), phone))
        except ValueError as err:
            raise SourceError(
                f"phones.alignment_uri must be CTM (utterance, channel, start, duration, phone), but line {number:,} "
                f"of {uri} is '{line[:80]}'"
            ) from err
    return {name: _phones(sorted(rows)) for name, rows in found.items()}


def match(phones: dict[str, Phones], utterance_id: str, audio_uri: str) -> Phones | None:
    """Those of an utterance, named by its id or by an end of its path, with or without the extension."""
    return next((phones[name] for name in _names(utterance_id, audio_uri) if name in phones), None)


def _names(utterance_id: str, audio_uri: str) -> Iterator[str]:
    yield utterance_id
    parts = PurePosixPath(audio_uri).parts
    for start in range(len(parts)):
        path = PurePosixPath(*parts[start:])
        yield str(path)
        yield str(path.with_suffix(""))


def _phones(rows: list[tuple[float, float, str]]) -> Phones:
    start_s, end_s, names = zip(*rows, strict=True)
    return Phones(np.array(start_s), np.array(end_s), list(names))
