"""The command line: each command is a Python function, its arguments the flags and YAML keys."""

from __future__ import annotations

import errno
import io
import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import classmates
from classmates._signals import ended_by_signals, exit_code
from classmates.errors import NonFiniteLoss, UserError, unknown

if TYPE_CHECKING:
    import pandas as pd

    from classmates.comparisons.improvement import Improvement
    from classmates.experiments.compare import Comparison
    from classmates.experiments.preview import Plan
    from classmates.experiments.sweep import Sweep
    from classmates.training.result import Result


class Command(NamedTuple):
    """summary: for the overview. positions: the arguments that are given without a flag. show: what is printed.
    function: its name in Python, where that is not the command's. code: the exit code of what it returns."""

    summary: str
    positions: tuple[str, ...] = ()
    show: Callable[[Any], str] = str
    function: str | None = None
    code: Callable[[Any], int] = lambda result: 0


RUNS_FAILED = 4
"""The exit code of a command some of whose runs failed, though it came to its end itself."""
USELESS = 3
"""The exit code of a training whose student is no better than the commonest answer."""


def code_of_run(result: Result | None) -> int:
    """Return the exit code of a training."""
    record = result.record if result else None  # which only the first process of a distributed run has
    return USELESS if record and record.useless else 0


def code_of_runs(result: Comparison | Improvement | Sweep | Plan) -> int:
    """Return the exit code of a comparison or a search: whether a run failed; a plan has tried none."""
    table = getattr(result, "runs", getattr(result, "trials", None))
    failed = table is not None and bool(table["status"].str.contains("failed").any())
    return RUNS_FAILED if failed else 0


def show_table(frame: pd.DataFrame) -> str:
    """Return a table without its index, in the form that was asked for."""
    from classmates.evaluation.answers import shown

    return shown(frame)


COMMANDS = {
    "train": Command("train a network with a method, test it, leave everything in a folder", code=code_of_run),
    "improve": Command(
        "try what is likely to make your network better, and say by how much it did", code=code_of_runs
    ),
    "compare": Command(
        "compare methods over models, data sets and seeds, with tables and a report", code=code_of_runs
    ),
    "sweep": Command(
        "search a method's options and the training settings, choosing on validation images", code=code_of_runs
    ),
    "evaluate": Command("score a trained student again, also on other data", ("run",)),
    "predict": Command("name the classes of image files", ("run", "images"), show_table),
    "export": Command("write the student in formats for other programs, and measure them", ("run",)),
    "report": Command("write a run's report again, one HTML file", ("run",)),
    "describe": Command("show a model's stages, shared trunk, parameters and multiply-adds", ("model",)),
    "data": Command(
        "show what a data set holds: counts, sizes, duplicates, a contact sheet", ("data",), function="inspect"
    ),
    "list": Command("list methods, models and data sets", ("what",)),
}

GOING_ON = {
    "train": "; go on with --resume true",
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
SHOWN = 100
"""How many letters of a path a message shows."""

OVERVIEW = """\
More accurate image classifiers without a bigger teacher.

{commands}

  classmates train --data ./photos --model mobilenetv3_small_100 --method MCL
  classmates compare --methods Baseline,MCL --data ./photos --model mobilenetv3_small_100 --seeds 3
  classmates predict runs/MCL-mobilenetv3_small_100-photos-0 ./new_photos

classmates COMMAND --help explains a command."""


def main(typed: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code.

    0; 2 for what the user can mend; 3 for a loss or weights that are not finite or a useless student; 4 where runs of
    a comparison or a search failed; 128 and the number of the signal that ended it (130: Ctrl-C, 143: SIGTERM). Any
    other exception is a bug, and keeps its traceback.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file's name may have what a terminal has not
    command, *rest = (sys.argv[1:] if typed is None else typed) or ["--help"]
    more = GOING_ON.get(command, "")
    try:
        with ended_by_signals():
            return answer(command, rest)
    except (UserError, NonFiniteLoss) as error:
        print(f"classmates: error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt as stop:
        print(f"classmates: {str(stop) or 'interrupted'}{more}", file=sys.stderr)
        return exit_code(stop)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            said = f"{error}: make space{more}"
        elif error.errno in REFUSED and error.filename is not None:
            said = f"'{shortened(error.filename)}': {error.strerror}: {REFUSED[error.errno]}"
        else:
            raise
        print(f"classmates: error: {said}", file=sys.stderr)
        return UserError.exit_code


def answer(command: str, rest: list[str]) -> int:
    """Run a command, or say what there is; return the exit code."""
    if command in ("-h", "--help"):
        lines = (f"  {name:<10}{entry.summary}" for name, entry in COMMANDS.items())
        print(OVERVIEW.format(commands="\n".join(lines)))
        return 0
    if command == "--version":
        print(classmates.__version__)
        return 0
    if command not in COMMANDS:
        raise unknown("command", command, COMMANDS)
    return run(command, rest)


def shortened(path: str | bytes) -> str:
    """Return a path, of a very long one its beginning."""
    text = os.fsdecode(path)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def run(command: str, typed: list[str]) -> int:
    """Run the function of a command and print what it returns, or print its help; return the exit code."""
    # Imported here, and not for the overview. What takes PyTorch comes last: help and wrong flags need none of it.
    from classmates._outlines import OUTLINES
    from classmates.cli.help import command_help, options_help
    from classmates.cli.words import check_names, read
    from classmates.comparisons.recipe import find_settings
    from classmates.configuration.arguments import arguments_of
    from classmates.configuration.settings import Settings

    entry = COMMANDS[command]
    name = entry.function or command
    outline = OUTLINES.named(classmates._HOMES[name], name)
    if "-h" in typed or "--help" in typed:
        print(command_help(command, outline, entry.positions))
        return 0
    arguments = arguments_of(outline)
    given = read(typed, arguments, entry.positions)
    check_names(command, given, arguments)
    function = getattr(classmates, name)
    settings = Settings(command, arguments_of(function))
    flags, files = [], []
    for flag, text in given:
        if flag == "config":
            files.append(find_settings(text))
        elif flag.endswith(".help") and flag.removesuffix(".help") in arguments:
            chosen = flag.removesuffix(".help")
            kind = settings.classes.family_for(settings.arguments[chosen]).find(text)
            print(options_help(kind, settings.classes.options_of(kind), chosen))
            return 0
        else:
            flags.append((flag, text))
    for file in files:
        settings.add_file(file, method=dict(flags).get("method"))
    settings.add_flags(flags)
    values = settings.typed()
    silence_lightning()
    result = function(**values)
    shown = entry.show(result)
    if shown:
        print(shown)
    return entry.code(result)


def silence_lightning() -> None:
    """Leave out what Lightning says of a machine without a GPU, of its own age and what it calls possibly wrong."""
    if "lightning" not in sys.modules:
        return
    from lightning.fabric.utilities.warnings import PossibleUserWarning

    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", category=PossibleUserWarning)
    warnings.filterwarnings("ignore", category=FutureWarning, module="lightning")
    warnings.filterwarnings("ignore", message="Checkpoint directory .* exists")
