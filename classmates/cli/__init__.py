"""The command line: each command is a Python function, its arguments the flags and YAML keys."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import classmates
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
    """Return a table without its index."""
    return frame.to_string(index=False)


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
    "export": Command("write the student as ONNX, torch.export or safetensors", ("run",)),
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

OVERVIEW = """\
More accurate image classifiers without a bigger teacher.

{commands}

  classmates train --data ./photos --model mobilenetv3_small_100 --method MCL
  classmates compare --methods Baseline,MCL --data ./photos --model mobilenetv3_small_100 --seeds 3
  classmates predict runs/MCL-mobilenetv3_small_100-photos-0 ./new_photos

classmates COMMAND --help explains a command."""


def main(typed: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code.

    0; 2 for what the user can mend; 3 for a loss that is not finite or a useless student; 4 where runs of a
    comparison or a search failed; 130 when interrupted. Any other exception is a bug, and keeps its traceback.
    """
    command, *rest = (sys.argv[1:] if typed is None else typed) or ["--help"]
    try:
        if command in ("-h", "--help"):
            lines = (f"  {name:<10}{entry.summary}" for name, entry in COMMANDS.items())
            print(OVERVIEW.format(commands="\n".join(lines)))
        elif command == "--version":
            print(classmates.__version__)
        elif command not in COMMANDS:
            raise unknown("command", command, COMMANDS)
        else:
            return run(command, rest)
    except (UserError, NonFiniteLoss) as error:
        print(f"classmates: error: {error}", file=sys.stderr)
        return error.exit_code
    except (KeyboardInterrupt, SystemExit) as stop:
        if isinstance(stop, SystemExit) and not isinstance(stop.__context__, KeyboardInterrupt):
            raise
        more = GOING_ON.get(command, "")
        print(f"classmates: interrupted{more}", file=sys.stderr)
        return 130
    return 0


def run(command: str, typed: list[str]) -> int:
    """Run the function of a command and print what it returns, or print its help; return the exit code."""
    # Imported here, with all of PyTorch, and not for the overview.
    from classmates.cli.help import command_help, options_help
    from classmates.cli.words import read
    from classmates.configuration.arguments import arguments_of
    from classmates.configuration.choosing import family_for, options_of
    from classmates.configuration.settings import Settings

    entry = COMMANDS[command]
    function = getattr(classmates, entry.function or command)
    if "-h" in typed or "--help" in typed:
        print(command_help(command, function, entry.positions))
        return 0
    sys.path.append(os.getcwd())  # for methods of the user's own
    arguments = arguments_of(function)
    settings = Settings(command, arguments)
    flags, files = [], []
    for name, text in read(typed, arguments, entry.positions):
        if name == "config":
            files.append(Path(text))
        elif name.endswith(".help") and name.removesuffix(".help") in arguments:
            flag = name.removesuffix(".help")
            kind = family_for(arguments[flag]).find(text)
            print(options_help(kind, options_of(kind), flag))
            return 0
        else:
            flags.append((name, text))
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
    from lightning.fabric.utilities.warnings import PossibleUserWarning

    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", category=PossibleUserWarning)
    warnings.filterwarnings("ignore", category=FutureWarning, module="lightning")
    warnings.filterwarnings("ignore", message="Checkpoint directory .* exists")
