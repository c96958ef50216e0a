"""The command line: each command is a Python function, its arguments the flags and YAML keys."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Any

import classmates
from classmates._progress import say, saying, wrapped
from classmates._signals import ended_by_signals, exit_code
from classmates.cli.commands import COMMANDS, unknown_command
from classmates.cli.fitting import fitted
from classmates.cli.help import CONFIG, command_parser, options_parser, overview_parser
from classmates.cli.run_flags import flags_of_runs
from classmates.configuration.arguments import arguments_of
from classmates.errors import NonFiniteLoss, UserError

if TYPE_CHECKING:
    from classmates.configuration.settings import Settings

GOING_ON = {
    "train": "; go on with --resume true or, if no epoch had ended, remove the folder and start anew",
    **dict.fromkeys(("improve", "compare", "sweep"), "; the same command goes on"),
}
"""The words that say how a command that was interrupted is continued."""

REFUSED = {
    errno.EACCES: "ask for the right to it, or give another place",
    errno.EPERM: "ask for the right to it, or give another place",
    errno.EROFS: "give a place that can be written to",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ENOTDIR: "a part of this path is a file: give another place",
    errno.EISDIR: "it is a folder: give a file",
    errno.ELOOP: "its links lead in a circle: give another place",
}
"""What the system refuses whoever runs a command, and what they can do about it."""
QUIET, VERBOSE = "--quiet", "--verbose"
SHOWN = 100
"""How many letters of a path a message shows."""


def main(typed: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code.

    0; 2 for what the user can mend; 3 for a loss or weights that are not finite or a useless student; 4 where runs of
    a comparison or a search failed, or no file of an export was kept; 128 and the number of the signal that ended it
    (130: Ctrl-C, 143: SIGTERM). Any other exception is a bug, and keeps its traceback.
    """
    if sys.stdout is None or sys.stderr is None:  # closed by whoever started it: `>&-`
        nowhere = open(os.devnull, "w")  # noqa: SIM115  (until the end)
        sys.stdout, sys.stderr = sys.stdout or nowhere, sys.stderr or nowhere
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file's name may have what a terminal has not
    words = sys.argv[1:] if typed is None else typed
    command, *rest = [word for word in words if word not in (QUIET, VERBOSE)] or ["--help"]
    quiet = QUIET in words
    with say(notes=not quiet, progress=not quiet, libraries=VERBOSE in words):
        return run_or_complain(command, rest)


def run_or_complain(command: str, rest: list[str]) -> int:
    """Run a command, or say why it could not be run or was ended; return the exit code."""
    more = GOING_ON.get(command, "")
    try:
        with ended_by_signals():
            check_working_folder()
            code = answer(command, rest)
            sys.stdout.flush()  # what cannot be written is told here, not when Python has ended
            return code
    except (UserError, NonFiniteLoss) as error:
        return complain(str(error), error.exit_code)
    except KeyboardInterrupt as stop:
        print(wrapped(f"classmates: {str(stop) or 'interrupted'}{more}"), file=sys.stderr)
        return exit_code(stop)
    except BrokenPipeError:  # whoever reads the output has seen enough, such as `head`
        leave_unwritten()
        return 128 + signal.SIGPIPE
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            leave_unwritten()
            return complain(f"{error}: make space{more}", UserError.exit_code)
        if error.errno not in REFUSED or error.filename is None:
            raise
        refused = f"'{shortened(error.filename)}': {error.strerror}: {REFUSED[error.errno]}"
        return complain(refused, UserError.exit_code)


def check_working_folder() -> None:
    """Raise UserError where the folder that relative paths begin in was removed."""
    try:
        os.getcwd()
    except FileNotFoundError:
        raise UserError("the folder that this was started in is gone: change to one that exists") from None


def leave_unwritten() -> None:
    """Let what is left to be written to the output go to nowhere: Python would try it again when it ends."""
    with suppress(OSError, ValueError):  # it is no file, as in a notebook
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def complain(text: str, code: int) -> int:
    """Write why a command has failed, while its error is handled; return the exit code."""
    if saying().libraries:
        traceback.print_exc()
    print(wrapped(f"classmates: error: {text}"), file=sys.stderr)
    return code


def answer(command: str, rest: list[str]) -> int:
    """Run a command, or say what there is; return the exit code."""
    if command in ("-h", "--help"):
        parser, below = overview_parser()
        for name, entry in COMMANDS.items():
            below.add_parser(name, help=entry.summary)
        print(parser.format_help())
        return 0
    if command == "--version":
        print(classmates.__version__)
        return 0
    if command not in COMMANDS:
        raise unknown_command(command)
    return run(command, rest)


def shortened(path: str | bytes) -> str:
    """Return a path, of a very long one its beginning."""
    text = os.fsdecode(path)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def run(command: str, typed: list[str]) -> int:
    """Run the function of a command and print what it returns, or print its help; return the exit code."""
    from classmates.cli.words import read
    from classmates.configuration.settings import Settings

    entry = COMMANDS[command]
    if "-h" in typed or "--help" in typed:
        print(command_parser(command, entry.outline(), entry.positions).format_help())
        return 0
    outlined = arguments_of(entry.outline())
    flags = read(typed, outlined | {"config": CONFIG}, entry.positions)
    early = Settings(command, outlined, entry.positions)
    if not early.kinds:  # no class is chosen, whose options would be known
        filled(early, flags).checked()
    # What takes PyTorch comes last: help and most wrong flags need none of it.
    function = getattr(import_module(entry.home), entry.function)
    settings = Settings(command, arguments_of(function), entry.positions)
    for flag, text in flags:
        chosen = flag.removesuffix(".help")
        if chosen != flag and chosen in settings.kinds:
            kind = settings.find(chosen, text)
            print(options_parser(kind, settings.classes.options_of(kind), chosen).format_help())
            return 0
    given = filled(settings, flags).typed()
    with flags_of_runs(arguments_of(function), arguments_of(COMMANDS["train"].outline())):
        result = function(**given)
    shown = entry.written(result, given["out"]) if entry.written and given["out"] else entry.show(result)
    if shown:
        wraps = sys.stdout.isatty() and entry.wraps(result)
        print(fitted(shown, get_terminal_size().columns) if wraps else shown)
    return entry.code(result)


def filled(settings: Settings, flags: Sequence[tuple[str, Any]]) -> Settings:
    """Add what flags give, and the files of settings among them; return the settings."""
    from classmates.comparisons.recipe import find_settings

    for flag, text in flags:
        if flag == "config":
            settings.add_file(find_settings(text), method=dict(flags).get("method"))
    settings.add_flags((flag, value) for flag, value in flags if flag != "config")
    return settings
