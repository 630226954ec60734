"""Which windows go through the model together. Pure functions over lengths; know no arrays."""

from collections.abc import Hashable, Sequence

# On a CPU matrix products are at full speed from a few hundred rows on, so more only adds padding: 24 % of the frames
# at 1500, 15 % at 800, 8 % at 400, where speed falls again (1 s clips, 768-d model, 2 cores).
_PADDED_MAX_FRAMES = {"cpu": 800, "cuda": 15_000}
_PACKED_MAX_FRAMES = {"cpu": 2_048, "cuda": 30_000}


def default_max_frames(device: str, *, pads: bool) -> int:
    """Frame budget of one micro-batch where the configuration names none."""
    return (_PADDED_MAX_FRAMES if pads else _PACKED_MAX_FRAMES)[device]


def plan_packed_batches(num_frames: Sequence[int], max_frames: int) -> list[list[int]]:
    """Indices of windows, longest first, in micro-batches of at most `max_frames` in all; a longer window goes alone.

    For a forward that pads nothing and whose memory grows with the sum of the lengths.

    Args:
        num_frames: length of each window in 20 ms frames, at least 1.
        max_frames: frame budget of one micro-batch.

    Raises:
        ValueError: a budget or a length under 1.
    """
    _require_positive(num_frames, max_frames)
    batches: list[list[int]] = []
    room = 0
    for index in sorted(range(len(num_frames)), key=lambda index: -num_frames[index]):
        if num_frames[index] > room:
            batches.append([])
            room = max_frames
        batches[-1].append(index)
        room -= num_frames[index]
    return batches


def plan_micro_batches(num_frames: Sequence[int], max_frames: int, attention_frames: int) -> list[list[int]]:
    """Indices of windows, longest first, grouped so that a padded micro-batch stays within the frame budget.

    A micro-batch of B windows padded to the longest, L frames, keeps `B * L <= max_frames` and
    `B * (L + L² / attention_frames) <= max_frames`. A window that is over the budget by itself goes alone: windows
    are never cut further here. Every index comes once; the caller restores the order. Sorting keeps the padding at
    11 % in 512 utterances and 2 % in 4096 (research/inference.md), and long first shows a lack of memory early.

    Args:
        num_frames: length of each window in 20 ms frames, at least 1.
        max_frames: frame budget of one micro-batch, padding included.
        attention_frames: length at which attention costs as much as the rest of the model.

    Raises:
        ValueError: a budget or a length under 1.
    """
    _require_positive(num_frames, max_frames, attention_frames)
    batches: list[list[int]] = []
    capacity = 0
    for index in sorted(range(len(num_frames)), key=lambda index: -num_frames[index]):
        if not batches or len(batches[-1]) >= capacity:
            batches.append([])
            length = num_frames[index]  # the longest of the micro-batch: the rest are sorted behind it
            capacity = max_frames * attention_frames // (length * (attention_frames + length))
        batches[-1].append(index)
    return batches


def plan_equal_batches(
    sizes: Sequence[Hashable], num_frames: Sequence[int], max_frames: int, attention_frames: int
) -> list[list[int]]:
    """`plan_micro_batches` for models that padding would change: only windows of equal size share a micro-batch.

    Args:
        sizes: what must be equal within a micro-batch (samples or frames of the model's input).
        num_frames: as in `plan_micro_batches`; equal where sizes are equal.
        max_frames: as in `plan_micro_batches`.
        attention_frames: as in `plan_micro_batches`.
    """
    groups: dict[Hashable, list[int]] = {}
    for index, size in enumerate(sizes):
        groups.setdefault(size, []).append(index)
    return [
        [group[position] for position in batch]
        for group in groups.values()
        for batch in plan_micro_batches([num_frames[index] for index in group], max_frames, attention_frames)
    ]


def _require_positive(num_frames: Sequence[int], *budgets: int) -> None:
    if min(budgets) < 1:
        raise ValueError(f"frame budgets must be at least 1, but one is {min(budgets)}")
    if min(num_frames, default=1) < 1:
        raise ValueError(f"a window must have at least 1 frame, but one has {min(num_frames)}")
