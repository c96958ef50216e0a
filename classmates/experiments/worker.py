"""The process of a comparison's runs: ``python -m classmates.experiments.worker FOLDER [NAME]``.

With the name of a run it makes that. Without, it reads names from its standard input, a line each, and forks for
every one: what takes seconds to import is imported once, and yet each run has memory of its own, and ends on its own;
to its standard output it writes the exit code of each, a line. When its input closes, whoever started it has ended,
and so does all of it.
"""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path

from classmates._path import leave_out_current_folder

leave_out_current_folder()

from classmates._signals import Ended, end_with_parent, ended_by_signals, exit_code  # noqa: E402

ELSEWHERE = 75
"""Exit code of a process that found its run taken by another one."""


def main(folder: str, name: str | None = None) -> int:
    """Make one run of the ledger, or go on with it; or one after the other. Return the exit code."""
    try:
        with ended_by_signals():
            if name is not None:
                end_with_parent(sys.stdin.fileno())
            from classmates.experiments import workers  # noqa: F401 - takes seconds, before any fork

            if name is not None:
                return run(Path(folder), name)
            for line in sys.stdin:
                print(in_a_fork(Path(folder), line.rstrip("\n")), flush=True)
    except KeyboardInterrupt as stop:
        return exit_code(stop)
    return 0


def in_a_fork(folder: Path, name: str) -> int:
    """Make a run in a process of its own; return its exit code as ``subprocess`` has it. Signals end both."""
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(writes)
            write_to_log(folder, name)
            for pipe in (reads, sys.stdin.fileno()):
                end_with_parent(pipe)
            code = run(folder, name)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)  # never back into the loop that reads names
    os.close(reads)
    try:
        _, status = os.waitpid(child, 0)
    except Ended as stop:
        os.kill(child, stop.number)
        os.waitpid(child, 0)
        raise
    finally:
        os.close(writes)
    return os.waitstatus_to_exitcode(status)


def write_to_log(folder: Path, name: str) -> None:
    """Let all that this process writes go into the log of a run."""
    from classmates.experiments.ledger import Ledger

    ledger = Ledger(folder)
    with ledger.log(ledger.job(name)).open("ab") as log:
        for output in (sys.stdout, sys.stderr):
            os.dup2(log.fileno(), output.fileno())


def run(folder: Path, name: str) -> int:
    """Make one run in this process; return the exit code."""
    from classmates.experiments.workers import run_job

    try:
        return 0 if run_job(folder, name) else ELSEWHERE
    except KeyboardInterrupt as stop:
        print(f"{str(stop) or 'interrupted'}; the command of the comparison goes on", file=sys.stderr)
        return exit_code(stop)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
