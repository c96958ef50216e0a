"""The process of one run of a comparison: ``python -m classmates.experiments.worker FOLDER NAME``.

It reads from its standard input, of which whoever starts it keeps the other end: when that closes, the run ends.
"""

import sys
from pathlib import Path

from classmates._path import leave_out_current_folder

leave_out_current_folder()

from classmates._signals import end_with_parent, ended_by_signals, exit_code  # noqa: E402

ELSEWHERE = 75
"""Exit code of a process that found its run taken by another one."""


def main(folder: str, name: str) -> int:
    """Make one run of the ledger, or go on with it; return the exit code."""
    try:
        with ended_by_signals():
            end_with_parent(sys.stdin.fileno())
            from classmates.experiments.workers import run_job  # which takes seconds

            return 0 if run_job(Path(folder), name) else ELSEWHERE
    except KeyboardInterrupt as stop:
        print(f"{str(stop) or 'interrupted'}; the command of the comparison goes on", file=sys.stderr)
        return exit_code(stop)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
