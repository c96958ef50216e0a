"""Where modules are looked for; nothing is imported here that a file of the current folder could stand in for."""

import os
import sys


def leave_out_current_folder() -> None:
    """Take the current folder off ``sys.path``, where ``python -m`` puts it first.

    A file in it would be run in the place of any library of its name that somebody tries to import.
    """
    if not sys.flags.safe_path and sys.path[0] in ("", os.getcwd()):
        del sys.path[0]
