"""Ends from outside: signals become interruptions, and a process ends with its parent."""

import signal
import subprocess
import sys

import pytest

from classmates._signals import (
    SIGNALS,
    Ended,
    ended_by_signals,
    exit_code,
    how_it_ended,
    kept_handlers,
    take_back,
)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_an_interruption_with_its_own_exit_code(number):
    with pytest.raises(Ended) as caught, ended_by_signals():
        signal.raise_signal(number)
    assert exit_code(caught.value) == 128 + number
    assert str(caught.value) == f"ended by {number.name}"
    assert signal.getsignal(number) is signal.SIG_DFL


def test_ctrl_c_has_the_exit_code_that_shells_give_it():
    assert exit_code(KeyboardInterrupt()) == 130


def test_a_handler_that_a_library_replaces_is_put_back():
    with ended_by_signals():
        ours = signal.getsignal(signal.SIGTERM)
        with kept_handlers():
            signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))
        assert signal.getsignal(signal.SIGTERM) is ours


@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda number, frame: None])
def test_ignored_signals_and_handlers_of_the_users_own_stay(handler):
    before = signal.signal(signal.SIGHUP, handler)
    try:
        with ended_by_signals():
            signal.raise_signal(signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is handler
    finally:
        signal.signal(signal.SIGHUP, before)


class Composed:
    """A handler that calls others, as Lightning has it."""

    def __init__(self, *handlers):
        self.signal_handlers = [*handlers]

    def __call__(self, number, frame):
        raise AssertionError("it was called")


def test_a_handler_that_was_put_behind_another_is_taken_back():
    with ended_by_signals():
        ours = signal.getsignal(signal.SIGTERM)
        for handler, taken in ((Composed(print, ours), True), (Composed(print), False), (signal.SIG_IGN, False)):
            signal.signal(signal.SIGTERM, handler)
            take_back()
            assert (signal.getsignal(signal.SIGTERM) is ours) is taken


@pytest.mark.parametrize(
    ("code", "words"),
    [(-9, "was ended by SIGKILL"), (143, "was ended by SIGTERM"), (9, "ended with code 9"), (1, "ended with code 1")],
)
def test_how_a_process_ended_is_said(code, words):
    assert how_it_ended(code) == words


STUBBORN = """
import signal, sys
import classmates._signals as _signals
_signals.GRACE = 0.1
signal.signal(signal.SIGTERM, signal.SIG_IGN) if STUBBORN else None
_signals.end_with_parent(sys.stdin.fileno())
print(flush=True)
while True:
    signal.pause()
"""


@pytest.mark.parametrize("stubborn", [False, True])
def test_a_process_ends_with_its_parent_if_need_be_by_force(stubborn):
    script = STUBBORN.replace("STUBBORN", str(stubborn))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", script], **pipes) as child:
        child.stdout.readline()
        assert child.poll() is None
        child.stdin.close()  # as the system does when the parent ends
        assert child.wait(20) == (143 if stubborn else -signal.SIGTERM)
