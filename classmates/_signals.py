"""Ends from outside: SIGTERM and SIGHUP are interruptions as Ctrl-C is, and a process can end with its parent."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
GRACE = 10.0
"""Seconds from the end of a parent to the end of a child that does not end by itself."""


class Ended(KeyboardInterrupt):
    """A signal has asked this process to end.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int):
        super().__init__(f"ended by {signal.Signals(number).name}")
        self.number = number


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise ``Ended`` in what runs within, where they would end the process on the spot.

    Signals that are ignored (``nohup``) or have a handler of the user's own stay as they are; so do all signals in
    threads other than the main one, to which Python gives none.
    """
    main = threading.current_thread() is threading.main_thread()
    taken = [number for number in SIGNALS if main and signal.getsignal(number) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, _end)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def kept_handlers() -> Iterator[None]:
    """Put the handlers of SIGTERM and SIGHUP back where a library replaces them within; in the main thread.

    Ray's driver would abort on SIGTERM, by a handler below Python's.
    """
    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in SIGNALS} if main else {}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:  # None is one from below Python, which cannot be set from here
                signal.signal(number, handler)


def take_back() -> None:
    """Put the handler of ``ended_by_signals`` back where Lightning has put it behind its own.

    Lightning's waits for the end of the step and then ends the process as if it had succeeded; where there are
    several, it also starts a collective operation in the middle of whatever the others do.
    """
    for number in SIGNALS:
        if _end in getattr(signal.getsignal(number), "signal_handlers", ()):
            signal.signal(number, _end)


def exit_code(stop: KeyboardInterrupt) -> int:
    """Return the exit code of an interruption, as shells have it: 128 and the number of the signal."""
    return 128 + (stop.number if isinstance(stop, Ended) else signal.SIGINT)


def how_it_ended(code: int) -> str:
    """Return what ended a process, of its return code as ``subprocess`` has it or of its exit code."""
    number = -code if code < 0 else code - 128
    names = {known.value: known.name for known in signal.Signals}
    return f"was ended by {names[number]}" if number in names else f"ended with code {code}"


def end_with_parent(pipe: int) -> None:
    """End this process as SIGTERM would, and if need be by force, when the parent does, however that ends.

    pipe: the descriptor of one whose other end only the parent has and never writes to: it ends when the parent does.
    """
    threading.Thread(target=_wait_for_the_end, args=(pipe,), daemon=True).start()


def _wait_for_the_end(pipe: int) -> None:
    os.read(pipe, 1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    print(f"did not end within {GRACE:.0f} s of its parent", file=sys.stderr, flush=True)
    os._exit(128 + signal.SIGTERM)


def _end(number: int, frame: FrameType | None) -> None:
    raise Ended(number)
