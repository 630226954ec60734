import signal
import threading

import pytest

from w2vb_ray.runtime.interrupt import deferred, kept, raise_on_terminate

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture(autouse=True)
def _restore_handlers():
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_only_asks(number):
    with deferred() as requested:
        assert not requested.is_set()
        signal.raise_signal(number)
        assert requested.is_set()


@pytest.mark.parametrize("first", SIGNALS)
@pytest.mark.parametrize("second", SIGNALS)
def test_the_second_one_interrupts_at_once(first, second):
    with deferred() as requested:
        signal.raise_signal(first)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(second)
        assert requested.is_set()


@pytest.mark.parametrize("number", SIGNALS)
def test_who_else_sets_handlers_does_not_keep_them(number):
    raise_on_terminate()
    with kept():
        signal.signal(number, signal.SIG_IGN)
        signal.raise_signal(number)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(number)


def test_after_the_block_signals_do_what_they_did_before():
    heard = []
    for number in SIGNALS:
        signal.signal(number, lambda number, _: heard.append(number))
    with deferred():
        pass
    with pytest.raises(ZeroDivisionError), deferred():
        raise ZeroDivisionError
    for number in SIGNALS:
        signal.raise_signal(number)
    assert heard == list(SIGNALS)


def test_terminate_is_like_ctrl_c():
    raise_on_terminate()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)


def test_off_the_main_thread_nothing_is_touched():
    handler, seen = signal.getsignal(signal.SIGINT), []

    def work():
        with deferred() as requested:
            seen.append((requested.is_set(), signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, handler)]
