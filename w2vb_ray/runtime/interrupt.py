"""Ctrl-C and SIGTERM (what `ray job stop` and Kubernetes send): stop between two commits, never inside one."""

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def raise_on_terminate() -> None:
    """Make SIGTERM the same as Ctrl-C for this process."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@contextmanager
def kept() -> Generator[None]:
    """Somebody else sets handlers inside the block; after it they are what they were before it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def deferred() -> Generator[threading.Event]:
    """Inside the block the first signal only sets the event; a second one interrupts at once.

    Off the main thread, where Python takes no signals, the event is never set.
    """
    requested = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield requested
        return

    def note(number: int, frame: FrameType | None) -> None:
        if requested.is_set():
            signal.default_int_handler(number, frame)
        requested.set()

    before = {number: signal.signal(number, note) for number in _SIGNALS}
    try:
        yield requested
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
