import io

import pytest
from rich.console import Console

from w2vb_ray.runtime import progress
from w2vb_ray.runtime.progress import LINE_INTERVAL_S, EmbedProgress, stage


class Clock:
    def __init__(self):
        self.now_s = 1000.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress.time, "monotonic", clock)
    return clock


def console(*, terminal):
    return Console(file=io.StringIO(), force_terminal=terminal, width=250, color_system=None)


def lines(shown):
    return shown.file.getvalue().splitlines()


def test_one_line_every_interval_where_nobody_watches(clock):
    shown = console(terminal=False)
    with EmbedProgress(shown, 7200.0, 200) as bar:
        for _ in range(100):
            clock.now_s += LINE_INTERVAL_S / 10
            bar.tick()
    assert len(lines(shown)) == 10


def test_a_line_says_where_the_run_is(clock):
    shown = console(terminal=False)
    with EmbedProgress(shown, 7200.0, 200) as bar:
        bar.advance(1800.0, 3600.0, 90, 10)
        clock.now_s += 100.0
        bar.tick()
        bar.tick()  # not yet again
        bar.advance(5400.0, 3600.0, 100, 0)
        clock.now_s += 100.0
        bar.tick()
    assert lines(shown) == [
        "1.00 audio-hours done (25%), 36.0 audio-hours per hour, 0:05:00 left; 90 of 200 utterances, 10 rejected",
        "2.00 audio-hours done (100%), 36.0 audio-hours per hour, 0:00:00 left; 190 of 200 utterances, 10 rejected",
    ]


def test_the_beginning_has_no_estimate(clock):
    shown = console(terminal=False)
    with EmbedProgress(shown, 7200.0, 10) as bar:
        clock.now_s += 31.0
        bar.tick()
    assert lines(shown) == [
        "0.00 audio-hours done (0%), 0.0 audio-hours per hour, estimating; 0 of 10 utterances, 0 rejected"
    ]


@pytest.mark.parametrize("total_s", [0.0, 10.0])
def test_a_wrong_estimate_does_no_harm(clock, total_s):
    shown = console(terminal=False)
    with EmbedProgress(shown, total_s, 10) as bar:
        bar.advance(20.0, 20.0, 10, 0)
        clock.now_s += 31.0
        bar.tick()
    assert "(100%)" in lines(shown)[0]


def test_a_terminal_has_a_bar(clock):
    shown = console(terminal=True)
    with EmbedProgress(shown, 100.0, 10) as bar:
        bar.advance(50.0, 50.0, 5, 0)
        clock.now_s += 1.0
        bar.tick()
    assert "(50%)" in shown.file.getvalue()


def test_an_exception_passes_through_the_bar():
    with pytest.raises(KeyError), EmbedProgress(console(terminal=True), 1.0, 1):
        raise KeyError


def test_a_stage_speaks_on_a_terminal_only():
    for terminal in (True, False):
        shown = console(terminal=terminal)
        with stage(shown, "reading the checkpoint"):
            pass
        assert ("reading the checkpoint" in shown.file.getvalue()) == terminal
