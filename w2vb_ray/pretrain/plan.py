"""Which utterances, cut where, are in which micro-batch of which update. Pure: durations and a seed in, arrays out.

The plan of an epoch is the same for every number of workers, and nothing but its number is needed to make it again.
"""

from dataclasses import dataclass

import numpy as np

from w2vb_ray.config.pretrain import BatchesSection
from w2vb_ray.errors import ConfigError

FRAMES_PER_S = 50
_WINDOW = 2_048  # utterances that are sorted by length together: little padding, and still another company each time
_PLAN = 2  # what a seed is for, see `update`
_EPOCH_BITS = 40


@dataclass(frozen=True, slots=True)
class EpochPlan:
    """One pass over a corpus, in which languages come as often as their temperature says.

    Args:
        rows: (n,) utterances by their places in the corpus, micro-batch after micro-batch.
        start_s: (n,) where each piece begins.
        duration_s: (n,) how long it is.
        numbers: (n,) of each piece in the run: what is random about it comes from it.
        micro_ends: (m,) where each micro-batch ends in these.
        update_ends: (u,) where each update ends among micro-batches.
    """

    rows: np.ndarray
    start_s: np.ndarray
    duration_s: np.ndarray
    numbers: np.ndarray
    micro_ends: np.ndarray
    update_ends: np.ndarray

    def micro_batches(self, update: int) -> list[slice]:
        """The pieces of each micro-batch of an update."""
        first = self.update_ends[update - 1] if update else 0
        ends = self.micro_ends[first : self.update_ends[update]].tolist()
        starts = [int(self.micro_ends[first - 1]) if first else 0, *ends[:-1]]
        return [slice(*pair) for pair in zip(starts, ends, strict=True)]


def plan_epoch(
    durations_s: np.ndarray, languages: np.ndarray, batches: BatchesSection, seed: int, epoch: int
) -> EpochPlan:
    """Plan one epoch.

    Args:
        durations_s: (N,) of all utterances; NaN for those that cannot be read.
        languages: (N,) of anything that can be compared.
        batches: sizes and limits.
        seed: of the run.
        epoch: its number.

    Raises:
        ConfigError: no utterance is long enough, or all together are less than one update.
    """
    rng = np.random.default_rng([seed, _PLAN, epoch])
    usable = np.flatnonzero(durations_s >= batches.min_crop_s)
    total_s = float(np.minimum(durations_s[usable], batches.max_crop_s).sum())
    if total_s < batches.audio_s:
        raise ConfigError(
            f"batches.audio_s must be at most the audio of the source, but is {batches.audio_s:g} s and the source has "
            f"{total_s:.0f} s in {len(usable):,} utterances of at least batches.min_crop_s ({batches.min_crop_s:g} s); "
            "give more audio, or lower batches.audio_s"
        )
    rows = rng.permutation(_repeated(usable, durations_s, languages, batches.language_temperature, rng))
    duration_s = np.minimum(durations_s[rows], batches.max_crop_s)
    start_s = rng.random(len(rows)) * (durations_s[rows] - duration_s)
    micro = [piece for window in range(0, len(rows), _WINDOW) for piece in _cut(duration_s, window, batches.max_frames)]
    micro = [micro[index] for index in rng.permutation(len(micro))]
    order, sizes = np.concatenate(micro), np.array([len(piece) for piece in micro])
    seconds = np.array([duration_s[piece].sum() for piece in micro])
    numbers = (epoch << _EPOCH_BITS) + np.arange(len(order))
    update_ends = _updates(seconds, batches.audio_s)
    return EpochPlan(rows[order], start_s[order], duration_s[order], numbers, np.cumsum(sizes), update_ends)


def _repeated(
    usable: np.ndarray, durations_s: np.ndarray, languages: np.ndarray, temperature: float, rng: np.random.Generator
) -> np.ndarray:
    """Each utterance as often as its language's share asks for, rounded at random, the whole as long as it was."""
    _, language = np.unique(languages[usable], return_inverse=True)
    audio = np.bincount(language, durations_s[usable])
    share = (audio / audio.sum()) ** temperature
    times = (share / share.sum() * audio.sum() / audio)[language]
    return np.repeat(usable, np.floor(times + rng.random(len(usable))).astype(np.int64))


def _cut(duration_s: np.ndarray, start: int, max_frames: int) -> list[np.ndarray]:
    """Micro-batches of neighbours in length, of some utterances from `start` on."""
    order = start + np.argsort(-duration_s[start : start + _WINDOW], kind="stable")
    pieces: list[np.ndarray] = []
    first = 0
    while first < len(order):
        room = max(1, int(max_frames / (duration_s[order[first]] * FRAMES_PER_S)))
        pieces.append(order[first : first + room])
        first += room
    return pieces


def _updates(seconds: np.ndarray, audio_s: float) -> np.ndarray:
    """Ends of windows of about so many seconds, as nearly alike as micro-batches allow."""
    count = max(1, round(float(seconds.sum()) / audio_s))
    ends = np.searchsorted(np.cumsum(seconds), seconds.sum() * np.arange(1, count) / count, side="left") + 1
    return np.unique(np.concatenate([ends, [len(seconds)]]))
