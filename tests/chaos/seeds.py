"""What the two command lines share: lists of seeds, and lines that are seen at once."""

import sys
from collections.abc import Sequence


def parse_seeds(texts: Sequence[str]) -> list[int]:
    """`1 2 3`, `1-200`, `1,5,9`."""
    found: list[int] = []
    for text in " ".join(texts).replace(",", " ").split():
        first, _, last = text.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def say(line: str) -> None:
    """One line, at once: a series of seeds takes long."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
