"""Where workers tell what they find, and the driver asks what there is to show."""

from typing import Any

import ray


class Listener:
    """Keeps lines of the log and warnings until they are taken."""

    def __init__(self) -> None:
        self._lines: list[dict[str, float]] = []
        self._warnings: list[str] = []

    def tell(self, line: dict[str, float]) -> None:
        """A line of the log."""
        self._lines.append(line)

    def warn(self, text: str) -> None:
        """Something that a person should know now."""
        self._warnings.append(text)

    def take(self) -> tuple[list[dict[str, float]], list[str]]:
        """What has come since the last call."""
        taken = self._lines, self._warnings
        self._lines, self._warnings = [], []
        return taken


def start_listener() -> Any:
    """An actor, which is gone with the driver."""
    return ray.remote(num_cpus=0)(Listener).remote()
