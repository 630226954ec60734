"""Where long utterances are cut. Pure arithmetic on the 20 ms frame axis; knows no arrays."""

from dataclasses import dataclass
from itertools import pairwise

from w2vb_ray.errors import ConfigError

FRAMES_PER_S = 50


@dataclass(frozen=True, slots=True)
class Window:
    """A piece of an utterance, in 20 ms frames of that utterance.

    Args:
        start: first frame encoded.
        stop: end (exclusive) of the frames encoded.
        core_start: first frame kept; what is before it is context.
        core_stop: end (exclusive) of the frames kept.
    """

    start: int
    stop: int
    core_start: int
    core_stop: int

    def __len__(self) -> int:
        return self.stop - self.start


def window_limits(max_window_s: float | None, window_context_s: float) -> tuple[int | None, int]:
    """`audio.max_window_s` and `audio.window_context_s` in frames: (longest window or None, context on each side).

    Raises:
        ConfigError: the longest window has no room for a core between its two contexts.
    """
    context = round(window_context_s * FRAMES_PER_S)
    if max_window_s is None:
        return None, context
    longest = int(max_window_s * FRAMES_PER_S + 1e-6)  # 0.58 * 50 is 28.999…
    if longest <= 2 * context:
        raise ConfigError(
            f"audio.max_window_s must be more than twice audio.window_context_s ({2 * window_context_s:g}), "
            f"but is {max_window_s:g}; raise it or lower audio.window_context_s"
        )
    return longest, context


def split_windows(num_frames: int, longest: int | None, context: int) -> list[Window]:
    """Windows of at most `longest` frames whose cores cover `num_frames` exactly once, in order.

    Cores are as equal as possible, so no window is much shorter than its neighbours, and depend on `num_frames` only,
    so an utterance is cut the same way in any batch. Context is cut off at the ends of the utterance.

    Args:
        num_frames: T, at least 1.
        longest: frames of the longest window, more than `2 * context`; None encodes in one piece.
        context: frames beside the core on each side.
    """
    if longest is None or num_frames <= longest:
        return [Window(0, num_frames, 0, num_frames)]
    count = _num_windows(num_frames, longest, context)
    edges = [num_frames * index // count for index in range(count + 1)]
    return [
        Window(max(0, start - context), min(num_frames, stop + context), start, stop) for start, stop in pairwise(edges)
    ]


def _num_windows(num_frames: int, longest: int, context: int) -> int:
    """Two windows have context on one side only; from three on, the inner ones have it on both."""
    if -(-num_frames // 2) + context <= longest:
        return 2
    return max(3, -(-num_frames // (longest - 2 * context)))
