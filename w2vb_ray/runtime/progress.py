"""Progress that a person can read: bars on a terminal, one line per 30 s anywhere else."""

import time
from collections.abc import Generator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

LINE_INTERVAL_S = 30.0


class EmbedProgress:
    """Audio-hours done, audio-hours per hour and time left.

    Args:
        console: where it is shown.
        total_s: estimated audio of the whole run, the unit of the bar.
        num_utterances: planned utterances.
    """

    def __init__(self, console: Console, total_s: float, num_utterances: int) -> None:
        self._console = console
        self._total_s = max(total_s, 1e-9)
        self._num_utterances = num_utterances
        self._estimated_s = self._audio_s = 0.0
        self._embedded = self._rejected = 0
        self._started = self._shown = time.monotonic()
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=console, transient=True
        )
        self._task = self._bar.add_task("starting", total=self._total_s)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._bar.stop()

    def advance(self, estimated_s: float, audio_s: float, embedded: int, rejected: int) -> None:
        """Count units that came out: their planned and their real audio in seconds, and their utterances."""
        self._estimated_s += estimated_s
        self._audio_s += audio_s
        self._embedded += embedded
        self._rejected += rejected

    def tick(self) -> None:
        """Show where the run is, if it is time."""
        if self._console.is_terminal:
            self._bar.update(self._task, completed=self._estimated_s, description=self._line())
        elif time.monotonic() - self._shown >= LINE_INTERVAL_S:
            self._shown = time.monotonic()
            self._console.print(self._line(), soft_wrap=True, highlight=False)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the pipeline started."""
        return time.monotonic() - self._started

    def _line(self) -> str:
        elapsed_s = max(self.elapsed_s, 1e-9)
        share = min(self._estimated_s / self._total_s, 1.0)
        left = f"{_clock(elapsed_s * (1 - share) / share)} left" if share else "estimating"
        return (
            f"{self._audio_s / 3600:.2f} audio-hours done ({share:.0%}), "
            f"{self._audio_s / elapsed_s:.1f} audio-hours per hour, {left}; "
            f"{self._embedded:,} of {self._num_utterances:,} utterances, {self._rejected:,} rejected"
        )


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"


@contextmanager
def stage(console: Console, name: str) -> Generator[None, None, None]:
    """Say what a slow step is doing while it does it; on a terminal only."""
    if console.is_terminal:
        with console.status(name):
            yield
    else:
        yield
